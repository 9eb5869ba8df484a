//! Tuple identifiers.

use std::fmt;

/// A tuple's place: block and line pointer. `Display` is PostgreSQL's text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tid {
    pub(super) block: u32,
    pub(super) offset: u16,
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}
