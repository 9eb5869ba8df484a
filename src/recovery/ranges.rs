//! How a table is cut into work items: ranges of blocks or of keys.

use std::ops::Range;

use crate::catalog::{self, RelationKind, SameStorage, TablePair};
use crate::diff::{self, BlockRange, KeyRange, SameFile, Source, Tables};
use crate::error::Result;
use crate::model::{Request, Strategy, Verify};
use crate::postgres::{QualifiedName, Session};
use crate::preflight::PreflightReport;

/// Per strategy, a third of what was measured with both servers and the program on one machine of
/// two cores and everything cached (docs/architecture.md, "How long it takes").
pub(crate) fn bytes_a_second(strategy: Strategy) -> f64 {
    match strategy {
        Strategy::RowVersions => 250e6,
        Strategy::Content => 30e6,
        Strategy::Full => 10e6,
    }
}

pub(super) fn bytes(pair: &TablePair) -> u64 {
    pair.head.bytes.max(pair.base.as_ref().map_or(0, |base| base.bytes))
}

/// The two sides of a pair, as `diff` reads them.
pub(super) fn tables(pair: &TablePair, foreign: Option<QualifiedName>) -> Tables {
    let source = |relation: &catalog::Relation, filter: &Option<String>, columns: &[_]| Source {
        relation: QualifiedName::from(&relation.name),
        only: relation.kind == RelationKind::Parent,
        filter: filter.clone(),
        columns: columns.to_vec(),
    };
    Tables {
        table: pair.table.clone(),
        head: source(&pair.head, &pair.published.filter, &pair.table.columns),
        base: pair.base.as_ref().map(|base| source(base, &pair.base_filter, &pair.base_columns)),
        foreign,
        sound_index: pair.sound_index().is_ok(),
    }
}

/// What a work item should take: long enough to be worth its set-up, short enough that little is
/// lost with a worker and that many workers have something to do.
const RANGE_SECONDS: f64 = 10.0;

/// Bytes below which a table is not cut only to give every worker a part.
pub(super) const WORTH_A_RANGE: u64 = 64 << 20;

/// Blocks of a table in one work item: as asked for, else as many as take [`RANGE_SECONDS`], and
/// fewer where workers would have nothing to do.
pub(super) fn range_blocks(request: &Request, strategy: Strategy, bytes: u64) -> u32 {
    request.range_blocks.unwrap_or_else(|| default_range_blocks(strategy, bytes, request.parallel))
}

fn default_range_blocks(strategy: Strategy, bytes: u64, parallel: u16) -> u32 {
    let long = (bytes_a_second(strategy) * RANGE_SECONDS) as u64;
    // Several for each, since they take different times.
    let share = bytes.div_ceil(u64::from(parallel.max(1)) * 3);
    u32::try_from(long.min(share.max(WORTH_A_RANGE)) / BLOCK).unwrap_or(u32::MAX).max(1)
}

/// Bytes of a block, unless PostgreSQL was built otherwise.
pub(super) const BLOCK: u64 = 8192;

pub(super) fn block_range(
    checked: &PreflightReport,
    request: &Request,
    pair: &TablePair,
    relation: &SameStorage,
    blocks: Range<u32>,
) -> BlockRange {
    BlockRange {
        head: QualifiedName::from(&relation.head),
        base: QualifiedName::from(&relation.base),
        file: SameFile { oid: relation.oid, filenode: relation.filenode },
        blocks,
        rows: rows_at_once(pair, u64::MAX),
        reused: checked.reused_ids,
        sample_percent: if request.verify == Verify::Sample { request.sample_percent } else { 0 },
    }
}

/// Cuts a relation into ranges of so many blocks, the last of them first: new row versions lie at
/// the end, where most work is, so that it must not begin when all else is done. For the same reason
/// what is left over is the range at the beginning. The one at the end is open, and an empty relation
/// has one too, so that nothing depends on a size that was read a moment ago.
pub(super) fn block_ranges(blocks: u32, in_range: u32) -> Vec<Range<u32>> {
    let in_range = in_range.max(1);
    let rest = blocks.checked_sub(1).map_or(0, |last| last % in_range + 1);
    let mut starts: Vec<u32> = (rest..blocks).step_by(in_range as usize).collect();
    starts.insert(0, 0);
    let ends = starts.iter().skip(1).copied().chain([u32::MAX]).collect::<Vec<u32>>();
    starts.into_iter().zip(ends).map(|(start, end)| start..end).rev().collect()
}

/// Bytes of printed rows of one side that may be held at once.
const HELD_BYTES: u64 = 4 << 20;

/// Rows of a table that may be held at once, at most those of so many stored bytes. Values print
/// longer than they are stored, compressed ones above all, hence the factor.
pub(super) fn rows_at_once(pair: &TablePair, bytes_at_once: u64) -> u32 {
    let width = |relation: &catalog::Relation| match relation.rows {
        Some(rows) if rows > 0 => relation.bytes / rows,
        // Never counted: rather wide, if there is anything, and wider where much lies outside of
        // the few pages that hold the rows themselves.
        _ => relation.bytes.min(1024).max(relation.bytes / (50 * relation.pages).max(1)),
    };
    let width = width(&pair.head).max(pair.base.as_ref().map_or(0, width)).max(1);
    (HELD_BYTES / (4 * width)).min(bytes_at_once / width).clamp(1, 8192) as u32
}

/// All keys of a table as one range.
pub(super) fn whole_range(pair: &TablePair) -> KeyRange {
    KeyRange { from: None, to: None, rows: rows_at_once(pair, u64::MAX) }
}

/// Cuts a table into ranges of keys of about the size of so many blocks, at bounds that head has in
/// a few blocks of it.
pub(super) async fn key_ranges(
    head: &Session,
    pair: &TablePair,
    tables: &Tables,
    in_range: u32,
) -> Result<Vec<KeyRange>> {
    let range_bytes = u64::from(in_range.max(1)) * BLOCK;
    let parts = u32::try_from(bytes(pair) / range_bytes + 1).unwrap_or(u32::MAX);
    let inner = diff::key_bounds(head, tables, pair.head.pages, parts).await?;
    let bounds: Vec<Option<Vec<String>>> =
        std::iter::once(None).chain(inner.into_iter().map(Some)).chain([None]).collect();
    let rows = rows_at_once(pair, range_bytes);
    Ok(bounds
        .windows(2)
        .map(|ends| KeyRange { from: ends[0].clone(), to: ends[1].clone(), rows })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_block_once() {
        for blocks in [0, 1, 7, 8, 9, 40, u32::MAX] {
            let in_range = if blocks == u32::MAX { 1 << 30 } else { 8 };
            let ranges = block_ranges(blocks, in_range);
            assert_eq!(ranges[0].end, u32::MAX);
            assert_eq!(ranges.last().unwrap().start, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].start == pair[1].end), "{blocks}");
            let (all, some) = (u64::from(blocks), u64::from(in_range));
            assert_eq!(ranges.len() as u64, all.div_ceil(some).max(1), "{blocks}");
            assert!(ranges.iter().all(|range| !range.is_empty()), "{blocks}");
        }
    }

    #[test]
    fn ranges_give_every_worker_a_part_and_none_an_hour() {
        const TB: u64 = 1 << 40;
        for (strategy, bytes, parallel, megabytes) in [
            // Small tables stay whole, larger ones are shared, and the largest go in many parts.
            (Strategy::RowVersions, 1 << 20, 4, 64),
            (Strategy::RowVersions, 1 << 30, 4, 85),
            (Strategy::RowVersions, TB, 4, 2384),
            (Strategy::Content, TB, 4, 286),
            (Strategy::Content, 1 << 30, 1, 286),
        ] {
            let blocks = default_range_blocks(strategy, bytes, parallel);
            assert_eq!((u64::from(blocks) * BLOCK) >> 20, megabytes, "{strategy:?} {bytes}");
        }
    }
}
