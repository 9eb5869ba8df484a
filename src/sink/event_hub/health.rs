//! How a lane is, for those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::{Cause, Trouble};

/// What a lane has taken and what it suffers. Shared with those who wait.
#[derive(Debug)]
pub(super) struct Health {
    /// Events taken and not accepted yet.
    outstanding: AtomicU64,
    /// When something was last accepted, or began to wait, or waits because it was told to.
    moved: Mutex<Instant>,
    /// What went wrong since, and for how long it has been of this cause.
    trouble: Mutex<Option<(Instant, Trouble)>>,
}

/// How long a lane may accept nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) usual: Duration,
    /// If it is not a matter of time: no such hub, no right.
    pub(super) hopeless: Duration,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            outstanding: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            trouble: Mutex::new(None),
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

    /// For how long nothing has been accepted, and why, if that is longer than patience lasts. A
    /// cause without hope counts from when it began: until then the lane may have been throttled.
    pub(super) fn given_up(&self, patience: Patience) -> Option<(Duration, Trouble)> {
        if self.is_idle() {
            return None;
        }
        let stalled = self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hopeless = trouble.as_ref().is_some_and(|(since, trouble)| {
            matches!(trouble.cause, Cause::Gone | Cause::Unauthorized)
                && stalled.min(since.elapsed()) >= patience.hopeless
        });
        if !hopeless && stalled < patience.usual {
            return None;
        }
        let trouble = trouble.map(|(_, trouble)| trouble);
        Some((stalled, trouble.unwrap_or_else(|| Trouble::passing("no answer"))))
    }

    pub(super) fn accepted(&self, events: usize) {
        self.outstanding.fetch_sub(events as u64, Ordering::AcqRel);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.moves();
    }

    pub(super) fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn suffers(&self, trouble: &Trouble) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.as_ref().filter(|(_, before)| before.cause == trouble.cause);
        let since = since.map_or_else(Instant::now, |(since, _)| *since);
        *known = Some((since, trouble.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_without_hope_counts_from_when_it_began() {
        let health = Health::new();
        let patience =
            Patience { usual: Duration::from_secs(60), hopeless: Duration::from_millis(200) };
        let suffers =
            |cause| health.suffers(&Trouble { cause, sentence: "by the service".to_owned() });
        health.took();
        suffers(Cause::Busy);
        std::thread::sleep(Duration::from_millis(210));
        suffers(Cause::Unauthorized);
        assert!(health.given_up(patience).is_none(), "throttled is not without hope");
        std::thread::sleep(Duration::from_millis(210));
        suffers(Cause::Unauthorized);
        let given_up = health
            .given_up(patience)
            .map(|(stalled, trouble)| (stalled >= Duration::from_millis(420), trouble.cause));
        assert_eq!(given_up, Some((true, Cause::Unauthorized)));
        health.accepted(1);
        assert!(health.given_up(patience).is_none());
    }
}
