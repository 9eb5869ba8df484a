//! One stream of changes out of two servers. Knows nothing of queues, Azure or JSON.

mod full;
mod image;
mod print;

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

pub use image::Image;

use crate::catalog::Table;
use crate::error::Result;
use crate::sql::Relation;

/// How a table is diffed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Read every row of both sides and join on head.
    Full,
}

impl Strategy {
    /// Its name in requests, reports and the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
        }
    }
}

/// What is compared with what: a table, and where head's session finds both sides of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tables {
    /// Columns and key.
    pub(crate) table: Table,
    /// The table on head.
    pub(crate) head: Relation,
    /// Head has children of the table, which are not part of it.
    pub(crate) head_only: bool,
    /// Rows of head that are published; an expression in SQL from head's own catalog.
    pub(crate) head_filter: Option<String>,
    /// The foreign table on head that reads base, every column declared text; `None` if base does
    /// not have the table.
    pub(crate) base: Option<Relation>,
}

impl Tables {
    /// Head's published rows, as an item of a from list with the alias `h`.
    fn head_from(&self) -> String {
        let only = if self.head_only { "only " } else { "" };
        match &self.head_filter {
            // The filter's column names are the table's own: a subquery keeps aliases out of them.
            Some(filter) => format!("(select * from {only}{} where {filter}) h", self.head),
            None => format!("{only}{} h", self.head),
        }
    }

    /// Base's published rows, as an item of a from list with the alias `b`.
    fn base_from(&self) -> String {
        match &self.base {
            Some(base) => format!("{base} b"),
            None => format!("(select * from {} limit 0) b", self.head),
        }
    }
}

/// What a diff yields, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next changes.
    Changes(Vec<Change>),
    /// This many more rows were compared.
    Compared(u64),
}

/// The changes of one table. Reads within the transaction that is open on `head`, which must be
/// repeatable read; memory is bounded by a step.
///
/// # Errors
/// PostgreSQL's own. The stream ends with the first.
pub(crate) fn changes<'a>(
    head: &'a mut PgConnection,
    strategy: Strategy,
    tables: &'a Tables,
) -> BoxStream<'a, Result<Step>> {
    match strategy {
        Strategy::Full => full::changes(head, tables),
    }
}

/// One difference between base and head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// What happened to the row, with its images.
    pub row: RowChange,
    /// 0 for a row with a key. Without a key, equal rows are told apart by their ordinal: the n-th
    /// surplus copy of an image has ordinal n, counted from 0.
    pub ordinal: u64,
}

/// What happened to a row between base and head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowChange {
    /// In head only; head's image.
    Insert(Image),
    /// In both, with different images.
    Update {
        /// Base's image.
        before: Image,
        /// Head's image.
        after: Image,
    },
    /// In base only; base's image.
    Delete(Image),
}
