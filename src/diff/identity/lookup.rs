//! Rows found by key.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::key_of;
use crate::catalog::{Key, Table};
use crate::diff::{Image, Source, print};
use crate::error::Result;
use crate::sql::{Ident, Relation};

/// A key by image.
type KeyImage = Vec<Option<String>>;

/// The rows of a side that have the keys of these images, by key. Only rows whose key prints the
/// same count: `=` may hold for keys that print differently (numeric 1.0 and 1.00), which are two
/// keys downstream.
pub(super) async fn by_key(
    connection: &mut PgConnection,
    table: &Table,
    source: &Source,
    wanted: &[Image],
) -> Result<HashMap<KeyImage, Image>> {
    let mut found = HashMap::new();
    let Key::Columns(key) = &table.key else { return Ok(found) };
    if wanted.is_empty() {
        return Ok(found);
    }
    let sql = join(table, key, source, &print::image(table, "r"));
    let mut rows = bind(sqlx::query(AssertSqlSafe(sql)), key, wanted).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let image = Image::read(&row, 0, table)?;
        found.insert(key_of(table, &image), image);
    }
    Ok(found)
}

/// Which of the keys of these images a side has.
pub(super) async fn keys_present(
    connection: &mut PgConnection,
    table: &Table,
    source: &Source,
    wanted: &[Image],
) -> Result<HashSet<KeyImage>> {
    let mut found = HashSet::new();
    let Key::Columns(key) = &table.key else { return Ok(found) };
    if wanted.is_empty() {
        return Ok(found);
    }
    let sql = join(table, key, source, &print::key(table, "r", false));
    let mut rows = bind(sqlx::query(AssertSqlSafe(sql)), key, wanted).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let image = Image::read_columns(&row, 0, key.len())?;
        found.insert(image.iter().map(|value| value.map(str::to_owned)).collect());
    }
    Ok(found)
}

/// A join of the wanted keys with a side's rows, over the key's index. The keys come as text and
/// are read as the column's type, so that the index serves.
fn join(table: &Table, key: &[usize], source: &Source, printed: &str) -> String {
    let arrays: Vec<String> = (1..=key.len()).map(|n| format!("${n}::text[]")).collect();
    let names: Vec<String> = (1..=key.len()).map(|n| format!("k{n}")).collect();
    let conditions: Vec<String> = key
        .iter()
        .zip(&names)
        .map(|(&at, name)| {
            let column = &table.columns[at];
            let base = Relation::new(&column.base.schema, &column.base.name);
            format!("r.{} = w.{name}::{base}", Ident::new(&column.name))
        })
        .collect();
    format!(
        "select {printed} from unnest({}) as w ({}) join {} on {}",
        arrays.join(", "),
        names.join(", "),
        source.rows("r"),
        conditions.join(" and ")
    )
}

fn bind<'q>(
    mut query: Query<'q, Postgres, PgArguments>,
    key: &[usize],
    wanted: &[Image],
) -> Query<'q, Postgres, PgArguments> {
    for &column in key {
        let values: Vec<Option<String>> =
            wanted.iter().map(|image| image.get(column).map(str::to_owned)).collect();
        query = query.bind(values);
    }
    query
}
