//! Running `deltacompare` as an operator does, and reading what it left.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use deltacompare_testbed::{Role, Server};
use serde_json::Value;
use tokio::process::Command;

use crate::gap::Gap;
use crate::narrator::Narrator;

/// The program, and a folder of this demo's own for what it writes.
pub(crate) struct Program {
    path: PathBuf,
    folder: PathBuf,
}

impl Program {
    /// Finds the program beside this one, and makes a new folder in `output`, so that demos at the
    /// same time do not meet.
    pub(crate) fn prepare(output: &Path) -> Result<Self> {
        let path = std::env::current_exe()?.with_file_name("deltacompare");
        ensure!(
            path.exists(),
            "{} is missing: run scripts/demo, which builds it, or cargo build --release",
            path.display()
        );
        std::fs::create_dir_all(output)
            .with_context(|| format!("cannot create {}", output.display()))?;
        let folder = (1..)
            .map(|number| output.join(number.to_string()))
            .find_map(|folder| match std::fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                outcome => Some(outcome.map(|()| folder)),
            })
            .context("no name is free")?
            .with_context(|| format!("cannot create a folder in {}", output.display()))?;
        Ok(Self { path, folder })
    }

    pub(crate) fn events_file(&self) -> PathBuf {
        self.folder.join("events.ndjson")
    }

    pub(crate) fn report_file(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// `plan …`
    pub(crate) fn plan_arguments(&self, gap: &Gap) -> Vec<String> {
        let mut arguments = vec!["plan".to_owned()];
        arguments.extend(gap.slots());
        arguments
    }

    /// `run …`
    pub(crate) fn recovery_arguments(&self, gap: &Gap) -> Vec<String> {
        let sink = format!("ndjson:{}", self.events_file().display());
        let report = self.report_file().display().to_string();
        let mut arguments: Vec<String> = [
            "run",
            "--sink",
            &sink,
            "--sink",
            "delta-table",
            "--format",
            "landing",
            "--report",
            &report,
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(gap.slots());
        arguments
    }

    /// Runs it with these arguments; it prints where the demo prints.
    pub(crate) async fn run(
        &self,
        narrator: &Narrator,
        base: &Server,
        head: &Server,
        arguments: &[String],
    ) -> Result<()> {
        narrator.command(&format!("deltacompare {}", arguments.join(" ")));
        let since = Instant::now();
        let status = Command::new(&self.path)
            .args(arguments)
            .envs(environment(base, head))
            .env("DELTACOMPARE_BASE_PASSWORD", base.password(Role::Admin))
            .env("DELTACOMPARE_HEAD_PASSWORD", head.password(Role::Admin))
            .kill_on_drop(true)
            .status()
            .await
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        if !status.success() {
            bail!("deltacompare {} ended with {status}", arguments.join(" "));
        }
        narrator.took(since.elapsed());
        Ok(())
    }

    fn report(&self) -> Result<Value> {
        let path = self.report_file();
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The recovery's id.
    pub(crate) fn recovery_id(&self) -> Result<String> {
        Ok(self.report()?["recovery_id"].as_str().context("a report without id")?.to_owned())
    }

    /// The LSNs at which base's and head's recovery ended.
    ///
    /// # Errors
    /// Something fell between the lost slot and base, or between head and the new slot.
    pub(crate) fn ends(&self, gap: &Gap) -> Result<(String, String)> {
        let report = self.report()?;
        let lsn = |name: &str| {
            let lsn = report[name].as_str().map(str::to_owned);
            lsn.with_context(|| format!("the report has no {name}"))
        };
        let (base, head) = (lsn("base_end_lsn")?, lsn("head_end_lsn")?);
        let position = |lsn: &str| -> Result<u64> {
            let (high, low) = lsn.split_once('/').with_context(|| format!("{lsn} is no LSN"))?;
            Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
        };
        ensure!(position(&base)? <= position(&gap.confirmed)?, "base ends after the slot was lost");
        ensure!(
            position(&head)? >= position(&gap.consistent)?,
            "head ends before the slot is back"
        );
        Ok((base, head))
    }
}

/// How the program finds the servers: URLs without passwords.
pub(crate) fn environment(base: &Server, head: &Server) -> [(&'static str, String); 2] {
    [("DELTACOMPARE_BASE", base), ("DELTACOMPARE_HEAD", head)].map(|(name, server)| {
        let user = Role::Admin.name();
        let (host, port, database) = (server.host(), server.port(), server.database());
        (name, format!("postgres://{user}@{host}:{port}/{database}?sslmode=disable"))
    })
}
