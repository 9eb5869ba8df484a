//! Microsoft's own Python client, see `testbed/event_hubs/client.py`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// The client, at a hub.
#[derive(Debug)]
pub struct OfficialClient {
    connection_string: String,
    hub: String,
}

impl OfficialClient {
    /// With a connection string as the emulator has them.
    pub fn of(connection_string: &str, hub: &str) -> Self {
        Self { connection_string: connection_string.to_owned(), hub: hub.to_owned() }
    }

    /// The next so many events from the beginning of every partition: those of this recovery, or
    /// all if that is empty.
    ///
    /// # Errors
    /// If they do not come within a minute.
    pub async fn read(&self, count: usize, recovery: &str) -> Result<Vec<Value>> {
        let printed = self.run("read", &[&count.to_string(), recovery]).await?;
        printed.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Sends an event under each of these partition keys.
    ///
    /// # Errors
    /// The client's.
    pub async fn send(&self, keys: &[&str]) -> Result<()> {
        self.run("send", keys).await.map(drop)
    }

    /// A script of the user's that uses the client, with what it needs to use this machine's hub.
    ///
    /// # Errors
    /// The client is not installed.
    pub fn script(script: &Path) -> Result<Command> {
        let mut command = Command::new(crate::binaries::python()?);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/event_hubs/loopback.py")).arg(script);
        command.kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/event_hubs/client.py");
        let output = Command::new(crate::binaries::python()?)
            .args([script, command, &self.connection_string, &self.hub])
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the client failed: {errors}");
        String::from_utf8(output.stdout).context(errors.into_owned())
    }
}
