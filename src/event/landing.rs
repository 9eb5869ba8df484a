//! The `landing` format: flat, and lossless by construction. Casting a value back to its column's
//! type and printing it restores the image.

use super::encoder::Op;
use super::json;
use super::settings::EncoderSettings;
use super::value::{Fidelity, Malformed, WriteValue};
use crate::catalog::{Column, TableName};

/// How a column's values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LandingValue {
    /// `true`, `false`
    Boolean,
    /// int2, int4 and int8: all digits, also beyond 2^53.
    Integer,
    /// A number that prints the same when cast back; NaN and the infinities as strings.
    Float,
    /// Everything else: the type's text.
    #[default]
    Text,
}

impl LandingValue {
    /// By the column's type with its domains removed. The numbers are `pg_type.oid`s, fixed for
    /// built-in types (`pg_type.dat`).
    pub(super) fn of(column: &Column) -> Self {
        match column.base.oid {
            16 => Self::Boolean,
            20 | 21 | 23 => Self::Integer,
            700 | 701 => Self::Float,
            _ => Self::Text,
        }
    }
}

impl WriteValue for LandingValue {
    fn write(&self, text: &str, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
        match self {
            Self::Boolean => out.extend_from_slice(boolean(text)?),
            Self::Integer => json::integer_text(text, out)?,
            Self::Float => json::float_text(text, out)?,
            Self::Text => json::string(text, out),
        }
        Ok(Fidelity::Exact)
    }

    fn absent(&self) -> &[u8] {
        b"null"
    }
}

/// A boolean's JSON: `t` and `f` are what the type's output function prints, `true` and `false`
/// what its cast to text does.
pub(super) fn boolean(text: &str) -> Result<&'static [u8], Malformed> {
    match text {
        "t" | "true" => Ok(b"true"),
        "f" | "false" => Ok(b"false"),
        _ => Err(Malformed("is not a boolean")),
    }
}

/// The parts of an event that are the same for all events of a table.
pub(super) struct LandingEnvelope {
    /// `,"schema":…,"table":…,"key":`
    table: Vec<u8>,
    /// `,"recovery_id":…,"event_id":`
    recovery: Vec<u8>,
    /// `,"ts":…}`
    tail: Vec<u8>,
}

impl LandingEnvelope {
    pub(super) fn new(settings: &EncoderSettings, table: &TableName) -> Self {
        let mut head = b",\"schema\":".to_vec();
        json::string(&table.schema, &mut head);
        head.extend_from_slice(b",\"table\":");
        json::string(&table.name, &mut head);
        head.extend_from_slice(b",\"key\":");
        let mut recovery = b",\"recovery_id\":".to_vec();
        json::uuid(&settings.recovery_id, &mut recovery);
        recovery.extend_from_slice(b",\"event_id\":");
        let mut tail = b",\"ts\":".to_vec();
        json::string(&settings.recovered_at.to_string(), &mut tail);
        if let Some(version) = settings.version {
            tail.extend_from_slice(format!(",\"version\":{version}").as_bytes());
        }
        tail.push(b'}');
        Self { table: head, recovery, tail }
    }

    /// Appends all before the key.
    pub(super) fn open(&self, op: Op, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"op\":\"");
        out.extend_from_slice(op.letter().as_bytes());
        out.push(b'"');
        out.extend_from_slice(&self.table);
    }

    /// Appends all after the images.
    pub(super) fn close(&self, id: &uuid::Uuid, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.recovery);
        json::uuid(id, out);
        out.extend_from_slice(&self.tail);
    }
}
