//! Whether a partition accepts events, for those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::hub_error::{Cause, HubError};

/// What a sender has taken and why it fails. Shared with those who wait.
#[derive(Debug)]
pub(super) struct PartitionHealth {
    /// Events taken and not accepted yet.
    outstanding: AtomicU64,
    /// When something was last accepted, or began to wait, or waits because it was told to.
    moved: Mutex<Instant>,
    /// What went wrong since, and for how long it has been of this cause.
    failure: Mutex<Option<(Instant, HubError)>>,
}

/// How long a partition may accept nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallTimeout {
    pub(super) usual: Duration,
    /// If it is not a matter of time: no such hub, no right.
    pub(super) hopeless: Duration,
}

impl PartitionHealth {
    pub(super) fn new() -> Self {
        Self {
            outstanding: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            failure: Mutex::new(None),
        }
    }

    pub(super) fn took(&self) {
        if self.outstanding.fetch_add(1, Ordering::AcqRel) == 0 {
            self.moves();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0
    }

    /// For how long nothing has been accepted, and why, if that is longer than the timeout. A
    /// cause without hope counts from when it began: until then the sender may have been throttled.
    pub(super) fn stalled_for(&self, stall_timeout: StallTimeout) -> Option<(Duration, HubError)> {
        if self.is_idle() {
            return None;
        }
        let stalled = self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hopeless = failure.as_ref().is_some_and(|(since, failure)| {
            matches!(failure.cause, Cause::Gone | Cause::Unauthorized)
                && stalled.min(since.elapsed()) >= stall_timeout.hopeless
        });
        if !hopeless && stalled < stall_timeout.usual {
            return None;
        }
        let failure = failure.map(|(_, failure)| failure);
        Some((stalled, failure.unwrap_or_else(|| HubError::transient("no answer"))))
    }

    pub(super) fn accepted(&self, events: usize) {
        self.outstanding.fetch_sub(events as u64, Ordering::AcqRel);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.moves();
    }

    pub(super) fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn record_failure(&self, failure: &HubError) {
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.as_ref().filter(|(_, before)| before.cause == failure.cause);
        let since = since.map_or_else(Instant::now, |(since, _)| *since);
        *known = Some((since, failure.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_without_hope_counts_from_when_it_began() {
        let health = PartitionHealth::new();
        let stall_timeout =
            StallTimeout { usual: Duration::from_secs(60), hopeless: Duration::from_millis(200) };
        let record_failure = |cause| {
            health.record_failure(&HubError { cause, sentence: "by the service".to_owned() })
        };
        health.took();
        record_failure(Cause::Busy);
        std::thread::sleep(Duration::from_millis(210));
        record_failure(Cause::Unauthorized);
        assert!(health.stalled_for(stall_timeout).is_none(), "throttled is not without hope");
        std::thread::sleep(Duration::from_millis(210));
        record_failure(Cause::Unauthorized);
        let stalled_for = health
            .stalled_for(stall_timeout)
            .map(|(stalled, failure)| (stalled >= Duration::from_millis(420), failure.cause));
        assert_eq!(stalled_for, Some((true, Cause::Unauthorized)));
        health.accepted(1);
        assert!(health.stalled_for(stall_timeout).is_none());
    }
}
