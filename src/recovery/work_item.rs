//! The unit of work: one table, or a range of a large one.

use serde::{Deserialize, Serialize};

use super::account::ItemAccount;
use crate::diff::{Checkpoint, Digest, Scope, Strategy, Tables};
use crate::fdw::ForeignTable;
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

/// How far a work item is: everything up to the checkpoint is durable in every sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemProgress {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) counts: Counts,
    /// Of the changes so far.
    pub(crate) digest: Digest,
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

/// What a work item found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows in head only.
    pub inserts: u64,
    /// Rows in both with different images.
    pub updates: u64,
    /// Rows in base only.
    pub deletes: u64,
    /// Rows of head plus rows in base only.
    pub rows_compared: u64,
}

impl Counts {
    /// All changes together.
    pub fn changes(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }
}

/// What came after earlier counts of the same item.
impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            inserts: self.inserts.saturating_sub(earlier.inserts),
            updates: self.updates.saturating_sub(earlier.updates),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            rows_compared: self.rows_compared.saturating_sub(earlier.rows_compared),
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.rows_compared += other.rows_compared;
    }
}
