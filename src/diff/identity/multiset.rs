//! `identity` for tables without a key.
//!
//! Which of two equal rows went cannot be said, so the rows that one side has are counted by image
//! over the whole table before anything is decided: a row that moved, or was rewritten as it was,
//! cancels itself out. The counts are kept by hash, up to a bound; a table with more changes than
//! that goes the way of [`full`](crate::diff::full), which counts in the database.

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::{BlockRange, Differing, WINDOW};
use crate::diff::surplus::{Surplus, SurplusOf};
use crate::diff::{Change, Sessions, Step, Tables, digest, full};
use crate::error::Result;

/// Distinct images counted at most: about 40 MB.
const MAX_COUNTED: usize = 1_000_000;

pub(in crate::diff) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    ranges: &'a [BlockRange],
) -> BoxStream<'a, Result<Step>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let mut surplus = Surplus::new();
        // The groups that differ, to be read once more.
        let mut differing = Vec::new();
        let mut too_many = false;
        let mut counted = 0;
        'counting: for (at, range) in ranges.iter().enumerate() {
            let end = range.open(base, head).await?;
            let mut block = range.blocks.start;
            while block < end {
                let window = block..end.min(block.saturating_add(WINDOW));
                let Differing { rows, batches } = range.differing(base, head, tables, &window).await?;
                counted += rows;
                yield Step::Compared(rows);
                for batch in batches {
                    for part in range.candidates(base, head, &batch).await? {
                        let (old, new) = range.images(base, head, tables, &part).await?;
                        old.iter().for_each(|image| surplus.count(digest::of_image(image, 0), -1));
                        new.iter().for_each(|image| surplus.count(digest::of_image(image, 0), 1));
                    }
                    differing.push((at, batch));
                    if surplus.len() > MAX_COUNTED {
                        too_many = true;
                        break 'counting;
                    }
                }
                block = window.end;
            }
            range.check_file(base, head).await?;
        }
        if too_many {
            drop((surplus, differing));
            let reason = format!("more than {MAX_COUNTED} different rows changed");
            let mut steps = full::instead(head, tables, reason, counted);
            while let Some(step) = steps.try_next().await? {
                yield step;
            }
            return;
        }
        for side in SurplusOf::IN_ORDER {
            for (at, batch) in &differing {
                for part in ranges[*at].candidates(base, head, batch).await? {
                    let (old, new) = ranges[*at].images(base, head, tables, &part).await?;
                    let changes: Vec<Change> = match side { SurplusOf::Base => old, SurplusOf::Head => new }
                        .into_iter()
                        .filter_map(|image| {
                            let ordinal = surplus.take(digest::of_image(&image, 0), side)?;
                            Some(side.change(image, ordinal))
                        })
                        .collect();
                    if side == SurplusOf::Base {
                        yield Step::Compared(changes.len() as u64);
                    }
                    if !changes.is_empty() {
                        yield Step::Changes(changes);
                    }
                }
            }
        }
    }
    .boxed()
}
