//! The driver's errors as ours: PostgreSQL's own words, and what is to be done.

use std::error::Error as StdError;
use std::{fmt, io};

use rustls::pki_types::InvalidDnsNameError;
use tokio_postgres::error::{DbError, SqlState};

use super::Side;
use crate::error::{Error, ErrorKind};

/// An error of a session, with the server that raised it.
#[derive(Debug)]
struct OnServer {
    side: Side,
    error: tokio_postgres::Error,
}

impl fmt::Display for OnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for OnServer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl From<tokio_postgres::Error> for Error {
    /// Keeps PostgreSQL's own message, detail and hint, and tells transient trouble from the rest
    /// by SQLSTATE (PostgreSQL manual, appendix A).
    fn from(error: tokio_postgres::Error) -> Self {
        Self::new(kind(&error), message(&error)).because(error)
    }
}

fn kind(error: &tokio_postgres::Error) -> ErrorKind {
    if is_transient(error) { ErrorKind::Transient } else { ErrorKind::Item }
}

impl Error {
    /// The same as `From`, of an error in a session on this server. What postgres_fdw passes on is
    /// base's own.
    pub(super) fn on_server(side: Side, error: tokio_postgres::Error) -> Self {
        let context = error.as_db_error().and_then(DbError::where_).unwrap_or_default();
        let side = if context.contains("remote SQL command") { Side::Base } else { side };
        Self::new(kind(&error), message(&error)).because(OnServer { side, error })
    }

    /// The SQLSTATE, if PostgreSQL raised it.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        let source = self.source()?;
        let error = match source.downcast_ref::<OnServer>() {
            Some(OnServer { error, .. }) => error,
            None => source.downcast_ref::<tokio_postgres::Error>()?,
        };
        error.code().map(SqlState::code)
    }

    /// The server that raised it, if PostgreSQL did.
    pub(crate) fn raised_on(&self) -> Option<Side> {
        let OnServer { side, error } = self.source()?.downcast_ref()?;
        error.as_db_error().map(|_| *side)
    }
}

/// What happened, in one line.
pub(super) fn message(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(database), _) => database_message(database),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// PostgreSQL's message with its detail and hint.
fn database_message(error: &DbError) -> String {
    let mut message = error.message().to_owned();
    // The detail of an integrity violation repeats row values, which are not ours to show.
    let shows_values = error.code().code().starts_with("23");
    for part in [error.detail().filter(|_| !shows_values), error.hint()].into_iter().flatten() {
        message.push_str(". ");
        message.push_str(part.trim_end_matches('.'));
    }
    message.replace('\n', " ")
}

/// Whether the TLS handshake failed, and not the network below it.
pub(super) fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    match cause(error) {
        Some(cause) => cause.get_ref().is_some_and(|cause| {
            // No certificate can be for a host of such a name.
            cause.is::<rustls::Error>() || cause.is::<InvalidDnsNameError>()
        }),
        // The server speaks no TLS. The driver keeps the kind to itself.
        None => error.to_string().contains("TLS"),
    }
}

fn cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source().and_then(|cause| cause.downcast_ref())
}

fn is_transient(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        // 08 connection, 40 serialization or deadlock, 53 out of resources, 57P0x shutdown or
        // starting up, 57014 a statement that somebody cancelled, 55P03 lock not available, HV00N
        // foreign server cannot be reached.
        let code = code.code();
        return ["08", "40", "53", "57P"].iter().any(|class| code.starts_with(class))
            || ["55P03", "57014", "HV00N"].contains(&code);
    }
    let malformed = |cause: &io::Error| {
        matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    };
    error.is_closed() || cause(error).is_some_and(|cause| !malformed(cause))
}
