//! The `content` strategy: compare checksums of key ranges.
//!
//! For tables whose row versions cannot be compared (rewritten, created anew, types that changed
//! their meaning). Walks the key in ranges of some thousand rows. Of each range both sides at once
//! compute a count and a checksum for each of [`BUCKETS`] buckets of keys; where a bucket differs,
//! its rows are read on both sides and paired by key. Nothing is sorted and nothing but a range is
//! ever held. Buckets are neighbours where the key is one integer, so that their rows can be read
//! without passing the others; otherwise they are chosen by a hash of the key. Where much differs,
//! most buckets would be read anyway: such steps are read without checksums, and merged.
//!
//! A range's bounds are keys in the order of the key's index, which must be known to be the same on
//! both servers ([`same_order`](crate::catalog::TablePair::same_order)). Other keys: see [`hashed`].
//! Tables without a key: see [`multiset`].

mod bounds;
mod buckets;
mod hashed;
mod key_scanner;
mod merge;
mod multiset;

use std::collections::BTreeMap;

use async_stream::try_stream;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, DiffItem, Image, Sessions, Source, Tables, checksum, copy, partition, row_pairing,
};
use crate::catalog::Key;
use crate::error::{Error, Result};
use crate::postgres::{Ident, Session};

pub(crate) use bounds::key_bounds;
use buckets::Buckets;
pub(super) use hashed::changes as hashed_changes;
use key_scanner::{Bounds, KeyScanner};
pub(crate) use multiset::AllRows;
pub(super) use multiset::changes as multiset_changes;

/// Buckets of keys within a step.
const BUCKETS: u32 = 256;

/// Keys from one bound (inclusive) to another (exclusive).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRange {
    /// The printed key columns, or the first of them; `None` is the first key there is.
    pub(crate) from: Option<Vec<String>>,
    /// The same; `None` is behind the last key.
    pub(crate) to: Option<Vec<String>>,
    /// Rows to compare at once: few enough to hold, whatever their width.
    pub(crate) rows: u32,
}

pub(super) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    range: &'a KeyRange,
    from: Option<Checkpoint>,
) -> BoxStream<'a, Result<DiffItem>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let Key::Columns(key) = &tables.table.key else {
            Err(Error::item("a table without a key has no key ranges"))?;
            return;
        };
        tokio::try_join!(prepare(base), prepare(head))?;
        let from = match from {
            Some(Checkpoint::Key(key)) => Some(key),
            _ => range.from.clone(),
        };
        let mut scanner = KeyScanner::new(base, head, tables, key, from, range).await?;
        let reader = RangeReader { tables, key };
        let mut merging = false;
        while let Some(mut bounds) = scanner.next(base, head).await? {
            let whole = if merging { reader.whole(base, head, &scanner, &bounds).await? } else { None };
            let found = match whole {
                Some(found) => found,
                None => reader.differing(base, head, &mut scanner, &mut bounds).await?,
            };
            scanner.go_on_behind(&bounds);
            yield DiffItem::Compared(found.head_rows);
            let rows = found.head_rows.max(found.base_rows);
            let mut changes = 0;
            let mut items = row_pairing::pair_all(key, found.old, found.new);
            partition::note(base, tables, &mut items).await?;
            for item in items {
                if let DiffItem::Changes(found) = &item {
                    changes += found.len() as u64;
                }
                yield item;
            }
            merging = changes * MERGED_FROM > rows;
            scanner.passed(rows);
            if let Some(next) = bounds.to {
                yield DiffItem::Checkpoint(Checkpoint::Key(next));
            }
        }
    }
    .boxed()
}

/// One row in so many changed makes half the buckets differ, and then reading every row costs less
/// than checksums and reading half.
const MERGED_FROM: u64 = 40;

/// Reads one range of keys of a table.
struct RangeReader<'a> {
    tables: &'a Tables,
    key: &'a [usize],
}

/// What is found in one range of keys.
struct Found {
    base_rows: u64,
    head_rows: u64,
    /// Rows that may differ, base's and head's.
    old: Vec<Image>,
    new: Vec<Image>,
}

impl RangeReader<'_> {
    fn base_source(&self) -> &Source {
        self.tables.base.as_ref().unwrap_or(&self.tables.head)
    }

    /// All rows within these bounds; `None` if they are too many or too large.
    async fn whole(
        &self,
        base: &Session,
        head: &Session,
        scanner: &KeyScanner<'_>,
        bounds: &Bounds,
    ) -> Result<Option<Found>> {
        let most = scanner.most_rows();
        let rows = async |connection: &Session, source: &Source| {
            let query = format!(
                "select {row} from {rows} where {condition} limit {limit}",
                row = copy::row(source, "r"),
                rows = source.rows("r"),
                condition = bounds.condition(source, self.key, "r"),
                limit = most + 1,
            );
            copy::lines(connection, &query).await
        };
        let (old, new) =
            tokio::try_join!(rows(base, self.base_source()), rows(head, &self.tables.head))?;
        let Some((old, new)) = old.zip(new) else { return Ok(None) };
        let (base_rows, head_rows) = (old.len() as u64, new.len() as u64);
        if base_rows.max(head_rows) > most {
            return Ok(None);
        }
        let (old, new) = merge::unequal(&old, &new);
        let images = |lines: Vec<&Bytes>| -> Result<Vec<Image>> {
            let columns = self.tables.head.columns.len();
            lines.into_iter().map(|line| Image::from_copied(line, columns)).collect()
        };
        Ok(Some(Found { base_rows, head_rows, old: images(old)?, new: images(new)? }))
    }

    /// The rows within these bounds whose buckets differ. A step may hold more rows than it should:
    /// the keys behind a gap are dense, or only base has them; or its rows may be larger than
    /// statistics say. Then the bounds are cut where the fuller side has enough.
    async fn differing(
        &self,
        base: &Session,
        head: &Session,
        scanner: &mut KeyScanner<'_>,
        bounds: &mut Bounds,
    ) -> Result<Found> {
        let Self { tables, key, .. } = *self;
        let base_source = self.base_source();
        loop {
            let buckets = scanner.buckets(bounds);
            let (on_base, on_head) = tokio::try_join!(
                checksums(base, tables, base_source, key, bounds, &buckets),
                checksums(head, tables, &tables.head, key, bounds, &buckets),
            )?;
            let (base_rows, head_rows) = (rows(&on_base), rows(&on_head));
            let differing: Vec<i64> = (0..i64::from(BUCKETS))
                .filter(|bucket| on_base.get(bucket) != on_head.get(bucket))
                .collect();
            if differing.is_empty() {
                return Ok(Found { base_rows, head_rows, old: Vec::new(), new: Vec::new() });
            }
            if base_rows.max(head_rows) <= scanner.most_rows() {
                let in_differing = |side: &BTreeMap<i64, (u64, i64)>| -> u64 {
                    differing.iter().filter_map(|bucket| side.get(bucket)).map(|it| it.0).sum()
                };
                let (old, new) = (in_differing(&on_base), in_differing(&on_head));
                let (old, new) = tokio::try_join!(
                    images(base, tables, base_source, key, bounds, &buckets, (&differing, old)),
                    images(head, tables, &tables.head, key, bounds, &buckets, (&differing, new)),
                )?;
                if let Some((old, new)) = old.zip(new) {
                    return Ok(Found { base_rows, head_rows, old, new });
                }
                scanner.shrink();
            }
            let on_base = base_rows > head_rows;
            let (fuller, source) = if on_base { (base, base_source) } else { (head, &tables.head) };
            if let Some(to) = scanner.look_for_next(fuller, source, bounds).await? {
                bounds.to = Some(to);
                scanner.cut(bounds, on_base);
            }
        }
    }
}

fn rows(buckets: &BTreeMap<i64, (u64, i64)>) -> u64 {
    buckets.values().map(|bucket| bucket.0).sum()
}

/// Ranges are read through the key's index, whatever the planner thinks of the table, and buckets
/// are counted as rows come: sorting by bucket costs more than the checksums.
async fn prepare(connection: &Session) -> Result<()> {
    connection
        .execute(
            r#"
            select set_config('enable_seqscan', 'off', true),
                   set_config('enable_sort', 'off', true),
                   set_config('max_parallel_workers_per_gather', '0', true)
            "#,
            &[],
        )
        .await?;
    Ok(())
}

/// The count and the checksum of each bucket that has rows. Keys are unique and part of the
/// checksum, so equal rows cannot cancel in the xor.
///
/// Buckets of neighbours are scans of the key's index each: cheaper by a fifth than to tell each
/// row's bucket and count them in a hash table. The aggregate keeps the planner from turning them
/// into a join that reads all rows.
async fn checksums(
    connection: &Session,
    tables: &Tables,
    source: &Source,
    key: &[usize],
    bounds: &Bounds,
    buckets: &Buckets,
) -> Result<BTreeMap<i64, (u64, i64)>> {
    let rows = source.rows("r");
    let checksum = checksum::of_row(tables, source, key, "r");
    let rows: Vec<(i64, i64, i64)> = match buckets.all() {
        Some((lows, highs)) => {
            let sql = format!(
                r#"
                select b.number - 1 as bucket, f.rows, f.xor
                  from unnest($1::int8[], $2::int8[]) with ordinality as b (low, high, number)
                 cross join lateral (
                       select count(*) as rows, bit_xor({checksum}) as xor
                         from {rows}
                        where r.{key} between b.low and b.high) as f
                 where f.rows > 0
                "#,
                key = Ident::new(&source.columns[key[0]].name),
            );
            connection.query(&sql, &[&lows, &highs]).await?
        }
        None => {
            let sql = format!(
                r#"
                select {bucket} as bucket, count(*), bit_xor({checksum})
                  from {rows}
                 where {condition}
                 group by 1
                "#,
                bucket = Buckets::hashed(tables, source, key, "r"),
                condition = bounds.condition(source, key, "r"),
            );
            connection.query(&sql, &[]).await?
        }
    };
    Ok(rows.into_iter().map(|(bucket, count, xor)| (bucket, (count as u64, xor))).collect())
}

/// The images of a step's rows in some buckets, which have so many rows; `None` if they are too large
/// to be held at once.
async fn images(
    connection: &Session,
    tables: &Tables,
    source: &Source,
    key: &[usize],
    bounds: &Bounds,
    buckets: &Buckets,
    (differing, rows): (&[i64], u64),
) -> Result<Option<Vec<Image>>> {
    let row = copy::row(source, "r");
    let at_most = usize::try_from(rows).unwrap_or(usize::MAX);
    let rows = source.rows("r");
    let query = match buckets.ranges(differing) {
        Some(ranges) => {
            let (lows, highs): (Vec<i64>, Vec<i64>) = ranges.into_iter().unzip();
            // The fence keeps the planner from turning this into a join that reads all rows.
            format!(
                r#"
                select i.*
                  from unnest({lows}, {highs}) as b (low, high)
                 cross join lateral (
                       select {row} from {rows}
                        where r.{key} between b.low and b.high
                       offset 0) as i
                "#,
                lows = int8_array(&lows),
                highs = int8_array(&highs),
                key = Ident::new(&source.columns[key[0]].name),
            )
        }
        None => {
            format!(
                "select {row} from {rows} where {condition} and {bucket} = any ({differing})",
                condition = bounds.condition(source, key, "r"),
                bucket = Buckets::hashed(tables, source, key, "r"),
                differing = int8_array(differing),
            )
        }
    };
    copy::images(connection, &query, source.columns.len(), Some(at_most)).await
}

fn int8_array(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("'{{{}}}'::int8[]", numbers.join(","))
}
