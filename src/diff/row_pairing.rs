//! Old and new rows brought together by key.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::key::{self, KeyOf};
use super::{Change, DiffItem, Image, RowChange, Source};
use crate::error::Result;
use crate::postgres::Session;

/// Pairs rows that may have changed: first among themselves, then, by lookups, with the rest of the
/// table, where the other version may lie. A new row without an old one is an insert; an old row
/// whose key head still has says nothing, since whoever reads the new row reports it; otherwise it
/// is a delete.
///
/// Lookups go by `=`. Where that finds a key that prints otherwise (numeric 1.0 and 1.00), whoever
/// reads the new row reports both, the delete first: a consumer that compares by `=` too would else
/// lose the row.
///
/// `sources`: what on base and on head has every row of these keys: the table, or a partition.
///
/// `None` if there is more than may be held at once: ask with fewer rows.
pub(super) async fn pair_and_look_up(
    base: &Session,
    head: &Session,
    sources: (&Source, &Source),
    key: &[usize],
    old: Vec<Image>,
    new: Vec<Image>,
) -> Result<Option<Vec<DiffItem>>> {
    let PairedRows { mut updates, old: mut deletes, new } = pair(key, old, new);
    let (before, still_there) = tokio::try_join!(
        key::rows_by_key(base, key, sources.0, &new),
        key::keys_present(head, key, sources.1, &deletes),
    )?;
    let (Some(before), Some(still_there)) = (before, still_there) else { return Ok(None) };
    let positions: Vec<usize> = (0..key.len()).collect();
    let still_there: HashSet<KeyOf<'_>> =
        still_there.iter().map(|image| KeyOf::new(image, &positions)).collect();
    deletes.retain(|image| !still_there.contains(&KeyOf::new(image, key)));
    let looked_up = pair(key, before, new);
    updates.extend(looked_up.updates);
    deletes.extend(looked_up.old);
    let inserts = single(looked_up.new, RowChange::Insert);
    Ok(Some(items(single(deletes, RowChange::Delete), updates, inserts)))
}

/// The changes between all old and all new rows of some keys.
pub(super) fn pair_all(key: &[usize], old: Vec<Image>, new: Vec<Image>) -> Vec<DiffItem> {
    let PairedRows { updates, old, new } = pair(key, old, new);
    items(single(old, RowChange::Delete), updates, single(new, RowChange::Insert))
}

/// The changes between all old and all new rows of some keys, of which a key may have several on a
/// side: equal ones are left out, the others are paired in the order of their images, and have their
/// place in it as ordinal. [`full`](super::full) does the same in SQL.
pub(super) fn pair_copies(
    key: &[usize],
    mut old: Vec<Image>,
    mut new: Vec<Image>,
) -> Vec<DiffItem> {
    old.sort_unstable_by(|a, b| compare(key, a, b));
    new.sort_unstable_by(|a, b| compare(key, a, b));
    let (old, new) = without_equal(key, old, new);
    let (old, new) = (numbered(key, old), numbered(key, new));
    let (mut deletes, mut updates, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, n)), Some((b, m))) => compare_keys(key, a, b).then(n.cmp(m)),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        match (before, after) {
            (Some((before, ordinal)), Some((after, _))) => {
                updates.push(Change::new(RowChange::Update { before, after }, ordinal));
            }
            (Some((before, ordinal)), None) => {
                deletes.push(Change::new(RowChange::Delete(before), ordinal));
            }
            (None, Some((after, ordinal))) => {
                inserts.push(Change::new(RowChange::Insert(after), ordinal));
            }
            (None, None) => {}
        }
    }
    items(deletes, updates, inserts)
}

/// By the key, then by the whole image, both byte by byte, nulls last.
fn compare(key: &[usize], a: &Image, b: &Image) -> Ordering {
    let values = |image| Image::iter(image).map(|value| (value.is_none(), value));
    compare_keys(key, a, b).then_with(|| values(a).cmp(values(b)))
}

fn compare_keys(key: &[usize], a: &Image, b: &Image) -> Ordering {
    key.iter()
        .map(|&at| (a.get(at).is_none(), a.get(at)).cmp(&(b.get(at).is_none(), b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Two sorted lists without what both have.
fn without_equal(key: &[usize], old: Vec<Image>, new: Vec<Image>) -> (Vec<Image>, Vec<Image>) {
    let (mut old_left, mut new_left) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (old_left, new_left),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => compare(key, a, b),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        if order.is_ne() {
            old_left.extend(before);
            new_left.extend(after);
        }
    }
}

/// Each image of a sorted list with its place among those of its key, from 0.
fn numbered(key: &[usize], images: Vec<Image>) -> Vec<(Image, u64)> {
    let mut numbered: Vec<(Image, u64)> = Vec::with_capacity(images.len());
    for image in images {
        let ordinal = match numbered.last() {
            Some((last, ordinal)) if compare_keys(key, last, &image).is_eq() => ordinal + 1,
            _ => 0,
        };
        numbered.push((image, ordinal));
    }
    numbered
}

struct PairedRows {
    updates: Vec<Change>,
    /// Without a partner.
    old: Vec<Image>,
    new: Vec<Image>,
}

/// By image of the key. A pair that is equal was only rewritten, and is left out.
fn pair(key: &[usize], old: Vec<Image>, new: Vec<Image>) -> PairedRows {
    let partners = partners(key, &old, &new);
    let mut old: Vec<Option<Image>> = old.into_iter().map(Some).collect();
    let mut updates = Vec::new();
    let mut unpaired = Vec::new();
    for (after, partner) in new.into_iter().zip(partners) {
        match partner.and_then(|at| old[at].take()) {
            Some(before) if before != after => {
                updates.push(Change::new(RowChange::Update { before, after }, 0));
            }
            Some(_) => {}
            None => unpaired.push(after),
        }
    }
    PairedRows { updates, old: old.into_iter().flatten().collect(), new: unpaired }
}

/// Where each new row has its old one. Both often come in one order: then it is the one behind the
/// last that was found, and nothing need be hashed.
fn partners(key: &[usize], old: &[Image], new: &[Image]) -> Vec<Option<usize>> {
    let mut places: Option<HashMap<KeyOf<'_>, usize>> = None;
    let mut next = 0;
    let partner = |image| {
        let wanted = KeyOf::new(image, key);
        let at = match old.get(next) {
            Some(old) if KeyOf::new(old, key) == wanted => next,
            _ => *places
                .get_or_insert_with(|| {
                    old.iter().enumerate().map(|(at, old)| (KeyOf::new(old, key), at)).collect()
                })
                .get(&wanted)?,
        };
        next = at + 1;
        Some(at)
    };
    new.iter().map(partner).collect()
}

/// Deletes first, so that a consumer with unique constraints meets a value again only after it is
/// gone.
fn items(deletes: Vec<Change>, updates: Vec<Change>, inserts: Vec<Change>) -> Vec<DiffItem> {
    let mut items = Vec::new();
    if !deletes.is_empty() {
        items.push(DiffItem::Compared(deletes.len() as u64));
    }
    let mut changes = deletes;
    changes.extend(updates);
    changes.extend(inserts);
    if !changes.is_empty() {
        items.push(DiffItem::Changes(changes));
    }
    items
}

/// Changes of rows that alone have their keys.
fn single(images: Vec<Image>, change: fn(Image) -> RowChange) -> Vec<Change> {
    images.into_iter().map(|image| Change::new(change(image), 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, Option<&str>)]) -> Vec<Image> {
        rows.iter().map(|(key, value)| [Some(*key), *value].into_iter().collect()).collect()
    }

    #[test]
    fn rows_of_one_key_are_paired_in_their_order() {
        let old = rows(&[
            ("gone", Some("1")),
            ("same", Some("1")),
            ("k", Some("b")),
            ("k", None),
            ("k", Some("a")),
            ("less", Some("1")),
            ("less", Some("2")),
        ]);
        let new = rows(&[
            ("k", Some("d")),
            ("less", Some("2")),
            ("k", Some("b")),
            ("same", Some("1")),
            ("k", Some("c")),
            ("k", Some("e")),
            ("new", None),
        ]);
        let items = pair_copies(&[0], old, new);
        let [DiffItem::Compared(2), DiffItem::Changes(changes)] = &items[..] else {
            panic!("{items:?}")
        };
        let text = |image: &Image| {
            image.iter().map(|value| value.unwrap_or("-")).collect::<Vec<_>>().join(" ")
        };
        let changes: Vec<String> = changes
            .iter()
            .map(|change| match &change.row {
                RowChange::Insert(after) => format!("I{} {}", change.ordinal, text(after)),
                RowChange::Update { before, after } => {
                    format!("U{} {}: {}", change.ordinal, text(before), text(after))
                }
                RowChange::Delete(before) => format!("D{} {}", change.ordinal, text(before)),
            })
            .collect();
        assert_eq!(
            changes,
            ["D0 gone 1", "D0 less 1", "U0 k a: k c", "U1 k -: k d", "I2 k e", "I0 new -"]
        );
    }

    /// A row of a key and a value.
    fn row(key: &str, value: &str) -> Image {
        [Some(key), Some(value)].into_iter().collect()
    }

    fn change(row: RowChange) -> Change {
        Change::new(row, 0)
    }

    fn update(key: &str, before: &str, after: &str) -> Change {
        change(RowChange::Update { before: row(key, before), after: row(key, after) })
    }

    #[test]
    fn rows_are_paired_by_key_in_whatever_order_they_come() {
        let old = || vec![row("1", "a"), row("2", "b"), row("3", "c"), row("4", "d")];
        let new = || vec![row("1", "a"), row("2", "B"), row("4", "D"), row("5", "e")];
        let expected = [
            change(RowChange::Delete(row("3", "c"))),
            update("2", "b", "B"),
            update("4", "d", "D"),
            change(RowChange::Insert(row("5", "e"))),
        ];
        let mut old_orders = vec![old(), old()];
        old_orders[1].reverse();
        let mut new_orders = vec![new(), new(), new()];
        new_orders[1].reverse();
        new_orders[2].swap(0, 2);
        for old in &old_orders {
            for new in &new_orders {
                let items = pair_all(&[0], old.clone(), new.clone());
                let [DiffItem::Compared(1), DiffItem::Changes(changes)] = items.as_slice() else {
                    panic!("{items:?}");
                };
                // Deletes come first and inserts last; among updates any order will do.
                assert_eq!((&changes[0], &changes[3]), (&expected[0], &expected[3]));
                assert_eq!(changes.len(), 4, "{changes:?}");
                assert!(expected.iter().all(|change| changes.contains(change)), "{changes:?}");
            }
        }
    }

    #[test]
    fn keys_that_print_differently_are_two_keys() {
        let items = pair_all(&[0], vec![row("1.0", "a")], vec![row("1.00", "a")]);
        let delete = change(RowChange::Delete(row("1.0", "a")));
        let insert = change(RowChange::Insert(row("1.00", "a")));
        assert_eq!(items, [DiffItem::Compared(1), DiffItem::Changes(vec![delete, insert])]);
    }

    #[test]
    fn every_column_of_a_key_counts() {
        let three = |a, b, value| -> Image { [Some(a), value, Some(b)].into_iter().collect() };
        let old = vec![three("1", "x", None), three("1", "y", Some("v"))];
        let new = vec![three("1", "y", None), three("1", "x", None)];
        let changed = change(RowChange::Update {
            before: three("1", "y", Some("v")),
            after: three("1", "y", None),
        });
        assert_eq!(pair_all(&[0, 2], old, new), [DiffItem::Changes(vec![changed])]);
    }

    #[test]
    fn rows_that_were_only_rewritten_are_no_changes() {
        let rows = || vec![row("1", "a"), row("2", "b")];
        assert_eq!(pair_all(&[0], rows(), rows()), []);
        assert_eq!(pair_all(&[0], Vec::new(), Vec::new()), []);
    }
}
