//! Tables that other sessions keep from being read.

use std::time::Duration;

use super::Findings;
use crate::catalog::Selection;
use crate::error::Result;
use crate::model::TableName;
use crate::postgres::{Session, Side};

/// A lock that is held for a moment (`truncate`, autovacuum's cutting of a table's end) is waited for.
const LOOKS: u32 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A table that a session has locked so that nobody can read it, and the session's pid.
pub(crate) struct Locked {
    pub(crate) oid: i64,
    pub(crate) table: String,
    pub(crate) pid: i32,
}

crate::postgres::from_row!(Locked { oid, table, pid });

impl Locked {
    /// What an operator needs to know of it.
    pub(crate) fn sentence(&self, side: Side) -> String {
        let Self { table, pid, .. } = self;
        format!(
            "{table} on {side} is locked by another session (pid {pid}), which keeps it from being \
             read: wait until it ends, or end it there with select pg_terminate_backend({pid})"
        )
    }
}

/// The tables of this database that other sessions have locked. Looks at catalogs only, for which
/// none of these locks is waited.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn locked_tables(connection: &Session) -> Result<Vec<Locked>> {
    connection
        .query(
            r#"
        select c.oid::int8 as oid, format('%I.%I', n.nspname, c.relname) as table, l.pid
          from pg_locks l
          join pg_class c on c.oid = l.relation
          join pg_namespace n on n.oid = c.relnamespace
         where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and l.pid <> pg_backend_pid()
           and c.relkind in ('r', 'p')
           -- Those below are the server's own.
           and c.oid >= 16384
         order by 2, 3
        "#,
            &[],
        )
        .await
}

/// Refuses tables of the selection that are locked. Yields whether there are any: whoever asks
/// anything about them waits.
pub(super) async fn refuse_locked(
    side: Side,
    server_version: u32,
    connection: &Session,
    selection: &Selection,
    findings: &mut Findings,
) -> Result<bool> {
    let mut locked = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        locked = concerned(connection, server_version, selection, locked_tables(connection).await?)
            .await?;
        if locked.is_empty() {
            return Ok(false);
        }
    }
    for table in &locked {
        findings.refuse(table.sentence(side));
    }
    Ok(true)
}

/// Whether publication `p` publishes the schema of relation `c`: an SQL expression.
pub(super) fn published_schemas(server_version: u32) -> &'static str {
    if server_version >= 150_000 {
        "exists (select from pg_publication_namespace s \
                  where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)"
    } else {
        "false"
    }
}

/// Those that are selected or published themselves, or as a part of another table.
async fn concerned(
    connection: &Session,
    server_version: u32,
    selection: &Selection,
    locked: Vec<Locked>,
) -> Result<Vec<Locked>> {
    if locked.is_empty() {
        return Ok(locked);
    }
    let oids: Vec<i64> = locked.iter().map(|table| table.oid).collect();
    let names = |tables: &[TableName]| -> (Vec<String>, Vec<String>) {
        tables.iter().map(|table| (table.schema.clone(), table.name.clone())).unzip()
    };
    let (schemas, tables) = names(&selection.tables);
    let (excluded_schemas, excluded_tables) = names(&selection.exclude);
    let published_schemas = published_schemas(server_version);
    // Functions that list a publication's tables open them, and would wait.
    let concerned: Vec<i64> = connection
        .query(
            &format!(
                r#"
        select w.oid
          from unnest($1::int8[]) as w (oid)
         where exists (
                 select from (select w.oid::oid as oid
                               union
                              select a.relid::oid from pg_partition_ancestors(w.oid::oid) as a) as r
                   join pg_class c on c.oid = r.oid
                   join pg_namespace n on n.oid = c.relnamespace
                  where not exists (select from unnest($5::text[], $6::text[]) as x (schema, name)
                                     where x.schema = n.nspname and x.name = c.relname)
                    and (exists (select from unnest($2::text[], $3::text[]) as t (schema, name)
                                  where t.schema = n.nspname and t.name = c.relname)
                         or cardinality($2::text[]) = 0
                            and exists (select from pg_publication p
                                         where (cardinality($4::text[]) = 0 or p.pubname = any ($4))
                                           and (p.puballtables
                                                or exists (select from pg_publication_rel m
                                                            where m.prpubid = p.oid
                                                              and m.prrelid = c.oid)
                                                or {published_schemas}))))
        "#
            ),
            &[
                &oids,
                &schemas,
                &tables,
                &selection.publications,
                &excluded_schemas,
                &excluded_tables,
            ],
        )
        .await?;
    Ok(locked.into_iter().filter(|table| concerned.contains(&table.oid)).collect())
}
