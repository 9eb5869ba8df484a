//! The unit of work: one table, or a range of a large one.

use serde::{Deserialize, Serialize};

use crate::diff::{Checkpoint, Digest, RowChange, RowsPassed, Scope, Tables};
use crate::event::EventsDigest;
use crate::fdw::ForeignTable;
use crate::model::{Counts, Strategy};
use crate::sink::Held;

/// What a worker needs to know, besides how to log in to the servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkItemSpec {
    pub(crate) strategy: Strategy,
    pub(crate) tables: Tables,
    pub(crate) scope: Scope,
    /// Head reads base's side through it; `None` if base does not have the table.
    pub(crate) foreign: Option<ForeignTable>,
    /// The relations' oids, to look after writes.
    pub(crate) head_oid: u32,
    pub(crate) base_oid: Option<u32>,
}

/// A work item as the store takes it.
#[derive(Clone, Debug)]
pub(crate) struct PlannedItem {
    pub(crate) spec: WorkItemSpec,
    /// It is a table that may be claimed together with others.
    pub(crate) small: bool,
    /// The number of the first of the items that are claimed together with it; its own, if it is
    /// claimed alone. An item's number is its place in the plan.
    pub(crate) batch: i32,
    pub(crate) strategy_reason: String,
    pub(crate) bytes: u64,
    pub(crate) rows: Option<u64>,
    pub(crate) warnings: Vec<String>,
}

/// A work item as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct WorkItem {
    pub(crate) number: i32,
    pub(crate) strategy_reason: String,
    pub(crate) spec: WorkItemSpec,
    pub(crate) bytes: u64,
    /// Rows expected, if the planner has counted them.
    pub(crate) rows: Option<u64>,
    pub(crate) state: ItemState,
    /// What was found so far, or in all once it is completed.
    pub(crate) counts: Counts,
    /// What an attempt that takes it up again has behind it.
    pub(crate) done: ItemProgress,
    pub(crate) seconds: Option<f64>,
    pub(crate) warnings: Vec<String>,
    /// Whether what it found is proved, under `--verify full`.
    pub(crate) verified: bool,
}

/// What a work item adds to its table's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemAccount {
    /// Inserts that were found.
    pub(crate) inserts: u64,
    /// Deletes that were found.
    pub(crate) deletes: u64,
    /// Rows that the strategy passed, if it counts them.
    #[serde(default)]
    pub(crate) passed: Option<RowsPassed>,
}

impl ItemAccount {
    /// Adds a change that was found.
    pub(crate) fn add(&mut self, row: &RowChange) {
        match row {
            RowChange::Insert(_) => self.inserts += 1,
            RowChange::Delete(_) => self.deletes += 1,
            RowChange::Update { .. } => {}
        }
    }

    /// Adds rows that the strategy passed. An item that was begun without counting them goes on so.
    pub(crate) fn pass(&mut self, rows: RowsPassed, begun: bool) {
        match &mut self.passed {
            Some(passed) => *passed += rows,
            none if !begun => *none = Some(rows),
            _ => {}
        }
    }
}

/// How far a work item is: everything up to the checkpoint is durable in every sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemProgress {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) counts: Counts,
    /// Of the changes so far.
    pub(crate) digest: Digest,
    /// Of the events that were sent for them.
    pub(crate) events: EventsDigest,
    pub(crate) account: ItemAccount,
    /// What the recovery's sinks then held, one after the other. Stored, and read again of all items
    /// together only.
    pub(crate) held: Vec<Held>,
}

/// How a work item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemState {
    Pending,
    Running,
    Completed,
    /// With the reason, which names the next step.
    Failed(String),
}

impl ItemState {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
        }
    }
}
