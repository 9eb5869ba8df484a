//! What identifies a row downstream.

use serde::{Deserialize, Serialize};

/// How rows of base and head are paired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// These columns (positions in [`super::Table::columns`], in key order) identify a row.
    Columns(Vec<usize>),
    /// No unique key: the table is a multiset of whole rows.
    WholeRow,
}

/// `REPLICA IDENTITY` of a table: what the slot would have sent of an old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key, or nothing if there is none.
    Default,
    /// The columns of a chosen unique index.
    Index,
    /// The whole old row.
    Full,
    /// Nothing.
    Nothing,
}

impl ReplicaIdentity {
    /// Of `pg_class.relreplident`.
    pub(super) fn of_letter(letter: &str) -> Self {
        match letter {
            "i" => Self::Index,
            "f" => Self::Full,
            "n" => Self::Nothing,
            _ => Self::Default,
        }
    }

    /// Whether events say as much of old rows.
    pub(super) fn tells_the_same_as(self, other: Self) -> bool {
        let tells_the_key = |identity| matches!(identity, Self::Default | Self::Index);
        self == other || tells_the_key(self) && tells_the_key(other)
    }

    /// As `ALTER TABLE … REPLICA IDENTITY` says it.
    pub(crate) fn as_sql(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Index => "using index",
            Self::Full => "full",
            Self::Nothing => "nothing",
        }
    }
}
