//! What a recovery would do: each table, how it is diffed and why, how big it is.

use std::ops::Range;

use uuid::Uuid;

use super::set_up::connect_both;
use super::work_item::{PlannedItem, WorkItemSpec};
use crate::catalog::{self, Key, RelationKind, SameStorage, TablePair};
use crate::diff::{self, AllRows, BlockRange, KeyRange, SameFile, Scope, Source, Tables};
use crate::error::Result;
use crate::fdw::{self, ForeignTable, Link};
use crate::model::{Plan, PlanTable, Request, Strategy, StrategyChoice, Throughput, Verify};
use crate::postgres::{QualifiedName, Session};
use crate::preflight::{self, PreflightReport, Servers};

/// What would be compared, how, how big, and every warning. Changes nothing on either server.
///
/// # Errors
/// As [`run`](super::run) would refuse the request.
pub async fn plan(servers: &Servers, request: &Request) -> Result<Plan> {
    let checked = preflight::check(servers, request).await?;
    check_grants(servers, request, &checked).await?;
    let choices = choices(servers, &checked, request).await?;
    let tables: Vec<PlanTable> = checked
        .pairs
        .iter()
        .zip(choices)
        .map(|(pair, choice)| PlanTable {
            name: pair.table.name.clone(),
            strategy: choice.strategy,
            strategy_reason: choice.reason,
            columns: pair.table.columns.len(),
            key: key_names(pair),
            rows: pair.head.rows,
            bytes: bytes(pair),
            warnings: pair.warnings.clone(),
        })
        .collect();
    let gap_wal_bytes = checked.ends.map(|(base, head)| head.0 - base.0);
    let seconds = tables.iter().map(expected_seconds).sum::<f64>();
    Ok(Plan {
        warnings: checked.warnings,
        ends: checked.ends,
        base_last_commit: checked.last_commits.0,
        head_last_commit: checked.last_commits.1,
        gap: checked.gap,
        version: request.new_slot_restart_lsn,
        gap_wal_bytes,
        expected_seconds: seconds.ceil() as u64,
        event_hub: Throughput::of(&tables, gap_wal_bytes, seconds, &request.event_hub),
        tables,
    })
}

/// Whether head can be let read the tables that it must read. Changes nothing.
pub(super) async fn check_grants(
    servers: &Servers,
    request: &Request,
    checked: &preflight::PreflightReport,
) -> Result<()> {
    let link = Link::new(Uuid::nil(), checked.target.clone());
    let foreign = foreign_tables(checked, request, &link);
    let base = servers.base.connect("deltacompare preflight").await?;
    fdw::check_grants(&base, &foreign).await?;
    base.close().await;
    Ok(())
}

/// A rough estimate.
fn expected_seconds(table: &PlanTable) -> f64 {
    table.bytes as f64 / bytes_a_second(table.strategy)
}

/// Per strategy, a third of what was measured with both servers and the program on one machine of
/// two cores and everything cached (docs/architecture.md, "How long it takes").
fn bytes_a_second(strategy: Strategy) -> f64 {
    match strategy {
        Strategy::RowVersions => 250e6,
        Strategy::Content => 30e6,
        Strategy::Full => 10e6,
    }
}

/// The work items of a checked request, largest first, so that the longest does not start last.
///
/// # Errors
/// Head cannot be asked for the bounds of key ranges.
pub(crate) async fn planned_items(
    servers: &Servers,
    checked: &PreflightReport,
    request: &Request,
    link: &Link,
) -> Result<Vec<PlannedItem>> {
    let choices = choices(servers, checked, request).await?;
    let head = servers.head.connect("deltacompare plan").await?;
    let mut items = Vec::new();
    for (pair, choice) in checked.pairs.iter().zip(choices) {
        let Choice { strategy, reason, storage } = choice;
        let keyless = pair.table.key == Key::WholeRow;
        let foreign = foreign_table(request, link, pair, strategy);
        let spec = |scope| WorkItemSpec {
            strategy,
            tables: tables(pair, foreign.as_ref().map(|foreign| foreign.relation.clone())),
            scope,
            foreign: foreign.clone(),
            head_oid: pair.head.oid,
            base_oid: pair.base.as_ref().map(|base| base.oid),
        };
        let in_range = range_blocks(request, strategy, bytes(pair));
        let heap_bytes = match storage.iter().map(|relation| u64::from(relation.blocks)).sum() {
            0 => bytes(pair),
            blocks => blocks * BLOCK,
        };
        let first = items.len();
        let mut item = |scope, bytes: u64| {
            items.push(PlannedItem {
                spec: spec(scope),
                small: false,
                batch: 0,
                strategy_reason: reason.clone(),
                bytes,
                rows: pair.head.rows.map(|rows| {
                    // TOAST counts in the table's bytes, not in a range's: a rough share will do.
                    (rows as f64 * (bytes as f64 / heap_bytes.max(1) as f64).min(1.0)) as u64
                }),
                warnings: pair.warnings.clone(),
            });
        };
        match strategy {
            Strategy::Full => item(Scope::Table, bytes(pair)),
            Strategy::Content if keyless => {
                let rows = rows_at_once(pair, u64::MAX);
                item(Scope::Rows(AllRows { rows }), bytes(pair));
            }
            Strategy::Content if pair.same_order().is_err() => {
                let rows = rows_at_once(pair, u64::MAX);
                item(Scope::HashedKeys(AllRows { rows }), bytes(pair));
            }
            Strategy::Content => {
                let ranges = key_ranges(&head, pair, &spec(Scope::Table).tables, in_range).await?;
                let share = bytes(pair) / ranges.len() as u64;
                for range in ranges {
                    item(Scope::Keys(range), share);
                }
            }
            Strategy::RowVersions if keyless || pair.sound_index().is_err() => {
                let ranges = storage
                    .iter()
                    .map(|relation| block_range(checked, request, pair, relation, 0..u32::MAX))
                    .collect();
                let scope =
                    if keyless { Scope::Multiset(ranges) } else { Scope::HashedVersions(ranges) };
                item(scope, bytes(pair));
            }
            Strategy::RowVersions => {
                for relation in &storage {
                    for blocks in block_ranges(relation.blocks, in_range) {
                        let bytes =
                            u64::from(blocks.end.min(relation.blocks) - blocks.start) * BLOCK;
                        let range = block_range(checked, request, pair, relation, blocks);
                        item(Scope::Blocks(range), bytes);
                    }
                }
            }
        }
        // A part of a larger table is not small.
        if let [table] = &mut items[first..]
            && is_small(table)
        {
            table.small = true;
        }
    }
    head.close().await;
    items.sort_by_key(|item| std::cmp::Reverse((!item.small, item.bytes)));
    put_into_batches(&mut items, request.parallel);
    Ok(items)
}

/// A table that is compared in less time is small: what surrounds the comparison costs more.
const SMALL_SECONDS: f64 = 0.02;

/// Small tables that are claimed together at most: as many as take two seconds.
const MOST_IN_A_BATCH: usize = 100;

fn is_small(item: &PlannedItem) -> bool {
    item.bytes as f64 / bytes_a_second(item.spec.strategy) <= SMALL_SECONDS
}

/// Gives each item its batch; small tables are last. Every worker gets several batches, so that none has nothing to do while another has many tables left.
fn put_into_batches(items: &mut [PlannedItem], parallel: u16) {
    let alone = items.partition_point(|item| !item.small);
    let share = (items.len() - alone).div_ceil(usize::from(parallel.max(1)) * 3);
    let size = share.clamp(1, MOST_IN_A_BATCH);
    for (number, item) in (0i32..).zip(items) {
        let behind = (number as usize).saturating_sub(alone);
        item.batch = number - (behind % size) as i32;
    }
}

fn tables(pair: &TablePair, foreign: Option<QualifiedName>) -> Tables {
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

/// The foreign tables that the work items of a checked request need.
pub(super) fn foreign_tables(
    checked: &PreflightReport,
    request: &Request,
    link: &Link,
) -> Vec<ForeignTable> {
    checked
        .pairs
        .iter()
        .filter_map(|pair| {
            foreign_table(request, link, pair, choose(checked, request, pair).strategy)
        })
        .collect()
}

/// Head reads base's table itself in `full`, which also takes over large changes of tables without
/// a key or without a known order of it.
fn foreign_table(
    request: &Request,
    link: &Link,
    pair: &TablePair,
    strategy: Strategy,
) -> Option<ForeignTable> {
    let keyless = pair.table.key == Key::WholeRow;
    let hashed = strategy == Strategy::Content && pair.same_order().is_err();
    let needed = strategy == Strategy::Full || keyless || hashed || request.verify == Verify::Full;
    ForeignTable::of(link, pair).filter(|_| needed)
}

/// What a work item should take: long enough to be worth its set-up, short enough that little is
/// lost with a worker and that many workers have something to do.
const RANGE_SECONDS: f64 = 10.0;

/// Bytes below which a table is not cut only to give every worker a part.
const WORTH_A_RANGE: u64 = 64 << 20;

/// Blocks of a table in one work item: as asked for, else as many as take [`RANGE_SECONDS`], and
/// fewer where workers would have nothing to do.
fn range_blocks(request: &Request, strategy: Strategy, bytes: u64) -> u32 {
    request.range_blocks.unwrap_or_else(|| default_range_blocks(strategy, bytes, request.parallel))
}

fn default_range_blocks(strategy: Strategy, bytes: u64, parallel: u16) -> u32 {
    let long = (bytes_a_second(strategy) * RANGE_SECONDS) as u64;
    // Several for each, since they take different times.
    let share = bytes.div_ceil(u64::from(parallel.max(1)) * 3);
    u32::try_from(long.min(share.max(WORTH_A_RANGE)) / BLOCK).unwrap_or(u32::MAX).max(1)
}

/// Bytes of a block, unless PostgreSQL was built otherwise.
const BLOCK: u64 = 8192;

fn block_range(
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
fn block_ranges(blocks: u32, in_range: u32) -> Vec<Range<u32>> {
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
fn rows_at_once(pair: &TablePair, bytes_at_once: u64) -> u32 {
    let width = |relation: &catalog::Relation| match relation.rows {
        Some(rows) if rows > 0 => relation.bytes / rows,
        // Never counted: rather wide, if there is anything, and wider where much lies outside of
        // the few pages that hold the rows themselves.
        _ => relation.bytes.min(1024).max(relation.bytes / (50 * relation.pages).max(1)),
    };
    let width = width(&pair.head).max(pair.base.as_ref().map_or(0, width)).max(1);
    (HELD_BYTES / (4 * width)).min(bytes_at_once / width).clamp(1, 8192) as u32
}

/// Cuts a table into ranges of keys of about the size of so many blocks, at bounds that head has in
/// a few blocks of it.
async fn key_ranges(
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

struct Choice {
    strategy: Strategy,
    reason: String,
    /// For `row-versions`: what holds the rows.
    storage: Vec<SameStorage>,
}

/// How each pair is compared.
///
/// # Errors
/// A server cannot be asked how much of a large table changed.
async fn choices(
    servers: &Servers,
    checked: &PreflightReport,
    request: &Request,
) -> Result<Vec<Choice>> {
    let mut choices: Vec<Choice> =
        checked.pairs.iter().map(|pair| choose(checked, request, pair)).collect();
    let questionable = |pair: &TablePair, choice: &Choice| {
        let blocks = choice.storage.first().map_or(0, |relation| relation.blocks);
        request.strategy == StrategyChoice::Auto
            && choice.strategy == Strategy::RowVersions
            && choice.storage.len() == 1
            && u64::from(blocks) * BLOCK >= WORTH_A_RANGE
            && pair.same_order().is_ok()
    };
    let mut sessions = None;
    for (pair, choice) in checked.pairs.iter().zip(&mut choices) {
        let Key::Columns(key) = &pair.table.key else { continue };
        if !questionable(pair, choice) {
            continue;
        }
        let (base, head) = match &mut sessions {
            Some(sessions) => sessions,
            none => none.insert(connect_both(servers, "deltacompare plan").await?),
        };
        if !diff::follows_its_key(base, &tables(pair, None), key[0]).await? {
            continue;
        }
        let (mut on_base, mut on_head) =
            tokio::try_join!(diff::snapshot(base), diff::snapshot(head))?;
        let both = diff::Sessions { base: &mut on_base, head: &mut on_head };
        let range = block_range(checked, request, pair, &choice.storage[0], 0..u32::MAX);
        let share = diff::changed_share(both, &tables(pair, None), &range).await?;
        let _ = tokio::join!(on_base.rollback(), on_head.rollback());
        if share >= MERGED_FROM {
            *choice = Choice {
                strategy: Strategy::Content,
                reason: format!(
                    "row versions are comparable, but about {:.0} % of them changed, and the rows \
                     lie in the order of their key: merged by key",
                    100.0 * share
                ),
                storage: Vec::new(),
            };
        }
    }
    if let Some((base, head)) = sessions {
        tokio::join!(base.close(), head.close());
    }
    Ok(choices)
}

/// Share of row versions on one side only from which reading a table in the order of its key is
/// faster than looking for the other version of each.
const MERGED_FROM: f64 = 0.25;

/// Partitions from which it is asked what each of them costs.
const MANY_PARTITIONS: usize = 100;

/// What a partition costs as a work item of its own, in seconds.
const PARTITION_SECONDS: f64 = 0.02;

/// What a partition costs in each step of `content`, whose queries go through the root and plan all of
/// its partitions, in seconds.
const PLANNED_SECONDS: f64 = 50e-6;

/// Rows of a step of `content`.
const STEP_ROWS: f64 = 8192.0;

/// Whether reading all of a table costs less than what its many partitions cost in this strategy.
fn costs_more_than_full(
    strategy: Strategy,
    partitions: usize,
    bytes: u64,
    rows: Option<u64>,
) -> bool {
    let partitions_cost = match strategy {
        Strategy::RowVersions => PARTITION_SECONDS,
        // Where nobody has counted them, so many as rows of fifty bytes would be.
        Strategy::Content => rows.unwrap_or(bytes / 50) as f64 / STEP_ROWS * PLANNED_SECONDS,
        Strategy::Full => return false,
    } * partitions as f64;
    let seconds = |strategy| bytes as f64 / bytes_a_second(strategy);
    partitions >= MANY_PARTITIONS && seconds(strategy) + partitions_cost > seconds(Strategy::Full)
}

fn choose(checked: &PreflightReport, request: &Request, pair: &TablePair) -> Choice {
    let choice = by_state(checked, request, pair);
    let partitions = checked.partitions(pair);
    let each_by_itself = pair.sound_index().is_ok() && pair.same_order().is_ok();
    if request.strategy != StrategyChoice::Auto
        || pair.table.key == Key::WholeRow
        || !each_by_itself
        || !costs_more_than_full(choice.strategy, partitions, bytes(pair), pair.head.rows)
    {
        return choice;
    }
    let reason = format!(
        "{}, but it is in {partitions} partitions, and to read all rows costs less than to look \
         into each of these by {}",
        choice.reason,
        choice.strategy.as_str()
    );
    Choice { strategy: Strategy::Full, reason, storage: Vec::new() }
}

/// The first strategy that a table's state allows.
fn by_state(checked: &PreflightReport, request: &Request, pair: &TablePair) -> Choice {
    let with = |strategy, reason: String| Choice { strategy, reason, storage: Vec::new() };
    if request.strategy == StrategyChoice::Full {
        return with(Strategy::Full, "asked for".to_owned());
    }
    let row_versions = if request.strategy == StrategyChoice::Content {
        Err("content was asked for".to_owned())
    } else {
        checked.same_rows(pair)
    };
    match row_versions {
        Ok(storage) => Choice {
            strategy: Strategy::RowVersions,
            reason: match pair.sound_index() {
                Ok(()) => "row versions are comparable".to_owned(),
                Err(unsound) => {
                    format!(
                        "row versions are comparable; matched without an index, since {unsound}"
                    )
                }
            },
            storage,
        },
        Err(reason) if pair.base.is_none() => {
            let not_on_base = "it is not on base";
            if reason == not_on_base {
                with(Strategy::Full, reason)
            } else {
                with(Strategy::Full, format!("{reason}; {not_on_base}"))
            }
        }
        Err(reason) => match pair.same_order() {
            Ok(()) => with(Strategy::Content, reason),
            Err(unknown) => with(
                Strategy::Content,
                format!("{reason}; compared by a hash of its key, since {unknown}"),
            ),
        },
    }
}

fn key_names(pair: &TablePair) -> Vec<String> {
    match &pair.table.key {
        crate::catalog::Key::Columns(positions) => {
            positions.iter().map(|&at| pair.table.columns[at].name.clone()).collect()
        }
        crate::catalog::Key::WholeRow => Vec::new(),
    }
}

fn bytes(pair: &TablePair) -> u64 {
    pair.head.bytes.max(pair.base.as_ref().map_or(0, |base| base.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ReplicaIdentity, Table};
    use crate::model::TableName;

    fn planned(small: bool) -> PlannedItem {
        let name = TableName { schema: "s".into(), name: "t".into() };
        let relation = QualifiedName::from(&name);
        let head = Source { relation, only: false, filter: None, columns: Vec::new() };
        let table = Table {
            name,
            columns: Vec::new(),
            key: Key::WholeRow,
            replica_identity: ReplicaIdentity::Full,
            partitions: Default::default(),
        };
        let tables = Tables { table, head, base: None, foreign: None, sound_index: true };
        let spec = WorkItemSpec {
            strategy: Strategy::Full,
            tables,
            scope: Scope::Table,
            foreign: None,
            head_oid: 1,
            base_oid: None,
        };
        PlannedItem {
            spec,
            small,
            batch: 0,
            strategy_reason: String::new(),
            bytes: 0,
            rows: None,
            warnings: Vec::new(),
        }
    }

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
    fn small_tables_are_claimed_together_and_every_worker_has_several_batches() {
        let sizes = |large: usize, small: usize, parallel| {
            let mut items: Vec<PlannedItem> =
                (0..large + small).map(|number| planned(number >= large)).collect();
            put_into_batches(&mut items, parallel);
            let mut sizes = std::collections::BTreeMap::new();
            for (number, item) in items.iter().enumerate() {
                assert!(item.batch as usize <= number);
                *sizes.entry(item.batch).or_insert(0) += 1;
            }
            Vec::from_iter(sizes)
        };
        assert_eq!(sizes(2, 3, 1), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
        assert_eq!(sizes(1, 8, 1), [(0, 1), (1, 3), (4, 3), (7, 2)]);
        assert_eq!(sizes(0, 12, 4).len(), 12);
        assert_eq!(sizes(0, 12_000, 4).len(), 120);
        assert!(sizes(0, 0, 4).is_empty());
    }

    #[test]
    fn many_small_partitions_are_read_as_one_table() {
        const MB: u64 = 1 << 20;
        for (strategy, partitions, bytes, full) in [
            (Strategy::RowVersions, 1, 0, false),
            (Strategy::RowVersions, 99, MB, false),
            (Strategy::RowVersions, 100, MB, true),
            (Strategy::RowVersions, 3000, 150 * MB, true),
            (Strategy::RowVersions, 3000, 100_000 * MB, false),
            (Strategy::Content, 3000, 150 * MB, true),
            (Strategy::Content, 100, 150 * MB, false),
            (Strategy::Full, 3000, MB, false),
        ] {
            let chosen = costs_more_than_full(strategy, partitions, bytes, Some(bytes / 50));
            assert_eq!(chosen, full, "{strategy:?} {partitions} {bytes}");
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
