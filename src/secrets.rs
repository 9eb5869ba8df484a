//! Passwords of the servers: where they come from, and reading them again when they were changed.
//!
//! A server's password comes from one place, which [`Origin`] names: the server's URL, the
//! environment, a `.pgpass` file, a secret in Key Vault, or a token from Entra. The last two change
//! while a recovery runs: they are kept for a while only, and read again at once when PostgreSQL
//! refuses what was kept.

mod pgpass;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

pub(crate) use pgpass::find as find_in_pgpass;

use crate::error::Result;
use crate::postgres::PasswordSource;

/// A place that a password can be read from, again and again.
pub(crate) trait SecretSource: Send + Sync {
    /// The secret as it is now. Bounded in time. May be called at any time, from many tasks.
    ///
    /// # Errors
    /// Transient if a later call may succeed. Never holds any part of a secret.
    fn read(&self) -> BoxFuture<'_, Result<Secret>>;
}

/// A secret and how long it may be used without asking again.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) value: SecretString,
    pub(crate) keep: Duration,
}

/// Where a password comes from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This environment variable.
    Environment(&'static str),
    /// This secret of this vault.
    KeyVault(String),
    /// A token of the program's own identity.
    Entra,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(variable) => write!(f, "{variable}"),
            Self::KeyVault(name) => write!(f, "the secret {name}"),
            Self::Entra => f.write_str("a token from Entra"),
        }
    }
}

/// A server's password that may change while a recovery runs: it is kept for a while.
pub(crate) struct Password {
    origin: Origin,
    source: Arc<dyn SecretSource>,
    kept: Mutex<Option<Kept>>,
}

/// What was read last.
struct Kept {
    value: SecretString,
    until: Instant,
}

/// How long a password is taken as valid after its source could not be read: those who log in
/// wait for each reading.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl Password {
    /// A password that is read when it is first wanted, and again later.
    pub(crate) fn new(origin: Origin, source: Arc<dyn SecretSource>) -> Self {
        Self { origin, source, kept: Mutex::default() }
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

impl PasswordSource for Password {
    /// What was read before, as long as it may be kept. Later, a password that was kept for too long
    /// is better than none: PostgreSQL will say. So the source's error is only seen if nothing was
    /// read before.
    fn get(&self) -> BoxFuture<'_, Result<SecretString>> {
        Box::pin(async {
            let mut kept = self.kept.lock().await;
            if let Some(Kept { value, until }) = &*kept
                && Instant::now() < *until
            {
                return Ok(value.clone());
            }
            match (self.source.read().await, &*kept) {
                (Ok(fresh), _) => Ok(keep(&mut kept, fresh)),
                (Err(error), Some(Kept { value, .. })) => {
                    tracing::warn!(
                        origin = %self.origin,
                        %error,
                        "the password could not be read again"
                    );
                    let value = value.clone();
                    Ok(keep(&mut kept, Secret { value, keep: READ_AGAIN_AFTER }))
                }
                (Err(error), None) => Err(error),
            }
        })
    }

    /// What somebody else has read meanwhile, or what the source says now.
    fn other_than<'a>(
        &'a self,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>>> {
        Box::pin(async {
            let differs = |value: &SecretString| value.expose_secret() != refused.expose_secret();
            let mut kept = self.kept.lock().await;
            if let Some(Kept { value, .. }) = &*kept
                && differs(value)
            {
                return Ok(Some(value.clone()));
            }
            let fresh = keep(&mut kept, self.source.read().await?);
            Ok(Some(fresh).filter(differs))
        })
    }

    fn changes(&self) -> bool {
        true
    }
}

fn keep(kept: &mut Option<Kept>, fresh: Secret) -> SecretString {
    let value = fresh.value.clone();
    let until = Instant::now() + fresh.keep;
    *kept = Some(Kept { value: fresh.value, until });
    value
}

/// Longer than any process lives.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A password that was given once and for all.
pub(crate) struct Fixed(pub(crate) SecretString);

impl SecretSource for Fixed {
    fn read(&self) -> BoxFuture<'_, Result<Secret>> {
        let secret = Secret { value: self.0.clone(), keep: FOREVER };
        Box::pin(async move { Ok(secret) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    /// Can be read once, and kept for no time.
    struct Once(Arc<AtomicU32>);

    impl SecretSource for Once {
        fn read(&self) -> BoxFuture<'_, Result<Secret>> {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
            let secret = Secret { value: SecretString::from("once"), keep: Duration::ZERO };
            let read = first.then_some(secret).ok_or_else(|| Error::refused("throttled"));
            Box::pin(async move { read })
        }
    }

    #[tokio::test]
    async fn a_source_in_trouble_is_not_asked_at_each_login() {
        let reads = Arc::new(AtomicU32::new(0));
        let source = Arc::new(Once(Arc::clone(&reads)));
        let password = Password::new(Origin::Entra, source);
        for _ in 0..10 {
            assert_eq!(password.get().await.unwrap().expose_secret(), "once");
        }
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }
}
