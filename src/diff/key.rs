//! Keys by image, and rows found by them.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::{Image, Source, print};
use crate::catalog::{Key, Table};
use crate::error::Result;
use crate::sql::{Ident, Relation};

/// The printed values of a row's key columns. Two keys are one only if they print the same: `=` may
/// hold for more (numeric 1.0 and 1.00), which are two keys downstream.
pub(super) type KeyImage = Vec<Option<String>>;

/// The key of an image; the whole image for a table without a key.
pub(super) fn of(table: &Table, image: &Image) -> KeyImage {
    match &table.key {
        Key::Columns(columns) => {
            columns.iter().map(|&column| image.get(column).map(str::to_owned)).collect()
        }
        Key::WholeRow => image.iter().map(|value| value.map(str::to_owned)).collect(),
    }
}

/// The rows of a side whose keys equal those of these images, by key image.
pub(super) async fn rows_by_key(
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
    let sql = join(key, source, &print::image(source, "r"));
    let mut rows = bind(sqlx::query(AssertSqlSafe(sql)), key, wanted).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let image = Image::read(&row, 0, table)?;
        found.insert(of(table, &image), image);
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
    let sql = join(key, source, &print::key(&table.key, source, "r"));
    let mut rows = bind(sqlx::query(AssertSqlSafe(sql)), key, wanted).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let image = Image::read_columns(&row, 0, key.len())?;
        found.insert(image.iter().map(|value| value.map(str::to_owned)).collect());
    }
    Ok(found)
}

/// A join of the wanted keys with a side's rows, over the key's index. The keys come as text and
/// are read as the column's type, so that the index serves.
fn join(key: &[usize], source: &Source, printed: &str) -> String {
    let arrays: Vec<String> = (1..=key.len()).map(|n| format!("${n}::text[]")).collect();
    let names: Vec<String> = (1..=key.len()).map(|n| format!("k{n}")).collect();
    let conditions: Vec<String> = key
        .iter()
        .zip(&names)
        .map(|(&at, name)| {
            let column = &source.columns[at];
            let base = Relation::new(&column.base.schema, &column.base.name);
            format!(
                "r.{} operator({}.=) w.{name}::{base}",
                Ident::new(&column.name),
                Ident::new(column.operator_schema())
            )
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
