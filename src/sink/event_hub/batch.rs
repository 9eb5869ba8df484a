//! Events in one AMQP message.

use bytes::Bytes;
use fe2o3_amqp::Sendable;
use fe2o3_amqp::types::messaging::{self, Data, Message};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::claim_check::MessageEncoder;
use super::hub_error::HubError;
use crate::event::Event;

/// A message whose data sections are messages.
/// <https://learn.microsoft.com/azure/event-hubs/event-hubs-amqp-protocol-guide>
const BATCH_FORMAT: u32 = 0x8001_3700;

/// What a section costs besides the event's own message.
const SECTION_BYTES: usize = 8;

/// What a batch costs besides its sections, and then some.
const BATCH_BYTES: usize = 512;

/// An event on its way, with its share of the memory that may be used.
pub(super) struct QueuedEvent {
    pub(super) event: Event,
    pub(super) encoder: std::sync::Arc<MessageEncoder>,
    /// The message that stands for it, once the event itself is in the delta table. The event's body is
    /// gone then.
    pub(super) claim_check: Option<Vec<u8>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The next batch while it is being filled.
#[derive(Default)]
pub(super) struct BatchBuilder {
    entries: Vec<QueuedEvent>,
    sections: Vec<Data>,
    bytes: usize,
}

/// The limits of a batch.
#[derive(Clone, Copy)]
pub(super) struct BatchLimits {
    /// The largest message.
    pub(super) message: usize,
    /// The most bytes of several events together.
    pub(super) bytes: usize,
    pub(super) events: usize,
}

impl BatchBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an event. If it does not fit with the others, these become a batch, which is yielded.
    ///
    /// # Errors
    /// Yields the entry back with what kept its claim check from being made.
    pub(super) async fn add(
        &mut self,
        mut entry: QueuedEvent,
        limits: BatchLimits,
    ) -> Result<Option<Batch>, Box<(QueuedEvent, HubError)>> {
        let message = match &entry.claim_check {
            Some(message) => message.clone(),
            None => match Self::encode(&entry, limits) {
                Some(message) => message,
                None => match entry.encoder.claim_check(&entry.event).await {
                    Ok(message) => {
                        entry.event.body = Bytes::new();
                        entry.claim_check.insert(message).clone()
                    }
                    Err(failure) => return Err(Box::new((entry, failure))),
                },
            },
        };
        let bytes = message.len() + SECTION_BYTES;
        let full = self.bytes + bytes + BATCH_BYTES > limits.message.min(limits.bytes)
            || self.entries.len() >= limits.events;
        let batch = if full { self.close() } else { None };
        self.entries.push(entry);
        self.sections.push(Data::from(message));
        self.bytes += bytes;
        Ok(batch)
    }

    /// The message of an event; `None` if it is larger than the hub takes.
    fn encode(entry: &QueuedEvent, limits: BatchLimits) -> Option<Vec<u8>> {
        if entry.event.body.len() >= limits.message {
            return None;
        }
        let message = entry.encoder.form.encode(&entry.event);
        (message.len() + SECTION_BYTES + BATCH_BYTES <= limits.message).then_some(message)
    }

    /// What was added, if anything was.
    pub(super) fn close(&mut self) -> Option<Batch> {
        let Self { entries, sections, bytes } = std::mem::take(self);
        if entries.is_empty() {
            return None;
        }
        let message = Message::builder().body(messaging::Batch::new(sections)).build();
        let sendable = Sendable::builder().message_format(BATCH_FORMAT).message(message).build();
        Some(Batch { entries, sendable, bytes: bytes + BATCH_BYTES, admitted: None, tries: 0 })
    }
}

/// A message that is ready to be sent, as often as it takes.
pub(super) struct Batch {
    pub(super) entries: Vec<QueuedEvent>,
    pub(super) sendable: Sendable<messaging::Batch<Data>>,
    pub(super) bytes: usize,
    /// When the rate limit allows it to be sent, once that was asked.
    pub(super) admitted: Option<Instant>,
    /// How often it went out, or may have.
    pub(super) tries: u32,
}
