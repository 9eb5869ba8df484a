//! `row-versions` for tables without a key.
//!
//! Which of two equal rows went cannot be said, so the rows that one side has are counted by image
//! over the whole table before anything is decided: a row that moved, or was rewritten as it was,
//! cancels itself out. The counts are kept by hash, up to a bound; a table with more changes than
//! that goes the way of [`full`](crate::diff::full), which counts in the database.

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::adaptive_granularity::AdaptiveGranularity;
use super::candidates::Parts;
use super::{BlockRange, Reader};
use crate::diff::multiset_difference::{DifferenceOf, MultisetDifference};
use crate::diff::{Change, DiffItem, RowsPassed, Sessions, Tables, digest, full};
use crate::error::Result;

/// Distinct images counted at most: about 40 MB.
const MAX_COUNTED: usize = 1_000_000;

pub(in crate::diff) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    ranges: &'a [BlockRange],
) -> BoxStream<'a, Result<DiffItem>> {
    try_stream! {
        let mut difference = MultisetDifference::new();
        // The groups that differ, to be read once more.
        let mut differing = Vec::new();
        let mut too_many = false;
        let mut passed = RowsPassed::default();
        'counting: for (at, range) in ranges.iter().enumerate() {
            let mut parts = Parts::of_at_most(range.rows);
            let mut reader = Reader::open(sessions, tables, range).await?;
            let mut granularity = AdaptiveGranularity::of_fingerprints(range.sample_percent > 0);
            let mut block = range.blocks.start;
            while block < reader.end {
                let window = block..reader.end.min(block.saturating_add(granularity.window()));
                let (batches, rows) = reader.differing(&window, &mut granularity).await?;
                let rows = rows.unwrap_or_default();
                passed += rows;
                yield DiffItem::Compared(rows.head);
                for batch in batches {
                    parts.add(reader.candidates(&batch).await?.candidates);
                    while let Some(part) = parts.next() {
                        let Some((old, new)) = reader.images(&part).await? else {
                            parts.halve(part);
                            continue;
                        };
                        passed += RowsPassed::one_sided(&old, &new);
                        old.iter().for_each(|image| difference.count(digest::of_image(image, 0), -1));
                        new.iter().for_each(|image| difference.count(digest::of_image(image, 0), 1));
                    }
                    differing.push((at, batch));
                    if difference.len() > MAX_COUNTED {
                        too_many = true;
                        break 'counting;
                    }
                }
                block = window.end;
            }
            range.check_file(&mut reader.sessions).await?;
        }
        if too_many {
            drop((difference, differing));
            let reason = format!("more than {MAX_COUNTED} different rows changed");
            let mut items = full::instead(sessions.head, tables, reason, passed.head);
            while let Some(item) = items.try_next().await? {
                yield item;
            }
            return;
        }
        yield DiffItem::Passed(passed);
        for side in DifferenceOf::IN_ORDER {
            for (at, batch) in &differing {
                let range = &ranges[*at];
                let mut reader = Reader::open(sessions, tables, range).await?;
                let mut parts = Parts::of_at_most(range.rows);
                parts.add(reader.candidates(batch).await?.candidates);
                while let Some(part) = parts.next() {
                    let Some((old, new)) = reader.images(&part).await? else {
                        parts.halve(part);
                        continue;
                    };
                    let changes: Vec<Change> = match side { DifferenceOf::Base => old, DifferenceOf::Head => new }
                        .into_iter()
                        .filter_map(|image| {
                            let ordinal = difference.take(digest::of_image(&image, 0), side)?;
                            Some(side.change(image, ordinal))
                        })
                        .collect();
                    if side == DifferenceOf::Base {
                        yield DiffItem::Compared(changes.len() as u64);
                    }
                    if !changes.is_empty() {
                        yield DiffItem::Changes(changes);
                    }
                }
            }
        }
    }
    .boxed()
}
