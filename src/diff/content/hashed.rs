//! `content` for keys whose order is not known to be the same on both servers.
//!
//! Both sides at once hash the printed key of every row, and count and add up the rows' checksums in
//! buckets of these hashes. Of buckets that differ, hashes and places of the rows are read and
//! compared; what is left is read from its place and paired by the bytes of the key. So each side is
//! read once, and once more for every [`BATCH_ROWS`] rows of buckets that differ, without an index; a
//! table with more than [`MOST_ROWS`] of these goes the way of [`full`](crate::diff::full).
//!
//! Sums, not xors: a unique index that is out of order may have let equal rows in, which would
//! cancel.

use std::collections::{BTreeMap, BTreeSet};

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::multiset::{
    AllRows, BUCKETS, MOST_ROWS, batches, place, prepare, read_buckets, rows, scans,
};
use crate::catalog::{Key, names_of};
use crate::diff::key_hash::{self, Located, LocatedRows, Phase, RelationNames};
use crate::diff::{DiffItem, Sessions, Source, Tables, checksum, full};
use crate::error::{Error, Result};
use crate::postgres::{QualifiedName, Row, Session};

pub(in crate::diff) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    all: &'a AllRows,
) -> BoxStream<'a, Result<DiffItem>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        let Key::Columns(key) = &tables.table.key else {
            Err(Error::item("a table without a key has no hashes of keys"))?;
            return;
        };
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        tokio::try_join!(prepare(base), prepare(head))?;
        tokio::try_join!(scans(base, true), scans(head, true))?;
        let (base_hashes, head_hashes) =
            (hashes(tables, base_source, key), hashes(tables, &tables.head, key));
        let (base_buckets, head_buckets) = (buckets_sql(&base_hashes), buckets_sql(&head_hashes));
        let (on_base, on_head) = tokio::try_join!(
            read_buckets(base, &base_buckets),
            read_buckets(head, &head_buckets),
        )?;
        let counted: u64 = on_head.values().map(|bucket| bucket.0).sum();
        yield DiffItem::Compared(counted);
        let differing: Vec<(i32, u64)> = (0..BUCKETS as i32)
            .filter(|bucket| on_base.get(bucket) != on_head.get(bucket))
            .map(|bucket| {
                let rows = |side: &BTreeMap<i32, (u64, String)>| side.get(&bucket).map_or(0, |b| b.0);
                (bucket, rows(&on_base).max(rows(&on_head)))
            })
            .collect();
        drop((on_base, on_head));
        let rows: u64 = differing.iter().map(|(_, rows)| rows).sum();
        if rows > MOST_ROWS {
            let reason = format!("{rows} rows are in parts of it that differ");
            let mut items = full::instead(head, tables, reason, counted);
            while let Some(item) = items.try_next().await? {
                yield item;
            }
            return;
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut copies = 0;
        for batch in batches(&differing) {
            let (on_base, on_head) = tokio::try_join!(
                hashed_rows(base, &base_hashes, &batch),
                hashed_rows(head, &head_hashes, &batch),
            )?;
            copies += unequal(&on_base, &on_head, &mut old, &mut new);
        }
        tokio::try_join!(scans(base, false), scans(head, false))?;
        let (base_relations, head_relations) =
            tokio::try_join!(relations(base, &old), relations(head, &new))?;
        let candidates = LocatedRows::new(old, new);
        for phase in Phase::IN_ORDER {
            let sessions = Sessions { base, head };
            let relations = (&base_relations, &head_relations);
            let mut items =
                key_hash::changes(sessions, tables, key, relations, &candidates, phase, all.rows);
            while let Some(item) = items.try_next().await? {
                yield item;
            }
        }
        if let Some(note) = key_hash::copies_note(copies) {
            yield note;
        }
    }
    .boxed()
}

/// A query of each row's hash of the key, checksum, relation and place. The fence (`offset 0`) keeps
/// hashes from being computed twice.
fn hashes(tables: &Tables, source: &Source, key: &[usize]) -> String {
    format!(
        r#"
        select {key} as key, {row} as row, r.tableoid::int8 as leaf, tidsend(r.ctid) as place
          from {rows} offset 0
        "#,
        key = checksum::of_printed_key(source, key, "r"),
        row = checksum::of_row(tables, source, key, "r"),
        rows = rows(source),
    )
}

fn buckets_sql(hashes: &str) -> String {
    format!(
        r#"
        select (s.key & {mask})::int4, count(*), textin(numeric_out(sum(s.row)))
          from ({hashes}) as s
         group by 1
        "#,
        mask = BUCKETS - 1,
    )
}

/// A row with the checksum of its values.
struct HashedRow {
    row: i64,
    located: Located,
}

/// The rows in some buckets, in the order of their hashes.
async fn hashed_rows(
    connection: &Session,
    hashes: &str,
    buckets: &[i32],
) -> Result<Vec<HashedRow>> {
    let sql = format!(
        r#"
        select s.key, s.row, s.leaf, s.place
          from ({hashes}) as s
         where (s.key & {mask})::int4 = any ($1::int4[])
        "#,
        mask = BUCKETS - 1,
    );
    let mut found = connection.query_stream::<Row>(&sql, &[&buckets]).await?;
    let mut rows = Vec::new();
    while let Some(row) = found.try_next().await? {
        let relation: i64 = row.try_get(2)?;
        let located = Located {
            key: row.try_get(0)?,
            relation: relation as u32,
            place: place(&row, 3)?.into(),
        };
        rows.push(HashedRow { row: row.try_get(1)?, located });
    }
    rows.sort_unstable_by_key(|row| (row.located.key, row.row));
    Ok(rows)
}

/// Adds the rows that the other side does not have as they are to the lists, and yields how many of
/// their keys have more than one row on a side.
fn unequal(
    on_base: &[HashedRow],
    on_head: &[HashedRow],
    old: &mut Vec<Located>,
    new: &mut Vec<Located>,
) -> u64 {
    let mut copies = 0;
    for group in key_hash::groups(on_base, on_head, |row| row.located.key) {
        let (base, head) = (&on_base[group.base], &on_head[group.head]);
        let before = old.len() + new.len();
        let (mut i, mut j) = (0, 0);
        while i < base.len() || j < head.len() {
            match (base.get(i), head.get(j)) {
                (Some(a), Some(b)) if a.row == b.row => (i, j) = (i + 1, j + 1),
                (Some(a), b) if b.is_none_or(|b| a.row < b.row) => {
                    old.push(a.located);
                    i += 1;
                }
                _ => {
                    new.push(head[j].located);
                    j += 1;
                }
            }
        }
        let changed = old.len() + new.len() > before;
        copies += u64::from(changed && base.len().max(head.len()) > 1);
    }
    copies
}

/// The names of the relations that hold these rows.
async fn relations(connection: &Session, rows: &[Located]) -> Result<RelationNames> {
    let oids: BTreeSet<u32> = rows.iter().map(|row| row.relation).collect();
    let names = names_of(connection, oids).await?;
    Ok(names.iter().map(|(&oid, name)| (oid, QualifiedName::from(name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::tid::Tid;

    fn rows(rows: &[(i64, i64)]) -> Vec<HashedRow> {
        let row = |(at, &(key, row)): (usize, &(i64, i64))| HashedRow {
            row,
            located: Located { key, relation: 1, place: Tid { block: at as u32, offset: 1 } },
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn equal_rows_cancel_each_other_once() {
        let base = rows(&[(1, 10), (2, 20), (2, 20), (3, 30), (5, 50), (5, 51)]);
        let head = rows(&[(1, 10), (2, 20), (3, 31), (4, 40), (5, 50), (5, 52)]);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        assert_eq!(unequal(&base, &head, &mut old, &mut new), 2);
        let places = |rows: &[Located]| -> Vec<(i64, u32)> {
            rows.iter().map(|row| (row.key, row.place.block)).collect()
        };
        assert_eq!(places(&old), [(2, 2), (3, 3), (5, 5)]);
        assert_eq!(places(&new), [(3, 2), (4, 3), (5, 5)]);
    }
}
