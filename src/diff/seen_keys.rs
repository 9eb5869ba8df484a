//! Whether a key comes out of a diff twice.

use std::collections::HashSet;

use twox_hash::XxHash3_128;

use super::{Change, RowChange};
use crate::catalog::Key;

/// Keys that are remembered: some 9 MB of hashes, 18 MB at most.
const MOST_KEYS: usize = 7 << 16;

/// What happened to which keys.
#[derive(Debug)]
struct Hashes {
    /// Keys whose row was deleted and may be inserted again.
    deleted: HashSet<u128>,
    /// Keys that may not appear again.
    ended: HashSet<u128>,
    most: usize,
}

/// The keys of the changes so far, by a 128-bit hash of their printed values.
///
/// A key may appear once, or twice if a delete is followed by an insert. Memory is bounded: beyond
/// [`MOST_KEYS`] further keys are not remembered, and only repetitions of the earlier ones are seen.
/// Rows without a key are not looked at.
#[derive(Debug)]
pub(crate) struct SeenKeys<'a> {
    key: &'a [usize],
    hashes: Hashes,
    /// The printed key that is being hashed.
    printed: Vec<u8>,
}

impl<'a> SeenKeys<'a> {
    /// `None` for a table without a key.
    pub(crate) fn of(key: &'a Key) -> Option<Self> {
        let Key::Columns(key) = key else { return None };
        Some(Self { key, hashes: Hashes::of_at_most(MOST_KEYS), printed: Vec::new() })
    }

    /// Remembers a change's key. Yields the key's printed values if it should not have appeared.
    pub(crate) fn repeated(&mut self, change: &Change) -> Option<Vec<Option<String>>> {
        let image = match &change.row {
            RowChange::Insert(image) | RowChange::Delete(image) => image,
            RowChange::Update { after, .. } => after,
        };
        self.printed.clear();
        for &at in self.key {
            let value = image.get(at);
            let length = value.map_or(u32::MAX, |value| value.len() as u32);
            self.printed.extend_from_slice(&length.to_le_bytes());
            self.printed.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
        let hash = XxHash3_128::oneshot(&self.printed);
        if self.hashes.admit(hash, &change.row) {
            return None;
        }
        Some(self.key.iter().map(|&at| image.get(at).map(str::to_owned)).collect())
    }
}

impl Hashes {
    fn of_at_most(most: usize) -> Self {
        Self { deleted: HashSet::new(), ended: HashSet::new(), most }
    }

    /// Whether this may happen to a key, after what has happened to it so far.
    fn admit(&mut self, key: u128, row: &RowChange) -> bool {
        if self.ended.contains(&key) {
            return false;
        }
        let was_deleted = match row {
            RowChange::Insert(_) => self.deleted.remove(&key),
            RowChange::Update { .. } | RowChange::Delete(_) if self.deleted.contains(&key) => {
                return false;
            }
            RowChange::Update { .. } | RowChange::Delete(_) => false,
        };
        if was_deleted || self.deleted.len() + self.ended.len() < self.most {
            match row {
                RowChange::Delete(_) => self.deleted.insert(key),
                RowChange::Insert(_) | RowChange::Update { .. } => self.ended.insert(key),
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::Image;

    fn image(key: Option<&str>, value: &str) -> Image {
        [Some(value), key].into_iter().collect()
    }

    fn change(operation: char, key: Option<&str>) -> Change {
        let row = match operation {
            'i' => RowChange::Insert(image(key, "new")),
            'd' => RowChange::Delete(image(key, "old")),
            _ => RowChange::Update { before: image(key, "old"), after: image(key, "new") },
        };
        Change::new(row, 0)
    }

    #[test]
    fn a_key_appears_once_or_as_a_delete_and_then_an_insert() {
        for (operations, good) in [
            ("i", true),
            ("u", true),
            ("d", true),
            ("di", true),
            ("id", false),
            ("ii", false),
            ("dd", false),
            ("uu", false),
            ("du", false),
            ("ud", false),
            ("ui", false),
            ("iu", false),
            ("did", false),
            ("dii", false),
        ] {
            let key = Key::Columns(vec![1]);
            let mut seen = SeenKeys::of(&key).unwrap();
            let changes: Vec<Change> = operations.chars().map(|it| change(it, Some("k"))).collect();
            let (last, before) = changes.split_last().unwrap();
            assert!(before.iter().all(|it| seen.repeated(it).is_none()), "{operations}");
            let repeated = (!good).then(|| vec![Some("k".to_owned())]);
            assert_eq!(seen.repeated(last), repeated, "{operations}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_how_they_print() {
        let key = Key::Columns(vec![1]);
        let mut seen = SeenKeys::of(&key).unwrap();
        for printed in [Some("1.0"), Some("1.00"), Some(""), None] {
            assert_eq!(seen.repeated(&change('u', printed)), None, "{printed:?}");
        }
        let key = Key::Columns(vec![0, 1]);
        let mut seen = SeenKeys::of(&key).unwrap();
        let insert = |a: &str, b: &str| {
            Change::new(RowChange::Insert([Some(a), Some(b)].into_iter().collect()), 0)
        };
        assert_eq!(seen.repeated(&insert("a", "bc")), None);
        assert_eq!(seen.repeated(&insert("ab", "c")), None);
        assert!(seen.repeated(&insert("ab", "c")).is_some());
        assert!(SeenKeys::of(&Key::WholeRow).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut hashes = Hashes::of_at_most(3);
        let row = |operation| change(operation, Some("k")).row;
        for key in 0..10 {
            assert!(hashes.admit(key, &row('d')));
        }
        assert_eq!(hashes.deleted.len() + hashes.ended.len(), 3);
        assert!(hashes.admit(1, &row('i')));
        assert!(!hashes.admit(1, &row('i')));
        assert!(!hashes.admit(2, &row('d')));
        assert!(hashes.admit(9, &row('d')), "it is not remembered");
        assert_eq!(hashes.deleted.len() + hashes.ended.len(), 3);
    }
}
