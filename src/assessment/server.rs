//! What a server says of itself as a whole.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::model::{AssessedWal, Lsn};
use crate::postgres::{Session, from_row};

/// What the requirements and the slots are judged by.
#[derive(Debug)]
pub(super) struct Facts {
    /// When, by the server's clock, in milliseconds since 1970.
    pub(super) at: i64,
    pub(super) version: String,
    /// `server_version_num`.
    pub(super) version_number: i32,
    pub(super) in_recovery: bool,
    /// Quoted, where it must be.
    pub(super) role: String,
    pub(super) may_replicate: bool,
    pub(super) may_create_roles: bool,
    pub(super) wal_level: String,
    pub(super) track_counts: bool,
    pub(super) free_slots: i64,
    /// Azure's allow-list of extensions; `None` elsewhere.
    pub(super) allowed_extensions: Option<String>,
    pub(super) has_postgres_fdw: bool,
    pub(super) preloaded: String,
    /// Bytes of WAL that a slot may keep; negative without a limit.
    pub(super) slot_limit: i64,
    /// Seconds after which an idle slot is invalidated (PostgreSQL 18); 0 never.
    pub(super) idle_limit: i64,
    /// `sync_replication_slots`, which a standby must have too (PostgreSQL 17).
    pub(super) synchronizes_slots: bool,
    /// `hot_standby_feedback`, likewise: without it the standby's slots are invalidated.
    pub(super) standby_feedback: bool,
}

from_row!(Facts {
    at,
    version,
    version_number,
    in_recovery,
    role,
    may_replicate,
    may_create_roles,
    wal_level,
    track_counts,
    free_slots,
    allowed_extensions,
    has_postgres_fdw,
    preloaded,
    slot_limit,
    idle_limit,
    synchronizes_slots,
    standby_feedback
});

impl Facts {
    /// # Errors
    /// Refused if the server is a standby.
    pub(super) async fn read(session: &Session) -> Result<Self> {
        let facts: Self = session
            .query_one(
                r#"
            select (extract(epoch from clock_timestamp()) * 1000)::int8 as at,
                   current_setting('server_version') as version,
                   int4in(textout(current_setting('server_version_num'))) as version_number,
                   pg_is_in_recovery() as in_recovery,
                   quote_ident(r.rolname) as role,
                   r.rolreplication or r.rolsuper as may_replicate,
                   r.rolcreaterole or r.rolsuper as may_create_roles,
                   current_setting('wal_level') as wal_level,
                   current_setting('track_counts') = 'on' as track_counts,
                   (select s.setting::int8 from pg_settings s
                     where s.name = 'max_replication_slots')
                     - (select count(*) from pg_replication_slots) as free_slots,
                   current_setting('azure.extensions', true) as allowed_extensions,
                   exists (select from pg_available_extensions e
                            where e.name = 'postgres_fdw') as has_postgres_fdw,
                   -- Null for a role that may not see it (pg_read_all_settings).
                   coalesce((select s.setting from pg_settings s
                              where s.name = 'shared_preload_libraries'), '') as preloaded,
                   -- In megabytes.
                   (select s.setting::int8 from pg_settings s
                     where s.name = 'max_slot_wal_keep_size') * 1048576 as slot_limit,
                   coalesce((select s.setting::int8 from pg_settings s
                              where s.name = 'idle_replication_slot_timeout'), 0) as idle_limit,
                   coalesce(current_setting('sync_replication_slots', true) = 'on', false)
                     as synchronizes_slots,
                   current_setting('hot_standby_feedback') = 'on' as standby_feedback
              from pg_roles r where r.rolname = current_user
            "#,
                &[],
            )
            .await?;
        if facts.in_recovery {
            return Err(Error::refused(
                "this server is a standby or is being restored: name the primary, which has the \
                 slots and the publications",
            ));
        }
        Ok(facts)
    }

    /// # Errors
    /// The server's clock is beyond all calendars.
    pub(super) fn at(&self) -> Result<Timestamp> {
        Timestamp::from_millisecond(self.at)
            .map_err(|error| Error::item("the server's clock is wrong").because(error))
    }
}

/// Where the server writes WAL now.
pub(super) async fn wal_position(session: &Session) -> Result<Lsn> {
    let position: String =
        session.query_one("select textin(pg_lsn_out(pg_current_wal_lsn()))", &[]).await?;
    position.parse()
}

/// How fast it writes WAL: since `before`, which was asked `watched` ago, and since its statistics began.
pub(super) async fn wal(session: &Session, before: Lsn, watched: Duration) -> Result<AssessedWal> {
    let position = wal_position(session).await?;
    let average: Option<f64> = session
        .query_one(
            r#"
            select (w.wal_bytes / nullif(extract(epoch from clock_timestamp() - w.stats_reset), 0))::float8
              from pg_stat_wal w
            "#,
            &[],
        )
        .await?;
    let written = position.0.saturating_sub(before.0) as f64;
    Ok(AssessedWal {
        position,
        bytes_a_second_now: written / watched.as_secs_f64().max(0.001),
        bytes_a_second_on_average: average,
    })
}

/// Bytes of databases and of WAL.
///
/// # Errors
/// Refused if the role may not see them.
pub(super) async fn used_bytes(session: &Session) -> Result<u64> {
    let used: i64 = session
        .query_one(
            r#"
            select ((select sum(pg_database_size(d.oid)) from pg_database d)
                    + (select coalesce(sum(w.size), 0) from pg_ls_waldir() w))::int8
            "#,
            &[],
        )
        .await
        .map_err(|error| {
            Error::refused(format!(
                "how full the disk is cannot be seen: {error}; grant pg_monitor to this role, or \
                 leave --disk-gib out"
            ))
            .because(error)
        })?;
    Ok(used.unsigned_abs())
}

/// The databases, with their bytes where the role may see them, and whether they take connections.
pub(super) async fn databases(session: &Session) -> Result<Vec<(String, Option<u64>, bool)>> {
    let rows: Vec<(String, Option<i64>, bool)> = session
        .query(
            r#"
            select d.datname::text,
                   case when has_database_privilege(d.oid, 'connect')
                          or pg_has_role(current_user, 'pg_read_all_stats', 'usage')
                        then pg_database_size(d.oid)
                   end,
                   d.datallowconn
              from pg_database d
             where not d.datistemplate
             order by 1
            "#,
            &[],
        )
        .await?;
    let bytes = |bytes: Option<i64>| bytes.map(i64::unsigned_abs);
    Ok(rows.into_iter().map(|(name, size, takes)| (name, bytes(size), takes)).collect())
}

/// The subscriptions that a copy would go on with: one sentence each.
pub(super) async fn subscriptions(session: &Session) -> Result<Vec<String>> {
    session
        .query(
            r#"
            select format('subscription %s of database %s is enabled', s.subname, d.datname)
              from pg_subscription s
              join pg_database d on d.oid = s.subdbid
             where s.subenabled
             order by 1
            "#,
            &[],
        )
        .await
}
