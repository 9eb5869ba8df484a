//! Tables that other sessions and prepared transactions keep from being read.

use std::time::Duration;

use super::Findings;
use super::restores::writers;
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

/// Refuses tables of the selection that are locked, and then sessions that may be writing. Yields
/// whether any of these tables is locked: whoever asks anything about it waits.
pub(super) async fn refuse_locked(
    side: Side,
    server_version: u32,
    connection: &Session,
    selection: &Selection,
    findings: &mut Findings,
) -> Result<bool> {
    let locked = locked_for_long(server_version, connection, selection).await?;
    for table in &locked {
        findings.refuse(table.sentence(side));
    }
    refuse_writers(side, connection, &locked, findings).await?;
    Ok(!locked.is_empty())
}

/// The tables of the selection that stay locked.
async fn locked_for_long(
    server_version: u32,
    connection: &Session,
    selection: &Selection,
) -> Result<Vec<Locked>> {
    let mut locked = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        locked = concerned(connection, server_version, selection, locked_tables(connection).await?)
            .await?;
        if locked.is_empty() {
            break;
        }
    }
    Ok(locked)
}

/// Refuses sessions that have a transaction id. One that holds a lock on a table got it for that, and
/// may have written, too; which lock that is tells more about it. Those of `told` were refused already.
async fn refuse_writers(
    side: Side,
    connection: &Session,
    told: &[Locked],
    findings: &mut Findings,
) -> Result<()> {
    let writers: Vec<i32> = writers(connection).await?;
    if writers.is_empty() {
        return Ok(());
    }
    let held = locked_tables(connection).await?;
    let holds = |pid: &i32| told.iter().chain(&held).any(|table| table.pid == *pid);
    let (holding, writing): (Vec<i32>, Vec<i32>) = writers.into_iter().partition(holds);
    for pid in holding.iter().filter(|pid| told.iter().all(|table| table.pid != **pid)) {
        let tables = held.iter().filter(|table| table.pid == *pid);
        let tables: Vec<&str> = tables.map(|table| table.table.as_str()).collect();
        findings.refuse(format!(
            "a session on {side} (pid {pid}) has locked {} and may have written in the same \
             transaction: wait until it ends, or end it there with select \
             pg_terminate_backend({pid})",
            tables.join(", ")
        ));
    }
    if !writing.is_empty() {
        findings.refuse(format!(
            "{side} is being written to by other sessions (pids {}): keep applications away from \
             the restores and end these sessions",
            writing.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(())
}

/// Whether a recovery reads relation `c` of schema `n`, by name: an SQL expression of the parameters
/// that [`Names`] has. Functions that list a publication's tables open them, and would wait.
fn is_selected(server_version: u32) -> String {
    let published_schema = if server_version >= 150_000 {
        "exists (select from pg_publication_namespace s
                  where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)"
    } else {
        "false"
    };
    format!(
        // What is left out is so with all of its partitions.
        "not exists (select from unnest($4::text[], $5::text[]) as x (schema, name)
                       join pg_namespace xn on xn.nspname = x.schema
                       join pg_class xc on xc.relnamespace = xn.oid and xc.relname = x.name
                      where xc.oid = c.oid
                         or xc.oid in (select a.relid from pg_partition_ancestors(c.oid) as a))
         and (exists (select from unnest($1::text[], $2::text[]) as t (schema, name)
                       where t.schema = n.nspname and t.name = c.relname)
              or cardinality($1::text[]) = 0
                 and exists (select from pg_publication p
                              where (cardinality($3::text[]) = 0 or p.pubname = any ($3))
                                and (p.puballtables
                                     or exists (select from pg_publication_rel m
                                                 where m.prpubid = p.oid and m.prrelid = c.oid)
                                     or {published_schema})))"
    )
}

/// The parameters of [`is_selected`], in its order.
struct Names {
    schemas: Vec<String>,
    tables: Vec<String>,
    publications: Vec<String>,
    excluded_schemas: Vec<String>,
    excluded_tables: Vec<String>,
}

impl Names {
    fn of(selection: &Selection) -> Self {
        let names = |tables: &[TableName]| -> (Vec<String>, Vec<String>) {
            tables.iter().map(|table| (table.schema.clone(), table.name.clone())).unzip()
        };
        let (schemas, tables) = names(&selection.tables);
        let (excluded_schemas, excluded_tables) = names(&selection.exclude);
        let publications = selection.publications.clone();
        Self { schemas, tables, publications, excluded_schemas, excluded_tables }
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
    let names = Names::of(selection);
    let is_selected = is_selected(server_version);
    let concerned: Vec<i64> = connection
        .query(
            &format!(
                r#"
        select w.oid
          from unnest($6::int8[]) as w (oid)
         where exists (
                 select from (select w.oid::oid as oid
                               union
                              select a.relid::oid from pg_partition_ancestors(w.oid::oid) as a) as r
                   join pg_class c on c.oid = r.oid
                   join pg_namespace n on n.oid = c.relnamespace
                  where {is_selected})
        "#
            ),
            &[
                &names.schemas,
                &names.tables,
                &names.publications,
                &names.excluded_schemas,
                &names.excluded_tables,
                &oids,
            ],
        )
        .await?;
    Ok(locked.into_iter().filter(|table| concerned.contains(&table.oid)).collect())
}

/// Prepared transactions survive a restore with their locks. Those that would keep us from reading
/// are refused, the rest is told. Looks at catalogs only, for which no lock of theirs is waited.
///
/// Yields whether a published or selected table is locked: whoever asks anything about it waits.
pub(super) async fn refuse_prepared(
    side: Side,
    server_version: u32,
    connection: &Session,
    selection: &Selection,
    findings: &mut Findings,
) -> Result<bool> {
    let names = Names::of(selection);
    let is_selected = is_selected(server_version);
    let prepared: Vec<(String, Vec<String>)> = connection
        .query(
            &format!(
                r#"
        with recursive held (transaction, relation) as (
          select p.transaction, l.relation
            from pg_prepared_xacts p
            -- Every transaction holds its own id, under the same name as its other locks.
            join pg_locks own
              on own.locktype = 'transactionid' and own.transactionid = p.transaction
            join pg_locks l on l.virtualtransaction = own.virtualtransaction
           where p.database = current_database()
             and own.pid is null and own.granted
             and l.pid is null
             and l.locktype = 'relation'
             and l.mode = 'AccessExclusiveLock'
        ),
        -- A locked partition keeps its root from being read too.
        affected (transaction, relation) as (
          select transaction, relation from held
           union
          select a.transaction, i.inhparent
            from affected a
            join pg_inherits i on i.inhrelid = a.relation
        )
        select p.gid,
               array(select format('%I.%I', n.nspname, c.relname)
                       from affected a
                       join pg_class c on c.oid = a.relation
                       join pg_namespace n on n.oid = c.relnamespace
                      where a.transaction = p.transaction
                        and c.relkind in ('r', 'p')
                        -- Those below are the server's own.
                        and c.oid >= 16384
                        and {is_selected}
                      order by 1)
          from pg_prepared_xacts p
         where p.database = current_database()
         order by 1
        "#
            ),
            &[
                &names.schemas,
                &names.tables,
                &names.publications,
                &names.excluded_schemas,
                &names.excluded_tables,
            ],
        )
        .await?;
    let mut blocked = false;
    for (gid, tables) in prepared {
        if tables.is_empty() {
            findings.warn(format!(
                "the prepared transaction {gid:?} is open on {side}: its changes count as not made"
            ));
        } else {
            blocked = true;
            findings.refuse(format!(
                "the prepared transaction {gid:?} on {side} holds a lock that keeps {} from being \
                 read: on this copy it is safe to run rollback prepared '{}'",
                tables.join(", "),
                gid.replace('\'', "''")
            ));
        }
    }
    Ok(blocked)
}
