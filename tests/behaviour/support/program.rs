//! Running the program as an operator does.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use deltacompare_testbed::{Role, Server};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Events, Gap};

/// A run that has ended, with what it left.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    folder: TempDir,
}

/// A program that is about to be started with base and head of a gap, as Azure's administrator.
pub(crate) struct Program {
    command: Command,
    folder: TempDir,
}

/// `deltacompare <arguments>` on a gap. `{dir}` in an argument is a folder of this run's own.
pub(crate) fn deltacompare(gap: &Gap, arguments: &[&str]) -> Program {
    deltacompare_as(gap, Role::Admin, arguments)
}

/// The same with another role.
pub(crate) fn deltacompare_as(gap: &Gap, role: Role, arguments: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltacompare"));
    let dir = folder.path().display().to_string();
    command
        .args(arguments.iter().map(|argument| argument.replace("{dir}", &dir)))
        .env("DELTACOMPARE_BASE", gap.base.url(role))
        .env("DELTACOMPARE_HEAD", gap.head.url(role))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Program { command, folder }
}

/// A URL for any role of a server that speaks no TLS.
pub(crate) fn url(server: &Server, user: &str, password: &str) -> String {
    format!(
        "postgres://{user}:{password}@{}:{}/{}?sslmode=disable",
        server.host(),
        server.port(),
        server.database()
    )
}

impl Program {
    /// The same with an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// The same without an environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The same with its standard error in a file.
    pub(crate) fn stderr(mut self, file: std::fs::File) -> Self {
        self.command.stderr(file);
        self
    }

    /// The run's own folder, which `{dir}` stands for.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and leaves it running.
    pub(crate) fn spawn(&mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// Runs it to its end.
    pub(crate) async fn run(mut self) -> Run {
        let output = self.command.output().await.unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            folder: self.folder,
        }
    }
}

impl Run {
    /// A file that it was told to write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its events, out of an NDJSON file.
    pub(crate) fn events(&self, name: &str) -> Events {
        Events::read(&self.file(name))
    }

    /// Its report.
    pub(crate) fn report(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.file(name)).unwrap()).unwrap()
    }

    /// What its report has for `schema.table` (unquoted names).
    pub(crate) fn table(&self, report: &str, table: &str) -> serde_json::Value {
        let report = self.report(report);
        let (schema, name) = table.split_once('.').unwrap();
        let tables = report["tables"].as_array().unwrap();
        tables
            .iter()
            .find(|found| found["schema"] == schema && found["table"] == name)
            .unwrap_or_else(|| panic!("{table} is not in {report:#}"))
            .clone()
    }

    /// Inserts, updates and deletes that its report has for `schema.table` (unquoted names).
    pub(crate) fn counts(&self, report: &str, table: &str) -> (u64, u64, u64) {
        let found = self.table(report, table);
        let count = |what: &str| found[what].as_u64().unwrap();
        (count("inserts"), count("updates"), count("deletes"))
    }

    /// Fails unless it completed.
    pub(crate) fn assert_completed(&self) {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
    }
}

/// `deltacompare run` by a strategy, with landing events in `events` and a report in `report`.
pub(crate) fn run_by(gap: &Gap, strategy: &str, more: &[&str]) -> Program {
    let sink = ["run", "--format", "landing", "--sink", "ndjson:{dir}/events"];
    let arguments =
        [&sink[..], &["--report", "{dir}/report", "--strategy", strategy], more].concat();
    deltacompare(gap, &arguments)
}
