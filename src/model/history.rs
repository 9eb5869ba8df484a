//! The past of a restored server.

use serde::{Deserialize, Serialize};

use super::Lsn;

/// A server's past: the timelines before its own, oldest first, each with the LSN where it was
/// left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct History {
    /// The cluster's identity, equal in every restore of one server.
    pub system_identifier: String,
    /// The timeline that the server writes now.
    pub timeline: u32,
    /// What came before.
    pub ancestors: Vec<Ancestor>,
}

/// A timeline that a server left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ancestor {
    /// Its number.
    pub timeline: u32,
    /// Where it was left.
    pub left_at: Lsn,
}

impl History {
    /// Where the server's recovery ended; `None` for a server that was never restored or promoted.
    pub fn recovery_end(&self) -> Option<Lsn> {
        self.ancestors.last().map(|ancestor| ancestor.left_at)
    }

    /// Whether a later history is this one with more timelines behind it: the server was promoted since.
    pub fn goes_on_in(&self, later: &Self) -> bool {
        self.system_identifier == later.system_identifier
            && later.ancestors.starts_with(&self.ancestors)
            && later
                .ancestors
                .get(self.ancestors.len())
                .is_some_and(|it| it.timeline == self.timeline)
    }
}
