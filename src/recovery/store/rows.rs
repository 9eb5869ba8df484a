//! How rows of the store are read.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::StoredRecovery;
use crate::diff::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Counts, GapProof, RecoveryState};
use crate::postgres::{Json, from_row};
use crate::recovery::work_item::{ItemAccount, ItemProgress, ItemState, WorkItem, WorkItemSpec};

/// The columns that [`ItemRow`] reads.
macro_rules! item_columns {
    () => {
        "number, strategy_reason, spec, bytes, rows, state, inserts, updates, deletes, \
         rows_compared, checkpoint, done, digest, \
         events_digest::text as events_digest, account, seconds, warnings, error, verified"
    };
}
pub(super) use item_columns;

/// A recovery's items.
pub(super) const ITEMS: &str = concat!(
    "select ",
    item_columns!(),
    " from deltacompare.work_item
       where recovery_id = $1
       order by number"
);

pub(super) struct RecoveryRow {
    state: String,
    request: Json<Box<RawValue>>,
    warnings: Json<Vec<String>>,
    restores: String,
    created_at: i64,
    finished_at: Option<i64>,
    base_end_lsn: Option<String>,
    head_end_lsn: Option<String>,
    gap: Json<GapProof>,
    database: String,
    error: Option<String>,
    keep_objects: bool,
    queues: Option<String>,
    cleaned: bool,
}

from_row!(RecoveryRow {
    state,
    request,
    warnings,
    restores,
    created_at,
    finished_at,
    base_end_lsn,
    head_end_lsn,
    gap,
    database,
    error,
    keep_objects,
    queues,
    cleaned
});

impl RecoveryRow {
    pub(super) fn read(self, id: Uuid) -> Result<StoredRecovery> {
        let timestamp = |milliseconds: i64| {
            jiff::Timestamp::from_millisecond(milliseconds).map_err(|error| {
                Error::recovery("the status store has a time out of range").because(error)
            })
        };
        // Another version may have stored words that this one does not know.
        let request = serde_json::from_str(self.request.0.get()).map_err(|error| {
            Error::refused(format!(
                "recovery {id} was begun by another version of this program ({error}): end it with \
                 that version, or remove all recoveries, and the events in the delta table, with \
                 deltacompare cleanup --yes"
            ))
            .because(error)
        })?;
        let lsn = |text: Option<String>| text.map(|text| text.parse()).transpose();
        Ok(StoredRecovery {
            id,
            state: RecoveryState::read(&self.state)?,
            request,
            warnings: self.warnings.0,
            created_at: timestamp(self.created_at)?,
            finished_at: self.finished_at.map(timestamp).transpose()?,
            restores: self.restores,
            ends: lsn(self.base_end_lsn)?.zip(lsn(self.head_end_lsn)?),
            gap: self.gap.0,
            database: self.database,
            error: self.error,
            keep_objects: self.keep_objects,
            queues: self.queues,
            cleaned: self.cleaned,
        })
    }
}

pub(super) struct ItemRow {
    number: i32,
    strategy_reason: String,
    spec: Json<WorkItemSpec>,
    bytes: i64,
    rows: Option<i64>,
    state: String,
    inserts: i64,
    updates: i64,
    deletes: i64,
    rows_compared: i64,
    checkpoint: Option<Json<Checkpoint>>,
    done: Option<Json<Counts>>,
    digest: Option<String>,
    events_digest: Option<String>,
    account: Option<Json<ItemAccount>>,
    seconds: Option<f64>,
    warnings: Json<Vec<String>>,
    error: Option<String>,
    verified: bool,
}

from_row!(ItemRow {
    number,
    strategy_reason,
    spec,
    bytes,
    rows,
    state,
    inserts,
    updates,
    deletes,
    rows_compared,
    checkpoint,
    done,
    digest,
    events_digest,
    account,
    seconds,
    warnings,
    error,
    verified
});

impl TryFrom<ItemRow> for WorkItem {
    type Error = Error;

    fn try_from(row: ItemRow) -> Result<Self> {
        Ok(Self {
            number: row.number,
            strategy_reason: row.strategy_reason,
            spec: row.spec.0,
            bytes: row.bytes as u64,
            rows: row.rows.map(|rows| rows as u64),
            state: match (row.state.as_str(), row.error) {
                ("pending", None) => ItemState::Pending,
                ("running", None) => ItemState::Running,
                ("completed", None) => ItemState::Completed,
                ("failed", Some(error)) => ItemState::Failed(error),
                (state, _) => {
                    return Err(Error::recovery(format!(
                        "the status store has a work item in the unknown state {state:?}"
                    )));
                }
            },
            counts: Counts {
                inserts: row.inserts as u64,
                updates: row.updates as u64,
                deletes: row.deletes as u64,
                rows_compared: row.rows_compared as u64,
            },
            done: ItemProgress {
                checkpoint: row.checkpoint.map(|checkpoint| checkpoint.0),
                counts: row.done.map(|counts| counts.0).unwrap_or_default(),
                digest: row.digest.and_then(|digest| digest.parse().ok()).unwrap_or_default(),
                events: row.events_digest.and_then(|sum| sum.parse().ok()).unwrap_or_default(),
                account: row.account.map(|account| account.0).unwrap_or_default(),
                held: Vec::new(),
            },
            seconds: row.seconds,
            warnings: row.warnings.0,
            verified: row.verified,
        })
    }
}
