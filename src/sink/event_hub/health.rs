//! How a lane is, for those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Trouble;

/// What a lane has taken and what it suffers. Shared with those who wait.
#[derive(Debug)]
pub(super) struct Health {
    /// Events taken and not accepted yet.
    outstanding: AtomicU64,
    /// When something was last accepted, or began to wait, or waits because it was told to.
    moved: Mutex<Instant>,
    /// What went wrong since.
    trouble: Mutex<Option<Trouble>>,
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

    /// For how long nothing has been accepted, and why.
    pub(super) fn stalled(&self) -> (Duration, Option<Trouble>) {
        if self.is_idle() {
            return (Duration::ZERO, None);
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed(), trouble)
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
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone());
    }
}
