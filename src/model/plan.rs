//! What a recovery would do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{GapProof, Lsn, Strategy, TableName};

/// What a run with a request would do.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// What an operator should know about the recovery as a whole.
    pub warnings: Vec<String>,
    /// Where base's and head's recovery ended, if their histories could be read and agree.
    pub ends: Option<(Lsn, Lsn)>,
    /// When the last transaction in base was committed on production, if base or the record knows it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub base_last_commit: Option<Timestamp>,
    /// When the last transaction in head was committed on production.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub head_last_commit: Option<Timestamp>,
    /// Whether the restores cover the gap.
    pub gap: GapProof,
    /// The version that every event would carry: the new slot's `restart_lsn`, if it was given.
    pub version: Option<Lsn>,
    /// WAL that production wrote in the gap, in bytes, if the ends are known.
    pub gap_wal_bytes: Option<u64>,
    /// Tables, or parts of large ones, at once, as the request has it.
    pub parallel: u16,
    /// How long the run would take with that parallelism and what proves it, in seconds: a rough
    /// estimate by [`Strategy`] and size.
    pub expected_seconds: u64,
    /// How many events it would send.
    pub events: ExpectedEvents,
    /// What it would send into its event hub; null if no sink is one.
    pub event_hub: Option<Throughput>,
    /// What the new slot keeps while its consumer is held for that long; null if it is not known how
    /// fast production wrote WAL.
    pub slot_wal: Option<SlotWal>,
    /// The tables, by name.
    pub tables: Vec<PlanTable>,
}

/// A plan that is still being made.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanPending {
    /// What to ask for: `GET /api/plan/<plan_id>`.
    pub plan_id: Uuid,
    /// After which time.
    pub retry_after_seconds: u64,
}

/// One table of a [`Plan`].
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanTable {
    /// Its name on head.
    #[serde(flatten)]
    pub name: TableName,
    /// How it would be diffed.
    pub strategy: Strategy,
    /// Why so.
    pub strategy_reason: String,
    /// Columns compared.
    pub columns: usize,
    /// The columns that pair rows; empty for a table without a key.
    pub key: Vec<String>,
    /// Head's planner's row count; `None` if never counted.
    pub rows: Option<u64>,
    /// The larger side's size on disk in bytes, TOAST included, indexes not.
    pub bytes: u64,
    /// What an operator should know about this table.
    pub warnings: Vec<String>,
}

/// How many events a run would send. Rough: nothing is compared for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpectedEvents {
    /// At most, by the tables' rows and the WAL of the gap.
    pub most: u64,
    /// As a rule, by the WAL of the gap; null if that is not known.
    pub as_a_rule: Option<u64>,
    /// About so many bytes each.
    pub bytes: u64,
}

/// What a run would send into an event hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Throughput {
    /// Throughput units that one process takes if events go as fast as they are found, or as fast
    /// as its caps let them.
    pub units: u64,
    /// Whether caps decide that.
    pub capped: bool,
}

/// WAL that production's new slot keeps while its consumer is held, if production writes as it did in
/// the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SlotWal {
    /// In a second.
    pub bytes_a_second: u64,
    /// While the run takes its expected time.
    pub bytes: u64,
}
