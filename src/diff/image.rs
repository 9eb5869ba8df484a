//! A row's values as their types print them.

use memchr::{memchr, memchr_iter};

use crate::error::{Error, Result};
use crate::postgres::{Binary, Row};

/// A row's values as text, in the order of [`crate::catalog::Table::columns`], as the server that
/// holds the row printed them under the pinned settings (ISO dates, UTC, `extra_float_digits` 3,
/// hex bytea, …). Two rows are the same downstream exactly when their images are equal.
///
/// One allocation for the text and one for the bounds, however many columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    text: String,
    /// Start and end of each value in `text`; `None` is null.
    values: Box<[Option<(u32, u32)>]>,
}

impl Image {
    /// Reads some values of a row out of a `text[]` in a result.
    pub(crate) fn read_columns(row: &Row, at: usize, columns: usize) -> Result<Self> {
        let array: Binary = row.try_get(at)?;
        Self::from_text_array(array.0, columns)
    }

    /// Reads a `text[]` as PostgreSQL sends it in binary (src/backend/utils/adt/arrayfuncs.c,
    /// `array_send`): dimensions, flags, element type, then length and lower bound of each
    /// dimension, then each element with its length, -1 for null.
    ///
    /// # Errors
    /// The bytes are not a one-dimensional array of text of this many elements.
    pub(crate) fn from_text_array(bytes: &[u8], columns: usize) -> Result<Self> {
        Self::read_text_array(bytes, columns)
            .ok_or_else(|| Error::item("a row image has a form that PostgreSQL does not send"))
    }

    fn read_text_array(bytes: &[u8], columns: usize) -> Option<Self> {
        let int = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let dimensions = int(0)?;
        if dimensions == 0 {
            return (columns == 0).then(|| Self { text: String::new(), values: Box::default() });
        }
        if dimensions != 1 || usize::try_from(int(12)?).ok()? != columns {
            return None;
        }
        let mut values = Vec::with_capacity(columns);
        let mut text = String::with_capacity(bytes.len().checked_sub(20 + 4 * columns)?);
        let mut at = 20;
        for _ in 0..columns {
            let length = int(at)?;
            at += 4;
            values.push(match usize::try_from(length) {
                Ok(length) => {
                    let start = u32::try_from(text.len()).ok()?;
                    text.push_str(std::str::from_utf8(bytes.get(at..at + length)?).ok()?);
                    at += length;
                    Some((start, u32::try_from(text.len()).ok()?))
                }
                Err(_) => None,
            });
        }
        (at == bytes.len()).then(|| Self { text, values: values.into() })
    }

    /// Reads a row as COPY writes it in its text format, in which each value is what its type's
    /// output function prints (PostgreSQL manual, "COPY", File Formats): values between tabs, `\\N`
    /// for null, and a backslash before the letters of a few control characters and before itself.
    ///
    /// # Errors
    /// The line is not one of this many columns.
    pub(super) fn from_copied(line: &[u8], columns: usize) -> Result<Self> {
        Self::read_copied(line, columns)
            .ok_or_else(|| Error::item("a copied row has a form that PostgreSQL does not send"))
    }

    fn read_copied(line: &[u8], columns: usize) -> Option<Self> {
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        let mut text = String::with_capacity(line.len());
        let mut values = Vec::with_capacity(columns);
        if columns == 0 {
            return line.is_empty().then(|| Self { text, values: Box::default() });
        }
        let escapes = memchr(b'\\', line.as_bytes()).is_some();
        let mut from = 0;
        for to in memchr_iter(b'\t', line.as_bytes()).chain([line.len()]) {
            let value = &line[from..to];
            from = to + 1;
            if value == "\\N" {
                values.push(None);
                continue;
            }
            let start = u32::try_from(text.len()).ok()?;
            if escapes {
                unescape(value, &mut text)?
            } else {
                text.push_str(value)
            }
            values.push(Some((start, u32::try_from(text.len()).ok()?)));
        }
        (values.len() == columns).then(|| Self { text, values: values.into() })
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// All its values, one after the other.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The memory that its text takes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + std::mem::size_of_val(&*self.values)
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

/// Appends what a copied value stands for.
fn unescape(mut value: &str, out: &mut String) -> Option<()> {
    while let Some(at) = memchr(b'\\', value.as_bytes()) {
        out.push_str(&value[..at]);
        let mut letters = value[at + 1..].chars();
        out.push(match letters.next()? {
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' => '\\',
            _ => return None,
        });
        value = letters.as_str();
    }
    out.push_str(value);
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for header in [1, 0, 25, values.len() as i32, 1] {
            bytes.extend(header.to_be_bytes());
        }
        for value in values {
            bytes.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            bytes.extend(value.unwrap_or_default().as_bytes());
        }
        bytes
    }

    #[test]
    fn reads_text_arrays() {
        let values = [Some("a"), None, Some(""), Some("é🎉")];
        let image = Image::from_text_array(&array(&values), 4).unwrap();
        assert_eq!(image, values.into_iter().collect());
        assert_eq!(image.iter().collect::<Vec<_>>(), values);
        let empty = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25];
        assert!(Image::from_text_array(&empty, 0).unwrap().is_empty());
    }

    #[test]
    fn reads_copied_rows() {
        let line = "a\t\\N\t\t\\\\N\té🎉\\t\\n\\r\\b\\f\\v\\\\.\n";
        let values = [Some("a"), None, Some(""), Some("\\N"), Some("é🎉\t\n\r\x08\x0c\x0b\\.")];
        let image = Image::from_copied(line.as_bytes(), 5).unwrap();
        assert_eq!(image, values.into_iter().collect());
        assert!(Image::from_copied(b"\n", 0).unwrap().is_empty());
        assert_eq!(Image::from_copied(b"\n", 1).unwrap().get(0), Some(""));
        for (line, columns) in [("a\tb\n", 1), ("a\n", 2), ("a", 1), ("a\\\n", 1), ("\\q\n", 1)] {
            assert!(Image::from_copied(line.as_bytes(), columns).is_err(), "{line:?}");
        }
    }

    #[test]
    fn refuses_what_is_cut_or_of_another_width() {
        let bytes = array(&[Some("abc"), None]);
        assert!(Image::from_text_array(&bytes, 3).is_err());
        for end in 0..bytes.len() {
            assert!(Image::from_text_array(&bytes[..end], 2).is_err(), "{end}");
        }
    }
}
