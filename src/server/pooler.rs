//! Connection poolers. A session through one may lack the settings that it asked for, and may have
//! another backend for each of its transactions: values then print differently, and locks, prepared
//! statements and snapshots are not where they were.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};

use super::{SESSION_SETTINGS, Server};
use crate::error::{Error, Result};
use crate::sql::Literal;

/// What to do about a pooler.
pub(crate) const NAME_THE_SERVERS_PORT: &str =
    "name the port of the server itself (5432 unless it was changed; on Azure 5432, not 6432)";

impl Server {
    /// Refuses a server that is reached through a connection pooler: two sessions must have a
    /// backend each and keep it, within a transaction and outside of one. That the settings of a
    /// session are in force is found out by [`Server::connect`].
    ///
    /// # Errors
    /// Refused; or as [`Server::connect`].
    pub async fn refuse_pooler(&self) -> Result<()> {
        let name = "deltacompare preflight";
        let (mut one, mut other) = tokio::try_join!(self.connect(name), self.connect(name))?;
        let kept = async {
            Ok(keep_backends(&mut one, &mut other).await?
                && keep_backends(&mut other, &mut one).await?)
        };
        let kept = kept.await.map_err(|error: sqlx::Error| {
            if is_from_pooler(&error) { self.pooled(&error.to_string()) } else { error.into() }
        })?;
        let _ = tokio::join!(one.close(), other.close());
        if kept { Ok(()) } else { Err(self.pooled("a session has another backend each time")) }
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

/// The names of the pinned settings that are not in force in a session.
pub(super) async fn lacking_settings(session: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let pinned: Vec<String> = SESSION_SETTINGS
        .iter()
        .map(|(name, value)| format!("({}, {})", Literal(name), Literal(value)))
        .collect();
    // No prepared statement: a pooler may lose it. Lists and units are printed with spaces or not.
    let row = raw_sql(AssertSqlSafe(format!(
        r#"
        select pg_catalog.string_agg(p.name, ', ')
          from (values {}) as p (name, value)
         where pg_catalog.lower(
                 pg_catalog.replace(pg_catalog.current_setting(p.name, true), ' ', ''))
               is distinct from pg_catalog.lower(pg_catalog.replace(p.value, ' ', ''))
        "#,
        pinned.join(", ")
    )))
    .fetch_one(session)
    .await?;
    row.try_get(0)
}

/// Whether a session outside of a transaction and another in one have a backend each, and the first
/// one keeps its own. A pool hands the backend on that became free last, or the next one in turn.
async fn keep_backends(
    outside: &mut PgConnection,
    inside: &mut PgConnection,
) -> sqlx::Result<bool> {
    let noted = backend(outside).await?;
    raw_sql("begin").execute(&mut *inside).await?;
    let within = backend(inside).await?;
    let again = backend(outside).await?;
    raw_sql("commit").execute(&mut *inside).await?;
    Ok(noted != within && noted == again && within == backend(inside).await?)
}

async fn backend(session: &mut PgConnection) -> sqlx::Result<i32> {
    raw_sql("select pg_catalog.pg_backend_pid()").fetch_one(session).await?.try_get(0)
}

/// Whether no PostgreSQL server says this.
pub(super) fn is_from_pooler(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        let text = error.message();
        text.contains("unsupported startup parameter") || text.contains("pooling mode")
    })
}
