//! When a call of the engine is to end.

use std::time::Instant;

/// When a call is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// From then on it ends at the next checkpoint, or between two tables.
    pub(super) pause_at: Instant,
    /// What takes until then is given up.
    pub(super) end_at: Instant,
}
