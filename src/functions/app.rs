//! What the functions of one process share.

use tokio::sync::Mutex;

use crate::config::ServerSettings;
use crate::error::Result;
use crate::preflight::Servers;

/// The state that the functions of one process share. Everything is made when it is first needed,
/// so that the process answers before its settings are right.
#[derive(Debug, Default)]
pub(super) struct App {
    servers: Mutex<Option<Servers>>,
}

impl App {
    /// The two restores.
    ///
    /// # Errors
    /// Refused: names the setting that is missing.
    pub(super) async fn servers(&self) -> Result<Servers> {
        let mut servers = self.servers.lock().await;
        if let Some(servers) = servers.as_ref() {
            return Ok(servers.clone());
        }
        let configured = ServerSettings::from_environment()?.servers().await?;
        Ok(servers.insert(configured).clone())
    }
}
