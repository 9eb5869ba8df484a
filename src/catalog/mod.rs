//! What the servers' catalogs say of the tables to compare: publications, tables, columns, keys.

mod column;
mod deviation;
mod key;
mod names;
mod order;
mod pairing;
mod partition;
mod pgoutput;
mod publication;
mod relation;
mod same_rows;
mod table;

pub use column::{BaseType, Column};
pub(crate) use deviation::{Deviation, names};
pub use key::{Key, ReplicaIdentity};
pub(crate) use names::{names_of, oids};
pub(crate) use pairing::{Sides, TablePair};
pub(crate) use partition::partitions;
pub use publication::Operations;
pub(crate) use publication::{
    PublishedTable, Selected, Selection, partitions_among, publications, published, select,
};
pub(crate) use relation::{Relation, RelationKind, relations};
pub(crate) use same_rows::{SameStorage, Storage, same_rows, storage};
pub use table::{Table, TableName};
