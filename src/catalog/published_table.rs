//! What publications let through of one table.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::TableName;

/// Which operations a publication lets through (`publish = '…'`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Operations {
    /// Inserts.
    pub insert: bool,
    /// Updates.
    pub update: bool,
    /// Deletes.
    pub delete: bool,
    /// Truncates.
    pub truncate: bool,
}

impl Operations {
    /// All of them.
    pub const ALL: Self = Self { insert: true, update: true, delete: true, truncate: true };
    /// None of them.
    pub const NONE: Self = Self { insert: false, update: false, delete: false, truncate: false };

    /// Whether there is one that sends rows.
    pub(super) fn rows(self) -> bool {
        self.rows_only() != Self::NONE
    }

    /// Those that send rows.
    pub(super) fn rows_only(self) -> Self {
        Self { truncate: false, ..self }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            insert: self.insert && other.insert,
            update: self.update && other.update,
            delete: self.delete && other.delete,
            truncate: self.truncate && other.truncate,
        }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self {
            insert: self.insert && !other.insert,
            update: self.update && !other.update,
            delete: self.delete && !other.delete,
            truncate: self.truncate && !other.truncate,
        }
    }
}

/// A selected table with what its publications let through, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublishedTable {
    pub(crate) name: TableName,
    /// Published columns; `None` for all that are not generated.
    pub(crate) columns: Option<BTreeSet<String>>,
    /// A row is published, by some operation, if this SQL expression over its columns is true.
    pub(crate) filter: Option<String>,
    /// The same in words.
    pub(crate) rows: String,
    /// The rows that are published by inserts, in words.
    pub(crate) inserted_rows: String,
    pub(crate) operations: Operations,
    /// Partitions that are published with more operations than these.
    pub(crate) extended: Vec<TableName>,
    /// Rows of no other partitions than these are published.
    pub(crate) partitions_alone: bool,
    /// In none of the publications: named by the operator, compared whole.
    pub(crate) unpublished: bool,
    /// Its publications do not have the same columns.
    pub(crate) column_lists_differ: bool,
    /// The rows of each operation in words, if its publications let other rows through for one
    /// operation than for another.
    pub(crate) filters_by_operation: Option<String>,
}

impl PublishedTable {
    /// A table that no publication has.
    pub(super) fn unpublished(name: TableName) -> Self {
        Self {
            name,
            columns: None,
            filter: None,
            rows: "all rows".to_owned(),
            inserted_rows: "all rows".to_owned(),
            operations: Operations::ALL,
            extended: Vec::new(),
            partitions_alone: false,
            unpublished: true,
            column_lists_differ: false,
            filters_by_operation: None,
        }
    }
}
