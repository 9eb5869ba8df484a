//! `content` for tables without a key.
//!
//! Both sides at once hash the image of every row, and count and add up the hashes in each of
//! [`BUCKETS`] buckets. A sum, since equal rows would cancel in an xor. Of buckets that differ the
//! hashes are read with their rows' places and counted against each other; what is left over has
//! its images fetched by place. So each side is read once, and once more for every
//! [`BATCH_ROWS`] rows of buckets that differ; a table with more than [`MOST_ROWS`] of these goes
//! the way of [`full`](crate::diff::full), which counts in the database.
//!
//! Memory: the buckets (some megabytes, on the servers [`WORK_MEM`] at most), and the hashes and
//! places of a batch. Nothing is sorted and no temporary file written.

use std::collections::BTreeMap;

use async_stream::try_stream;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::diff::multiset_difference::{DifferenceOf, MultisetDifference};
use crate::diff::tid::Tid;
use crate::diff::{
    Change, Checkpoint, DiffItem, Image, Sessions, Source, Tables, checksum, copy, full, print,
};
use crate::error::{Error, Result};
use crate::postgres::{QualifiedName, Row, Session};

/// All rows of a table that is not cut into ranges of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AllRows {
    /// Rows whose images may be held at once.
    pub(crate) rows: u32,
}

/// Buckets of hashes.
pub(super) const BUCKETS: u32 = 1 << 16;
/// What the servers may use for counting them.
const WORK_MEM: &str = "32MB";
/// Rows of one side whose hashes and places are held at once, if a bucket does not have more.
const BATCH_ROWS: u64 = 250_000;
/// Rows that are asked for at once at most; what comes of them is held for a few megabytes.
const MOST_FETCHED: u32 = 10_000;
/// Rows of one side in buckets that differ, beyond which `full` is faster.
pub(super) const MOST_ROWS: u64 = 1_000_000;

pub(in crate::diff) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    all: &'a AllRows,
    from: Option<Checkpoint>,
) -> BoxStream<'a, Result<DiffItem>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        let (base_hashes, head_hashes) =
            (hashes_sql(tables, base_source), hashes_sql(tables, &tables.head));
        let this_way =
            XxHash3_128::oneshot(format!("{base_hashes};{head_hashes}").as_bytes()) as u64;
        let from = match from {
            Some(Checkpoint::Bucket { next, hashed_by }) if hashed_by == this_way => next,
            Some(Checkpoint::Bucket { .. }) => {
                Err(Error::item(
                    "this build of deltacompare hashes rows in another way than the one that began \
                     with this table, so that it cannot go on: retry the recovery, which begins the \
                     table anew, or recover the table on its own",
                ))?;
                return;
            }
            _ => 0,
        };
        tokio::try_join!(prepare(base), prepare(head))?;
        let (on_base, on_head) = tokio::try_join!(
            buckets(base, tables, base_source),
            buckets(head, tables, &tables.head),
        )?;
        if from == 0 {
            yield DiffItem::Compared(on_head.values().map(|bucket| bucket.0).sum());
        }
        let differing: Vec<(i32, u64)> = (0..BUCKETS as i32)
            .filter(|bucket| on_base.get(bucket) != on_head.get(bucket))
            .map(|bucket| {
                let rows = |side: &BTreeMap<i32, (u64, String)>| side.get(&bucket).map_or(0, |b| b.0);
                (bucket, rows(&on_base).max(rows(&on_head)))
            })
            .collect();
        let rows: u64 = differing.iter().map(|(_, rows)| rows).sum();
        if rows > MOST_ROWS {
            let reason = format!("{rows} rows are in parts of it that differ");
            let counted = on_head.values().map(|bucket| bucket.0).sum();
            let mut items = full::instead(head, tables, reason, counted);
            while let Some(item) = items.try_next().await? {
                yield item;
            }
            return;
        }
        drop((on_base, on_head));
        for batch in batches(&differing) {
            let next = batch.last().map_or(0, |last| *last as u32 + 1);
            if next <= from {
                continue;
            }
            tokio::try_join!(scans(base, true), scans(head, true))?;
            let mut difference = MultisetDifference::new();
            let (mut on_base, mut on_head) = (Places::default(), Places::default());
            // Side by side, so that most rows have met their equals before many are waiting.
            let (hashes_of_base, hashes_of_head) = tokio::try_join!(
                async { base.query_stream::<Row>(&base_hashes, &[&batch]).await },
                async { head.query_stream::<Row>(&head_hashes, &[&batch]).await },
            )?;
            let mut hashes = stream::select(
                hashes_of_base.map_ok(|row| (DifferenceOf::Base, row)),
                hashes_of_head.map_ok(|row| (DifferenceOf::Head, row)),
            );
            while let Some((side, row)) = hashes.try_next().await? {
                let hash: i64 = row.try_get(0)?;
                match side {
                    DifferenceOf::Base => {
                        difference.count(hash, -1);
                        on_base.push(hash, &row)?;
                    }
                    DifferenceOf::Head => {
                        difference.count(hash, 1);
                        on_head.push(hash, &row)?;
                    }
                }
            }
            drop(hashes);
            tokio::try_join!(scans(base, false), scans(head, false))?;
            for (side, places, source) in [
                (DifferenceOf::Base, on_base, base_source),
                (DifferenceOf::Head, on_head, &tables.head),
            ] {
                for (leaf, wanted) in places.take(&mut difference, side) {
                    for part in wanted.chunks(all.rows.clamp(1, MOST_FETCHED) as usize) {
                        let connection = match side {
                            DifferenceOf::Base => base,
                            DifferenceOf::Head => head,
                        };
                        let mut changes = fetch(connection, source, leaf, part, side);
                        while let Some(changes) = changes.try_next().await? {
                            if side == DifferenceOf::Base {
                                yield DiffItem::Compared(changes.len() as u64);
                            }
                            yield DiffItem::Changes(changes);
                        }
                    }
                }
            }
            yield DiffItem::Checkpoint(Checkpoint::Bucket { next, hashed_by: this_way });
        }
    }
    .boxed()
}

pub(super) async fn prepare(connection: &Session) -> Result<()> {
    connection
        .execute(
            r#"
            select set_config('enable_sort', 'off', true),
                   set_config('work_mem', $1, true),
                   set_config('max_parallel_workers_per_gather', '0', true)
            "#,
            &[&WORK_MEM],
        )
        .await?;
    Ok(())
}

/// Whether the next query reads the table once through, or goes to each place that it asks for,
/// whatever the planner thinks of the table.
pub(super) async fn scans(connection: &Session, allowed: bool) -> Result<()> {
    connection
        .execute(
            "select set_config('enable_seqscan', $1, true)",
            &[&if allowed { "on" } else { "off" }],
        )
        .await?;
    Ok(())
}

/// A side's published rows, with their system columns.
pub(super) fn rows(source: &Source) -> String {
    let filter = source.filter.as_ref().map(|filter| format!(" where {filter}"));
    format!("{}{}", source.all_rows("r"), filter.unwrap_or_default())
}

/// The count and the sum of hashes of each bucket that has rows. Sums are exact numbers, as text.
///
/// The fence (`offset 0`) keeps the hash from being computed twice.
async fn buckets(
    connection: &Session,
    tables: &Tables,
    source: &Source,
) -> Result<BTreeMap<i32, (u64, String)>> {
    let sql = format!(
        r#"
        select (s.hash & {mask})::int4, count(*), textin(numeric_out(sum(s.hash)))
          from (select {hash} as hash from {rows} offset 0) as s
         group by 1
        "#,
        mask = BUCKETS - 1,
        hash = checksum::of_image(tables, source, "r"),
        rows = rows(source),
    );
    read_buckets(connection, &sql).await
}

/// The count and the sum of each bucket that a query yields.
pub(super) async fn read_buckets(
    connection: &Session,
    sql: &str,
) -> Result<BTreeMap<i32, (u64, String)>> {
    let mut buckets = BTreeMap::new();
    let mut found = connection.query_stream::<(i32, i64, String)>(sql, &[]).await?;
    while let Some((bucket, count, sum)) = found.try_next().await? {
        buckets.insert(bucket, (count as u64, sum));
    }
    Ok(buckets)
}

/// The hashes of the rows in some buckets, with their places.
fn hashes_sql(tables: &Tables, source: &Source) -> String {
    format!(
        r#"
        select s.hash, s.leaf, s.place
          from (select {hash} as hash, r.tableoid::int8 as leaf, tidsend(r.ctid) as place
                  from {rows} offset 0) as s
         where (s.hash & {mask})::int4 = any ($1::int4[])
        "#,
        hash = checksum::of_image(tables, source, "r"),
        rows = rows(source),
        mask = BUCKETS - 1,
    )
}

/// A tuple's place, as `tidsend` has it.
pub(super) type Place = [u8; 6];

/// Where a side has rows of a batch: by the oid of the relation that holds them, hash and place.
#[derive(Default)]
struct Places(BTreeMap<i64, Vec<(i64, Place)>>);

impl Places {
    fn push(&mut self, hash: i64, row: &Row) -> Result<()> {
        self.0.entry(row.try_get(1)?).or_default().push((hash, place(row, 2)?));
        Ok(())
    }

    /// The places of a side's surplus, each with its ordinal among equal rows.
    fn take(
        self,
        difference: &mut MultisetDifference<i64>,
        side: DifferenceOf,
    ) -> Vec<(i64, Vec<(Place, u64)>)> {
        let mut taken = |places: Vec<(i64, Place)>| -> Vec<(Place, u64)> {
            let mut taken: Vec<(Place, u64)> = places
                .into_iter()
                .filter_map(|(hash, place)| Some((place, difference.take(hash, side)?)))
                .collect();
            taken.sort_unstable();
            taken
        };
        self.0.into_iter().map(|(leaf, places)| (leaf, taken(places))).collect()
    }
}

pub(super) fn place(row: &Row, at: usize) -> Result<Place> {
    let bytes: &[u8] = row.try_get(at)?;
    bytes
        .try_into()
        .map_err(|_| Error::item("a tuple identifier has a form that PostgreSQL does not send"))
}

/// The changes that the rows at these places are, as many at once as may be held: statistics may be
/// wrong about their width.
fn fetch<'a>(
    connection: &'a Session,
    source: &'a Source,
    leaf: i64,
    wanted: &'a [(Place, u64)],
    side: DifferenceOf,
) -> BoxStream<'a, Result<Vec<Change>>> {
    try_stream! {
        let (schema, name): (String, String) = connection.query_one(
            r#"
            select n.nspname::text, c.relname::text
              from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.oid = $1::int8::oid
            "#,
            &[&leaf],
        )
        .await?;
        let sql = format!(
            "select tidsend(r.ctid), {image} from only {leaf} as r where r.ctid = any ($1::tid[])",
            image = print::image(source, "r"),
            leaf = QualifiedName::new(&schema, &name),
        );
        let tids: Vec<Tid> = wanted
            .iter()
            .map(|([a, b, c, d, e, f], _)| Tid {
                block: u32::from_be_bytes([*a, *b, *c, *d]),
                offset: u16::from_be_bytes([*e, *f]),
            })
            .collect();
        let mut rows = connection.query_stream::<Row>(&sql, &[&tids]).await?;
        let (mut changes, mut bytes, mut found) = (Vec::new(), 0, 0);
        while let Some(row) = rows.try_next().await? {
            let place = place(&row, 0)?;
            let image = Image::read_columns(&row, 1, source.columns.len())?;
            // The image is a copy.
            drop(row);
            let ordinal = wanted
                .binary_search_by_key(&place, |(place, _)| *place)
                .map(|at| wanted[at].1)
                .map_err(|_| Error::item("a row came back from a place that was not asked for"))?;
            bytes += image.bytes();
            found += 1;
            changes.push(side.change(image, ordinal));
            if bytes > copy::MOST_BYTES {
                bytes = 0;
                yield std::mem::take(&mut changes);
            }
        }
        if found != wanted.len() {
            Err(Error::item("rows were gone when they were read again within one snapshot"))?;
        }
        if !changes.is_empty() {
            yield changes;
        }
    }
    .boxed()
}

/// Cuts buckets that differ into batches by their rows; a single bucket may have more.
pub(super) fn batches(differing: &[(i32, u64)]) -> Vec<Vec<i32>> {
    let mut batches: Vec<Vec<i32>> = Vec::new();
    let mut held = u64::MAX;
    for &(bucket, rows) in differing {
        held = held.saturating_add(rows);
        match batches.last_mut() {
            Some(batch) if held <= BATCH_ROWS => batch.push(bucket),
            _ => {
                batches.push(vec![bucket]);
                held = rows;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_lose_nothing() {
        let differing: Vec<(i32, u64)> = (0..100).map(|bucket| (bucket, 100_000)).collect();
        let batches = batches(&differing);
        assert!(batches.iter().all(|batch| batch.len() == 2));
        assert_eq!(batches.concat(), (0..100).collect::<Vec<i32>>());
        assert_eq!(super::batches(&[(3, u64::MAX), (4, 1)]), [[3], [4]]);
        assert!(super::batches(&[]).is_empty());
    }
}
