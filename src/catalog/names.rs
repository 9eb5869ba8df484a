//! Tables by name and by oid: a restore keeps the oids of production, so they tell a table that was
//! renamed from one that is new.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::TableName;
use crate::postgres::Session;

/// The oids of those of these tables that exist.
pub(crate) async fn oids(
    connection: &Session,
    names: &[TableName],
) -> Result<BTreeMap<TableName, u32>> {
    let (schemas, tables): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let rows: Vec<(String, String, i64)> = connection
        .query(
            r#"
            select n.nspname::text, c.relname::text, c.oid::int8
              from unnest($1::text[], $2::text[]) as wanted (schema, name)
              join pg_namespace n on n.nspname = wanted.schema
              join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
             where c.relkind in ('r', 'p')
            "#,
            &[&schemas, &tables],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|(schema, name, oid)| (TableName { schema, name }, oid as u32))
        .collect())
}

/// The names of those of these tables that exist.
pub(crate) async fn names_of(
    connection: &Session,
    oids: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, TableName>> {
    let oids: Vec<i64> = oids.into_iter().map(i64::from).collect();
    if oids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, String, String)> = connection
        .query(
            r#"
            select c.oid::int8, n.nspname::text, c.relname::text
              from pg_class c
              join pg_namespace n on n.oid = c.relnamespace
             where c.oid = any ($1::int8[]::oid[]) and c.relkind in ('r', 'p')
            "#,
            &[&oids],
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|(oid, schema, name)| (oid as u32, TableName { schema, name }))
        .collect())
}
