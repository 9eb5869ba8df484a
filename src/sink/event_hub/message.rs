//! An event as an AMQP message.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::event::Event;
use crate::model::EventHubOptions;

/// What is the same for every message of a recovery.
#[derive(Clone, Debug)]
pub(super) struct MessageForm {
    recovery: String,
    cloud_events: Option<CloudEvents>,
}

/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md>,
/// binary mode.
#[derive(Clone, Debug)]
struct CloudEvents {
    source: String,
    time: String,
}

/// What marks a claim check, and where the event lies.
const CLAIM_CHECK: (&str, &str) = ("claim_check", "deltacompare.delta");

impl MessageForm {
    pub(super) fn new(options: &EventHubOptions, recovery: Uuid, recovered_at: Timestamp) -> Self {
        Self {
            recovery: recovery.to_string(),
            cloud_events: options.cloud_events.then(|| CloudEvents {
                source: format!("/deltacompare/recoveries/{recovery}"),
                time: recovered_at.to_string(),
            }),
        }
    }

    /// The encoded message of an event.
    pub(super) fn encode(&self, event: &Event) -> Vec<u8> {
        self.write(event, &event.body, None)
    }

    /// The encoded message of the claim check of an event: it says where the event is.
    pub(super) fn encode_claim_check(&self, event: &Event) -> Vec<u8> {
        let body = json!({
            "claim_check": CLAIM_CHECK.1,
            "recovery_id": self.recovery,
            "event_id": event.id,
            "schema": event.table.schema,
            "table": event.table.name,
            "op": event.op.letter(),
            "bytes": event.body.len(),
        });
        self.write(event, body.to_string().as_bytes(), Some(CLAIM_CHECK))
    }

    /// Sections and encodings: AMQP 1.0 parts 1.6 and 3.2
    /// (<https://docs.oasis-open.org/amqp/core/v1.0/amqp-core-messaging-v1.0.html>). Every message
    /// has these four and no others, so they are written here: this is the path of each event.
    fn write(&self, event: &Event, body: &[u8], more: Option<(&str, &str)>) -> Vec<u8> {
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id: &str = event.id.hyphenated().encode_lower(&mut id);
        let mut out = Vec::with_capacity(body.len() + 512);
        out.extend_from_slice(PROPERTIES);
        let list = open(&mut out, LIST32);
        string(&mut out, id);
        // user-id, to, subject, reply-to, correlation-id
        out.extend_from_slice(&[NULL; 5]);
        symbol(&mut out, "application/json");
        close(&mut out, list, 7);

        out.extend_from_slice(APPLICATION_PROPERTIES);
        let map = open(&mut out, MAP32);
        let mut entries = 0;
        let mut property = |out: &mut Vec<u8>, name: &str, value: &str| {
            string(out, name);
            string(out, value);
            entries += 2;
        };
        property(&mut out, "event_id", id);
        property(&mut out, "recovery_id", &self.recovery);
        property(&mut out, "schema", &event.table.schema);
        property(&mut out, "table", &event.table.name);
        property(&mut out, "op", event.op.letter());
        if let Some((name, value)) = more {
            property(&mut out, name, value);
        }
        if let Some(CloudEvents { source, time }) = &self.cloud_events {
            property(&mut out, "cloudEvents:specversion", "1.0");
            property(&mut out, "cloudEvents:id", id);
            property(&mut out, "cloudEvents:source", source);
            property(&mut out, "cloudEvents:type", type_of(event));
            property(&mut out, "cloudEvents:subject", &event.table.to_string());
            property(&mut out, "cloudEvents:time", time);
        }
        close(&mut out, map, entries);

        out.extend_from_slice(DATA);
        out.push(BINARY32);
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        out
    }
}

fn type_of(event: &Event) -> &'static str {
    match event.op {
        crate::model::Op::Insert => "deltacompare.insert",
        crate::model::Op::Update => "deltacompare.update",
        crate::model::Op::Delete => "deltacompare.delete",
    }
}

/// Descriptors of the sections, as small ulongs.
const PROPERTIES: &[u8] = &[0x00, 0x53, 0x73];
const APPLICATION_PROPERTIES: &[u8] = &[0x00, 0x53, 0x74];
const DATA: &[u8] = &[0x00, 0x53, 0x75];

const NULL: u8 = 0x40;
const STRING8: u8 = 0xa1;
const STRING32: u8 = 0xb1;
const SYMBOL8: u8 = 0xa3;
const BINARY32: u8 = 0xb0;
const LIST32: u8 = 0xd0;
const MAP32: u8 = 0xd1;

/// Begins a list or a map; its size and count are filled in by [`close`].
fn open(out: &mut Vec<u8>, code: u8) -> usize {
    out.push(code);
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    at
}

fn close(out: &mut [u8], at: usize, count: u32) {
    // The size counts what follows it, the count included.
    let size = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
    out[at + 4..at + 8].copy_from_slice(&count.to_be_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) => out.extend_from_slice(&[STRING8, length]),
        Err(_) => {
            out.push(STRING32);
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn symbol(out: &mut Vec<u8>, text: &'static str) {
    out.extend_from_slice(&[SYMBOL8, text.len() as u8]);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
    use fe2o3_amqp::types::messaging::{Body, Message, MessageId};
    use fe2o3_amqp::types::primitives::{SimpleValue, Value};

    use super::*;
    use crate::model::Op;
    use crate::model::TableName;

    fn event(table: &str, body: Vec<u8>) -> Event {
        Event {
            id: Uuid::from_u128(7),
            op: Op::Delete,
            table: Arc::new(TableName { schema: "s".into(), name: table.into() }),
            key: None,
            body: body.into(),
        }
    }

    fn decode(bytes: &[u8]) -> Message<Body<Value>> {
        Body::<Value>::decode_message_from_reader(serde_amqp::read::SliceReader::new(bytes))
            .unwrap()
    }

    /// Read back by the library's own decoder.
    #[test]
    fn a_message_has_body_and_properties() {
        let options = EventHubOptions { cloud_events: true, ..Default::default() };
        let form = MessageForm::new(&options, Uuid::from_u128(1), Timestamp::UNIX_EPOCH);
        let long = "ü".repeat(300);
        for (table, body) in [("t", vec![]), (long.as_str(), vec![b'x'; 70_000])] {
            let event = event(table, body.clone());
            let message = decode(&form.encode(&event));
            let properties = message.properties.unwrap();
            let id = event.id.to_string();
            assert_eq!(properties.message_id, Some(MessageId::String(id.clone())));
            assert_eq!(properties.content_type.unwrap().0, "application/json");
            let found = message.application_properties.unwrap();
            let property = |name: &str| match found.get(name) {
                Some(SimpleValue::String(text)) => text.clone(),
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(property("event_id"), id);
            assert_eq!(property("recovery_id"), Uuid::from_u128(1).to_string());
            assert_eq!((property("schema"), property("table")), ("s".into(), table.into()));
            assert_eq!(property("op"), "D");
            assert_eq!(property("cloudEvents:specversion"), "1.0");
            assert_eq!(property("cloudEvents:type"), "deltacompare.delete");
            assert_eq!(property("cloudEvents:time"), "1970-01-01T00:00:00Z");
            assert!(found.get("claim_check").is_none());
            let data: Vec<u8> =
                message.body.try_into_data().unwrap().flat_map(|it| it.into_vec()).collect();
            assert_eq!(data, body);
        }
    }

    #[test]
    fn a_claim_check_says_where_the_event_is() {
        let form = MessageForm::new(
            &EventHubOptions::default(),
            Uuid::from_u128(1),
            Timestamp::UNIX_EPOCH,
        );
        let message = decode(&form.encode_claim_check(&event("t", vec![b'x'; 10])));
        let found = message.application_properties.unwrap();
        assert_eq!(found.get("claim_check"), Some(&SimpleValue::from("deltacompare.delta")));
        let data: Vec<u8> =
            message.body.try_into_data().unwrap().flat_map(|it| it.into_vec()).collect();
        let body: serde_json::Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(body["event_id"], Uuid::from_u128(7).to_string());
        assert_eq!(body["bytes"], 10);
    }
}
