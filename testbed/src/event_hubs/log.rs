//! A partition: what is stored, in order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::messaging::{Body, Message, MessageAnnotations, MessageId};
use fe2o3_amqp::types::primitives::{SimpleValue, Timestamp, Value};
use tokio::sync::Notify;
use uuid::Uuid;

use super::lock;

/// What is kept of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// Their message ids, which must be UUIDs.
    Ids,
    /// Their number.
    Count,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The partition's index.
    pub partition: usize,
    /// The message id.
    pub id: String,
    /// The data section.
    pub body: Vec<u8>,
    /// Application properties; all are strings.
    pub properties: BTreeMap<String, String>,
    /// The content type.
    pub content_type: String,
}

#[derive(Debug)]
pub(super) struct Log {
    keep: Keep,
    entries: Mutex<Vec<Stored>>,
    ids: Mutex<HashSet<u128>>,
    stored: AtomicU64,
    pub(super) grown: Notify,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    message: Bytes,
    key: Option<String>,
    pub(super) millis: i64,
}

impl Log {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            entries: Mutex::default(),
            ids: Mutex::default(),
            stored: AtomicU64::new(0),
            grown: Notify::new(),
        }
    }

    /// Stores encoded messages, all or none.
    pub(super) fn append(&self, messages: Vec<Vec<u8>>, key: Option<&str>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = since.as_millis() as i64;
        self.stored.fetch_add(messages.len() as u64, Ordering::Relaxed);
        match self.keep {
            Keep::Count => {}
            Keep::Ids => {
                let ids = messages.iter().filter_map(|message| {
                    Uuid::parse_str(&event(0, message)?.id).ok().map(|id| id.as_u128())
                });
                lock(&self.ids).extend(ids);
            }
            Keep::All => {
                lock(&self.entries).extend(messages.into_iter().map(|message| Stored {
                    message: message.into(),
                    key: key.map(str::to_owned),
                    millis,
                }));
                self.grown.notify_waiters();
            }
        }
    }

    /// Forgets what is stored.
    pub(super) fn clear(&self) {
        lock(&self.entries).clear();
        lock(&self.ids).clear();
        self.stored.store(0, Ordering::Relaxed);
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    pub(super) fn take_ids(&self) -> HashSet<u128> {
        std::mem::take(&mut lock(&self.ids))
    }

    pub(super) fn events(&self, partition: usize) -> Vec<StoredEvent> {
        let entries = lock(&self.entries).clone();
        entries.iter().filter_map(|stored| event(partition, &stored.message)).collect()
    }

    /// What is stored at a sequence number.
    pub(super) fn get(&self, number: usize) -> Option<Stored> {
        lock(&self.entries).get(number).cloned()
    }

    /// How many there are, and when the last was stored.
    pub(super) fn end(&self) -> (usize, i64) {
        let entries = lock(&self.entries);
        (entries.len(), entries.last().map_or(0, |last| last.millis))
    }
}

impl Stored {
    /// The message as a consumer gets it.
    pub(super) fn delivered(&self, number: usize) -> Option<Message<Body<Value>>> {
        let mut message = decode(&self.message)?;
        let annotations =
            message.message_annotations.get_or_insert_with(MessageAnnotations::default);
        let mut annotate = |name: &str, value: Value| {
            annotations.0.insert(name.into(), value);
        };
        annotate("x-opt-sequence-number", Value::Long(number as i64));
        annotate("x-opt-offset", Value::String(number.to_string()));
        annotate(
            "x-opt-enqueued-time",
            Value::Timestamp(Timestamp::from_milliseconds(self.millis)),
        );
        if let Some(key) = &self.key {
            annotate("x-opt-partition-key", Value::String(key.clone()));
        }
        Some(message)
    }
}

pub(super) fn decode(message: &[u8]) -> Option<Message<Body<Value>>> {
    Body::<Value>::decode_message_from_reader(serde_amqp::read::SliceReader::new(message)).ok()
}

fn event(partition: usize, message: &[u8]) -> Option<StoredEvent> {
    let message = decode(message)?;
    let properties = message.properties?;
    let Some(MessageId::String(id)) = properties.message_id else { return None };
    let found = message.application_properties.unwrap_or_default();
    Some(StoredEvent {
        partition,
        id,
        body: message.body.try_into_data().ok()?.flat_map(|data| data.into_vec()).collect(),
        properties: found
            .0
            .into_iter()
            .filter_map(|(name, value)| match value {
                SimpleValue::String(text) => Some((name, text)),
                _ => None,
            })
            .collect(),
        content_type: properties.content_type.map(|it| it.0).unwrap_or_default(),
    })
}
