//! What the servers' catalogs say of the tables to compare: publications, tables, columns, keys.

mod column;
mod deviation;
mod key;
mod key_order;
mod names;
mod order;
mod pairing;
mod partition;
mod pgoutput;
mod publication;
mod published_table;
mod relation;
mod same_rows;
mod table;

pub use column::{BaseType, Column};
pub(crate) use deviation::{Deviation, names};
pub use key::{Key, ReplicaIdentity};
pub(crate) use names::{names_of, oids};
pub(crate) use pairing::{Sides, TablePair};
pub(crate) use partition::partitions;
pub(crate) use publication::{
    Selected, Selection, UNREADABLE_FILTER, partitions_among, publications, published, select,
};
pub use published_table::Operations;
pub(crate) use published_table::PublishedTable;
pub(crate) use relation::{Relation, RelationKind, relations};
pub(crate) use same_rows::{SameStorage, Storage, TYPES_OF_TYPES, same_rows, storage};
pub use table::Table;

/// Begins the comment on each object that a recovery creates, so that nothing is taken for ours, or
/// dropped, that merely has a similar name.
pub(crate) const MARKER: &str = "DeltaCompare recovery";

/// SQL: whether a schema `n` is one of ours: that of the status, or one of a recovery.
pub(crate) const OUR_SCHEMA: &str = r#"(n.nspname = 'deltacompare'
    or n.nspname ~ '^deltacompare_[0-9a-f]{12}$'
       and coalesce(obj_description(n.oid, 'pg_namespace') like 'DeltaCompare recovery %', false))"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_schemas_carry_the_marker() {
        assert!(OUR_SCHEMA.contains(&format!("like '{MARKER} %'")));
    }
}
