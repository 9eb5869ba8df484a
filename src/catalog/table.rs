//! One table to compare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Column, Key, ReplicaIdentity};
use crate::model::TableName;

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
    /// The same of partitions of which it would have sent something else, by their oids on base.
    #[serde(default)]
    pub partitions: BTreeMap<u32, ReplicaIdentity>,
}
