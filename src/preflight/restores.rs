//! What must hold of the two restored servers.

use std::collections::BTreeSet;

use super::Findings;
use crate::catalog::TablePair;
use crate::error::Result;
use crate::postgres::{APPLICATION_NAMES, Session, Side, from_row};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// `server_version_num`.
    version: i32,
    /// `version()`.
    product: String,
    pub(super) in_recovery: bool,
    pub(super) system_identifier: String,
    /// The next transaction id, with its epoch.
    pub(super) next_transaction: i64,
    pub(super) track_counts: bool,
    pub(super) large_objects: bool,
    /// `pg_last_wal_replay_lsn()`: null after a clean restart, and after a crash something else.
    pub(super) last_replayed: Option<String>,
    /// When the transaction that was replayed last was committed, in milliseconds since 1970; as
    /// reliable as `last_replayed`.
    pub(super) last_commit: Option<i64>,
    /// Cluster, timeline, database and, for a role that may see it, the second in which the restore
    /// ended: what tells this restore from any other.
    pub(super) restore: String,
}

impl Facts {
    /// `server_version_num`.
    pub(super) fn version(&self) -> u32 {
        self.version.unsigned_abs()
    }

    /// Why nothing is known of how this server behaves: a major version that came later, one that was
    /// never released, or another product.
    pub(super) fn unknown_version(&self) -> Option<String> {
        let major = self.version() / 10_000;
        if major > NEWEST_MAJOR {
            return Some(format!(
                "PostgreSQL {major}, and {NEWEST_MAJOR} is the newest that is known"
            ));
        }
        if !is_released_postgresql(&self.product) {
            let product: String = self.product.chars().take(80).collect();
            return Some(format!("{product:?}, which is no released PostgreSQL"));
        }
        None
    }

    /// Whether no point-in-time recovery has ever ended on the server or on one that it is a copy of:
    /// each ends on a new timeline.
    fn is_on_first_timeline(&self) -> bool {
        self.restore.split('/').nth(1) == Some("00000001")
    }

    /// When the last recovery on the server ended, for people; `None` if the role may not see that.
    fn recovery_ended(&self) -> Option<jiff::Timestamp> {
        let second = self.restore.split('/').nth(3)?.parse().ok()?;
        jiff::Timestamp::from_second(second).ok()
    }
}

/// The newest major version that is known.
const NEWEST_MAJOR: u32 = 18;

/// Words in `version()` of products that otherwise call themselves PostgreSQL.
const OTHER_PRODUCTS: [&str; 6] =
    ["EnterpriseDB", "Greenplum", "Redshift", "YugabyteDB", "openGauss", "Babelfish"];

/// Whether `version()` is that of a release (`PostgreSQL 15.8 on …`, `PostgreSQL 15.8 (Debian …) on
/// …`): development versions, betas and many forks have other signs behind the number.
fn is_released_postgresql(product: &str) -> bool {
    let number = product.strip_prefix("PostgreSQL ").and_then(|rest| rest.split(' ').next());
    number.is_some_and(|number| {
        number.contains('.')
            && number.split('.').all(|part| part.parse::<u32>().is_ok())
            && !OTHER_PRODUCTS.iter().any(|other| product.contains(other))
    })
}

from_row!(Facts {
    version,
    product,
    in_recovery,
    system_identifier,
    next_transaction,
    track_counts,
    large_objects,
    last_replayed,
    last_commit,
    restore
});

pub(super) async fn facts(connection: &Session) -> Result<Facts> {
    let mut facts: Facts = connection
        .query_one(
            r#"
        select int4in(textout(current_setting('server_version_num'))) as version,
               version() as product,
               pg_is_in_recovery() as in_recovery,
               (select textin(int8out(system_identifier))
                  from pg_control_system()) as system_identifier,
               case when pg_is_in_recovery() then 0
                    else int8in(xid8out(pg_snapshot_xmax(pg_current_snapshot())))
               end as next_transaction,
               (current_setting('track_counts') = 'on'
                and not exists (select from pg_db_role_setting s
                                 cross join unnest(s.setconfig) as c (setting)
                                 where s.setdatabase in
                                         (0, (select oid from pg_database
                                               where datname = current_database()))
                                   and lower(c.setting) ~ '^track_counts=(off|false|no|n|f|fa|0|of)'
                               )) as track_counts,
               exists (select from pg_largeobject_metadata) as large_objects,
               nullif(format('%s', pg_last_wal_replay_lsn()), '') as last_replayed,
               (extract(epoch from pg_last_xact_replay_timestamp()) * 1000)::int8 as last_commit,
               concat_ws('/', (select system_identifier from pg_control_system()),
                         case when not pg_is_in_recovery()
                              then left(pg_walfile_name(pg_current_wal_lsn()), 8) end,
                         (select oid from pg_database where datname = current_database())
               ) as restore
        "#,
            &[],
        )
        .await?;
    if !facts.in_recovery
        && let Some(second) = restore_ended(connection).await?
    {
        facts.restore += &format!("/{second}");
    }
    Ok(facts)
}

/// Whether this role may look at the files of the write-ahead log: it needs `pg_monitor`.
async fn sees_wal_files(connection: &Session) -> Result<bool> {
    connection
        .query_one("select has_function_privilege('pg_catalog.pg_ls_waldir()', 'execute')", &[])
        .await
}

/// The second in which the server's restore ended: then the history of its timeline is written, and
/// never again. `None` if the role may not see that. Not while the server is in recovery.
pub(crate) async fn restore_ended(connection: &Session) -> Result<Option<i64>> {
    if !sees_wal_files(connection).await? {
        return Ok(None);
    }
    connection
        .query_opt(
            r#"
        select extract(epoch from modification)::int8
          from pg_ls_waldir()
         where name = left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.history'
        "#,
            &[],
        )
        .await
}

/// Whether two identities are of one restore, as far as both tell. The end of the restore is not told
/// to every role.
pub(crate) fn same_restore(one: &str, other: &str) -> bool {
    let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    parts(one).iter().zip(parts(other)).all(|(one, other)| *one == other)
}

/// What tells this restore from any other, and its system identifier.
pub(crate) async fn restore_id(connection: &Session) -> Result<(String, String)> {
    let facts = facts(connection).await?;
    Ok((facts.restore, facts.system_identifier))
}

/// Whether the counts of writes began anew after the server's restore had ended: a crash takes them
/// along, `pg_stat_reset()` too. The file that tells the server's timelines was written when its
/// restore ended (in whole seconds). `false` where that cannot be seen: without `pg_monitor`, and on
/// PostgreSQL 14, which begins to count only some time after the file is there.
pub(crate) async fn counts_lost(connection: &Session) -> Result<bool> {
    let counts_early: bool = connection
        .query_one("select int4in(textout(current_setting('server_version_num'))) >= 150000", &[])
        .await?;
    if !counts_early || !sees_wal_files(connection).await? {
        return Ok(false);
    }
    connection
        .query_one(
            r#"
        select coalesce(
                 greatest((select stats_reset from pg_stat_bgwriter),
                          (select stats_reset from pg_stat_database
                            where datname = current_database()))
                 > (select max(modification) from pg_ls_waldir()
                     where name ~ '^[0-9A-F]{8}\.history$') + interval '1 s',
                 false)
        "#,
            &[],
        )
        .await
}

/// Warns if the two servers load different libraries, as far as this role may see that: parameters are
/// not copied to a restore on Azure.
pub(super) async fn same_libraries(
    base: &Session,
    head: &Session,
    findings: &mut Findings,
) -> Result<()> {
    const LIBRARIES: &str =
        "select setting from pg_settings where name = 'shared_preload_libraries'";
    let on_base: Option<String> = base.query_opt(LIBRARIES, &[]).await?;
    let on_head: Option<String> = head.query_opt(LIBRARIES, &[]).await?;
    let (Some(on_base), Some(on_head)) = (on_base, on_head) else { return Ok(()) };
    let libraries = |text: &str| -> BTreeSet<String> {
        text.split(',').map(|name| name.trim().to_owned()).filter(|it| !it.is_empty()).collect()
    };
    if libraries(&on_base) != libraries(&on_head) {
        findings.warn(format!(
            "shared_preload_libraries is {on_base:?} on base and {on_head:?} on head: what an \
             extension needs of them may be missing on one side; set them as production has them, \
             and restart the copy"
        ));
    }
    Ok(())
}

/// Versions and recovery state. `accept_unknown`: a version that nothing is known of is only told.
pub(super) fn comparable(
    base: &Facts,
    head: &Facts,
    accept_unknown: bool,
    findings: &mut Findings,
) {
    for (side, facts) in [(Side::Base, base), (Side::Head, head)] {
        if facts.in_recovery {
            findings.refuse(format!(
                "{side} is still in recovery: wait until its restore has ended, or promote it \
                 (select pg_promote())"
            ));
        }
        if facts.version() < 140_000 {
            findings.refuse(format!(
                "{side} runs PostgreSQL {}: 14 is the oldest that is supported",
                facts.version() / 10_000
            ));
        }
        match facts.unknown_version() {
            Some(unknown) if accept_unknown => findings.warn(format!(
                "{side} runs {unknown}: row versions are not compared, and nothing vouches for \
                 what else is other there; verify the result with --verify full"
            )),
            Some(unknown) => findings.refuse(format!(
                "{side} runs {unknown}: nothing vouches for what this program would make of it; \
                 look for a newer version of deltacompare, or compare contents all the same with \
                 --accept unknown-version"
            )),
            None => {}
        }
        if !facts.track_counts {
            findings.warn(format!(
                "track_counts is off on {side}: whether it was written to since its restore \
                 cannot be seen"
            ));
        }
    }
    if base.large_objects || head.large_objects {
        findings.warn(
            "there are large objects (pg_largeobject): neither the stream nor the events carry \
             them; copy those that changed by other means",
        );
    }
    let (base, head) = (base.version / 10_000, head.version / 10_000);
    if base != head {
        findings.refuse(format!(
            "base runs PostgreSQL {base} and head runs {head}: values print differently across \
             major versions; restore both from the same server"
        ));
    }
}

/// Whether both sessions are on one server: a lock taken in one is seen in the other.
pub(super) async fn same_server(base: &Session, head: &Session) -> Result<bool> {
    let key: i64 = rand::random();
    base.execute("select pg_advisory_lock($1)", &[&key]).await?;
    let seen = head
        .query_one(
            r#"
        select exists (select from pg_locks
                        where locktype = 'advisory'
                          and classid::int8 = ($1 >> 32) & 4294967295
                          and objid::int8 = $1 & 4294967295)
        "#,
            &[&key],
        )
        .await;
    base.execute("select pg_advisory_unlock($1)", &[&key]).await?;
    seen
}

/// Client sessions other than ours that have a transaction id in this database. `pg_locks` shows
/// them to every role; `pg_stat_activity.backend_xid` does not.
pub(crate) async fn writers(connection: &Session) -> Result<Vec<i32>> {
    connection
        .query(
            r#"
        select distinct a.pid
          from pg_locks l
          join pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
           and a.datname = current_database()
           and a.usesysid is not null
           and not (coalesce(a.application_name, '') = any ($1)
                    or coalesce(a.application_name, '') ~ '^deltacompare_[0-9a-f]{12}$')
           and a.pid <> pg_backend_pid()
         order by 1
        "#,
            &[&APPLICATION_NAMES.as_slice()],
        )
        .await
}

/// A client session other than ours in this database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OtherSession {
    pub(crate) pid: i32,
    /// It may keep counts of earlier writes to itself for as long as it stays as it is: within a
    /// transaction, and before PostgreSQL 15 until its next one.
    pub(crate) holds_counts_back: bool,
}

from_row!(OtherSession { pid, holds_counts_back });

/// Sessions whose counts of writes may not have been told yet. One that told something a moment
/// before keeps the rest for up to ten seconds while it is idle (PostgreSQL sources, pgstat.c,
/// `PGSTAT_IDLE_INTERVAL`), before PostgreSQL 15 until its next transaction. `pg_locks` shows to
/// every role who is in a transaction.
pub(crate) async fn other_sessions(connection: &Session) -> Result<Vec<OtherSession>> {
    connection
        .query(
            r#"
        select a.pid,
               (int4in(textout(current_setting('server_version_num'))) < 150000
                or exists (select from pg_locks l
                            where l.pid = a.pid and l.locktype = 'virtualxid'
                              and l.mode = 'ExclusiveLock' and l.granted)) as holds_counts_back
          from pg_stat_activity a
         where a.datname = current_database()
           and a.usesysid is not null
           and coalesce(a.backend_type, 'client backend') = 'client backend'
           and not (coalesce(a.application_name, '') = any ($1)
                    or coalesce(a.application_name, '') ~ '^deltacompare_[0-9a-f]{12}$')
           and a.pid <> pg_backend_pid()
         order by 1
        "#,
            &[&APPLICATION_NAMES.as_slice()],
        )
        .await
}

/// Neither side may have been written to since its restore.
pub(super) fn unwritten(
    pairs: &[TablePair],
    facts: (&Facts, &Facts),
    accept: bool,
    findings: &mut Findings,
) {
    for (side, facts) in [(Side::Base, facts.0), (Side::Head, facts.1)] {
        let written: Vec<String> = pairs
            .iter()
            .filter_map(
                |pair| if side == Side::Head { Some(&pair.head) } else { pair.base.as_ref() },
            )
            .filter(|relation| relation.written > 0)
            .map(|relation| format!("{} ({} rows)", relation.name, relation.written))
            .collect();
        if written.is_empty() {
            continue;
        }
        let tables = written.join(", ");
        // Production's own counts come along with a copy of its disk.
        let ended = facts.recovery_ended().map_or(String::new(), |ended| {
            format!(
                "; its last recovery ended at {ended}: if that was long before it was restored, it \
                 is a copy of production's disk, and these are production's own writes"
            )
        });
        if accept {
            findings.warn(format!(
                "{side} was written to since its restore: {tables}{ended}; the result is not proved \
                 for these tables"
            ));
        } else if facts.is_on_first_timeline() {
            findings.refuse(format!(
                "{side} is no point-in-time restore (it is on timeline 1, and each recovery begins \
                 a new one): it is a copy of production's disk, or production itself, and \
                 production's own writes are counted: {tables}; make it anew by a point-in-time \
                 restore, or compare what is there with --accept written"
            ));
        } else {
            findings.refuse(format!(
                "{side} was written to since its restore: {tables}{ended}; restore it again and \
                 keep applications away, leave the tables out with --exclude, or compare what is \
                 there with --accept written"
            ));
        }
    }
}

/// The rows written to these relations since the statistics began, by oid, where there are any.
pub(crate) async fn written(connection: &Session, relations: &[i64]) -> Result<Vec<(i64, i64)>> {
    connection
        .query(
            r#"
        select oid, written
          from (select wanted.oid,
                       (select sum(pg_stat_get_tuples_inserted(leaf)
                                   + pg_stat_get_tuples_updated(leaf)
                                   + pg_stat_get_tuples_deleted(leaf))::int8
                          from (select coalesce(t.relid, wanted.oid::oid) as leaf
                                  from (select) one
                                  left join lateral pg_partition_tree(wanted.oid::oid::regclass) t
                                    on t.isleaf) leaves) as written
                  from unnest($1::int8[]) wanted (oid)) counted
         where written > 0
        "#,
            &[&relations],
        )
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_and_unreleased_versions_are_told_from_postgresql() {
        for released in [
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc",
            "PostgreSQL 16.8 on x86_64-pc-linux-gnu, compiled by gcc (GCC) 11.2.0, 64-bit",
        ] {
            assert!(is_released_postgresql(released), "{released}");
        }
        for other in [
            "PostgreSQL 19devel on x86_64-pc-linux-gnu",
            "PostgreSQL 18beta1 on x86_64-pc-linux-gnu",
            "PostgreSQL 11.2-YB-2.25.0.0-b0 on x86_64-pc-linux-gnu",
            "PostgreSQL 15.4 (EnterpriseDB Advanced Server 15.4.0) on x86_64-pc-linux-gnu",
            "PostgreSQL 14.4 (Greenplum Database 7.0.0) on x86_64-pc-linux-gnu",
            "CockroachDB CCL v23.1.0",
            "",
        ] {
            assert!(!is_released_postgresql(other), "{other}");
        }
    }
}
