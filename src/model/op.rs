//! What a change does to a row.

/// What an event does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The row came.
    Insert,
    /// The row changed.
    Update,
    /// The row went.
    Delete,
}

impl Op {
    /// `I`, `U` or `D`, as `landing`, the event ids and the delta table have it.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Insert => "I",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }
}
