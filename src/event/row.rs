//! A row or a key as a JSON object.

use super::json;
use super::value::{Fidelity, Malformed, WriteValue};
use crate::catalog::{Column, Key, Table};
use crate::diff::Image;

/// The writers of a table's columns and the objects made of them.
pub(super) struct Columns<W> {
    /// One a column of the image, also of those that are left out.
    pub(super) writers: Vec<W>,
    /// The same for old rows.
    pub(super) old_writers: Vec<W>,
    pub(super) row: Fields,
    pub(super) key: Option<Fields>,
    /// Whether a column belongs to the key.
    pub(super) in_key: Vec<bool>,
}

impl<W: WriteValue + Default> Columns<W> {
    /// `choose` yields no writer for a column that the format leaves out. Whether one is left out is
    /// decided by head's type; an old value of a type that the format leaves out is its text.
    pub(super) fn new(
        table: &Table,
        base_columns: &[Column],
        choose: impl Fn(&Column) -> Option<W>,
    ) -> Self {
        let chosen: Vec<Option<W>> = table.columns.iter().map(&choose).collect();
        let sent: Vec<bool> = chosen.iter().map(Option::is_some).collect();
        let named = |column: usize| (column, table.columns[column].name.as_str());
        let row = Fields::new((0..sent.len()).filter(|&column| sent[column]).map(named));
        let mut in_key = vec![false; sent.len()];
        let key = match &table.key {
            Key::WholeRow => None,
            Key::Columns(key) => {
                key.iter().for_each(|&column| in_key[column] = true);
                Some(Fields::new(key.iter().copied().filter(|&column| sent[column]).map(named)))
                    .filter(|key| !key.is_empty())
            }
        };
        let writers = chosen.into_iter().map(Option::unwrap_or_default).collect();
        let old_writers =
            base_columns.iter().map(|column| choose(column).unwrap_or_default()).collect();
        Self { writers, old_writers, row, key, in_key }
    }
}

/// The columns that an object consists of, each with its column writer's position.
pub(super) struct Fields(Vec<Field>);

struct Field {
    /// Position in the image.
    column: usize,
    /// `{"name":` for the first field, `,"name":` for the others.
    prefix: Box<[u8]>,
}

/// A malformed value and the column that holds it.
pub(super) struct MalformedAt {
    pub(super) column: usize,
    pub(super) malformed: Malformed,
}

impl Fields {
    /// The fields of these columns (position in the image, name), in this order.
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = (usize, &'a str)>) -> Self {
        let fields = columns.into_iter().enumerate().map(|(at, (column, name))| {
            let mut prefix = vec![if at == 0 { b'{' } else { b',' }];
            json::string(name, &mut prefix);
            prefix.push(b':');
            Field { column, prefix: prefix.into() }
        });
        Self(fields.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the object of an image; `writers` has one writer a column of the image. Values of
    /// columns for which `known` is false are written as absent. Counts lost values in `lost`.
    pub(super) fn write<W: WriteValue>(
        &self,
        writers: &[W],
        image: &Image,
        known: impl Fn(usize) -> bool,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<(), MalformedAt> {
        if self.0.is_empty() {
            out.extend_from_slice(b"{}");
            return Ok(());
        }
        for field in &self.0 {
            out.extend_from_slice(&field.prefix);
            let column = field.column;
            let writer = &writers[column];
            if !known(column) {
                out.extend_from_slice(writer.absent());
                continue;
            }
            match image.get(column) {
                None => out.extend_from_slice(b"null"),
                Some(text) => match writer.write(text, out) {
                    Ok(Fidelity::Exact) => {}
                    Ok(Fidelity::Lost) => *lost += 1,
                    Err(malformed) => return Err(MalformedAt { column, malformed }),
                },
            }
        }
        out.push(b'}');
        Ok(())
    }
}
