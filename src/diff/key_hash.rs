//! Rows matched by a hash of their printed keys instead of by an index.
//!
//! Where an index may be out of order, neither what it finds nor what it does not find is believed.
//! Both sides' rows that may have changed are located first, each by a hash of its key that the
//! server computes; then the rows of equal hashes are read from their places and paired by the bytes
//! of their keys.

use std::collections::BTreeMap;
use std::ops::Range;

use async_stream::try_stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::tid::Tid;
use super::{DiffItem, Image, Sessions, Source, Tables, copy, partition, places, row_pairing};
use crate::error::{Error, Result};
use crate::postgres::{QualifiedName, Session};

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Located {
    /// The hash of its key.
    pub(super) key: i64,
    /// The oid of the relation that holds it.
    pub(super) relation: u32,
    pub(super) place: Tid,
}

/// The names of relations by oid.
pub(super) type RelationNames = BTreeMap<u32, QualifiedName>;

/// Rows that may have changed: all that either side has of a key, or of none.
#[derive(Debug, Default)]
pub(super) struct LocatedRows {
    base: Vec<Located>,
    head: Vec<Located>,
}

/// What is read of the candidates at a time. All deletes of a table come first: two keys that `=`
/// takes for one have two hashes, and a consumer that compares by `=` must meet the delete of the
/// one before the insert of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Deletes,
    Rest,
}

impl Phase {
    pub(super) const IN_ORDER: [Self; 2] = [Self::Deletes, Self::Rest];

    fn has(self, group: &Group) -> bool {
        (self == Self::Deletes) == group.head.is_empty()
    }
}

/// The candidates of one hash: their places in the two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) base: Range<usize>,
    pub(super) head: Range<usize>,
}

impl LocatedRows {
    pub(super) fn new(mut base: Vec<Located>, mut head: Vec<Located>) -> Self {
        base.sort_unstable();
        head.sort_unstable();
        Self { base, head }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.base.is_empty() && self.head.is_empty()
    }

    /// The hash of a group's key.
    pub(super) fn key_of(&self, group: &Group) -> i64 {
        self.base[group.base.clone()]
            .first()
            .or(self.head[group.head.clone()].first())
            .map_or(0, |row| row.key)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = Group> {
        groups(&self.base, &self.head, |row| row.key)
    }

    /// Groups of a phase in parts of at most so many rows a side, unless one group has more.
    fn parts(&self, phase: Phase, most: usize) -> Vec<Vec<Group>> {
        let mut parts: Vec<Vec<Group>> = Vec::new();
        let mut held = (0, 0);
        for group in self.groups().filter(|group| phase.has(group)) {
            let rows = (held.0 + group.base.len(), held.1 + group.head.len());
            match parts.last_mut() {
                Some(part) if rows.0 <= most && rows.1 <= most => {
                    held = rows;
                    part.push(group);
                }
                _ => {
                    held = (group.base.len(), group.head.len());
                    parts.push(vec![group]);
                }
            }
        }
        parts
    }

    fn rows_of(&self, part: &[Group]) -> (Vec<Located>, Vec<Located>) {
        let rows = |rows: &[Located], range: fn(&Group) -> &Range<usize>| {
            part.iter().flat_map(|group| &rows[range(group).clone()]).copied().collect()
        };
        (rows(&self.base, |group| &group.base), rows(&self.head, |group| &group.head))
    }
}

/// The rows of two lists in the order of their keys' hashes, those of one hash together.
pub(super) fn groups<T>(
    base: &[T],
    head: &[T],
    key: impl Fn(&T) -> i64,
) -> impl Iterator<Item = Group> {
    let (mut i, mut j) = (0, 0);
    std::iter::from_fn(move || {
        let next = [base.get(i), head.get(j)].into_iter().flatten().map(&key).min()?;
        let run = |rows: &[T], from: usize| {
            from..from + rows[from..].iter().take_while(|row| key(row) == next).count()
        };
        let group = Group { base: run(base, i), head: run(head, j) };
        (i, j) = (group.base.end, group.head.end);
        Some(group)
    })
}

/// The changes that the candidates are, as many rows at a time as `rows_at_once` says and memory
/// holds.
pub(super) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    key: &'a [usize],
    relations: (&'a RelationNames, &'a RelationNames),
    candidates: &'a LocatedRows,
    phase: Phase,
    rows_at_once: u32,
) -> BoxStream<'a, Result<DiffItem>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        let mut parts = candidates.parts(phase, rows_at_once.max(1) as usize);
        parts.reverse();
        while let Some(mut part) = parts.pop() {
            let (old, new) = candidates.rows_of(&part);
            let single = part.len() == 1;
            let (old, new) = tokio::try_join!(
                images(base, base_source, relations.0, old, single),
                images(head, &tables.head, relations.1, new, single),
            )?;
            let Some((old, new)) = old.zip(new) else {
                // Statistics promised smaller rows.
                let second = part.split_off(part.len() / 2);
                parts.extend([second, part]);
                continue;
            };
            let mut items = row_pairing::pair_copies(key, old, new);
            partition::note(base, tables, &mut items).await?;
            for item in items {
                yield item;
            }
        }
    }
    .boxed()
}

/// The images of these rows; `None` if they are too large to be held at once. Those of a single key
/// are held, whatever they take.
async fn images(
    connection: &Session,
    source: &Source,
    relations: &RelationNames,
    mut rows: Vec<Located>,
    single: bool,
) -> Result<Option<Vec<Image>>> {
    rows.sort_unstable_by_key(|row| (row.relation, row.place));
    let mut found = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for rows in rows.chunk_by(|a, b| !single && a.relation == b.relation) {
        let relation = relations
            .get(&rows[0].relation)
            .ok_or_else(|| Error::item("a row lies in a relation that was not there before"))?;
        let places: Vec<Tid> = rows.iter().map(|row| row.place).collect();
        let Some(images) = places::images(connection, source, relation, &places).await? else {
            return Ok(None);
        };
        if images.len() != places.len() {
            return Err(Error::item(
                "rows were gone when they were read again within one snapshot",
            ));
        }
        bytes += images.iter().map(Image::bytes).sum::<usize>();
        found.extend(images);
        if bytes > copy::MOST_BYTES && found.len() > 1 && !single {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// What is said of keys that have more than one row.
pub(super) fn copies_note(keys: u64) -> Option<DiffItem> {
    (keys > 0).then(|| {
        DiffItem::Note(format!(
            "{keys} of the changed keys have more than one row: a unique index that is out of \
             order lets a key in twice; each row has its own event, all under one key, as the \
             stream has them: on production, remove the copies and reindex the table"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[i64]) -> Vec<Located> {
        let located = |(offset, &key): (usize, &i64)| Located {
            key,
            relation: 1,
            place: Tid { block: 0, offset: offset as u16 },
        };
        keys.iter().enumerate().map(located).collect()
    }

    #[test]
    fn rows_of_one_hash_stay_together() {
        let candidates = LocatedRows::new(rows(&[5, -1, 5, 7]), rows(&[9, 5, 8, 8, 8]));
        let keys: Vec<(i64, usize, usize)> = candidates
            .groups()
            .map(|group| (candidates.key_of(&group), group.base.len(), group.head.len()))
            .collect();
        assert_eq!(keys, [(-1, 1, 0), (5, 2, 1), (7, 1, 0), (8, 0, 3), (9, 0, 1)]);
        for most in 1..6 {
            let mut seen = Vec::new();
            for phase in Phase::IN_ORDER {
                for part in candidates.parts(phase, most) {
                    let (old, new) = candidates.rows_of(&part);
                    assert!(part.len() == 1 || old.len().max(new.len()) <= most);
                    assert_eq!(new.is_empty(), phase == Phase::Deletes);
                    seen.extend(part.iter().map(|group| candidates.key_of(group)));
                }
            }
            assert_eq!(seen, [-1, 7, 5, 8, 9], "{most}");
        }
        assert!(LocatedRows::default().groups().next().is_none());
    }
}
