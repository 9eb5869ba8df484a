//! A row's values as their types print them.

/// A row's values as text, in the order of [`crate::catalog::Table::columns`], as the server that
/// holds the row printed them under the pinned settings (ISO dates, UTC, `extra_float_digits` 3,
/// hex bytea, …). Two rows are the same downstream exactly when their images are equal.
///
/// One allocation for the text and one for the bounds, however many columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    text: String,
    /// End of each value in `text`; a null has no text and is marked by `None`.
    values: Box<[Option<(u32, u32)>]>,
}

impl Image {
    /// The number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the row has no columns at all (a table may have none).
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a column; `None` is SQL null.
    pub fn get(&self, column: usize) -> Option<&str> {
        self.values[column].map(|(start, end)| &self.text[start as usize..end as usize])
    }

    /// All values in column order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|column| self.get(column))
    }
}

impl<'a> FromIterator<Option<&'a str>> for Image {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(values: I) -> Self {
        let mut text = String::new();
        let values = values
            .into_iter()
            .map(|value| {
                value.map(|value| {
                    let start = text.len() as u32;
                    text.push_str(value);
                    (start, text.len() as u32)
                })
            })
            .collect();
        Self { text, values }
    }
}
