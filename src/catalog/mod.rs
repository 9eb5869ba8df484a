//! What the servers' catalogs say of the tables to compare: publications, tables, columns, keys.

mod column;
mod key;
mod table;

pub use column::{BaseType, Column};
pub use key::{Key, ReplicaIdentity};
pub use table::{Table, TableName};
