//! What is the same for every event of a recovery.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{BeforeImage, DebeziumOptions, Format};

/// What is the same for every event of a recovery. Store it with the recovery: events are
/// byte-identical on repetition only if all of this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderSettings {
    /// The recovery; also the namespace of its event ids.
    pub recovery_id: Uuid,
    /// The recovered database's name (`source.db`).
    pub database: String,
    /// Debezium's `topic.prefix` (`source.name`).
    pub server_name: String,
    /// Which of the two formats.
    pub format: Format,
    /// When the recovery was made: every event carries this one instant.
    pub recovered_at: Timestamp,
    /// What events say of old rows.
    pub before: BeforeImage,
    /// Debezium's settings; `landing` ignores them.
    pub debezium: DebeziumOptions,
    /// The version that every event carries: the new slot's `restart_lsn` as it was at creation
    /// (design.md, "Order against the live stream").
    pub version: Option<u64>,
}
