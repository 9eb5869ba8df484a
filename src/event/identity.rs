//! The deterministic id of an event.

use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};

use super::encoder::Op;
use crate::catalog::{Key, TableName};
use crate::diff::Image;

/// Makes the ids of a table's events: UUIDv5 (RFC 9562, section 5.5) with the recovery as the
/// namespace. The hashed name is the table's schema and name, the operation, and the key's image
/// (without a key: the whole image and its ordinal), each length-prefixed, so that no two
/// different changes share a name.
pub(super) struct EventId {
    /// The hash of the namespace and the table, shared by all ids.
    table: Sha1,
    key: Option<Box<[usize]>>,
}

impl EventId {
    pub(super) fn new(recovery: &Uuid, table: &TableName, key: &Key) -> Self {
        let mut hash = Sha1::new_with_prefix(recovery.as_bytes());
        value(&mut hash, Some(&table.schema));
        value(&mut hash, Some(&table.name));
        let key = match key {
            Key::Columns(columns) => Some(columns.as_slice().into()),
            Key::WholeRow => None,
        };
        Self { table: hash, key }
    }

    /// The id of the change that made or took away `image`, whose key columns identify the row.
    pub(super) fn of(&self, op: Op, image: &Image, ordinal: u64) -> Uuid {
        let mut hash = self.table.clone();
        hash.update(op.letter());
        match &self.key {
            Some(columns) => {
                hash.update(b"K");
                columns.iter().for_each(|&column| value(&mut hash, image.get(column)));
            }
            None => {
                hash.update(b"W");
                hash.update(ordinal.to_be_bytes());
                image.iter().for_each(|text| value(&mut hash, text));
            }
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Builder::from_sha1_bytes(bytes).into_uuid()
    }
}

/// One value: 0 for null; otherwise 1, its length in bytes (an image has less than 2^32), itself.
fn value(hash: &mut Sha1, text: Option<&str>) {
    match text {
        None => hash.update([0]),
        Some(text) => {
            let mut head = [1; 5];
            head[1..].copy_from_slice(&(text.len() as u32).to_be_bytes());
            hash.update(head);
            hash.update(text.as_bytes());
        }
    }
}
