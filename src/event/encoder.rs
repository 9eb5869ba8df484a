//! One encoder per recovery and table.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::debezium::{DebeziumEnvelope, DebeziumValue};
use super::error::EncodeError;
use super::event_id::EventId;
use super::landing::{LandingEnvelope, LandingValue};
use super::row::{Columns, MalformedAt};
use super::settings::EncoderSettings;
use super::value::WriteValue;
use crate::catalog::{Column, Key, ReplicaIdentity, Table};
use crate::diff::{Change, Image, RowChange};
use crate::model::{BeforeImage, Format, Op, TableName};

/// One change as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The same for the same change of the same recovery, however often it is encoded.
    pub id: Uuid,
    /// What happened to the row.
    pub op: Op,
    /// The row's table.
    pub table: Arc<TableName>,
    /// The message key: a JSON object of the key columns, in key order, with values as in the body.
    /// `None` for tables without a key.
    pub key: Option<Bytes>,
    /// The event: one line of JSON without a line break.
    pub body: Bytes,
}

/// Events from this size on are not copied out of the buffer that they were written to.
const GIVEN_AWAY: usize = 1 << 20;

/// Turns the changes of one table into events.
pub struct Encoder {
    table: Table,
    name: Arc<TableName>,
    id: EventId,
    before: Before,
    /// Of partitions that tell something else, by oid.
    before_of: BTreeMap<u32, Before>,
    body: Body,
    warnings: Vec<String>,
    lost: u64,
    buffer: Vec<u8>,
}

/// A format, prepared for a table.
enum Body {
    Debezium(DebeziumEnvelope, Columns<DebeziumValue>),
    Landing(LandingEnvelope, Columns<LandingValue>),
}

/// Of which changes the old row is told, and how much of it.
#[derive(Clone, Copy)]
enum Before {
    /// Updates and deletes: all.
    Whole,
    /// Deletes: all.
    WholeOfDeletes,
    /// Deletes: the key.
    KeyOfDeletes,
}

impl Before {
    fn of(settings: &EncoderSettings, replica_identity: ReplicaIdentity, key: &Key) -> Self {
        match (settings.before, replica_identity, key) {
            (BeforeImage::Full, ..) | (_, ReplicaIdentity::Full, _) => Self::Whole,
            (_, ReplicaIdentity::Nothing, _) | (.., Key::WholeRow) => Self::WholeOfDeletes,
            (_, ReplicaIdentity::Default | ReplicaIdentity::Index, Key::Columns(_)) => {
                Self::KeyOfDeletes
            }
        }
    }
}

impl Encoder {
    /// Prepares the encoder of a table. Old rows are told by the types that their columns had: those
    /// of `base_columns`, in the order of the table's.
    pub fn new(settings: &EncoderSettings, table: &Table, base_columns: &[Column]) -> Self {
        let mut warnings = Vec::new();
        let body = match settings.format {
            Format::Landing => Body::Landing(
                LandingEnvelope::new(settings, &table.name),
                Columns::new(table, base_columns, |column| Some(LandingValue::of(column))),
            ),
            Format::Debezium => {
                let columns = Columns::new(table, base_columns, |column| {
                    DebeziumValue::of(column, &settings.debezium).value
                });
                warnings.extend(table.columns.iter().filter_map(|column| {
                    let why = DebeziumValue::of(column, &settings.debezium).warning?;
                    let (name, declared) = (&column.name, &column.declared);
                    Some(format!("{}: column {name} ({declared}): {why}", table.name))
                }));
                Body::Debezium(DebeziumEnvelope::new(settings, &table.name), columns)
            }
        };
        Self {
            table: table.clone(),
            name: Arc::new(table.name.clone()),
            id: EventId::new(&settings.recovery_id, &table.name, &table.key),
            before: Before::of(settings, table.replica_identity, &table.key),
            before_of: table
                .partitions
                .iter()
                .map(|(&oid, &replica_identity)| {
                    (oid, Before::of(settings, replica_identity, &table.key))
                })
                .collect(),
            body,
            warnings,
            lost: 0,
            buffer: Vec::new(),
        }
    }

    /// A sentence for each column that the format leaves out or does not carry whole.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many values so far the format had no way to write and that became null: see
    /// `docs/events.md`. Always 0 for `landing`.
    pub fn lost_values(&self) -> u64 {
        self.lost
    }

    /// The event of a change. Images are dropped as soon as they are written, so that a large row is
    /// not in memory in two forms for longer than it takes to write it.
    ///
    /// # Errors
    /// [`EncodeError::Malformed`] if a value's text is not what its type prints;
    /// [`EncodeError::Shape`] if an image is not one of this table. The encoder remains usable.
    pub fn encode(&mut self, change: Change) -> Result<Event, EncodeError> {
        let (op, identifying, other) = match &change.row {
            RowChange::Insert(after) => (Op::Insert, after, None),
            RowChange::Update { before, after } => (Op::Update, after, Some(before)),
            RowChange::Delete(before) => (Op::Delete, before, None),
        };
        let expected = self.table.columns.len();
        for image in std::iter::once(identifying).chain(other) {
            if image.len() != expected {
                let found = image.len();
                return Err(EncodeError::Shape { table: self.table.name.clone(), expected, found });
            }
        }
        let id = self.id.of(op, identifying, change.ordinal);
        let of_partition = change.partition.and_then(|oid| self.before_of.get(&oid));
        let before = *of_partition.unwrap_or(&self.before);
        let (old, new) = match change.row {
            RowChange::Insert(after) => (None, Some(after)),
            RowChange::Update { before: old, after } => {
                (Some(old).filter(|_| matches!(before, Before::Whole)), Some(after))
            }
            RowChange::Delete(before) => (Some(before), None),
        };
        let mut row = Row { op, old, new, before };
        self.buffer.clear();
        let written = match &self.body {
            Body::Landing(envelope, columns) => {
                row.landing(envelope, columns, &id, &mut self.lost, &mut self.buffer)
            }
            Body::Debezium(envelope, columns) => {
                row.debezium(envelope, columns, &id, &mut self.lost, &mut self.buffer)
            }
        };
        let key = written.map_err(|at| self.malformed(at))?;
        let end = match (&self.body, key) {
            (Body::Debezium(..), Some((start, _))) => start,
            _ => self.buffer.len(),
        };
        Ok(Event {
            id,
            op,
            table: Arc::clone(&self.name),
            key: key.map(|(start, end)| Bytes::copy_from_slice(&self.buffer[start..end])),
            body: match self.buffer.len() {
                GIVEN_AWAY.. => Bytes::from(std::mem::take(&mut self.buffer)).slice(..end),
                _ => Bytes::copy_from_slice(&self.buffer[..end]),
            },
        })
    }

    fn malformed(&self, at: MalformedAt) -> EncodeError {
        let column = &self.table.columns[at.column];
        EncodeError::Malformed {
            table: self.table.name.clone(),
            column: column.name.clone(),
            declared: column.declared.clone(),
            reason: at.malformed.0,
        }
    }
}

/// A change as the envelopes see it.
struct Row {
    op: Op,
    /// Until it is written, if it is.
    old: Option<Image>,
    new: Option<Image>,
    before: Before,
}

/// Where the key lies in what was written.
type KeyAt = Option<(usize, usize)>;

impl Row {
    /// The image whose key names the row.
    fn identifying(&self) -> Option<&Image> {
        if self.op == Op::Delete { self.old.as_ref() } else { self.new.as_ref() }
    }

    fn landing(
        &mut self,
        envelope: &LandingEnvelope,
        columns: &Columns<LandingValue>,
        id: &Uuid,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<KeyAt, MalformedAt> {
        envelope.open(self.op, out);
        let start = out.len();
        let key = self.write_key(columns, lost, out)?;
        if key.is_none() {
            out.extend_from_slice(b"null");
        }
        let end = out.len();
        out.extend_from_slice(b",\"before\":");
        match (self.op, self.before, &columns.key, &self.old) {
            (Op::Delete, Before::KeyOfDeletes, Some(fields), Some(old)) => {
                fields.write(&columns.old_writers, old, |_| true, lost, out)?;
            }
            _ => self.write_before(columns, lost, out)?,
        }
        self.old = None;
        self.write_after(columns, lost, out)?;
        envelope.close(id, out);
        Ok(key.map(|()| (start, end)))
    }

    /// The key comes last, after the body.
    fn debezium(
        &mut self,
        envelope: &DebeziumEnvelope,
        columns: &Columns<DebeziumValue>,
        id: &Uuid,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<KeyAt, MalformedAt> {
        out.extend_from_slice(b"{\"before\":");
        self.write_before(columns, lost, out)?;
        if self.op != Op::Delete {
            self.old = None;
        }
        self.write_after(columns, lost, out)?;
        envelope.close(self.op, id, out);
        let start = out.len();
        let key = self.write_key(columns, &mut 0, out)?;
        Ok(key.map(|()| (start, out.len())))
    }

    /// The row that names a delete is the old one. `None` for a table without a key.
    fn write_key<W: WriteValue>(
        &self,
        columns: &Columns<W>,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<()>, MalformedAt> {
        let (Some(fields), Some(image)) = (&columns.key, self.identifying()) else {
            return Ok(None);
        };
        let writers = if self.op == Op::Delete { &columns.old_writers } else { &columns.writers };
        fields.write(writers, image, |_| true, lost, out).map(Some)
    }

    fn write_before<W: WriteValue>(
        &self,
        columns: &Columns<W>,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<(), MalformedAt> {
        let writers = &columns.old_writers;
        match (&self.old, self.before, self.op) {
            (Some(old), Before::Whole, _) | (Some(old), Before::WholeOfDeletes, Op::Delete) => {
                columns.row.write(writers, old, |_| true, lost, out)
            }
            (Some(old), Before::KeyOfDeletes, Op::Delete) => {
                columns.row.write(writers, old, |column| columns.in_key[column], lost, out)
            }
            _ => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    fn write_after<W: WriteValue>(
        &self,
        columns: &Columns<W>,
        lost: &mut u64,
        out: &mut Vec<u8>,
    ) -> Result<(), MalformedAt> {
        out.extend_from_slice(b",\"after\":");
        match &self.new {
            Some(new) => columns.row.write(&columns.writers, new, |_| true, lost, out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }
}
