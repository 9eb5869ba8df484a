//! The verdict on whether two restores cover the gap.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The verdict on a recovery's two restores, given where the slots stood on production.
///
/// The lost slot delivered every transaction that was committed before the position that it had
/// confirmed, the new one delivers every transaction that is committed after its consistent point
/// (PostgreSQL sources, `SnapBuildXactNeedsSkip`). So nothing falls in between if base ends not
/// after the one and head not before the other, on one history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum GapProof {
    /// Nothing that downstream missed lies outside the two restores.
    Proven {
        /// The positions that say so.
        why: String,
    },
    /// Changes that downstream missed may lie outside the two restores.
    Violated {
        /// So much WAL is covered by nothing.
        bytes: u64,
        /// Where, and what to do.
        why: String,
    },
    /// Nothing is known.
    NotProvable {
        /// What is missing.
        why: String,
    },
}

impl fmt::Display for GapProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven { why } => write!(f, "proven: {why}"),
            Self::Violated { bytes, why } => write!(f, "VIOLATED by {bytes} bytes of WAL: {why}"),
            Self::NotProvable { why } => write!(f, "not provable: {why}"),
        }
    }
}
