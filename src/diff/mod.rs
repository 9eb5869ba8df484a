//! One stream of changes out of two servers. Knows nothing of queues, Azure or JSON.

mod checksum;
mod content;
mod copy;
mod count;
mod digest;
mod full;
mod image;
mod key;
mod key_hash;
mod multiset_difference;
mod partition;
mod places;
mod print;
mod row_pairing;
mod row_versions;
mod seen_keys;
mod session;
mod tid;
mod unreadable;

use std::ops::AddAssign;

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub(crate) use content::{AllRows, KeyRange, key_bounds};
pub(crate) use count::{count_rows, count_rows_with_key, use_no_index};
pub(crate) use digest::Digest;
pub use image::Image;
pub(crate) use row_versions::{BlockRange, ReusedIds, SameFile, changed_share, follows_its_key};
pub(crate) use seen_keys::SeenKeys;
pub(crate) use session::{Sessions, snapshot};
pub(crate) use unreadable::unreadable_column;

use crate::catalog::{Column, Table};
use crate::error::Result;
use crate::postgres::QualifiedName;

/// What is compared with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tables {
    /// Columns and key.
    pub(crate) table: Table,
    /// The table on head.
    pub(crate) head: Source,
    /// The table on base; `None` if base does not have it.
    pub(crate) base: Option<Source>,
    /// The foreign table on head that reads base, every column declared text, where one is needed.
    pub(crate) foreign: Option<QualifiedName>,
    /// Whether the index on the key finds every row and lets no key in twice.
    #[serde(default)]
    pub(crate) sound_index: bool,
}

/// A table's published rows on the server that holds them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) relation: QualifiedName,
    /// It has children that are not part of it.
    pub(crate) only: bool,
    /// Rows that are published; an expression in SQL from the server's own catalog.
    pub(crate) filter: Option<String>,
    /// The compared columns as this server has them, in the order of [`Table::columns`].
    pub(crate) columns: Vec<Column>,
}

impl Source {
    /// The published rows, as an item of a from list.
    ///
    /// It always has an alias of ours: without one the table's own name would be one, and a table
    /// with the name of another item of the query would capture references to that.
    fn rows(&self, alias: &str) -> String {
        match &self.filter {
            // The filter's column names are the table's own: within this subquery there is nothing
            // else that they could mean.
            Some(filter) => {
                format!("(select r.* from {} where {filter}) as {alias}", self.all_rows("r"))
            }
            None => self.all_rows(alias),
        }
    }

    /// The same without regard to the filter.
    fn all_rows(&self, alias: &str) -> String {
        let only = if self.only { "only " } else { "" };
        format!("{only}{} as {alias}", self.relation)
    }
}

/// What of a table one work item covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// All of it.
    Table,
    /// Some blocks of a relation that holds rows of it.
    Blocks(BlockRange),
    /// All of the relations that hold rows of a table without a key.
    Multiset(Vec<BlockRange>),
    /// All of the relations that hold rows of a table whose key's index may be out of order.
    HashedVersions(Vec<BlockRange>),
    /// Its rows with keys in a range.
    Keys(KeyRange),
    /// All rows of a table whose key has no order that both servers are known to share.
    HashedKeys(AllRows),
    /// All rows of a table without a key.
    Rows(AllRows),
}

/// How far a work item is; what lies before it need not be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Checkpoint {
    /// All blocks before this one.
    Block(u32),
    /// All keys before this one, each column as it prints.
    Key(Vec<String>),
    /// All rows whose hashes fall into buckets before `next`.
    Bucket {
        /// The bucket.
        next: u32,
        /// What tells how rows were hashed.
        hashed_by: u64,
    },
}

/// What a diff yields, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DiffItem {
    /// The next changes.
    Changes(Vec<Change>),
    /// This many more rows were compared.
    Compared(u64),
    /// So many more rows were passed. A strategy either says so of all rows of its scope, from the
    /// beginning and at least once, or of none.
    Passed(RowsPassed),
    /// A later diff of the same scope may go on from here, once the changes so far are durable.
    Checkpoint(Checkpoint),
    /// Something that an operator should know about how the table was compared.
    Note(String),
}

/// Rows that a strategy came by on its way, for the account of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsPassed {
    /// Rows of base, whether they are published or not.
    pub(crate) base: u64,
    /// Rows of head, whether they are published or not.
    pub(crate) head: u64,
    /// Published row versions that only base has.
    pub(crate) base_only: u64,
    /// Published row versions that only head has.
    pub(crate) head_only: u64,
}

impl AddAssign for RowsPassed {
    fn add_assign(&mut self, more: Self) {
        self.base += more.base;
        self.head += more.head;
        self.base_only += more.base_only;
        self.head_only += more.head_only;
    }
}

/// The changes of one table, or of the part of it that `scope` names. Reads within the
/// transactions that are open in `sessions`; memory is bounded, whatever the table's size.
///
/// # Errors
/// PostgreSQL's own, or that a condition of the strategy does not hold any more. The stream ends
/// with the first.
pub(crate) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    scope: &'a Scope,
    from: Option<Checkpoint>,
) -> BoxStream<'a, Result<DiffItem>> {
    match scope {
        Scope::Table => {
            partition::noted(sessions.base, tables, full::changes(sessions.head, tables))
        }
        Scope::Blocks(range) => row_versions::changes(sessions, tables, range, from),
        Scope::Multiset(ranges) => row_versions::multiset_changes(sessions, tables, ranges),
        Scope::HashedVersions(ranges) => row_versions::unindexed_changes(sessions, tables, ranges),
        Scope::Keys(range) => content::changes(sessions, tables, range, from),
        Scope::HashedKeys(rows) => content::hashed_changes(sessions, tables, rows),
        Scope::Rows(rows) => content::multiset_changes(sessions, tables, rows, from),
    }
}

/// One difference between base and head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// What happened to the row, with its images.
    pub row: RowChange,
    /// 0 for the row of a key. Where a unique index let a key in twice, the n-th of its changed rows
    /// has ordinal n, counted from 0. Without a key, equal rows are told apart by their ordinal: the
    /// n-th surplus copy of an image has ordinal n.
    pub ordinal: u64,
    /// The oid of the partition that has the old row on base; told only where that decides what is
    /// told of the row.
    pub partition: Option<u32>,
}

impl Change {
    /// Of a row that no partition is told of.
    pub(crate) fn new(row: RowChange, ordinal: u64) -> Self {
        Self { row, ordinal, partition: None }
    }
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
