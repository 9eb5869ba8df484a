//! What a logical slot delivered, read from pgoutput's messages, and what it comes to in the end.
//! <https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html>

use std::collections::BTreeMap;

use crate::image::Row;
use crate::state::{KeyImage, NetChange, State};
use crate::table::TableName;

/// One change of the stream.
#[derive(Clone, Debug)]
pub enum Streamed {
    Insert(TableName, Tuple),
    /// With the old key or row, if the stream sent one.
    Update(TableName, Option<Tuple>, Tuple),
    Delete(TableName, Tuple),
    Truncate(Vec<TableName>),
}

/// A row as the stream sends it; what is missing is an unchanged TOAST value.
pub(crate) type Tuple = Row;

/// Reads the messages of a slot in protocol version 1.
pub fn read(messages: &[Vec<u8>]) -> Vec<Streamed> {
    let mut relations = BTreeMap::new();
    let mut streamed = Vec::new();
    for message in messages {
        let mut reader = Reader(&message[1..]);
        match message[0] {
            b'R' => {
                let id = reader.int32();
                let name = TableName { schema: reader.string(), name: reader.string() };
                reader.take(1);
                let columns: Vec<String> = (0..reader.int16())
                    .map(|_| {
                        reader.take(1);
                        let name = reader.string();
                        reader.take(8);
                        name
                    })
                    .collect();
                relations.insert(id, (name, columns));
            }
            b'I' => {
                let (name, columns) = &relations[&reader.int32()];
                assert_eq!(reader.take(1), b"N");
                streamed.push(Streamed::Insert(name.clone(), reader.tuple(columns)));
            }
            b'U' => {
                let (name, columns) = &relations[&reader.int32()];
                let mut kind = reader.take(1);
                let old = (kind != b"N").then(|| {
                    let old = reader.old(kind[0], columns);
                    kind = reader.take(1);
                    old
                });
                assert_eq!(kind, b"N");
                streamed.push(Streamed::Update(name.clone(), old, reader.tuple(columns)));
            }
            b'D' => {
                let (name, columns) = &relations[&reader.int32()];
                let kind = reader.take(1)[0];
                streamed.push(Streamed::Delete(name.clone(), reader.old(kind, columns)));
            }
            b'T' => {
                let count = reader.int32();
                reader.take(1);
                let names = (0..count).map(|_| relations[&reader.int32()].0.clone()).collect();
                streamed.push(Streamed::Truncate(names));
            }
            b'B' | b'C' | b'O' | b'Y' | b'M' => {}
            other => panic!("message {:?}", char::from(other)),
        }
    }
    streamed
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap();
        let text = String::from_utf8(self.take(end).to_vec()).unwrap();
        self.take(1);
        text
    }

    /// `K`: only the columns of the key are told, the others are null. `O`: the whole row.
    fn old(&mut self, kind: u8, columns: &[String]) -> Tuple {
        let mut tuple = self.tuple(columns);
        match kind {
            b'K' => tuple.retain(|_, value| value.is_some()),
            b'O' => {}
            other => panic!("old tuple {:?}", char::from(other)),
        }
        tuple
    }

    fn tuple(&mut self, columns: &[String]) -> Tuple {
        assert_eq!(self.int16() as usize, columns.len());
        let mut tuple = Tuple::new();
        for column in columns {
            match self.take(1) {
                b"n" => {
                    tuple.insert(column.clone(), None);
                }
                b"u" => {}
                b"t" => {
                    let length = self.int32() as usize;
                    let text = String::from_utf8(self.take(length).to_vec()).unwrap();
                    tuple.insert(column.clone(), Some(text));
                }
                other => panic!("value {other:?}"),
            }
        }
        tuple
    }
}

/// What the stream comes to for this table, whose state it began with was `base`: for each key (or,
/// without one, each image) at most one change, and none where the row ends as it began. Sorted.
pub fn net(streamed: &[Streamed], table: &TableName, base: &State) -> Vec<NetChange> {
    let mut now = base.clone();
    let key_of = |row: &Row| -> KeyImage { base.key_of(row) };
    for change in streamed {
        match change {
            Streamed::Insert(name, row) if name == table => now.insert(row.clone()),
            Streamed::Update(name, old, new) if name == table => {
                // Without an old key the key stayed the same.
                let key = key_of(old.as_ref().unwrap_or(new));
                let mut row = now.get(&key).unwrap_or_else(|| panic!("{table}: {key:?}")).clone();
                row.extend(new.clone());
                now.delete_key(&key);
                now.insert(row);
            }
            Streamed::Delete(name, old) if name == table => now.delete_key(&key_of(old)),
            Streamed::Truncate(names) if names.contains(table) => {
                now = State::keyed(base.key().to_vec());
            }
            _ => {}
        }
    }
    base.changes_to(&now)
}
