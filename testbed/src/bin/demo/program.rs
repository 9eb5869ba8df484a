//! The program, as an operator has it, and the demo's own folder.

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

    /// The recovery's status as the app told it in the end.
    pub(crate) fn status_file(&self) -> PathBuf {
        self.folder.join("status.json")
    }

    /// Lays the app out as it is deployed; its folder.
    pub(crate) fn package(&self) -> Result<PathBuf> {
        let folder = self.folder.join("app");
        deltacompare_testbed::layout(&self.path, &folder)?;
        Ok(folder)
    }

    fn record_file(&self) -> PathBuf {
        self.folder.join("recorded.json")
    }

    /// What the record command wrote.
    pub(crate) fn record(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.record_file())?)?)
    }

    /// `record …`
    pub(crate) fn record_arguments(&self) -> Vec<String> {
        ["record", "--file", &self.record_file().display().to_string()].map(str::to_owned).to_vec()
    }

    /// `plan …`
    pub(crate) fn plan_arguments(&self, gap: &Gap) -> Vec<String> {
        let recorded = self.record_file().display().to_string();
        let mut arguments = ["plan", "--recorded", &recorded].map(str::to_owned).to_vec();
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
}

/// How the program finds the servers: URLs without passwords.
pub(crate) fn environment(base: &Server, head: &Server) -> [(&'static str, String); 2] {
    [("DELTACOMPARE_BASE", base), ("DELTACOMPARE_HEAD", head)].map(|(name, server)| {
        let user = Role::Admin.name();
        let (host, port, database) = (server.host(), server.port(), server.database());
        (name, format!("postgres://{user}@{host}:{port}/{database}?sslmode=disable"))
    })
}
