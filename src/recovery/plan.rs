//! What a recovery would do: each table, how it is diffed and why, how big it is.

use uuid::Uuid;

use super::forecast::{self, Timed};
use super::ranges::{
    BLOCK, block_range, block_ranges, bytes, bytes_a_second, key_ranges, range_blocks,
    rows_at_once, tables, whole_range,
};
use super::set_up::connect_both;
use super::strategy_choice::{Choice, PLANNING, choices, choose, unreadable};
use super::work_item::{PlannedItem, WorkItemSpec};
use crate::catalog::{Key, TablePair};
use crate::diff::{AllRows, Scope};
use crate::error::Result;
use crate::fdw::{self, ForeignTable, Link};
use crate::model::{
    ExpectedEvents, Plan, PlanTable, Request, SlotWal, Strategy, Throughput, Verify,
};
use crate::preflight::{self, PreflightReport, Servers};

/// What would be compared, how, how big, and every warning. Changes nothing on either server.
///
/// # Errors
/// As [`run`](super::run) would refuse the request.
pub async fn plan(servers: &Servers, request: &Request) -> Result<Plan> {
    let checked = preflight::check(servers, request).await?;
    check_link(servers, request, &checked).await?;
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
            warnings: pair.warnings.iter().cloned().chain(choice.warning).collect(),
        })
        .collect();
    let gap_wal_bytes = checked.ends.map(|(base, head)| head.0 - base.0);
    let events = ExpectedEvents::of(&tables, gap_wal_bytes);
    let timed = checked.pairs.iter().zip(&tables);
    let timed = timed.map(|(pair, table)| Timed { table, is_cut: is_cut(pair, table.strategy) });
    let seconds = forecast::seconds(&timed.collect::<Vec<_>>(), request, &events);
    Ok(Plan {
        warnings: checked.warnings,
        ends: checked.ends,
        base_last_commit: checked.last_commits.0,
        head_last_commit: checked.last_commits.1,
        gap: checked.gap,
        version: request.new_slot_restart_lsn,
        gap_wal_bytes,
        parallel: request.parallel,
        expected_seconds: seconds.ceil() as u64,
        events,
        event_hub: Throughput::of(request, &events, seconds),
        slot_wal: SlotWal::of(gap_wal_bytes, checked.last_commits, seconds),
        tables,
    })
}

/// Whether a table becomes several work items, as [`planned_items`] cuts it.
fn is_cut(pair: &TablePair, strategy: Strategy) -> bool {
    let keyless = pair.table.key == Key::WholeRow;
    match strategy {
        Strategy::Full => false,
        Strategy::Content => !keyless && pair.same_order().is_ok(),
        Strategy::RowVersions => !keyless && pair.sound_index().is_ok(),
    }
}

/// Whether head can reach base and be let read the tables that it must read, if there are any. Changes
/// nothing.
///
/// # Errors
/// Refused, if not.
pub(super) async fn check_link(
    servers: &Servers,
    request: &Request,
    checked: &PreflightReport,
) -> Result<()> {
    let link = Link::new(Uuid::nil(), checked.target.clone());
    let foreign = foreign_tables(checked, request, &link);
    if foreign.is_empty() {
        return Ok(());
    }
    let (base, mut head) = connect_both(servers, "deltacompare preflight").await?;
    fdw::probe(&mut head, &checked.target).await?;
    fdw::check_grants(&base, &foreign).await?;
    preflight::refuse_too_few_for_foreign(&base, request.parallel, foreign.len()).await?;
    tokio::join!(base.close(), head.close());
    Ok(())
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
    let mut session = None;
    let mut items = Vec::new();
    for (pair, choice) in checked.pairs.iter().zip(choices) {
        let Choice { strategy, reason, storage, warning } = choice;
        let mut warnings = pair.warnings.clone();
        warnings.extend(warning);
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
        let ranges = match strategy {
            Strategy::Content if !keyless && pair.same_order().is_ok() => {
                let whole = spec(Scope::Table).tables;
                let head = match &session {
                    Some(head) => head,
                    None => session.insert(servers.head.connect(PLANNING).await?),
                };
                match key_ranges(head, pair, &whole, in_range).await {
                    Ok(ranges) => ranges,
                    Err(error) => {
                        warnings.push(unreadable(servers, &whole, error).await?);
                        vec![whole_range(pair)]
                    }
                }
            }
            _ => Vec::new(),
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
                warnings: warnings.clone(),
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
    if let Some(head) = session {
        head.close().await;
    }
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

fn key_names(pair: &TablePair) -> Vec<String> {
    match &pair.table.key {
        Key::Columns(positions) => {
            positions.iter().map(|&at| pair.table.columns[at].name.clone()).collect()
        }
        Key::WholeRow => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ReplicaIdentity, Table};
    use crate::diff::{Source, Tables};
    use crate::model::TableName;
    use crate::postgres::QualifiedName;

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
}
