//! How recoveries stand, for those who watch them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{GapProof, Lsn, Strategy};
use crate::error::{Error, Result};

/// How a recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    /// It is about to be planned.
    Planning,
    /// Its items are worked on, or what they found is being proved.
    Running,
    /// Every table completed.
    Completed,
    /// It could not be planned, or a table failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RecoveryState {
    /// Its name in the status store and in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it has ended.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The state of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn read(text: &str) -> Result<Self> {
        [Self::Planning, Self::Running, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                Error::recovery(format!("the status store has the unknown state {text:?}"))
            })
    }
}

/// A recovery that was begun.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Begun {
    /// Its id.
    pub id: Uuid,
}

/// A recovery in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecoverySummary {
    /// Its id.
    pub id: Uuid,
    /// How it stands.
    pub state: RecoveryState,
    /// The database that is compared.
    pub database: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended; null while it is live.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it cannot go on as a whole, or not now.
    pub error: Option<String>,
}

/// A recovery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecoveryStatus {
    /// What a list has of it.
    #[serde(flatten)]
    pub summary: RecoverySummary,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub request: Value,
    /// Whether its objects on the servers stay when it has ended.
    pub keep_objects: bool,
    /// Where base is: user, host, port, database.
    pub base: String,
    /// Where head is.
    pub head: String,
    /// Where base's recovery from its backup ended, if known.
    pub base_end_lsn: Option<Lsn>,
    /// Where head's recovery from its backup ended, if known.
    pub head_end_lsn: Option<Lsn>,
    /// Whether the two restores cover the gap.
    pub gap: GapProof,
    /// What an operator should know about the recovery as a whole.
    pub warnings: Vec<String>,
    /// Changes found so far.
    pub totals: Totals,
    /// Rows compared so far.
    pub rows_compared: u64,
    /// Bytes to be compared, in all.
    pub bytes_expected: u64,
    /// Bytes of the items that have ended.
    pub bytes_done: u64,
    /// From 0 to 1, by expected bytes and rows; 1 only once it has completed.
    #[schema(minimum = 0, maximum = 1)]
    pub progress: f64,
    /// How long it may still take, judged by the time that ended items took; null where nothing can
    /// be said.
    pub seconds_left: Option<f64>,
    /// Work items by state.
    pub items: ByState,
    /// Tables by state.
    pub tables: ByState,
}

/// Changes by operation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Rows in head only.
    pub inserts: u64,
    /// Rows in both with different images.
    pub updates: u64,
    /// Rows in base only.
    pub deletes: u64,
}

/// How many are in which state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ByState {
    /// Nobody has begun.
    pub pending: u64,
    /// Begun and not ended.
    pub running: u64,
    /// Compared, with their events delivered.
    pub completed: u64,
    /// Failed; `retry` opens them again.
    pub failed: u64,
}

/// A table of a recovery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TableStatus {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// How it stands: it failed if a range of it did, and completed if all did.
    pub state: PartState,
    /// How it is diffed.
    pub strategy: Strategy,
    /// Why so.
    pub strategy_reason: String,
    /// Parts of it that have ended.
    pub ranges_done: u64,
    /// Its parts.
    pub ranges: u64,
    /// Bytes to be compared.
    pub bytes: u64,
    /// Rows in head only, so far.
    pub inserts: u64,
    /// Rows in both with different images, so far.
    pub updates: u64,
    /// Rows in base only, so far.
    pub deletes: u64,
    /// Rows compared so far.
    pub rows_compared: u64,
    /// Published rows of base; null until they were counted.
    pub rows_base: Option<u64>,
    /// Published rows of head; null until they were counted.
    pub rows_head: Option<u64>,
    /// Rows of head less rows of base, less inserts, and deletes added: 0 if the table balances.
    pub balance: Option<i64>,
    /// The checksum of its events, a decimal number (docs/audit.md); null unless it completed.
    pub events_digest: Option<String>,
    /// Time spent in the attempts that ended its parts, together; null before the first.
    pub seconds: Option<f64>,
    /// What an operator should know about it.
    pub warnings: Vec<String>,
    /// Why it failed and what to do; null unless it did.
    pub error: Option<String>,
}

/// How a table or a work item stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Nobody has begun.
    Pending,
    /// It was begun.
    Running,
    /// All of it is compared and its events are delivered.
    Completed,
    /// It failed; `retry` opens it again.
    Failed,
}

impl PartState {
    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}
