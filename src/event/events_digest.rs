//! A checksum over what was sent.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use twox_hash::XxHash3_128;

use super::Event;

/// The sum, modulo 2¹²⁸, of the XXH3 hashes (128 bits, no seed) of the bodies of events, each counted
/// once. Whoever has the events computes it again, in any order: docs/audit.md. Digests of disjoint
/// sets add up to the digest of their union.
///
/// It shows that nothing is missing, doubled or altered by accident; it is no signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventsDigest(u128);

impl EventsDigest {
    /// Adds an event.
    pub fn add(&mut self, event: &Event) {
        self.0 = self.0.wrapping_add(XxHash3_128::oneshot(&event.body));
    }
}

impl AddAssign for EventsDigest {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

/// As a decimal number.
impl fmt::Display for EventsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventsDigest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
