//! What a recovery found, for people and for scripts.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::store::{RecoveryState, StoredRecovery};
use super::work_item::{Counts, ItemState, WorkItem};
use crate::catalog::TableName;
use crate::lineage::Lsn;

/// The outcome of a recovery; `--report` writes it as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The recovery.
    pub recovery_id: Uuid,
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
    /// How long the decisive attempt took; null before its end.
    pub seconds: Option<f64>,
    /// What an operator should know about it.
    pub warnings: Vec<String>,
    /// Why it failed and what to do; null unless it did.
    pub error: Option<String>,
}

impl Report {
    pub(crate) fn new(recovery: StoredRecovery, items: Vec<WorkItem>) -> Self {
        let mut totals = Counts::default();
        let mut tables: Vec<TableReport> = items
            .into_iter()
            .map(|item| {
                totals += item.counts;
                TableReport {
                    state: item.state.as_str(),
                    error: match item.state {
                        ItemState::Failed(error) => Some(error),
                        _ => None,
                    },
                    strategy: item.spec.strategy.as_str(),
                    name: item.spec.tables.table.name,
                    strategy_reason: item.strategy_reason,
                    counts: item.counts,
                    seconds: item.seconds,
                    warnings: item.warnings,
                }
            })
            .collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let (base_end_lsn, head_end_lsn) = recovery.ends.unzip();
        Self {
            recovery_id: recovery.id,
            state: recovery.state.as_str(),
            started_at: recovery.created_at,
            finished_at: recovery.finished_at,
            warnings: recovery.warnings,
            base_end_lsn,
            head_end_lsn,
            tables,
            totals,
        }
    }

    /// Whether every table completed.
    pub fn is_completed(&self) -> bool {
        self.state == RecoveryState::Completed.as_str()
    }
}
