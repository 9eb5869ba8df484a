//! What the servers' catalogs say of the tables to compare: publications, tables, columns, keys.

mod column;
mod key;
mod pairing;
mod publication;
mod relation;
mod same_rows;
mod table;

pub use column::{BaseType, Column};
pub use key::{Key, ReplicaIdentity};
pub(crate) use pairing::{TablePair, pair_all};
pub use publication::Operations;
pub(crate) use publication::{PublishedTable, Selection, leaves_of_selected, select};
pub(crate) use relation::{Relation, RelationKind, relations};
pub(crate) use same_rows::{SameStorage, Storage, same_rows, storage};
pub use table::{Table, TableName};
