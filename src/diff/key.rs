//! Keys by image, and rows found by them.

use std::hash::{Hash, Hasher};

use super::{Image, Source, copy, print};
use crate::error::{Error, Result};
use crate::postgres::{Ident, Session};

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
    connection: &Session,
    key: &[usize],
    source: &Source,
    wanted: &[Image],
) -> Result<Option<Vec<Image>>> {
    if wanted.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let query = join(key, source, wanted, &copy::row(source, "r"));
    copy::images(connection, &query, source.columns.len(), Some(wanted.len())).await
}

/// Those keys of these images to which a side has an `=` one, as they print in the images: images
/// of the key columns only.
pub(super) async fn keys_present(
    connection: &Session,
    key: &[usize],
    source: &Source,
    wanted: &[Image],
) -> Result<Option<Vec<Image>>> {
    if wanted.is_empty() {
        return Ok(Some(Vec::new()));
    }
    // Numbers, not the keys: what was printed and read need not print in the same way again.
    let numbers = copy::images(connection, &join(key, source, wanted, "w.number"), 1, None).await?;
    let Some(numbers) = numbers else { return Ok(None) };
    let present = numbers.iter().map(|number| {
        let number = number.get(0).and_then(|number| number.parse::<usize>().ok());
        let image = number.and_then(|number| wanted.get(number));
        let image = image.ok_or_else(|| Error::item("a key came back that was not asked for"))?;
        Ok(key.iter().map(|&at| image.get(at)).collect())
    });
    present.collect::<Result<_>>().map(Some)
}

/// A join of the wanted keys, each with its number, with a side's rows, over the key's index. The
/// keys are literals of the column's type, so that the index serves.
pub(super) fn join(key: &[usize], source: &Source, wanted: &[Image], printed: &str) -> String {
    let columns = || key.iter().map(|&at| &source.columns[at]);
    let values: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(number, image)| {
            let keys = key.iter().zip(columns());
            let keys: Vec<String> =
                keys.map(|(&at, column)| print::literal(column, image.get(at))).collect();
            format!("({number}, {})", keys.join(", "))
        })
        .collect();
    let names: Vec<String> = (1..=key.len()).map(|n| format!("k{n}")).collect();
    let conditions: Vec<String> = columns()
        .zip(&names)
        .map(|(column, name)| {
            format!(
                "r.{}{} operator({}.=) w.{name}",
                Ident::new(&column.name),
                column.base_cast(),
                Ident::new(column.operator_schema())
            )
        })
        .collect();
    format!(
        "select {printed} from (values {}) as w (number, {}) join {} on {}",
        values.join(", "),
        names.join(", "),
        source.rows("r"),
        conditions.join(" and ")
    )
}
