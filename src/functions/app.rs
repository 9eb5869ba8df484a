//! What the functions of one process share.

use crate::error::Result;
use crate::preflight::Servers;

/// What the app was configured with.
pub struct Settings {
    /// The two restores, or what is missing to know them. Asked again for each use, since settings
    /// may name secrets that change.
    pub servers: Box<dyn Fn() -> Result<Servers> + Send + Sync>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// The state that the functions of one process share.
#[derive(Debug)]
pub(super) struct App {
    settings: Settings,
}

impl App {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The two restores.
    ///
    /// # Errors
    /// Refused: names the setting that is missing.
    pub(super) fn servers(&self) -> Result<Servers> {
        (self.settings.servers)()
    }
}
