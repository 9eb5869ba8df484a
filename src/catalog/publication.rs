//! Which tables a recovery covers, and what of them the publications let through.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};

use super::TableName;
use crate::error::{Error, Result};

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// Only these publications' tables; empty for those of every publication.
    pub(crate) publications: Vec<String>,
    /// Only these tables; otherwise all.
    pub(crate) tables: Vec<TableName>,
    /// Not these tables.
    pub(crate) exclude: Vec<TableName>,
}

/// Which operations a publication lets through (`publish = '…'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    /// Inserts.
    pub insert: bool,
    /// Updates.
    pub update: bool,
    /// Deletes.
    pub delete: bool,
    /// Truncates.
    pub truncate: bool,
}

impl Operations {
    /// All of them.
    pub const ALL: Self = Self { insert: true, update: true, delete: true, truncate: true };
}

/// A selected table with what its publications let through, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedTable {
    pub(crate) name: TableName,
    /// Published columns; `None` for all that are not generated.
    pub(crate) columns: Option<BTreeSet<String>>,
    /// A row is published if this SQL expression over its columns is true.
    pub(crate) filter: Option<String>,
    pub(crate) operations: Operations,
    /// In none of the publications: named by the operator, compared whole.
    pub(crate) unpublished: bool,
    /// Its publications do not have the same columns.
    pub(crate) column_lists_differ: bool,
    /// Its publications let other rows through for one operation than for another.
    pub(crate) filters_by_operation: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    schemaname: String,
    tablename: String,
    attnames: Option<Vec<String>>,
    rowfilter: Option<String>,
    pubinsert: bool,
    pubupdate: bool,
    pubdelete: bool,
    pubtruncate: bool,
}

/// The selected tables by name, as head's publications have them. Tables of our own are left out
/// (`FOR ALL TABLES` would publish them).
///
/// # Errors
/// Refused: an unknown publication or table, or nothing selected.
pub(crate) async fn select(
    head: &mut PgConnection,
    server_version: u32,
    selection: &Selection,
) -> Result<BTreeMap<TableName, PublishedTable>> {
    let known = publications(head).await?;
    for publication in &selection.publications {
        if !known.contains(publication) {
            return Err(Error::refused(format!(
                "head has no publication {publication:?}; {}",
                if known.is_empty() {
                    "it has none at all: name tables with --table".to_owned()
                } else {
                    format!("it has: {}", known.join(", "))
                }
            )));
        }
    }
    let mut tables = published(head, server_version, &selection.publications).await?;
    if !selection.tables.is_empty() {
        let unpublished: Vec<TableName> =
            selection.tables.iter().filter(|name| !tables.contains_key(*name)).cloned().collect();
        if let (false, Some(name)) = (selection.publications.is_empty(), unpublished.first()) {
            return Err(Error::refused(format!(
                "publication {} does not publish {name}: leave --publication or this --table out",
                selection
                    .publications
                    .iter()
                    .map(|publication| format!("{publication:?}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        tables.retain(|name, _| selection.tables.contains(name));
        for name in unpublished {
            require_table(head, &name).await?;
            tables.insert(
                name.clone(),
                PublishedTable {
                    name,
                    columns: None,
                    filter: None,
                    operations: Operations::ALL,
                    unpublished: true,
                    column_lists_differ: false,
                    filters_by_operation: false,
                },
            );
        }
    }
    for name in &selection.exclude {
        if tables.remove(name).is_none() {
            require_table(head, name).await?;
        }
    }
    if tables.is_empty() {
        return Err(Error::refused(
            "no table is selected: head's publications have none (or --exclude took all); name \
             tables with --table schema.table",
        ));
    }
    Ok(tables)
}

/// The names of a server's publications, sorted.
pub(crate) async fn publications(connection: &mut PgConnection) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar("select pubname::text from pg_publication order by 1")
        .fetch_all(connection)
        .await?)
}

/// The tables of these publications, of all if none is named; without tables of our own. Unlogged,
/// temporary and foreign tables and views are in none.
///
/// Several publications with one table are one subscription here: its rows, columns and operations
/// are those of any.
pub(crate) async fn published(
    connection: &mut PgConnection,
    server_version: u32,
    publications: &[String],
) -> Result<BTreeMap<TableName, PublishedTable>> {
    // Column lists and row filters exist since PostgreSQL 15.
    let lists = if server_version >= 150_000 {
        r#"
               -- The view of PostgreSQL 15 names generated columns, which it never sends.
               array(select a.attname::text
                       from pg_attribute a
                       join pg_class c on c.oid = a.attrelid
                       join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = t.schemaname and c.relname = t.tablename
                        and a.attname = any (t.attnames)
                        and (a.attgenerated = ''
                             or int4in(textout(current_setting('server_version_num'))) >= 160000)) as attnames,
               t.rowfilter,
        "#
    } else {
        "null::text[] as attnames, null::text as rowfilter,"
    };
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
        r#"
        select t.schemaname::text, t.tablename::text, {lists}
               p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate
          from pg_publication_tables t
          join pg_publication p on p.pubname = t.pubname
         where (cardinality($1::text[]) = 0 or p.pubname = any ($1))
           and t.schemaname !~ '^deltacompare(_[0-9a-f]{{12}})?$'
         order by 1, 2, p.pubname
        "#
    )))
    .bind(publications)
    .fetch_all(connection)
    .await?;
    Ok(merge(rows))
}

/// Those of these tables that are partitions of others of them, each with the topmost of these. A
/// subscription to several publications sends a row once, as the topmost table's that any of them
/// publishes.
pub(crate) async fn partitions_among(
    connection: &mut PgConnection,
    tables: &BTreeSet<&TableName>,
) -> Result<BTreeMap<TableName, TableName>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let pairs: Vec<(String, String, String, String)> = sqlx::query_as(
        r#"
        select ln.nspname::text, l.relname::text, rn.nspname::text, r.relname::text
          from unnest($1::text[], $2::text[]) as wanted (schema, name)
          join pg_namespace ln on ln.nspname = wanted.schema
          join pg_class l on l.relnamespace = ln.oid and l.relname = wanted.name
         cross join lateral pg_partition_ancestors(l.oid) with ordinality as a (relid, height)
          join pg_class r on r.oid = a.relid
          join pg_namespace rn on rn.oid = r.relnamespace
         where l.relispartition and r.oid <> l.oid
         order by 1, 2, a.height desc
        "#,
    )
    .bind(&schemas)
    .bind(&names)
    .fetch_all(connection)
    .await?;
    let mut partitions = BTreeMap::new();
    for (schema, name, root_schema, root_name) in pairs {
        let root = TableName { schema: root_schema, name: root_name };
        if tables.contains(&root) {
            partitions.entry(TableName { schema, name }).or_insert(root);
        }
    }
    Ok(partitions)
}

async fn require_table(head: &mut PgConnection, name: &TableName) -> Result<()> {
    let kind: Option<String> = sqlx::query_scalar(
        r#"
        select case c.relpersistence when 'p' then c.relkind::text else 'not logged' end
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = $2
        "#,
    )
    .bind(&name.schema)
    .bind(&name.name)
    .fetch_optional(head)
    .await?;
    match kind.as_deref() {
        Some("r" | "p") => Ok(()),
        Some("not logged") => Err(Error::refused(format!(
            "{name} on head is unlogged or temporary: no slot delivers its changes, and a restore \
             has none of its rows; leave it out"
        ))),
        Some(_) => Err(Error::refused(format!("{name} on head is not a table"))),
        None => Err(Error::refused(format!(
            "head has no table {name}: check the spelling (unquoted names are folded to lower \
             case, as in PostgreSQL)"
        ))),
    }
}

fn merge(rows: Vec<Row>) -> BTreeMap<TableName, PublishedTable> {
    let mut by_table = BTreeMap::<TableName, Vec<Row>>::new();
    for row in rows {
        let name = TableName { schema: row.schemaname.clone(), name: row.tablename.clone() };
        by_table.entry(name).or_default().push(row);
    }
    by_table.into_iter().map(|(name, rows)| (name.clone(), together(name, &rows))).collect()
}

/// One table with what all its publications let through.
fn together(name: TableName, rows: &[Row]) -> PublishedTable {
    // As pgoutput combines them: a row passes an operation if it passes the filter of any
    // publication that publishes the operation.
    let filters = |has: fn(&Row) -> bool| -> Option<BTreeSet<&str>> {
        rows.iter().filter(|row| has(row)).map(|row| row.rowfilter.as_deref()).collect()
    };
    let operations = Operations {
        insert: rows.iter().any(|row| row.pubinsert),
        update: rows.iter().any(|row| row.pubupdate),
        delete: rows.iter().any(|row| row.pubdelete),
        truncate: rows.iter().any(|row| row.pubtruncate),
    };
    let by_operation = [
        operations.insert.then(|| filters(|row| row.pubinsert)),
        operations.update.then(|| filters(|row| row.pubupdate)),
        operations.delete.then(|| filters(|row| row.pubdelete)),
    ];
    let by_operation: BTreeSet<_> = by_operation.into_iter().flatten().collect();
    let filter = filters(|_| true).map(|filters| match Vec::from_iter(filters)[..] {
        [filter] => filter.to_owned(),
        ref filters => {
            filters.iter().map(|filter| format!("({filter})")).collect::<Vec<_>>().join(" or ")
        }
    });
    let columns: Vec<Option<BTreeSet<&String>>> =
        rows.iter().map(|row| row.attnames.as_ref().map(|names| names.iter().collect())).collect();
    PublishedTable {
        name,
        columns: columns
            .iter()
            .cloned()
            .collect::<Option<Vec<_>>>()
            .map(|lists| lists.into_iter().flatten().cloned().collect()),
        filter,
        operations,
        unpublished: false,
        column_lists_differ: columns.windows(2).any(|pair| pair[0] != pair[1]),
        filters_by_operation: by_operation.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(filter: Option<&str>, columns: &[&str], delete: bool) -> Row {
        Row {
            schemaname: "s".into(),
            tablename: "t".into(),
            attnames: Some(columns.iter().map(|&c| c.into()).collect()),
            rowfilter: filter.map(str::to_owned),
            pubinsert: true,
            pubupdate: false,
            pubdelete: delete,
            pubtruncate: false,
        }
    }

    #[test]
    fn several_publications_of_one_table_let_through_what_any_does() {
        let rows = vec![row(Some("a > 1"), &["a"], false), row(Some("b"), &["a", "b"], true)];
        let table = merge(rows).into_values().next().unwrap();
        assert_eq!(table.filter.as_deref(), Some("(a > 1) or (b)"));
        assert_eq!(table.columns.unwrap().len(), 2);
        let operations = Operations { insert: true, update: false, delete: true, truncate: false };
        assert_eq!(table.operations, operations);
        assert!(table.column_lists_differ && table.filters_by_operation);
    }

    #[test]
    fn one_publication_without_a_filter_lets_all_rows_through() {
        let tables = merge(vec![row(Some("a > 1"), &["a"], true), row(None, &["a"], true)]);
        let table = tables.into_values().next().unwrap();
        assert_eq!(table.filter, None);
        assert!(!table.column_lists_differ && !table.filters_by_operation);
    }

    #[test]
    fn a_filter_that_holds_for_one_operation_only_is_told() {
        let tables = merge(vec![row(Some("a > 1"), &["a"], false), row(None, &["a"], true)]);
        // Inserts pass without a condition by the second one, and so do deletes.
        assert!(!tables.into_values().next().unwrap().filters_by_operation);
        let mut deletes = row(None, &["a"], true);
        deletes.pubinsert = false;
        let tables = merge(vec![row(Some("a > 1"), &["a"], false), deletes]);
        assert!(tables.into_values().next().unwrap().filters_by_operation);
    }
}
