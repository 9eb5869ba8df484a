//! Events that are too large for the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::hub_error::HubError;
use super::message::MessageForm;
use crate::event::Event;
use crate::sink::{DeltaTable, Sink};

/// For the delta table to take an event. Its server may be gone without a word, and all that goes to
/// the partition waits.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// How the events of one recovery are sent: their form, and where those go that do not fit.
pub(super) struct MessageEncoder {
    pub(super) form: MessageForm,
    pub(super) delta: Arc<DeltaTable>,
}

impl MessageEncoder {
    /// The message that stands for an event that is too large, once the event itself is durable in
    /// the delta table. Bounded.
    pub(super) async fn claim_check(&self, event: &Event) -> Result<Vec<u8>, HubError> {
        let refused = |why: &dyn std::fmt::Display| {
            HubError::transient(format!(
                "an event of {} is too large for the hub, and the delta table does not take it: \
                 {why}",
                event.table
            ))
        };
        match timeout(TAKEN_WITHIN, self.delta.write(std::slice::from_ref(event))).await {
            Ok(Ok(())) => Ok(self.form.encode_claim_check(event)),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(refused(&format_args!("no answer in {} s", TAKEN_WITHIN.as_secs()))),
        }
    }
}
