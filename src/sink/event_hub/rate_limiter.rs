//! How fast a process may send, so that the live stream keeps its share of the namespace.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::EventHubOptions;

/// The caps of one producer, shared by its partitions.
#[derive(Debug)]
pub(super) struct RateLimiter {
    bytes: Option<NonZeroU64>,
    events: Option<NonZeroU64>,
    /// When the next batch may go.
    next: Mutex<Instant>,
}

impl RateLimiter {
    pub(super) fn new(options: &EventHubOptions) -> Self {
        Self {
            bytes: options.max_bytes_per_second,
            events: options.max_events_per_second,
            next: Mutex::new(Instant::now()),
        }
    }

    /// When a batch of this size may go. Its time is taken from then on.
    pub(super) fn reserve(&self, events: usize, bytes: usize) -> Instant {
        let cost = |amount: usize, cap: Option<NonZeroU64>| {
            cap.map_or(0.0, |cap| amount as f64 / cap.get() as f64)
        };
        let cost = cost(bytes, self.bytes).max(cost(events, self.events));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(Instant::now());
        *next = at + Duration::from_secs_f64(cost);
        at
    }

    /// The most bytes that a batch may have, so that it is at most a second's worth.
    pub(super) fn batch_bytes(&self) -> usize {
        self.bytes.map_or(usize::MAX, |cap| usize::try_from(cap.get()).unwrap_or(usize::MAX))
    }

    /// The most events that a batch may have.
    pub(super) fn batch_events(&self) -> usize {
        self.events.map_or(usize::MAX, |cap| usize::try_from(cap.get()).unwrap_or(usize::MAX))
    }

    /// The most bytes (of at least a thousand an event) that may wait, so that what waits is
    /// through in some seconds.
    pub(super) fn backlog(&self, usual: usize) -> usize {
        const SECONDS: usize = 5;
        usual
            .min(self.batch_bytes().saturating_mul(SECONDS))
            .min(self.batch_events().saturating_mul(1000 * SECONDS))
            .max(64 << 10)
    }
}
