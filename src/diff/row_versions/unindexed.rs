//! `row-versions` for tables whose key's index may be out of order.
//!
//! An old and a new version of one key may lie in any two blocks, and without an index nothing finds
//! the other one. So the versions that one side has are located over all of the table first, by a
//! hash of their keys, and then paired. At most [`MOST_HELD`] of a side are held: of a table with
//! more changes the keys are dealt into rounds by their hashes, and each round lists the versions
//! again, which reads no rows but those that changed.

use std::ops::Range;

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::adaptive_granularity::AdaptiveGranularity;
use super::{BlockRange, Reader, candidates};
use crate::catalog::Key;
use crate::diff::key_hash::{self, Located, LocatedRows, Phase, RelationNames};
use crate::diff::{DiffItem, Sessions, Tables, checksum};
use crate::error::{Error, Result};
use crate::postgres::Session;

/// Row versions of a side that are held at once: 24 bytes each.
const MOST_HELD: u64 = 1_000_000;
/// Classes of hashes of keys, of which rounds are made.
const CLASSES: usize = 4096;

pub(in crate::diff) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    ranges: &'a [BlockRange],
) -> BoxStream<'a, Result<DiffItem>> {
    try_stream! {
        let Key::Columns(key) = &tables.table.key else {
            Err(Error::item("rows of a table without a key cannot be paired by key"))?;
            return;
        };
        let mut first = UnindexedVersions::of_classes(0..CLASSES);
        for range in ranges {
            let mut reader = Reader::open(sessions, tables, range).await?;
            let mut windows = Windows::new(range);
            while let Some(rows) = windows.next(&mut reader, key, &mut first).await? {
                yield DiffItem::Compared(rows);
            }
            range.check_file(&mut reader.sessions).await?;
        }
        let rounds = rounds(&first.counts, MOST_HELD);
        let held = (rounds.len() == 1).then(|| first.candidates());
        let names = |name: fn(&BlockRange) -> &crate::postgres::QualifiedName| -> RelationNames {
            ranges.iter().map(|range| (range.file.oid, name(range).clone())).collect()
        };
        let (on_base, on_head) = (names(|range| &range.base), names(|range| &range.head));
        let rows_at_once = ranges.iter().map(|range| range.rows).min().unwrap_or(1);
        let mut copies = 0;
        for phase in Phase::IN_ORDER {
            for round in &rounds {
                let again;
                let candidates = match &held {
                    Some(held) => held,
                    None => {
                        again = list(sessions, tables, key, ranges, round.clone()).await?;
                        &again
                    }
                };
                if phase == Phase::Deletes {
                    copies += keys_with_copies(sessions.head, tables, key, candidates).await?;
                }
                let mut items = key_hash::changes(
                    sessions,
                    tables,
                    key,
                    (&on_base, &on_head),
                    candidates,
                    phase,
                    rows_at_once,
                );
                while let Some(item) = items.try_next().await? {
                    yield item;
                }
            }
        }
        if let Some(note) = key_hash::copies_note(copies) {
            yield note;
        }
    }
    .boxed()
}

/// Row versions that one side has, of keys in some classes.
struct UnindexedVersions {
    classes: Range<usize>,
    base: Vec<Located>,
    head: Vec<Located>,
    /// Those of either side with more, by class, also beyond what is held.
    counts: Box<[(u64, u64)]>,
}

impl UnindexedVersions {
    fn of_classes(classes: Range<usize>) -> Self {
        Self { classes, base: Vec::new(), head: Vec::new(), counts: vec![(0, 0); CLASSES].into() }
    }

    fn add(&mut self, old: Vec<Located>, new: Vec<Located>) {
        let Self { classes, counts, .. } = self;
        let whole = classes.len() == CLASSES;
        for (rows, side, held) in [(old, 0, &mut self.base), (new, 1, &mut self.head)] {
            for row in rows {
                let class = class(row.key);
                if !classes.contains(&class) {
                    continue;
                }
                match side {
                    0 => counts[class].0 += 1,
                    _ => counts[class].1 += 1,
                }
                // Of all classes too many are only counted; rounds have been counted before.
                if !whole || held.len() as u64 <= MOST_HELD {
                    held.push(row);
                }
            }
        }
    }

    fn candidates(self) -> LocatedRows {
        LocatedRows::new(self.base, self.head)
    }
}

fn class(key: i64) -> usize {
    (key as u64 >> 52) as usize
}

/// Classes in rounds of at most so many row versions of a side, unless one class has more.
fn rounds(counts: &[(u64, u64)], most: u64) -> Vec<Range<usize>> {
    let mut rounds = Vec::new();
    let (mut start, mut held) = (0, (0, 0));
    for (class, count) in counts.iter().enumerate() {
        let more = (held.0 + count.0, held.1 + count.1);
        if more.0.max(more.1) > most && class > start {
            rounds.push(start..class);
            (start, held) = (class, *count);
        } else {
            held = more;
        }
    }
    rounds.push(start..counts.len());
    rounds
}

/// The way through a range's blocks.
struct Windows<'a> {
    range: &'a BlockRange,
    granularity: AdaptiveGranularity,
    block: u32,
}

impl<'a> Windows<'a> {
    fn new(range: &'a BlockRange) -> Self {
        let granularity = AdaptiveGranularity::of_fingerprints(range.sample_percent > 0);
        Self { range, granularity, block: range.blocks.start }
    }

    /// Adds the row versions of the next blocks, and yields how many rows head has there; `None` at
    /// the end.
    async fn next(
        &mut self,
        reader: &mut Reader<'_>,
        key: &[usize],
        versions: &mut UnindexedVersions,
    ) -> Result<Option<u64>> {
        if self.block >= reader.end {
            return Ok(None);
        }
        let window =
            self.block..reader.end.min(self.block.saturating_add(self.granularity.window()));
        let (batches, rows) = reader.differing(&window, &mut self.granularity).await?;
        for batch in batches {
            let found = reader.candidates(&batch).await?.candidates;
            let tables = reader.tables;
            let base_source = tables.base.as_ref().unwrap_or(&tables.head);
            let Sessions { base, head } = &mut reader.sessions;
            let range = self.range;
            let (old, new) = tokio::try_join!(
                candidates::located(
                    base,
                    base_source,
                    key,
                    &range.base,
                    range.file.oid,
                    &found.base_only
                ),
                candidates::located(
                    head,
                    &tables.head,
                    key,
                    &range.head,
                    range.file.oid,
                    &found.head_only
                ),
            )?;
            versions.add(old, new);
        }
        self.block = window.end;
        Ok(Some(rows.map_or(0, |rows| rows.head)))
    }
}

/// The row versions of some classes, listed once more.
async fn list(
    sessions: Sessions<'_>,
    tables: &Tables,
    key: &[usize],
    ranges: &[BlockRange],
    classes: Range<usize>,
) -> Result<LocatedRows> {
    let mut versions = UnindexedVersions::of_classes(classes);
    for range in ranges {
        let mut reader = Reader::open(sessions, tables, range).await?;
        let mut windows = Windows::new(range);
        while windows.next(&mut reader, key, &mut versions).await?.is_some() {}
        range.check_file(&mut reader.sessions).await?;
    }
    Ok(versions.candidates())
}

/// How many of the changed keys have more than one row on a server, by a look at every row of head:
/// what did not change is the same on both.
async fn keys_with_copies(
    head: &Session,
    tables: &Tables,
    key: &[usize],
    candidates: &LocatedRows,
) -> Result<u64> {
    if candidates.is_empty() {
        return Ok(0);
    }
    let groups: Vec<(i64, usize, usize)> = candidates
        .groups()
        .map(|group| (candidates.key_of(&group), group.base.len(), group.head.len()))
        .collect();
    let hashes: Vec<i64> = groups.iter().map(|group| group.0).collect();
    scans(head, true).await?;
    let sql = format!(
        r#"
        select s.hash, count(*)
          from (select {hash} as hash from {rows} offset 0) as s
         where s.hash = any ($1::int8[])
         group by 1
        having count(*) > 1 or $2
        "#,
        hash = checksum::of_printed_key(&tables.head, key, "r"),
        rows = tables.head.rows("r"),
    );
    let found: Vec<(i64, i64)> = {
        // Keys with old versions only have no row on head, but for a copy.
        let deleted = groups.iter().any(|group| group.2 == 0);
        head.query(&sql, &[&hashes, &deleted]).await?
    };
    scans(head, false).await?;
    let found: std::collections::HashMap<i64, i64> = found.into_iter().collect();
    let copies = groups.iter().filter(|(hash, old, new)| {
        let on_head = found.get(hash).map_or(0, |rows| *rows as usize);
        on_head.max(*new) > 1 || *old > 1 || on_head > *new
    });
    Ok(copies.count() as u64)
}

/// Whether the next query may read a table through.
async fn scans(connection: &Session, allowed: bool) -> Result<()> {
    connection
        .execute(
            "select set_config('enable_seqscan', $1, true)",
            &[&if allowed { "on" } else { "off" }],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_have_every_class_once_and_are_bounded() {
        let mut counts = vec![(3, 2); CLASSES];
        counts[7] = (0, 500);
        for most in [1, 10, 100, 1000, 100_000] {
            let rounds = rounds(&counts, most);
            assert_eq!(rounds[0].start, 0);
            assert_eq!(rounds.last().unwrap().end, CLASSES);
            assert!(rounds.windows(2).all(|two| two[0].end == two[1].start));
            for round in &rounds {
                let rows = |side: fn(&(u64, u64)) -> u64| -> u64 {
                    counts[round.clone()].iter().map(side).sum()
                };
                let rows = rows(|count| count.0).max(rows(|count| count.1));
                assert!(round.len() == 1 || rows <= most, "{round:?} {rows} {most}");
            }
        }
        assert_eq!(rounds(&counts, 100_000).len(), 1);
        assert_eq!((class(0), class(-1), class(i64::MIN)), (0, CLASSES - 1, CLASSES / 2));
    }

    #[test]
    fn a_round_holds_the_keys_of_its_classes() {
        let tid = crate::diff::tid::Tid { block: 0, offset: 1 };
        let row = |key| Located { key, relation: 1, place: tid };
        let rows: Vec<Located> = (0..4096_i64).map(|class| row(class << 52)).collect();
        let mut versions = UnindexedVersions::of_classes(10..20);
        versions.add(rows.clone(), rows);
        assert_eq!((versions.base.len(), versions.head.len()), (10, 10));
        assert!(versions.base.iter().all(|row| (10..20).contains(&class(row.key))));
    }
}
