//! Where a server's password comes from.

use std::fmt;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::error::Result;

/// A server's password, shared by all who log in to it. `Display` says where it comes from, and
/// prints nothing of it.
///
/// Methods are bounded in time, and may be called at any time, from many tasks.
pub(crate) trait PasswordSource: fmt::Display + Send + Sync {
    /// The password to log in with now.
    ///
    /// # Errors
    /// Transient if a later call may succeed. Never holds any part of a secret.
    fn get(&self) -> BoxFuture<'_, Result<SecretString>>;

    /// Another password than this one, which the server refused. `None` if there is no other.
    ///
    /// # Errors
    /// As [`PasswordSource::get`].
    fn other_than<'a>(
        &'a self,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>>>;

    /// Whether it may be another password later.
    fn changes(&self) -> bool;
}

/// A password that stays as it is.
pub(crate) struct FixedPassword {
    from: String,
    value: SecretString,
}

impl FixedPassword {
    /// A password, and where it comes from.
    pub(crate) fn new(from: impl Into<String>, value: SecretString) -> Self {
        Self { from: from.into(), value }
    }
}

impl fmt::Display for FixedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.from)
    }
}

impl PasswordSource for FixedPassword {
    fn get(&self) -> BoxFuture<'_, Result<SecretString>> {
        Box::pin(async { Ok(self.value.clone()) })
    }

    fn other_than<'a>(
        &'a self,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>>> {
        let differs = self.value.expose_secret() != refused.expose_secret();
        Box::pin(async move { Ok(differs.then(|| self.value.clone())) })
    }

    fn changes(&self) -> bool {
        false
    }
}
