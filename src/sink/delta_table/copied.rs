//! An event as COPY's binary format has it (PostgreSQL manual, "COPY", Binary Format), in pieces.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::event::Event;

/// Events from this size on are copied.
pub(super) const LARGE_EVENT_BYTES: usize = 4 << 20;

/// What is sent at once.
const PIECE_BYTES: usize = 256 << 10;

/// The statement whose data [`pieces`] yields. Values are read by their types' receive functions: no
/// cast that a database defines has a part in it.
pub(super) const SQL: &str = "
    copy deltacompare.delta (recovery_id, event_id, schema_name, table_name, op, key, event)
    from stdin (format binary)";

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// One row of the delta table. The event's body is not copied.
pub(super) fn pieces(recovery: Uuid, event: &Event) -> impl Iterator<Item = Bytes> {
    let mut head = BytesMut::new();
    head.put_slice(SIGNATURE);
    // Flags, and the length of the header's extension.
    head.put_i32(0);
    head.put_i32(0);
    head.put_i16(7);
    let mut value = |value: &[u8]| {
        // A name or a key is far from 2 GB.
        head.put_i32(value.len() as i32);
        head.put_slice(value);
    };
    value(recovery.as_bytes());
    value(event.id.as_bytes());
    value(event.table.schema.as_bytes());
    value(event.table.name.as_bytes());
    value(event.op.letter().as_bytes());
    match &event.key {
        Some(key) => value(key),
        None => head.put_i32(-1),
    }
    // The server takes no value of 1 GB or more, and says so.
    head.put_i32(i32::try_from(event.body.len()).unwrap_or(i32::MAX));
    let body = event.body.clone();
    let parts = (0..body.len()).step_by(PIECE_BYTES);
    let parts = parts.map(move |from| body.slice(from..body.len().min(from + PIECE_BYTES)));
    // In the place of the next row's number of values: -1.
    let end = Bytes::from_static(&[0xff; 2]);
    std::iter::once(head.freeze()).chain(parts).chain(std::iter::once(end))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Op, TableName};

    #[test]
    fn pieces_are_one_tuple() {
        let body = Bytes::from(vec![b'x'; PIECE_BYTES + 7]);
        let event = Event {
            id: Uuid::from_u128(2),
            op: Op::Update,
            table: Arc::new(TableName { schema: "s".into(), name: "t".into() }),
            key: None,
            body: body.clone(),
        };
        let found: Vec<Bytes> = pieces(Uuid::from_u128(1), &event).collect();
        assert!(found.iter().all(|piece| piece.len() <= PIECE_BYTES));
        let mut expected = [SIGNATURE, &[0; 8], &[0, 7]].concat();
        for value in [Uuid::from_u128(1).as_bytes(), Uuid::from_u128(2).as_bytes()] {
            expected.extend([0, 0, 0, 16]);
            expected.extend(value);
        }
        for value in [b's', b't', b'U'] {
            expected.extend([0, 0, 0, 1, value]);
        }
        expected.extend([0xff; 4]);
        expected.extend((body.len() as i32).to_be_bytes());
        expected.extend(&body);
        expected.extend([0xff, 0xff]);
        assert_eq!(found.concat(), expected);
    }
}
