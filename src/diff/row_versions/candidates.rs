//! The tuples that only one side has, and their images.

use std::cmp::Ordering;

use futures_util::TryStreamExt;

use super::fingerprint::Xmin;
use crate::diff::key_hash::Located;
use crate::diff::places::rows_at;
use crate::diff::tid::{self, Tid};
use crate::diff::{Source, checksum};
use crate::error::{Error, Result};
use crate::postgres::{Binary, QualifiedName, Row, Session};

/// The row versions of some groups of blocks on one side, in order of their place.
pub(super) struct Versions(Vec<(Tid, u64)>);

impl Versions {
    /// Lists those of groups of `size` blocks, of blocks before `end`.
    pub(super) async fn list(
        connection: &Session,
        relation: &QualifiedName,
        groups: &[u32],
        size: u32,
        end: u32,
        xmin: Xmin,
    ) -> Result<Self> {
        // Arrays cost less than rows: one of each a group.
        let sql = format!(
            r#"
            select v.places, v.xmins
              from unnest($1::tid[], $2::tid[]) as g (low, high)
             cross join lateral (
                   select array_agg(r.ctid) as places, array_agg(r.xmin) as xmins
                     from only {relation} as r
                    where r.ctid >= g.low and r.ctid < g.high) as v
            "#
        );
        let (low, high) = tid::bounds(groups, size, end);
        let mut rows = connection.query_stream::<Row>(&sql, &[&low, &high]).await?;
        let mut versions = Vec::new();
        while let Some(row) = rows.try_next().await? {
            // Null where a group has no tuples.
            let (Some(Binary(places)), Some(Binary(xmins))) = (row.try_get(0)?, row.try_get(1)?)
            else {
                continue;
            };
            read_versions(places, xmins, xmin, &mut versions).ok_or_else(|| {
                Error::item("a list of row versions has a form that PostgreSQL does not send")
            })?;
        }
        versions.sort_unstable();
        Ok(Self(versions))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads a `tid[]` and an `xid[]` as PostgreSQL sends them in binary: 20 bytes ahead (`array_send`),
/// then each element behind its length.
fn read_versions(
    places: &[u8],
    xmins: &[u8],
    xmin: Xmin,
    versions: &mut Vec<(Tid, u64)>,
) -> Option<()> {
    let places = places.get(20..)?.chunks_exact(10);
    let xmins = xmins.get(20..)?.chunks_exact(8);
    if places.len() != xmins.len()
        || !places.remainder().is_empty()
        || !xmins.remainder().is_empty()
    {
        return None;
    }
    for (place, id) in places.zip(xmins) {
        let (length, place) = place.split_first_chunk()?;
        let (block, offset) = place.split_first_chunk()?;
        let (id_length, id) = id.split_first_chunk()?;
        if i32::from_be_bytes(*length) != 6 || i32::from_be_bytes(*id_length) != 4 {
            return None;
        }
        let tid = Tid {
            block: u32::from_be_bytes(*block),
            offset: u16::from_be_bytes(offset.try_into().ok()?),
        };
        versions.push((tid, xmin.of_id(u32::from_be_bytes(id.try_into().ok()?))));
    }
    Some(())
}

/// The places whose row version only one side has.
pub(super) struct Candidates {
    pub(super) base_only: Vec<Tid>,
    pub(super) head_only: Vec<Tid>,
}

/// Places waiting for their images to be read, a part at a time. A row whose two versions fall into
/// two parts is paired by a lookup, as if they lay in two work items.
pub(super) struct Parts {
    /// Places of either side in a part.
    most: usize,
    /// The next one is the last.
    waiting: Vec<Candidates>,
}

impl Parts {
    pub(super) fn of_at_most(places: u32) -> Self {
        Self { most: (places as usize).max(1), waiting: Vec::new() }
    }

    pub(super) fn add(&mut self, candidates: Candidates) {
        self.waiting.extend(candidates.cut(self.most).into_iter().rev());
    }

    pub(super) fn next(&mut self) -> Option<Candidates> {
        self.waiting.pop()
    }

    /// The images of a part were too large to be held: it comes again in halves, and later parts are
    /// as small.
    pub(super) fn halve(&mut self, part: Candidates) {
        self.most = (part.base_only.len().max(part.head_only.len()) / 2).max(1);
        self.add(part);
    }
}

impl Candidates {
    fn cut(self, most: usize) -> Vec<Self> {
        let parts = self.base_only.len().max(self.head_only.len()).div_ceil(most);
        let part = |places: &[Tid], at: usize| {
            let from = places.len().min(at * most);
            places[from..places.len().min(from + most)].to_vec()
        };
        (0..parts)
            .map(|at| Self {
                base_only: part(&self.base_only, at),
                head_only: part(&self.head_only, at),
            })
            .collect()
    }

    /// What is in one list only. A place that holds different versions is in both.
    pub(super) fn of(base: Versions, head: Versions) -> Self {
        let mut candidates = Self { base_only: Vec::new(), head_only: Vec::new() };
        let mut base = base.0.into_iter().peekable();
        let mut head = head.0.into_iter().peekable();
        loop {
            let order = match (base.peek(), head.peek()) {
                (None, None) => return candidates,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(base), Some(head)) => base.cmp(head),
            };
            if order.is_le() {
                let version = base.next();
                if order.is_lt() {
                    candidates.base_only.extend(version.map(|(tid, _)| tid));
                }
            }
            if order.is_ge() {
                let version = head.next();
                if order.is_gt() {
                    candidates.head_only.extend(version.map(|(tid, _)| tid));
                }
            }
        }
    }
}

/// The tuples at these places of those that are published, each with the hash of its key.
pub(super) async fn located(
    connection: &Session,
    source: &Source,
    key: &[usize],
    relation: &QualifiedName,
    oid: u32,
    places: &[Tid],
) -> Result<Vec<Located>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!(
        "select {hash}, tidsend(r.ctid) {rows}",
        hash = checksum::of_printed_key(source, key, "r"),
        rows = rows_at(source, relation, places),
    );
    let rows: Vec<(i64, Vec<u8>)> = connection.query(&query, &[]).await?;
    rows.into_iter()
        .map(|(key, place)| {
            let place: [u8; 6] = place.try_into().map_err(|_| {
                Error::item("a tuple identifier has a form that PostgreSQL does not send")
            })?;
            Ok(Located { key, relation: oid, place: place.into() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[(u32, u16, u64)]) -> Versions {
        Versions(list.iter().map(|&(block, offset, xmin)| (Tid { block, offset }, xmin)).collect())
    }

    #[test]
    fn what_one_side_has() {
        let base = versions(&[(0, 1, 9), (0, 2, 9), (1, 1, 9), (1, 2, 7)]);
        let head = versions(&[(0, 1, 9), (0, 3, 11), (1, 1, 12), (1, 2, 7), (5, 1, 12)]);
        let Candidates { base_only, head_only } = Candidates::of(base, head);
        assert_eq!(base_only, [Tid { block: 0, offset: 2 }, Tid { block: 1, offset: 1 }]);
        assert_eq!(
            head_only,
            [(0, 3), (1, 1), (5, 1)].map(|(block, offset)| Tid { block, offset })
        );
    }

    #[test]
    fn parts_are_bounded_and_lose_nothing() {
        let places = |n: u16| (0..n).map(|offset| Tid { block: 0, offset }).collect::<Vec<_>>();
        let mut parts = Parts::of_at_most(4);
        parts.add(Candidates { base_only: places(7), head_only: places(3) });
        parts.add(Candidates { base_only: vec![], head_only: vec![] });
        let (mut base, mut head, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(part) = parts.next() {
            let size = part.base_only.len().max(part.head_only.len());
            sizes.push(size);
            if size > 2 {
                parts.halve(part);
                continue;
            }
            base.extend(part.base_only);
            head.extend(part.head_only);
        }
        assert_eq!((base, head), (places(7), places(3)));
        assert_eq!(sizes, [4, 2, 2, 3, 1, 1, 1]);
    }

    #[test]
    fn versions_are_read_as_postgresql_sends_them() {
        let xmin = Xmin { age_of_3: 10, wrapped: false, marked: None };
        let head = [0; 20];
        let places = [&head[..], &[0, 0, 0, 6, 0, 0, 1, 0, 0, 7]].concat();
        let xmins = [&head[..], &[0, 0, 0, 4, 0, 0, 3, 12]].concat();
        let mut versions = Vec::new();
        read_versions(&places, &xmins, xmin, &mut versions).unwrap();
        assert_eq!(versions, [(Tid { block: 256, offset: 7 }, 780)]);
        for end in 0..places.len() {
            assert!(
                read_versions(&places[..end], &xmins, xmin, &mut Vec::new()).is_none(),
                "{end}"
            );
        }
        for end in 0..xmins.len() {
            assert!(
                read_versions(&places, &xmins[..end], xmin, &mut Vec::new()).is_none(),
                "{end}"
            );
        }
    }
}
