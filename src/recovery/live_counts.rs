//! The counts of a work item while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::{Counts, Strategy};
use crate::telemetry::metrics;

/// What is known of an item while an attempt at it runs, for the lease, the display and the time
/// limit.
#[derive(Debug, Default)]
pub(crate) struct LiveCounts {
    /// True while a write or a flush is pending.
    at_sinks: AtomicBool,
    inserts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    rows_compared: AtomicU64,
    /// What the metrics were told.
    told: Mutex<Counts>,
}

impl LiveCounts {
    pub(crate) fn get(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            inserts: read(&self.inserts),
            updates: read(&self.updates),
            deletes: read(&self.deletes),
            rows_compared: read(&self.rows_compared),
        }
    }

    /// Whether a write or a flush is pending.
    pub(super) fn waits_for_sinks(&self) -> bool {
        self.at_sinks.load(Ordering::Relaxed)
    }

    /// Awaits a write or a flush; [`Self::waits_for_sinks`] is true meanwhile.
    pub(super) async fn at_sinks<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.at_sinks.store(true, Ordering::Relaxed);
        let waited = waiting.await;
        self.at_sinks.store(false, Ordering::Relaxed);
        waited
    }

    /// Adds to the metrics what was compared and delivered since the last call. To be called after
    /// `counts` are stored.
    pub(super) fn tell(&self, strategy: Strategy, counts: Counts) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::progressed(strategy, counts - *told);
        *told = counts;
    }

    /// Begins where an earlier attempt ended.
    pub(super) fn begin(&self, counts: Counts) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        self.set(counts);
    }

    pub(super) fn set(&self, counts: Counts) {
        self.inserts.store(counts.inserts, Ordering::Relaxed);
        self.updates.store(counts.updates, Ordering::Relaxed);
        self.deletes.store(counts.deletes, Ordering::Relaxed);
        self.rows_compared.store(counts.rows_compared, Ordering::Relaxed);
    }
}
