//! What a recovery found, for people and for scripts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::store::{StoredRecovery, TableAccount};
use super::work_item::{ItemState, WorkItem};
use crate::event::EventsDigest;
use crate::model::{Counts, GapProof, Lsn, RecoveryState, TableName};

/// The outcome of a recovery; `--report` writes it as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The recovery.
    pub recovery_id: Uuid,
    /// What the operator says that it is for.
    pub note: Option<String>,
    /// `completed`, `failed` (at least one table failed), or how far it came.
    pub state: &'static str,
    /// When it was registered.
    pub started_at: Timestamp,
    /// When its last table ended; null while it runs.
    pub finished_at: Option<Timestamp>,
    /// What an operator should know about the recovery as a whole.
    pub warnings: Vec<String>,
    /// Where base's recovery ended, if known.
    pub base_end_lsn: Option<Lsn>,
    /// Where head's recovery ended, if known.
    pub head_end_lsn: Option<Lsn>,
    /// Whether the restores cover the gap.
    pub gap: GapProof,
    /// The version that every event carries: the new slot's `restart_lsn`, if it was given.
    pub version: Option<Lsn>,
    /// The tables, by name.
    pub tables: Vec<TableReport>,
    /// All tables together.
    pub totals: Counts,
}

/// One table of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// Its name.
    #[serde(flatten)]
    pub name: TableName,
    /// How it was diffed.
    pub strategy: &'static str,
    /// Why so.
    pub strategy_reason: String,
    /// `completed`, `failed`, or how far it came.
    pub state: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub counts: Counts,
    /// Published rows of base; null if they were not counted.
    pub rows_base: Option<u64>,
    /// Published rows of head; null if they were not counted.
    pub rows_head: Option<u64>,
    /// Rows of head less rows of base, less inserts, and deletes added: 0 if the table balances.
    pub balance: Option<i64>,
    /// The checksum of its events, a decimal number (docs/audit.md); null unless it completed.
    pub events_digest: Option<String>,
    /// Time spent in the attempts that ended its work items, together; null before the first.
    pub seconds: Option<f64>,
    /// What an operator should know about it.
    pub warnings: Vec<String>,
    /// Why it failed and what to do; null unless it did.
    pub error: Option<String>,
}

impl Report {
    pub(crate) fn new(
        recovery: StoredRecovery,
        items: Vec<WorkItem>,
        accounts: &BTreeMap<TableName, TableAccount>,
    ) -> Self {
        let mut totals = Counts::default();
        let mut tables = BTreeMap::<TableName, TableReport>::new();
        let mut digests = BTreeMap::<TableName, EventsDigest>::new();
        for item in items {
            totals += item.counts;
            *digests.entry(item.spec.tables.table.name.clone()).or_default() += item.done.events;
            let part = TableReport::of(item);
            match tables.get_mut(&part.name) {
                Some(table) => table.add(part),
                None => {
                    tables.insert(part.name.clone(), part);
                }
            }
        }
        for table in tables.values_mut().filter(|it| it.state == ItemState::Completed.as_str()) {
            table.events_digest = digests.get(&table.name).map(ToString::to_string);
        }
        for (name, account) in accounts {
            if let Some(table) = tables.get_mut(name) {
                table.rows_base = account.rows.map(|rows| rows.base);
                table.rows_head = account.rows.map(|rows| rows.head);
                table.balance = account.balance;
            }
        }
        let (base_end_lsn, head_end_lsn) = recovery.ends.unzip();
        Self {
            recovery_id: recovery.id,
            note: recovery.request.note,
            state: recovery.state.as_str(),
            started_at: recovery.created_at,
            finished_at: recovery.finished_at,
            warnings: recovery.warnings,
            base_end_lsn,
            head_end_lsn,
            gap: recovery.gap,
            version: recovery.request.new_slot_restart_lsn,
            tables: tables.into_values().collect(),
            totals,
        }
    }

    /// Whether every table completed.
    pub fn is_completed(&self) -> bool {
        self.state == RecoveryState::Completed.as_str()
    }
}

impl TableReport {
    fn of(item: WorkItem) -> Self {
        Self {
            state: item.state.as_str(),
            error: match item.state {
                ItemState::Failed(error) => Some(error),
                _ => None,
            },
            strategy: item.spec.strategy.as_str(),
            name: item.spec.tables.table.name,
            strategy_reason: item.strategy_reason,
            counts: item.counts,
            rows_base: None,
            rows_head: None,
            balance: None,
            events_digest: None,
            seconds: item.seconds,
            warnings: item.warnings,
        }
    }

    /// Adds another range of the same table. The table is failed if any range is, completed if all
    /// are.
    fn add(&mut self, part: Self) {
        let rank = |state: &str| match state {
            "failed" => 3,
            "running" => 2,
            "pending" => 1,
            _ => 0,
        };
        if rank(part.state) > rank(self.state) {
            self.state = part.state;
        }
        self.counts += part.counts;
        self.seconds = match (self.seconds, part.seconds) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        for warning in part.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self.error = self.error.take().or(part.error);
    }
}
