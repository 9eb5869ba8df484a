//! One table to compare.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Column, Key, ReplicaIdentity};

/// A table's name, unquoted. `Display` is for people, never for SQL: see [`crate::sql`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The relation's name in it.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table as it is compared: the columns that both sides have, and what identifies a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name on head.
    #[serde(flatten)]
    pub name: TableName,
    /// The compared columns, in head's order.
    pub columns: Vec<Column>,
    /// How rows are paired.
    pub key: Key,
    /// What the stream would have sent of old rows.
    pub replica_identity: ReplicaIdentity,
}
