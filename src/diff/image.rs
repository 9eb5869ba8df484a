//! A row's values as their types print them.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use memchr::{memchr, memchr_iter};

use crate::error::{Error, Result};
use crate::postgres::{Binary, Row};

/// A row's values as text, in the order of [`crate::catalog::Table::columns`], as the server that
/// holds the row printed them under the pinned settings (ISO dates, UTC, `extra_float_digits` 3,
/// hex bytea, …). Two rows are the same downstream exactly when their images are equal.
///
/// One allocation for the text and one for the bounds, however many columns.
#[derive(Clone, Debug)]
pub struct Image {
    text: Text,
    /// Start and end of each value in `text`; `None` is null.
    values: Box<[Option<(u32, u32)>]>,
}

/// The bytes in which an image's values lie.
#[derive(Clone, Debug)]
enum Text {
    /// The values, one after the other, and nothing else.
    Owned(String),
    /// The line that COPY wrote, with the values in it; each value is valid UTF-8.
    Received(Bytes),
}

/// Lines from this size on are not copied out of the buffer that the driver received them in.
const KEPT_AS_RECEIVED: usize = 1 << 20;

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
            return (columns == 0).then(|| Self::owned(String::new(), Vec::new()));
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
        (at == bytes.len()).then(|| Self::owned(text, values))
    }

    /// Reads a row as COPY writes it in its text format, in which each value is what its type's
    /// output function prints (PostgreSQL manual, "COPY", File Formats): values between tabs, `\\N`
    /// for null, and a backslash before the letters of a few control characters and before itself.
    ///
    /// A long line is kept as it is, if none of its values has to be changed but at its beginning
    /// (`bytea` prints a backslash there): a row of hundreds of megabytes is in memory once.
    ///
    /// # Errors
    /// The line is not one of this many columns.
    pub(super) fn from_copied(line: &Bytes, columns: usize) -> Result<Self> {
        let kept = (line.len() >= KEPT_AS_RECEIVED).then(|| Self::keep_copied(line, columns));
        kept.flatten()
            .or_else(|| Self::read_copied(line, columns))
            .ok_or_else(|| Error::item("a copied row has a form that PostgreSQL does not send"))
    }

    fn keep_copied(line: &Bytes, columns: usize) -> Option<Self> {
        let inside = line.strip_suffix(b"\n")?;
        let mut values = Vec::with_capacity(columns);
        let mut from = 0;
        for to in memchr_iter(b'\t', inside).chain([inside.len()]) {
            let value = &inside[from..to];
            values.push(match value {
                b"\\N" => None,
                _ => {
                    let escaped = usize::from(value.starts_with(b"\\\\"));
                    if memchr(b'\\', &value[2 * escaped..]).is_some() {
                        return None;
                    }
                    std::str::from_utf8(value).ok()?;
                    Some((u32::try_from(from + escaped).ok()?, u32::try_from(to).ok()?))
                }
            });
            from = to + 1;
        }
        let text = Text::Received(line.clone());
        (values.len() == columns).then(|| Self { text, values: values.into() })
    }

    fn read_copied(line: &[u8], columns: usize) -> Option<Self> {
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        let mut text = String::with_capacity(line.len());
        let mut values = Vec::with_capacity(columns);
        if columns == 0 {
            return line.is_empty().then(|| Self::owned(text, values));
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
        (values.len() == columns).then(|| Self::owned(text, values))
    }

    fn owned(text: String, values: Vec<Option<(u32, u32)>>) -> Self {
        Self { text: Text::Owned(text), values: values.into() }
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// All its values, one after the other, in pieces.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &str> {
        let (whole, single) = match &self.text {
            Text::Owned(text) => (Some(text.as_str()), 0),
            Text::Received(_) => (None, self.len()),
        };
        whole.into_iter().chain((0..single).filter_map(|column| self.get(column)))
    }

    /// The memory that its text takes.
    pub(crate) fn bytes(&self) -> usize {
        let text = match &self.text {
            Text::Owned(text) => text.len(),
            Text::Received(line) => line.len(),
        };
        text + std::mem::size_of_val(&*self.values)
    }

    /// Whether the row has no columns at all (a table may have none).
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a column; `None` is SQL null.
    pub fn get(&self, column: usize) -> Option<&str> {
        let (start, end) = self.values[column]?;
        let at = start as usize..end as usize;
        Some(match &self.text {
            Text::Owned(text) => &text[at],
            // It was looked at when the line was read.
            Text::Received(line) => std::str::from_utf8(&line[at]).unwrap_or_default(),
        })
    }

    /// All values in column order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.len()).map(|column| self.get(column))
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        match (&self.text, &other.text) {
            (Text::Owned(text), Text::Owned(others)) => {
                text == others && self.values == other.values
            }
            _ => self.iter().eq(other.iter()),
        }
    }
}

impl Eq for Image {}

impl Hash for Image {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|value| value.hash(state));
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
        let values: Vec<_> = values
            .into_iter()
            .map(|value| {
                value.map(|value| {
                    let start = text.len() as u32;
                    text.push_str(value);
                    (start, text.len() as u32)
                })
            })
            .collect();
        Self::owned(text, values)
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
        let read = |line: &str, columns| {
            Image::from_copied(&Bytes::copy_from_slice(line.as_bytes()), columns)
        };
        let image = read(line, 5).unwrap();
        assert_eq!(image, values.into_iter().collect());
        assert!(read("\n", 0).unwrap().is_empty());
        assert_eq!(read("\n", 1).unwrap().get(0), Some(""));
        for (line, columns) in [("a\tb\n", 1), ("a\n", 2), ("a", 1), ("a\\\n", 1), ("\\q\n", 1)] {
            assert!(read(line, columns).is_err(), "{line:?}");
        }
    }

    #[test]
    fn long_lines_are_kept_where_nothing_is_to_be_changed() {
        let long = "é".repeat(KEPT_AS_RECEIVED / 2);
        let cases: [(String, bool, Vec<Option<String>>); 5] = [
            (format!("1\t{long}\t\\N\n"), true, vec![Some("1".into()), Some(long.clone()), None]),
            (
                format!("1\t\\\\x00ff\t{long}\n"),
                true,
                vec![Some("1".into()), Some("\\x00ff".into()), Some(long.clone())],
            ),
            (
                format!("\t\t{long}\n"),
                true,
                vec![Some("".into()), Some("".into()), Some(long.clone())],
            ),
            (
                format!("1\ta\\nb\t{long}\n"),
                false,
                vec![Some("1".into()), Some("a\nb".into()), Some(long.clone())],
            ),
            (
                format!("1\t\\\\a\\\\\t{long}\n"),
                false,
                vec![Some("1".into()), Some("\\a\\".into()), Some(long.clone())],
            ),
        ];
        for (line, kept, values) in cases {
            let line = Bytes::from(line.into_bytes());
            let image = Image::from_copied(&line, 3).unwrap();
            assert_eq!(matches!(image.text, Text::Received(_)), kept);
            let same: Image = values.iter().map(Option::as_deref).collect();
            assert_eq!(image, same);
            assert_eq!(same, image);
            assert_eq!(image.pieces().collect::<String>(), same.pieces().collect::<String>());
            let other: Image = [Some("2"), values[1].as_deref(), None].into_iter().collect();
            assert_ne!(image, other);
            assert!(Image::from_copied(&line, 2).is_err());
        }
        let mut broken = long.into_bytes();
        broken.extend_from_slice(b"\xff\n");
        assert!(Image::from_copied(&broken.into(), 1).is_err());
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
