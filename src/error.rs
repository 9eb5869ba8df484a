//! What can go wrong, as the operator needs to hear it.

use std::error::Error as StdError;
use std::fmt;

/// A shorthand for results with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is to be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be served as it is. Nothing was changed.
    Refused,
    /// The same step may succeed later: a lost connection, a server that starts up.
    Transient,
    /// This work item can never succeed as it stands; the others go on.
    Item,
    /// Another worker owns the work item now. Nothing that this one produced may be recorded.
    LeaseLost,
    /// The recovery as a whole cannot go on.
    Recovery,
    /// A sink no longer holds events that count as delivered: the recovery must not complete.
    EventsLost,
}

/// An error: a kind to decide on, a sentence that names the next step, and the cause.
///
/// No secret is ever part of it: messages name hosts, ports, tables and settings only, and causes
/// come from PostgreSQL or the operating system, which never repeat a password.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind with this sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A request that cannot be served; nothing was changed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// A work item that can never succeed as it stands.
    pub fn item(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Item, message)
    }

    /// A recovery that cannot go on.
    pub fn recovery(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Recovery, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, said to be of another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same error with what was being done put in front.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What is to be done about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<sqlx::Error> for Error {
    /// Keeps PostgreSQL's own message, detail and hint, and tells transient trouble from the rest
    /// by SQLSTATE (PostgreSQL manual, appendix A).
    fn from(error: sqlx::Error) -> Self {
        let kind = if is_transient(&error) { ErrorKind::Transient } else { ErrorKind::Item };
        let message = match &error {
            sqlx::Error::Database(database) => database_message(database.as_ref()),
            other => other.to_string(),
        };
        Self::new(kind, message).because(error)
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::recovery(format!(
            "the status schema `deltacompare` could not be brought up to date: {error}"
        ))
        .because(error)
    }
}

/// PostgreSQL's message with its detail and hint, in one line.
fn database_message(error: &dyn sqlx::error::DatabaseError) -> String {
    let mut message = error.message().to_owned();
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        // The detail of an integrity violation repeats row values, which are not ours to show.
        let shows_values = error.code().starts_with("23");
        for part in [error.detail().filter(|_| !shows_values), error.hint()].into_iter().flatten() {
            message.push_str(". ");
            message.push_str(part.trim_end_matches('.'));
        }
    }
    message.replace('\n', " ")
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // 08 connection, 40 serialization or deadlock, 53 out of resources,
            // 57P0x shutdown or starting up, 55P03 lock not available,
            // HV00N foreign server cannot be reached, 28P01 and 28000 a pool's session that logged
            // in with a password that was changed just now (others say themselves what a refusal
            // means).
            ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class))
                || ["55P03", "HV00N", "28P01", "28000"].contains(&&*code)
        }),
        _ => false,
    }
}
