//! Events that are too large for the hub.

use std::sync::Arc;

use super::message::MessageForm;
use super::trouble::Trouble;
use crate::event::Event;
use crate::sink::{DeltaTable, Sink};

/// How the events of one recovery are sent: their form, and where those go that do not fit.
pub(super) struct Dispatch {
    pub(super) form: MessageForm,
    pub(super) delta: Arc<DeltaTable>,
}

impl Dispatch {
    /// The message that stands for an event that is too large, once the event itself is durable in
    /// the delta table.
    pub(super) async fn claim_check(&self, event: &Event) -> Result<Vec<u8>, Trouble> {
        self.delta.write(std::slice::from_ref(event)).await.map_err(|error| {
            Trouble::passing(format!(
                "an event of {} is too large for the hub, and the delta table does not take it: \
                 {error}",
                event.table
            ))
        })?;
        Ok(self.form.encode_claim_check(event))
    }
}
