//! A fingerprint of a set of changes.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;
use std::str::FromStr;

use super::Change;

/// A fingerprint of a set of changes, whatever their order: their number and the sum of their
/// 128-bit hashes. A sum, not an xor, so that equal changes do not cancel. Digests of disjoint sets
/// add up to the digest of their union.
///
/// Kept across processes of one build; hashes of another Rust release may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) changes: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn add(&mut self, change: &Change) {
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            change.hash(&mut hasher);
            u128::from(hasher.finish())
        };
        self.changes += 1;
        self.sum = self.sum.wrapping_add(half(0) << 64 | half(1));
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Self) {
        self.changes += other.changes;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.changes, self.sum)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (changes, sum) = text.split_once(':').ok_or(())?;
        Ok(Self {
            changes: changes.parse().map_err(|_| ())?,
            sum: u128::from_str_radix(sum, 16).map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{Image, RowChange};

    fn insert(value: &str, ordinal: u64) -> Change {
        let image: Image = [Some(value)].into_iter().collect();
        Change { row: RowChange::Insert(image), ordinal }
    }

    fn digest(changes: &[Change]) -> Digest {
        let mut digest = Digest::default();
        changes.iter().for_each(|change| digest.add(change));
        digest
    }

    #[test]
    fn order_does_not_matter_and_copies_do() {
        let (a, b) = (insert("a", 0), insert("b", 0));
        let mut parts = digest(std::slice::from_ref(&a));
        parts += digest(std::slice::from_ref(&b));
        assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), a.clone()]));
        assert_eq!(digest(&[a.clone(), b.clone()]), parts);
        assert_ne!(digest(&[a.clone(), a.clone()]), digest(&[b.clone(), b]));
        assert_eq!(parts.to_string().parse(), Ok(parts));
    }
}
