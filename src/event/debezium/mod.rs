//! The `debezium` format: what Debezium's PostgreSQL connector writes with Kafka Connect's
//! `JsonConverter` and `schemas.enable=false`.
//!
//! The rules were read in the connector's source and recorded from connector 3.6.3.Final running
//! against PostgreSQL 15; `recorded.jsonl` holds the recordings and the tests compare with them.

mod array;
mod binary;
mod calendar;
mod column;
mod decimal;
mod geometry;
mod hstore;
mod interval;
mod temporal;
mod value;

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod documented;

#[cfg(test)]
mod malformed;

pub(super) use value::DebeziumValue;

use super::json;
use super::settings::EncoderSettings;
use crate::model::{Op, TableName};

/// The parts of an event that are the same for all events of a table. The fields of `source`, in
/// this order: `AbstractSourceInfoStructMaker`, `PostgresSourceInfoStructMaker`. Ours are added at
/// its end.
pub(super) struct DebeziumEnvelope {
    /// `,"source":{…,"recovery_id":…,"event_id":`
    source: Vec<u8>,
    /// `,"ts_ms":…,"ts_us":…,"ts_ns":…}`
    tail: Vec<u8>,
}

impl DebeziumEnvelope {
    pub(super) fn new(settings: &EncoderSettings, table: &TableName) -> Self {
        let at = settings.recovered_at;
        let (ms, us, ns) = (at.as_millisecond(), at.as_microsecond(), at.as_nanosecond());
        let mut source = b",\"source\":{\"version\":".to_vec();
        let text = |text: &str, out: &mut Vec<u8>| json::string(text, out);
        text(concat!("deltacompare ", env!("CARGO_PKG_VERSION")), &mut source);
        source.extend_from_slice(b",\"connector\":\"postgresql\",\"name\":");
        text(&settings.server_name, &mut source);
        source.extend_from_slice(format!(",\"ts_ms\":{ms},\"snapshot\":\"false\"").as_bytes());
        source.extend_from_slice(b",\"db\":");
        text(&settings.database, &mut source);
        // [LSN of the last commit, LSN of the change], a string of JSON.
        let (sequence, lsn) = match settings.version {
            Some(lsn) => (format!("[\"{lsn}\",\"{lsn}\"]"), lsn.to_string()),
            None => ("[null,null]".to_owned(), "null".to_owned()),
        };
        source.extend_from_slice(b",\"sequence\":");
        text(&sequence, &mut source);
        source.extend_from_slice(format!(",\"ts_us\":{us},\"ts_ns\":{ns},\"schema\":").as_bytes());
        text(&table.schema, &mut source);
        source.extend_from_slice(b",\"table\":");
        text(&table.name, &mut source);
        let rest = format!(
            ",\"txId\":null,\"lsn\":{lsn},\"xmin\":null,\"origin\":null,\"origin_lsn\":null"
        );
        source.extend_from_slice(rest.as_bytes());
        source.extend_from_slice(b",\"recovery_id\":");
        json::uuid(&settings.recovery_id, &mut source);
        source.extend_from_slice(b",\"event_id\":");
        let tail = format!("\",\"ts_ms\":{ms},\"ts_us\":{us},\"ts_ns\":{ns}}}").into_bytes();
        Self { source, tail }
    }

    /// Appends all after the images.
    pub(super) fn close(&self, op: Op, id: &uuid::Uuid, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source);
        json::uuid(id, out);
        out.extend_from_slice(b"},\"transaction\":null,\"op\":\"");
        out.push(match op {
            Op::Insert => b'c',
            Op::Update => b'u',
            Op::Delete => b'd',
        });
        out.extend_from_slice(&self.tail);
    }
}
