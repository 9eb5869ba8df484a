//! A fingerprint of a set of changes.

use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

use twox_hash::XxHash3_128;

use super::{Change, Image, RowChange};

/// A fingerprint of a set of changes, whatever their order: their number and the sum of their
/// 128-bit hashes. A sum, not an xor, so that equal changes do not cancel. Digests of disjoint sets
/// add up to the digest of their union.
///
/// Kept in the status store: XXH3 over bytes that are spelled out here, so that another build, on
/// another machine, goes on with what this one began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) changes: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn add(&mut self, change: &Change) {
        let hash = match &change.row {
            RowChange::Insert(after) => of_image(after, change.ordinal << 2),
            RowChange::Delete(before) => of_image(before, change.ordinal << 2 | 1),
            RowChange::Update { before, after } => {
                of_image(after, of_image(before, change.ordinal << 2 | 2) as u64)
            }
        };
        self.changes += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// A hash of an image, the same on every machine.
pub(super) fn of_image(image: &Image, seed: u64) -> u128 {
    let mut bounds = Vec::with_capacity(4 * image.len());
    for value in image.iter() {
        let length = value.map_or(u32::MAX, |value| value.len() as u32);
        bounds.extend_from_slice(&length.to_le_bytes());
    }
    let seed = XxHash3_128::oneshot_with_seed(seed, &bounds) as u64;
    let mut pieces = image.pieces();
    match (pieces.next(), pieces.next()) {
        (whole, None) => XxHash3_128::oneshot_with_seed(seed, whole.unwrap_or_default().as_bytes()),
        (first, second) => {
            let mut hasher = XxHash3_128::with_seed(seed);
            let pieces = first.into_iter().chain(second).chain(pieces);
            pieces.for_each(|piece| hasher.write(piece.as_bytes()));
            hasher.finish_128()
        }
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
        Change::new(RowChange::Insert(image), ordinal)
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

    /// It is stored by one process and compared by another.
    #[test]
    fn digests_do_not_depend_on_the_build() {
        let image = |values: &[Option<&str>]| values.iter().copied().collect::<Image>();
        let change = |row| Change::new(row, 0);
        let update = change(RowChange::Update {
            before: image(&[Some("1"), None]),
            after: image(&[Some("1"), Some("é")]),
        });
        let other_bounds = change(RowChange::Update {
            before: image(&[Some("1"), None]),
            after: image(&[Some("1é"), Some("")]),
        });
        assert_eq!(
            digest(std::slice::from_ref(&update)).to_string(),
            "1:183446ce60ada3122838140f9acad7e5"
        );
        assert_ne!(digest(&[update]), digest(&[other_bounds]));
        let (insert, delete) =
            (RowChange::Insert(image(&[None])), RowChange::Delete(image(&[None])));
        assert_ne!(digest(&[change(insert)]), digest(&[change(delete)]));
    }
}
