//! Tuple identifiers.

use std::fmt;

/// A tuple's place: block and line pointer. `Display` is PostgreSQL's text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::diff) struct Tid {
    pub(in crate::diff) block: u32,
    pub(in crate::diff) offset: u16,
}

impl From<[u8; 6]> for Tid {
    /// From what `tidsend` yields.
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self { block: u32::from_be_bytes([a, b, c, d]), offset: u16::from_be_bytes([e, f]) }
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}
