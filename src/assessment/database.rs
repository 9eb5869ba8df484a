//! What one database publishes.

use super::{READ_ONLY, SESSION};
use crate::error::Result;
use crate::model::{AssessedDatabase, Strategy};
use crate::postgres::{Server, Session, from_row};
use crate::recovery::bytes_a_second;

/// A database, with what a copy of it would do by itself: one sentence each.
pub(super) struct Found {
    pub(super) database: AssessedDatabase,
    pub(super) wakes: Vec<String>,
}

struct TablesRow {
    tables: i64,
    bytes: i64,
    unreadable: i64,
    without_key: i64,
}

from_row!(TablesRow { tables, bytes, unreadable, without_key });

impl AssessedDatabase {
    /// Whether it has anything that a slot reads, or may have; one that could not be looked at may.
    pub(super) fn is_concerned(&self) -> bool {
        !self.publications.is_empty() || !self.slots.is_empty() || self.error.is_some()
    }
}

/// Reads it. What goes wrong is told in the result: other databases are looked at all the same.
pub(super) async fn read(
    server: &Server,
    name: &str,
    bytes: Option<u64>,
    takes_connections: bool,
    slots: Vec<String>,
) -> Found {
    let empty = AssessedDatabase {
        name: name.to_owned(),
        bytes,
        publications: Vec::new(),
        tables: 0,
        table_bytes: 0,
        unreadable: 0,
        without_key: 0,
        slots,
        seconds: (0, 0),
        error: None,
    };
    if !takes_connections {
        let error = Some("it takes no connections (datallowconn)".to_owned());
        return Found { database: AssessedDatabase { error, ..empty }, wakes: Vec::new() };
    }
    match looked_at(server, name).await {
        Ok((publications, row, wakes)) => {
            let bytes = row.bytes.unsigned_abs();
            let seconds = |strategy| (bytes as f64 / bytes_a_second(strategy)).ceil() as u64;
            let database = AssessedDatabase {
                publications,
                tables: row.tables.unsigned_abs(),
                table_bytes: bytes,
                unreadable: row.unreadable.unsigned_abs(),
                without_key: row.without_key.unsigned_abs(),
                seconds: (seconds(Strategy::RowVersions), seconds(Strategy::Full)),
                ..empty
            };
            Found { database, wakes }
        }
        Err(error) => {
            let database = AssessedDatabase { error: Some(error.to_string()), ..empty };
            Found { database, wakes: Vec::new() }
        }
    }
}

async fn looked_at(server: &Server, name: &str) -> Result<(Vec<String>, TablesRow, Vec<String>)> {
    let session = server.with_database(name).connect(SESSION).await?;
    session.batch_execute(READ_ONLY).await?;
    let publications = crate::catalog::publications(&session).await?;
    let tables = tables(&session).await?;
    let wakes = wakes(&session, name).await?;
    session.close().await;
    Ok((publications, tables, wakes))
}

/// Sizes are from the catalog, but for tables that neither VACUUM nor ANALYZE has seen: to ask for a
/// file's size takes a lock on the table.
async fn tables(session: &Session) -> Result<TablesRow> {
    session
        .query_one(
            r#"
            with published as materialized (
                select distinct c.oid, c.relreplident
                  from pg_publication_tables t
                  join pg_namespace n on n.nspname = t.schemaname
                  join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename),
            files as (
                select p.oid from published p
                union
                select l.relid::oid from published p cross join pg_partition_tree(p.oid) l)
            select (select count(*) from published) as tables,
                   (select coalesce(sum(case when c.relpages > 0
                                             then (c.relpages::int8 + coalesce(t.relpages, 0)) * 8192
                                             else pg_table_size(c.oid) end), 0)::int8
                      from files f
                      join pg_class c on c.oid = f.oid
                      left join pg_class t on t.oid = c.reltoastrelid) as bytes,
                   (select count(*) from published p
                     where not has_table_privilege(p.oid, 'select')
                        or not has_schema_privilege((select c.relnamespace from pg_class c
                                                      where c.oid = p.oid), 'usage')) as unreadable,
                   (select count(*) from published p
                     where p.relreplident <> 'i'
                       and not exists (select from pg_index i
                                        where i.indrelid = p.oid and i.indisprimary)) as without_key
            "#,
            &[],
        )
        .await
}

/// What else than subscriptions, which are the server's, reaches out of a database.
async fn wakes(session: &Session, name: &str) -> Result<Vec<String>> {
    let found: Vec<String> = session
        .query(
            r#"
            select format('extension %s', e.extname) from pg_extension e
             where e.extname in ('pg_cron', 'pgagent', 'dblink')
            union all
            select format('foreign server %s', s.srvname) from pg_foreign_server s
             order by 1
            "#,
            &[],
        )
        .await?;
    Ok(found.into_iter().map(|what| format!("database {name} has {what}")).collect())
}
