//! Keys by image, and rows found by them.

use std::hash::{Hash, Hasher};

use sqlx::PgConnection;

use super::{Image, Source, copy};
use crate::error::Result;
use crate::sql::{Ident, Relation};

/// The printed values of a row's key columns. Two keys are one only if they print the same: `=` may
/// hold for more (numeric 1.0 and 1.00), which are two keys downstream.
#[derive(Clone, Copy)]
pub(super) struct KeyOf<'a> {
    image: &'a Image,
    key: &'a [usize],
}

impl<'a> KeyOf<'a> {
    /// Of the columns at these places of the image.
    pub(super) fn new(image: &'a Image, key: &'a [usize]) -> Self {
        Self { image, key }
    }

    fn values(self) -> impl Iterator<Item = Option<&'a str>> {
        self.key.iter().map(move |&at| self.image.get(at))
    }
}

impl PartialEq for KeyOf<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for KeyOf<'_> {}

impl Hash for KeyOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values().for_each(|value| value.hash(state));
    }
}

/// The rows of a side whose keys are `=` to those of these images; `None` if they are too large to
/// be held at once.
pub(super) async fn rows_by_key(
    connection: &mut PgConnection,
    key: &[usize],
    source: &Source,
    wanted: &[Image],
) -> Result<Option<Vec<Image>>> {
    if wanted.is_empty() {
        return Ok(Some(Vec::new()));
    }
    bind(connection, key, wanted).await?;
    let query = join(key, source, &copy::row(source, "r"));
    copy::images(connection, &query, source.columns.len()).await
}

/// Those keys of these images to which a side has an `=` one, as they print in the images: images
/// of the key columns only.
pub(super) async fn keys_present(
    connection: &mut PgConnection,
    key: &[usize],
    source: &Source,
    wanted: &[Image],
) -> Result<Option<Vec<Image>>> {
    if wanted.is_empty() {
        return Ok(Some(Vec::new()));
    }
    bind(connection, key, wanted).await?;
    let names: Vec<String> = (1..=key.len()).map(|n| format!("w.k{n}")).collect();
    copy::images(connection, &join(key, source, &names.join(", ")), key.len()).await
}

/// A join of the wanted keys with a side's rows, over the key's index. The keys come as text and
/// are read as the column's type, so that the index serves.
pub(super) fn join(key: &[usize], source: &Source, printed: &str) -> String {
    let arrays: Vec<String> = (1..=key.len()).map(copy::bound).collect();
    let names: Vec<String> = (1..=key.len()).map(|n| format!("k{n}")).collect();
    let conditions: Vec<String> = key
        .iter()
        .zip(&names)
        .map(|(&at, name)| {
            let column = &source.columns[at];
            let base = Relation::new(&column.base.schema, &column.base.name);
            format!(
                "r.{}{} operator({}.=) w.{name}::{base}",
                Ident::new(&column.name),
                column.enum_cast(),
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

pub(super) async fn bind(
    connection: &mut PgConnection,
    key: &[usize],
    wanted: &[Image],
) -> Result<()> {
    let lists: Vec<Vec<Option<&str>>> =
        key.iter().map(|&column| wanted.iter().map(|image| image.get(column)).collect()).collect();
    copy::bind(connection, &lists).await
}
