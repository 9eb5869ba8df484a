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
