//! How recoveries stand, for those who watch them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::store::RecoveryState;
use crate::diff::Strategy;
use crate::gap_proof::GapProof;
use crate::lineage::Lsn;

/// A recovery in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RecoverySummary {
    /// Its id.
    id: Uuid,
    /// How it stands.
    state: RecoveryState,
    /// The database that is compared.
    database: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended; null while it is live.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// Why it cannot go on as a whole, or not now.
    error: Option<String>,
}

/// A recovery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RecoveryStatus {
    #[serde(flatten)]
    summary: RecoverySummary,
    /// What was asked for.
    #[schema(value_type = Object)]
    request: Value,
    /// Whether its objects on the servers stay when it has ended.
    keep_objects: bool,
    /// Where base is: user, host, port, database.
    base: String,
    /// Where head is.
    head: String,
    /// Where base's recovery from its backup ended, if known.
    base_end_lsn: Option<Lsn>,
    /// Where head's recovery from its backup ended, if known.
    head_end_lsn: Option<Lsn>,
    /// Whether the two restores cover the gap.
    gap: GapProof,
    /// What an operator should know about the recovery as a whole.
    warnings: Vec<String>,
    /// Changes found so far.
    totals: Totals,
    /// Rows compared so far.
    rows_compared: u64,
    /// Bytes to be compared, in all.
    bytes_expected: u64,
    /// Bytes of the items that have ended.
    bytes_done: u64,
    /// From 0 to 1, by expected bytes and rows; 1 only once it has completed.
    #[schema(minimum = 0, maximum = 1)]
    progress: f64,
    /// How long it may still take, judged by the time that ended items took; null where nothing can
    /// be said.
    seconds_left: Option<f64>,
    /// Work items by state.
    items: ByState,
    /// Tables by state.
    tables: ByState,
}

/// Changes by operation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Totals {
    inserts: u64,
    updates: u64,
    deletes: u64,
}

/// How many are in which state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ByState {
    pending: u64,
    running: u64,
    completed: u64,
    failed: u64,
}

/// A table of a recovery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TableStatus {
    /// Its schema.
    schema: String,
    /// Its name.
    table: String,
    /// How it stands: it failed if a range of it did, and completed if all did.
    state: PartState,
    /// How it is diffed.
    strategy: Strategy,
    /// Why so.
    strategy_reason: String,
    /// Parts of it that have ended.
    ranges_done: u64,
    /// Its parts.
    ranges: u64,
    /// Bytes to be compared.
    bytes: u64,
    /// Rows in head only, so far.
    inserts: u64,
    /// Rows in both with different images, so far.
    updates: u64,
    /// Rows in base only, so far.
    deletes: u64,
    /// Rows compared so far.
    rows_compared: u64,
    /// Published rows of base; null until they were counted.
    rows_base: Option<u64>,
    /// Published rows of head; null until they were counted.
    rows_head: Option<u64>,
    /// Rows of head less rows of base, less inserts, and deletes added: 0 if the table balances.
    balance: Option<i64>,
    /// Time spent in the attempts that ended its parts, together; null before the first.
    seconds: Option<f64>,
    /// What an operator should know about it.
    warnings: Vec<String>,
    /// Why it failed and what to do; null unless it did.
    error: Option<String>,
}

/// How a table or a work item stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartState {
    /// Nobody has begun.
    Pending,
    /// It was begun.
    Running,
    /// All of it is compared and its events are delivered.
    Completed,
    /// It failed for good.
    Failed,
}
