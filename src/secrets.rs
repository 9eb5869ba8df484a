//! Passwords of the servers: where they come from, and reading them again when they were changed.
//!
//! A server's password comes from one place, which [`Origin`] names: the server's URL, the
//! environment, a `.pgpass` file, a secret in Key Vault, or a token from Entra. The last two change
//! while a recovery runs: they are kept for a while only, and read again at once when PostgreSQL
//! refuses what was kept.

mod pgpass;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

pub(crate) use pgpass::find as find_in_pgpass;

use crate::error::{Error, ErrorKind, Result};
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
    state: Arc<Mutex<State>>,
}

/// What is known of a password. Nobody waits for anything while they look at it.
#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// What comes of the reading that is under way: all who want it wait for the same one.
    reading: Option<watch::Receiver<Option<Outcome>>>,
}

/// What a reading yielded, or its error in two parts.
type Outcome = Result<SecretString, (ErrorKind, String)>;

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
        Self { origin, source, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the source says now, or says to somebody who asked a moment before.
    async fn read(&self) -> Result<SecretString> {
        let mut reading = self.reading();
        let outcome = reading.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
        match outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err((kind, message))) => Err(Error::new(kind, message)),
            None => Err(Error::new(
                ErrorKind::Transient,
                format!("{} was not read to the end; try again", self.origin),
            )),
        }
    }

    /// A reading in a task of its own: it goes on if who asked for it does not wait any more.
    fn reading(&self) -> watch::Receiver<Option<Outcome>> {
        let mut state = self.state();
        // One whose task has ended without an outcome is none.
        if let Some(reading) = state.reading.as_ref().filter(|it| it.has_changed().is_ok()) {
            return reading.clone();
        }
        let (tell, told) = watch::channel(None);
        state.reading = Some(told.clone());
        let (source, state) = (Arc::clone(&self.source), Arc::clone(&self.state));
        tokio::spawn(async move {
            let read = source.read().await;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.reading = None;
            tell.send_replace(Some(match read {
                Ok(fresh) => Ok(keep(&mut state.kept, fresh)),
                Err(error) => Err((error.kind(), error.to_string())),
            }));
        });
        told
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
            let stale = match &self.state().kept {
                Some(Kept { value, until }) if Instant::now() < *until => return Ok(value.clone()),
                kept => kept.as_ref().map(|kept| kept.value.clone()),
            };
            match (self.read().await, stale) {
                (Ok(fresh), _) => Ok(fresh),
                (Err(error), Some(value)) => {
                    tracing::warn!(
                        origin = %self.origin,
                        %error,
                        "the password could not be read again"
                    );
                    let stale = Secret { value, keep: READ_AGAIN_AFTER };
                    Ok(keep(&mut self.state().kept, stale))
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
            if let Some(Kept { value, .. }) = &self.state().kept
                && differs(value)
            {
                return Ok(Some(value.clone()));
            }
            Ok(Some(self.read().await?).filter(differs))
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

    /// Does not answer before it is told to.
    struct Slow(Arc<AtomicU32>, Arc<tokio::sync::Semaphore>);

    impl SecretSource for Slow {
        fn read(&self) -> BoxFuture<'_, Result<Secret>> {
            Box::pin(async {
                self.0.fetch_add(1, Ordering::Relaxed);
                let _ = self.1.acquire().await;
                Ok(Secret { value: SecretString::from("slow"), keep: FOREVER })
            })
        }
    }

    #[tokio::test]
    async fn all_wait_for_one_reading_which_goes_on_without_them() {
        let (reads, answers) = (Arc::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let source = Arc::new(Slow(Arc::clone(&reads), Arc::clone(&answers)));
        let password = Password::new(Origin::Entra, source);
        let soon = |asked| tokio::time::timeout(Duration::from_millis(50), asked);
        assert!(soon(password.get()).await.is_err());
        assert!(soon(password.get()).await.is_err());
        answers.add_permits(1);
        assert_eq!(password.get().await.unwrap().expose_secret(), "slow");
        assert_eq!(reads.load(Ordering::Relaxed), 1);
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
