//! How much was compared and found.

use serde::{Deserialize, Serialize};

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
