//! The `landing` format: flat, and lossless by construction. Casting a value back to its column's
//! type and printing it restores the image.

use super::json;
use super::settings::EncoderSettings;
use super::value::{Fidelity, Malformed, WriteValue};
use crate::catalog::Column;
use crate::model::{Op, TableName};

/// How a column's values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LandingValue {
    /// `true`, `false`
    Boolean,
    /// int2, int4 and int8: all digits, also beyond 2^53.
    Integer,
    /// PostgreSQL's digits as a number (`-0` as `-0.0`); NaN and the infinities as strings.
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
            Self::Float => {
                json::float_text(text, out)?;
                // Readers that take `-0` for an integer would lose its sign.
                if text == "-0" {
                    out.extend_from_slice(b".0");
                }
            }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;
    use crate::event::testing::column;

    fn written(name: &str, oid: u32, text: &str) -> String {
        let mut out = Vec::new();
        let fidelity = LandingValue::of(&column("v", name, oid)).write(text, &mut out);
        assert_eq!(fidelity, Ok(Fidelity::Exact));
        String::from_utf8(out).unwrap()
    }

    /// The text that a consumer hands to PostgreSQL for a value: strings and booleans as they are,
    /// numbers with the digits of the message.
    fn text_of(json: &str) -> String {
        match serde_json::from_str(json).unwrap() {
            Value::String(text) => text,
            _ => serde_json::from_str::<Box<RawValue>>(json).unwrap().get().to_owned(),
        }
    }

    #[test]
    fn every_recorded_value_comes_back() {
        let mut values = 0;
        for line in include_str!("debezium/recorded.jsonl").lines() {
            let recording: Value = serde_json::from_str(line).unwrap();
            let Some(image) = recording["image"].as_str() else { continue };
            let name = recording["name"].as_str().unwrap();
            let oid = recording["oid"].as_u64().unwrap() as u32;
            let json = written(name, oid, image);
            let back = text_of(&json);
            values += 1;
            match name {
                "bool" => assert_eq!(&back[..1], image),
                // The digits, and so the bits, for a reader that rounds correctly (serde_json's own
                // numbers do only with its feature float_roundtrip).
                "float4" | "float8" if !image.ends_with(['N', 'y']) => {
                    let exact: f64 = image.parse().unwrap();
                    assert_eq!(back.parse::<f64>().unwrap().to_bits(), exact.to_bits());
                    assert_eq!(back, if image == "-0" { "-0.0" } else { image });
                }
                _ => assert_eq!(back, image),
            }
        }
        assert!(values > 600);
    }

    #[test]
    fn a_domain_over_an_integer_is_an_integer() {
        let mut domain = column("v", "int8", 20);
        domain.declared = "public.positive".into();
        assert_eq!(LandingValue::of(&domain), LandingValue::Integer);
        assert_eq!(written("int8", 20, "9223372036854775807"), "9223372036854775807");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            prop_assert_eq!(text_of(&written("text", 25, &text)), text);
        }

        #[test]
        fn any_double_comes_back(bits: u64) {
            let number = f64::from_bits(bits);
            // Shortest digits, as PostgreSQL's; its spelling of exponents is among the recordings.
            let text = if number.is_finite() { format!("{number:e}") } else { return Ok(()) };
            let json = written("float8", 701, &text);
            prop_assert_eq!(text_of(&json).parse::<f64>().unwrap().to_bits(), bits);
        }
    }
}
