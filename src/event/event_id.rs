//! The deterministic id of an event.

use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};

use crate::catalog::Key;
use crate::diff::Image;
use crate::model::{Op, TableName};

/// Makes the ids of a table's events: UUIDv5 (RFC 9562, section 5.5) with the recovery as the
/// namespace. The hashed name is the table's schema and name, the operation, and the key's image
/// (without a key: the whole image and its ordinal), each length-prefixed, so that no two
/// different changes share a name. Of several rows of one key all but the first add their ordinal.
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
                if ordinal > 0 {
                    hash.update(ordinal.to_be_bytes());
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::image;

    fn id(table: (&str, &str), key: &Key, op: Op, values: &[Option<&str>], ordinal: u64) -> Uuid {
        let name = TableName { schema: table.0.into(), name: table.1.into() };
        EventId::new(&Uuid::from_u128(1), &name, key).of(op, &image(values), ordinal)
    }

    /// The expected ids were computed with Python's hashlib.
    #[test]
    fn ids_are_stable() {
        let keyed = id(("s", "t"), &Key::Columns(vec![0]), Op::Insert, &[Some("1"), None], 0);
        let whole = id(("s", "t"), &Key::WholeRow, Op::Delete, &[Some("1"), None], 3);
        assert_eq!(keyed.to_string(), "43bebe58-f4ad-5a5f-ba11-f4e7e91d7c38");
        assert_eq!(whole.to_string(), "667ebe13-ec02-545e-a926-d320cbc3390f");
        assert_eq!((keyed.get_version_num(), whole.get_version_num()), (5, 5));
    }

    #[test]
    fn ids_are_uuid_v5_of_the_length_prefixed_name() {
        let name = b"\x01\0\0\0\x01s\x01\0\0\0\x03t\xc3\x9fUK\x01\0\0\0\x02ab\0";
        let key = Key::Columns(vec![1, 0]);
        let ours = id(("s", "tß"), &key, Op::Update, &[None, Some("ab")], 0);
        assert_eq!(ours, Uuid::new_v5(&Uuid::from_u128(1), name));
    }

    #[test]
    fn different_changes_have_different_ids() {
        let two = Key::Columns(vec![0, 1]);
        let t = ("s", "t");
        let a = Some("a");
        let ids = [
            id(t, &two, Op::Insert, &[Some("ab"), Some("c")], 0),
            id(t, &two, Op::Insert, &[a, Some("bc")], 0),
            id(t, &two, Op::Delete, &[a, Some("bc")], 0),
            id(t, &two, Op::Update, &[a, Some("bc")], 0),
            id(t, &two, Op::Insert, &[a, None], 0),
            id(t, &two, Op::Insert, &[a, Some("")], 0),
            id(t, &two, Op::Insert, &[None, a], 0),
            id(t, &Key::WholeRow, Op::Insert, &[a, None], 0),
            id(t, &Key::WholeRow, Op::Insert, &[a, None], 1),
            id(("st", ""), &two, Op::Insert, &[a, None], 0),
            id(("", "st"), &two, Op::Insert, &[a, None], 0),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn values_that_are_not_of_the_key_do_not_count() {
        let key = Key::Columns(vec![0]);
        let one = id(("s", "t"), &key, Op::Update, &[Some("1"), Some("x")], 0);
        assert_eq!(one, id(("s", "t"), &key, Op::Update, &[Some("1"), Some("y")], 0));
    }
}
