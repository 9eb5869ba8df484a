//! Connection poolers. A session through one may lack the settings that it asked for, and may have
//! another backend for each of its transactions: values then print differently, and locks, prepared
//! statements and snapshots are not where they were.

use tokio_postgres::error::SqlState;

use super::error::message;
use super::{Server, Session};
use crate::error::{Error, Result};

/// What to do about a pooler.
pub(crate) const NAME_THE_SERVERS_PORT: &str =
    "name the port of the server itself (5432 unless it was changed; on Azure 5432, not 6432)";

impl Server {
    /// A session on a server that is not reached through a connection pooler: two sessions must have
    /// a backend each and keep it, within a transaction and outside of one. That the settings of a
    /// session are in force is found out by [`Server::connect`].
    ///
    /// # Errors
    /// Refused; or as [`Server::connect`].
    pub async fn connect_unpooled(&self, name: &str) -> Result<Session> {
        let (one, other) = tokio::try_join!(self.connect(name), self.connect(name))?;
        let kept =
            async { Ok(keep_backends(&one, &other).await? && keep_backends(&other, &one).await?) };
        let kept = kept.await.map_err(|error: tokio_postgres::Error| {
            if is_from_pooler(&error) { self.pooled(&message(&error)) } else { error.into() }
        })?;
        other.close().await;
        if kept { Ok(one) } else { Err(self.pooled("a session has another backend each time")) }
    }

    /// The refusal of a session that lacks settings that it was opened with.
    pub(super) fn without_settings(&self, lacking: &str) -> Error {
        self.pooled(&format!("these settings of a session are not in force: {lacking}"))
    }

    /// The refusal of a server that is behind a pooler, with what shows it.
    pub(super) fn pooled(&self, sign: &str) -> Error {
        Error::refused(format!(
            "{self} is behind a connection pooler such as PgBouncer ({sign}): \
             {NAME_THE_SERVERS_PORT} in the {} URL",
            self.side()
        ))
    }
}

/// Whether a session outside of a transaction and another in one have a backend each, and the first
/// one keeps its own. A pool hands the backend on that became free last, or the next one in turn.
async fn keep_backends(outside: &Session, inside: &Session) -> Result<bool, tokio_postgres::Error> {
    let noted = backend(outside).await?;
    inside.simple_query("begin").await?;
    let within = backend(inside).await?;
    let again = backend(outside).await?;
    inside.simple_query("commit").await?;
    Ok(noted != within && noted == again && within == backend(inside).await?)
}

async fn backend(session: &Session) -> Result<Option<String>, tokio_postgres::Error> {
    session.simple_query("select pg_catalog.pg_backend_pid()").await
}

/// Whether no PostgreSQL server says this to us: it has our statement, and our client speaks its
/// protocol.
pub(super) fn is_from_pooler(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(SqlState::code);
    // invalid_sql_statement_name, protocol_violation
    matches!(code, Some("26000" | "08P01"))
        || error.as_db_error().is_some_and(|error| {
            let text = error.message();
            text.contains("unsupported startup parameter") || text.contains("pooling mode")
        })
}
