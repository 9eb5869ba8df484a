//! Which tables a recovery covers, and what of them the publications let through.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::TableName;
use crate::error::{Error, Result};

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selection {
    /// Only this publication's tables; otherwise those of every publication.
    pub(crate) publication: Option<String>,
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
}

impl Operations {
    /// All of them.
    pub const ALL: Self = Self { insert: true, update: true, delete: true };
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
}

/// The selected tables by name, as head's publications have them. Tables of our own are left out
/// (`FOR ALL TABLES` would publish them).
///
/// Several publications with one table are one subscription here: its rows are those of any, its
/// columns and operations those of all.
///
/// # Errors
/// Refused: an unknown publication or table, or nothing selected.
pub(crate) async fn select(
    head: &mut PgConnection,
    server_version: u32,
    selection: &Selection,
) -> Result<BTreeMap<TableName, PublishedTable>> {
    if let Some(publication) = &selection.publication {
        let known: Vec<String> =
            sqlx::query_scalar("select pubname::text from pg_publication order by 1")
                .fetch_all(&mut *head)
                .await?;
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
    // Column lists and row filters exist since PostgreSQL 15.
    let sql = if server_version >= 150_000 {
        r#"
        select t.schemaname::text, t.tablename::text,
               -- The view of PostgreSQL 15 names generated columns, which it never sends.
               array(select a.attname::text
                       from pg_attribute a
                       join pg_class c on c.oid = a.attrelid
                       join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = t.schemaname and c.relname = t.tablename
                        and a.attname = any (t.attnames)
                        and (a.attgenerated = ''
                             or current_setting('server_version_num')::int >= 160000)) as attnames,
               t.rowfilter, p.pubinsert, p.pubupdate, p.pubdelete
          from pg_publication_tables t
          join pg_publication p on p.pubname = t.pubname
         where ($1::text is null or p.pubname = $1)
           and t.schemaname !~ '^deltacompare(_[0-9a-f]{12})?$'
         order by 1, 2, p.pubname
        "#
    } else {
        r#"
        select t.schemaname::text, t.tablename::text, null::text[] as attnames,
               null::text as rowfilter, p.pubinsert, p.pubupdate, p.pubdelete
          from pg_publication_tables t
          join pg_publication p on p.pubname = t.pubname
         where ($1::text is null or p.pubname = $1)
           and t.schemaname !~ '^deltacompare(_[0-9a-f]{12})?$'
         order by 1, 2, p.pubname
        "#
    };
    let rows: Vec<Row> =
        sqlx::query_as(sql).bind(&selection.publication).fetch_all(&mut *head).await?;
    let mut tables = merge(rows);
    if !selection.tables.is_empty() {
        let unpublished: Vec<TableName> =
            selection.tables.iter().filter(|name| !tables.contains_key(*name)).cloned().collect();
        if let (Some(publication), Some(name)) = (&selection.publication, unpublished.first()) {
            return Err(Error::refused(format!(
                "publication {publication:?} does not publish {name}: leave --publication or this \
                 --table out"
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

/// Selected partitions whose root is selected too, each with that root. A subscription to several
/// publications sends a row once, as the topmost table's that any of them publishes.
pub(crate) async fn leaves_of_selected(
    head: &mut PgConnection,
    selected: &BTreeMap<TableName, PublishedTable>,
) -> Result<Vec<(TableName, TableName)>> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        selected.keys().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
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
    .fetch_all(head)
    .await?;
    let mut leaves = BTreeMap::new();
    for (schema, name, root_schema, root_name) in pairs {
        let root = TableName { schema: root_schema, name: root_name };
        if selected.contains_key(&root) {
            leaves.entry(TableName { schema, name }).or_insert(root);
        }
    }
    Ok(leaves.into_iter().collect())
}

async fn require_table(head: &mut PgConnection, name: &TableName) -> Result<()> {
    let kind: Option<String> = sqlx::query_scalar(
        r#"
        select c.relkind::text
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
        Some(_) => Err(Error::refused(format!("{name} on head is not a table"))),
        None => Err(Error::refused(format!(
            "head has no table {name}: check the spelling (unquoted names are folded to lower \
             case, as in PostgreSQL)"
        ))),
    }
}

fn merge(rows: Vec<Row>) -> BTreeMap<TableName, PublishedTable> {
    let mut tables = BTreeMap::<TableName, PublishedTable>::new();
    for row in rows {
        let name = TableName { schema: row.schemaname, name: row.tablename };
        let columns = row.attnames.map(BTreeSet::from_iter);
        let operations =
            Operations { insert: row.pubinsert, update: row.pubupdate, delete: row.pubdelete };
        match tables.get_mut(&name) {
            None => {
                let table = PublishedTable {
                    name: name.clone(),
                    columns,
                    filter: row.rowfilter,
                    operations,
                    unpublished: false,
                };
                tables.insert(name, table);
            }
            Some(table) => {
                table.columns = table.columns.take().zip(columns).map(|(a, b)| &a | &b);
                table.filter =
                    table.filter.take().zip(row.rowfilter).map(|(a, b)| format!("({a}) or ({b})"));
                table.operations.insert |= operations.insert;
                table.operations.update |= operations.update;
                table.operations.delete |= operations.delete;
            }
        }
    }
    tables
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
        }
    }

    #[test]
    fn several_publications_of_one_table_let_through_what_any_does() {
        let rows = vec![row(Some("a > 1"), &["a"], false), row(Some("b"), &["a", "b"], true)];
        let table = merge(rows).into_values().next().unwrap();
        assert_eq!(table.filter.as_deref(), Some("(a > 1) or (b)"));
        assert_eq!(table.columns.unwrap().len(), 2);
        assert_eq!(table.operations, Operations { insert: true, update: false, delete: true });
    }

    #[test]
    fn one_publication_without_a_filter_lets_all_rows_through() {
        let tables = merge(vec![row(Some("a > 1"), &["a"], true), row(None, &["a"], true)]);
        assert_eq!(tables.into_values().next().unwrap().filter, None);
    }
}
