//! Why a change could not be encoded.

use crate::model::TableName;

/// A change that cannot be encoded. Names where, never the value: values may be sensitive.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A value's text is not what its type prints under the pinned settings.
    #[error(
        "{table}, column {column} of type {declared}: the value {reason}; check that both servers \
         print values under the pinned settings, or leave the table out"
    )]
    Malformed {
        /// The table.
        table: TableName,
        /// The column's name.
        column: String,
        /// Its declared type.
        declared: String,
        /// What is wrong with the text, as the end of a sentence.
        reason: &'static str,
    },
    /// A row has not as many values as its table has columns.
    #[error("{table}: a row of {found} values for {expected} columns; please report this defect")]
    Shape {
        /// The table.
        table: TableName,
        /// The number of the table's columns.
        expected: usize,
        /// The number of the row's values.
        found: usize,
    },
}
