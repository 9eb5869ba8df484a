//! The `content` strategy: compare checksums of key ranges.
//!
//! For tables whose row versions cannot be compared (rewritten, created anew, types that changed
//! their meaning). Walks the key in ranges of some thousand rows. Of each range both sides at once
//! compute a count and a checksum for each of [`BUCKETS`] buckets of keys; where a bucket differs,
//! its rows are read on both sides and paired by key. Nothing is sorted and nothing but a range is
//! ever held. Buckets are neighbours where the key is one integer, so that their rows can be read
//! without passing the others; otherwise they are chosen by a hash of the key.
//!
//! A range's bounds are keys in the order of the key's index, on which both servers must agree; the
//! planner checks that their collations do. Tables without a key: see [`multiset`].

mod bounds;
mod buckets;
pub(super) mod checksum;
mod multiset;
mod walk;

use std::collections::BTreeMap;

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Checkpoint, Image, Sessions, Source, Step, Tables, pairing, print};
use crate::catalog::{Key, Table};
use crate::error::{Error, Result};
use crate::sql::Ident;

pub(crate) use bounds::key_bounds;
use buckets::Buckets;
pub(crate) use multiset::AllRows;
pub(super) use multiset::changes as multiset_changes;
use walk::{Bounds, Walk};

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
) -> BoxStream<'a, Result<Step>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let Key::Columns(key) = &tables.table.key else {
            Err(Error::item("a table without a key has no key ranges"))?;
            return;
        };
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        tokio::try_join!(prepare(base), prepare(head))?;
        let from = match from {
            Some(Checkpoint::Key(key)) => Some(key),
            _ => range.from.clone(),
        };
        let mut walk = Walk::new(base, head, tables, key, from, range).await?;
        while let Some(mut bounds) = walk.next(head).await? {
            let (buckets, on_base, on_head) = loop {
                let buckets = walk.buckets(&bounds);
                let (on_base, on_head) = tokio::try_join!(
                    checksums(base, tables, base_source, key, &bounds, &buckets),
                    checksums(head, tables, &tables.head, key, &bounds, &buckets),
                )?;
                // A step may hold more rows than it should: the keys behind a gap are dense, or only
                // base has them. Cut it where the fuller side has enough.
                let (base_rows, head_rows) = (rows(&on_base), rows(&on_head));
                let most = 4 * u64::from(range.rows);
                let cut = if on_base == on_head || base_rows.max(head_rows) <= most {
                    None
                } else if base_rows > head_rows {
                    walk.look_for_next(base, base_source, &bounds).await?
                } else {
                    walk.look_for_next(head, &tables.head, &bounds).await?
                };
                match cut {
                    Some(to) => bounds.to = Some(to),
                    None => break (buckets, on_base, on_head),
                }
            };
            walk.go_on_behind(&bounds);
            yield Step::Compared(rows(&on_head));
            let differing: Vec<i64> = (0..i64::from(BUCKETS))
                .filter(|bucket| on_base.get(bucket) != on_head.get(bucket))
                .collect();
            if !differing.is_empty() {
                let (old, new) = tokio::try_join!(
                    images(base, tables, base_source, key, &bounds, &buckets, &differing),
                    images(head, tables, &tables.head, key, &bounds, &buckets, &differing),
                )?;
                for step in pairing::pair_all(tables, old, new) {
                    yield step;
                }
            }
            walk.passed(rows(&on_head).max(rows(&on_base)));
            if let Some(next) = bounds.to {
                yield Step::Checkpoint(Checkpoint::Key(next));
            }
        }
    }
    .boxed()
}

fn rows(buckets: &BTreeMap<i64, (u64, i64)>) -> u64 {
    buckets.values().map(|bucket| bucket.0).sum()
}

/// Ranges are read through the key's index, whatever the planner thinks of the table, and buckets
/// are counted as rows come: sorting by bucket costs more than the checksums.
async fn prepare(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        r#"
        select set_config('enable_seqscan', 'off', true),
               set_config('enable_sort', 'off', true),
               set_config('max_parallel_workers_per_gather', '0', true)
        "#,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The count and the checksum of each bucket that has rows. Keys are unique and part of the
/// checksum, so equal rows cannot cancel in the xor.
async fn checksums(
    connection: &mut PgConnection,
    tables: &Tables,
    source: &Source,
    key: &[usize],
    bounds: &Bounds,
    buckets: &Buckets,
) -> Result<BTreeMap<i64, (u64, i64)>> {
    let sql = format!(
        r#"
        select {bucket} as bucket, count(*), bit_xor({checksum})
          from {rows}
         where {condition}
         group by 1
        "#,
        bucket = buckets.of(tables, source, key, "r", bounds.parameters() + 1),
        checksum = checksum::of_row(tables, source, key, "r"),
        rows = source.rows("r"),
        condition = bounds.condition(source, key, "r"),
    );
    let query = buckets.bind(bounds.bind(sqlx::query_as(AssertSqlSafe(sql))));
    let rows: Vec<(i64, i64, i64)> = query.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(bucket, count, xor)| (bucket, (count as u64, xor))).collect())
}

/// The images of a step's rows in some buckets.
async fn images(
    connection: &mut PgConnection,
    tables: &Tables,
    source: &Source,
    key: &[usize],
    bounds: &Bounds,
    buckets: &Buckets,
    differing: &[i64],
) -> Result<Vec<Image>> {
    let image = print::image(source, "r");
    let rows = source.rows("r");
    let sql;
    let query = match buckets.ranges(differing) {
        Some(ranges) => {
            // The fence keeps the planner from turning this into a join that reads all rows.
            sql = format!(
                r#"
                select i.image
                  from unnest($1::int8[], $2::int8[]) as b (low, high)
                 cross join lateral (
                       select {image} as image from {rows}
                        where r.{key} between b.low and b.high
                       offset 0) i
                "#,
                key = Ident::new(&source.columns[key[0]].name),
            );
            let (lows, highs): (Vec<i64>, Vec<i64>) = ranges.into_iter().unzip();
            sqlx::query(AssertSqlSafe(sql)).bind(lows).bind(highs)
        }
        None => {
            let parameter = bounds.parameters() + 1;
            sql = format!(
                "select {image} from {rows} where {condition} and {bucket} = any(${parameter}::int8[])",
                condition = bounds.condition(source, key, "r"),
                bucket = buckets.of(tables, source, key, "r", parameter),
            );
            bounds.bind_query(sqlx::query(AssertSqlSafe(sql))).bind(differing.to_vec())
        }
    };
    let table: &Table = &tables.table;
    let mut rows = query.fetch(connection);
    let mut images = Vec::new();
    while let Some(row) = rows.try_next().await? {
        images.push(Image::read(&row, 0, table)?);
    }
    Ok(images)
}
