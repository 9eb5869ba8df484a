//! What a recovery would do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GapProof, Lsn, Strategy, TableName};

/// What `deltacompare plan` prints.
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
    /// How long one worker would take, in seconds: a rough estimate by [`Strategy`] and size.
    pub expected_seconds: u64,
    /// What a run would send into an event hub.
    pub event_hub: Throughput,
    /// The tables, by name.
    pub tables: Vec<PlanTable>,
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

/// What a run would send into an event hub. Upper bounds and rough: nothing is compared for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Throughput {
    /// The most events, by the tables' rows and the WAL of the gap.
    pub events: u64,
    /// About so many bytes each.
    pub event_bytes: u64,
    /// Throughput units that one process takes if events go as fast as they are found, or as fast
    /// as its caps let them.
    pub units: u64,
    /// Whether caps decide that.
    pub capped: bool,
}
