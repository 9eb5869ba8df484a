//! `identity` for tables without a key.
//!
//! Which of two equal rows went cannot be said, so the rows that one side has are counted by image
//! over the whole table before anything is decided: a row that moved, or was rewritten as it was,
//! cancels itself out. The counts are kept by hash, up to a bound; a table with more changes than
//! that goes the way of [`full`](crate::diff::full), which counts in the database.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::{BlockRange, Differing, WINDOW};
use crate::diff::{Change, Image, RowChange, Sessions, Step, Tables, full};
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
        // How many more copies head has of an image than base.
        let mut surplus = HashMap::<u128, i64>::new();
        // The groups that differ, to be read once more.
        let mut differing = Vec::new();
        let mut too_many = false;
        let mut counted = 0;
        'counting: for (at, range) in ranges.iter().enumerate() {
            let end = range.open(base, head).await?;
            let mut block = range.blocks.start;
            while block < end {
                let window = block..end.min(block.saturating_add(WINDOW));
                let Differing { rows, batches } = range.differing(base, head, &window).await?;
                counted += rows;
                yield Step::Compared(rows);
                for batch in batches {
                    for part in range.candidates(base, head, &batch).await? {
                        let (old, new) = range.images(base, head, tables, &part).await?;
                        old.iter().for_each(|image| count(&mut surplus, image, -1));
                        new.iter().for_each(|image| count(&mut surplus, image, 1));
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
            let mut steps = full::changes(head, tables);
            while let Some(step) = steps.try_next().await? {
                yield match step {
                    Step::Compared(rows) => {
                        let again = rows.min(std::mem::take(&mut counted));
                        Step::Compared(rows - again)
                    }
                    step => step,
                };
            }
            return;
        }
        // Deletes first: only then may a consumer meet a unique value again.
        for deletes in [true, false] {
            for (at, batch) in &differing {
                for part in ranges[*at].candidates(base, head, batch).await? {
                    let (old, new) = ranges[*at].images(base, head, tables, &part).await?;
                    let images = if deletes { old } else { new };
                    let changes: Vec<Change> = images
                        .into_iter()
                        .filter_map(|image| take(&mut surplus, image, deletes))
                        .collect();
                    if deletes {
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

fn count(surplus: &mut HashMap<u128, i64>, image: &Image, copies: i64) {
    let entry = surplus.entry(hash(image)).or_default();
    *entry += copies;
    if *entry == 0 {
        surplus.remove(&hash(image));
    }
}

/// The change that this copy of an image is, if there is a surplus of it on its side. The n-th copy
/// from the end has ordinal n, so a repetition yields the same set.
fn take(surplus: &mut HashMap<u128, i64>, image: Image, delete: bool) -> Option<Change> {
    let copies = surplus.get_mut(&hash(&image))?;
    let row = match (delete, *copies) {
        (true, ..0) => {
            *copies += 1;
            RowChange::Delete(image)
        }
        (false, 1..) => {
            *copies -= 1;
            RowChange::Insert(image)
        }
        _ => return None,
    };
    Some(Change { row, ordinal: copies.unsigned_abs() })
}

fn hash(image: &Image) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, image).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_taken_while_there_is_a_surplus() {
        let image: Image = [Some("a"), None].into_iter().collect();
        let mut surplus = HashMap::from([(hash(&image), -2)]);
        assert_eq!(take(&mut surplus, image.clone(), false), None);
        let ordinals: Vec<u64> = std::iter::from_fn(|| take(&mut surplus, image.clone(), true))
            .map(|change| change.ordinal)
            .collect();
        assert_eq!(ordinals, [1, 0]);
        let mut surplus = HashMap::from([(hash(&image), 1)]);
        assert_eq!(take(&mut surplus, image.clone(), true), None);
        assert_eq!(
            take(&mut surplus, image.clone(), false),
            Some(Change { row: RowChange::Insert(image), ordinal: 0 })
        );
    }
}
