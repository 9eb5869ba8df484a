//! Rows of a table without a key, counted: which of two equal ones went cannot be said, only how
//! many more copies a side has.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Change, Image, RowChange};

/// How many more copies of a row head has than base, by what tells rows apart.
pub(super) struct MultisetDifference<K>(HashMap<K, i64>);

impl<K: Copy + Eq + Hash> MultisetDifference<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Counts a row that head has (1) or base (-1). Rows that both have take no memory.
    pub(super) fn count(&mut self, row: K, copies: i64) {
        let entry = self.0.entry(row).or_default();
        *entry += copies;
        if *entry == 0 {
            self.0.remove(&row);
        }
    }

    /// Different rows that one side has more often than the other.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The ordinal of this copy of a row among those to be deleted (or inserted), if it is one. The
    /// n-th copy from the end has ordinal n, so a repetition yields the same set.
    pub(super) fn take(&mut self, row: K, side: DifferenceOf) -> Option<u64> {
        let copies = self.0.get_mut(&row)?;
        match (side, *copies) {
            (DifferenceOf::Base, ..0) => *copies += 1,
            (DifferenceOf::Head, 1..) => *copies -= 1,
            _ => return None,
        }
        Some(copies.unsigned_abs())
    }
}

/// Which side has more copies: base's rows are deleted, head's inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DifferenceOf {
    Base,
    Head,
}

impl DifferenceOf {
    /// Deletes first: only then may a consumer meet a unique value again.
    pub(super) const IN_ORDER: [Self; 2] = [Self::Base, Self::Head];

    pub(super) fn change(self, image: Image, ordinal: u64) -> Change {
        let row = match self {
            Self::Base => RowChange::Delete(image),
            Self::Head => RowChange::Insert(image),
        };
        Change::new(row, ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_taken_while_there_is_a_surplus() {
        let mut difference = MultisetDifference::new();
        for copies in [-1, 1, -1, -1] {
            difference.count("a", copies);
        }
        assert_eq!(difference.take("a", DifferenceOf::Head), None);
        let ordinals: Vec<u64> =
            std::iter::from_fn(|| difference.take("a", DifferenceOf::Base)).collect();
        assert_eq!(ordinals, [1, 0]);
        difference.count("b", 1);
        assert_eq!(difference.take("b", DifferenceOf::Base), None);
        assert_eq!(difference.take("b", DifferenceOf::Head), Some(0));
        assert_eq!(difference.take("b", DifferenceOf::Head), None);
    }

    #[test]
    fn what_both_sides_have_takes_no_memory() {
        let mut difference = MultisetDifference::new();
        for row in 0..1000 {
            difference.count(row, 1);
            difference.count(row, -1);
        }
        assert_eq!(difference.len(), 0);
    }
}
