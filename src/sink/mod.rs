//! Where events go.

mod delta_table;
mod event_hub;
mod ndjson;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub(crate) use delta_table::{DeltaTable, delta_table_gone};
pub(crate) use event_hub::{ConnectionStringSource, HubIncarnation};
pub use event_hub::{EventHub, EventHubAccess};
pub(crate) use ndjson::{FileContent, Lines, Ndjson};

use crate::error::Result;
use crate::event::Event;

/// A destination of events, shared by all work items of a process.
///
/// Delivery is at least once: the same event may be written again after a crash, with the same id
/// and the same bytes. Calls may come from many tasks at once; the events of one call stay in
/// order. A call may be dropped at any time, for one when the caller's time is over: what it has
/// taken over until then may arrive or not.
pub(crate) trait Sink: Send + Sync {
    /// Takes events over. They need not be durable yet.
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>>;

    /// Returns once every event that any earlier call of [`Sink::write`] took over is durable, with
    /// what the sink then holds.
    ///
    /// # Errors
    /// [`ErrorKind::EventsLost`](crate::error::ErrorKind::EventsLost) if it no longer holds what it
    /// held before, where it can be asked.
    fn flush(&self) -> BoxFuture<'_, Result<Held>>;
}

/// What a sink held at some moment. It is stored with each checkpoint, so that a later attempt finds
/// out what was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Held {
    /// It cannot be asked, or what it must hold follows from what is counted as delivered.
    Unknown,
    /// A file's content.
    File(FileContent),
}
