//! Fingerprints of groups of blocks.

use serde::{Deserialize, Serialize};

use crate::diff::tid;
use crate::error::Result;
use crate::postgres::{QualifiedName, Session};

/// Transaction ids that may stand for two transactions: those of the gap, in a cluster that has
/// used its four billion numbers up before. A row from then keeps its number when it is frozen, and
/// a row of the gap can have the same one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReusedIds {
    first: u32,
    count: u32,
}

impl ReusedIds {
    /// Ids that transactions on base had when it was looked at, though they began after its
    /// restore, and ids of transactions that were open when it was made.
    const SLACK: u64 = 1 << 20;

    /// From the next transaction ids of the two servers, with their epochs. `None`: every id in the
    /// tables stands for one transaction.
    ///
    /// # Errors
    /// Every id may stand for two.
    pub(crate) fn between(base: u64, head: u64) -> Result<Option<Self>, String> {
        if head >> 32 == 0 {
            return Ok(None);
        }
        let first = base.saturating_sub(Self::SLACK);
        let count = u32::try_from(head.saturating_sub(first))
            .map_err(|_| "four billion transactions lie between base and head".to_owned())?;
        Ok(Some(Self { first: first as u32, count }))
    }
}

/// xmin as both servers share it: shifted by the age of one transaction, which is taken off in each
/// transaction that reads. Cheaper than any cast of xmin; `age(xmin)` alone differs between servers.
///
/// The permanent transaction ids (below 3) are the only ones whose age differs, and rows from before
/// PostgreSQL 9.4 the only ones that show these; their groups are listed, and their ids found equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xmin {
    /// `age('3'::xid)` in this transaction, as a number without sign: the next id less 3.
    pub(super) age_of_3: u32,
    /// Ids were used twice.
    pub(super) wrapped: bool,
    /// Those that are marked on this side, so that its rows with them are never taken for the
    /// other's; their images decide.
    pub(super) marked: Option<ReusedIds>,
}

/// Marks an id; beyond 32 bits.
const MARK: u64 = 1 << 32;

impl Xmin {
    /// An expression of type int8 over a relation with the alias `r`.
    ///
    /// Ages are 32 bits with a sign, so those of rows from more than two billion transactions ago
    /// come out 2³² less. That both sides have in common, but for rows as old as that on head only:
    /// they differ here and turn out to be the same in [`Xmin::of_id`]. Where ids were used twice,
    /// bits are masked instead.
    fn expression(self) -> String {
        let shifted = format!("age(r.xmin) - {}::int8", self.age_of_3);
        match (self.wrapped, self.marked) {
            (false, _) => shifted,
            (true, None) => format!("({shifted}) & 4294967295"),
            // Shifted, the id x is 3 - x.
            (true, Some(ReusedIds { first, count })) => format!(
                "(({shifted}) & 4294967295) | case when ((3 - ({shifted}) - {first}) & 4294967295) \
                 < {count} then {MARK} else 0 end"
            ),
        }
    }

    /// An id as both sides share it, marked.
    pub(super) fn of_id(self, id: u32) -> u64 {
        let marked = self.marked.is_some_and(|reused| id.wrapping_sub(reused.first) < reused.count);
        u64::from(id) | if marked { MARK } else { 0 }
    }
}

/// What some neighbouring blocks hold. Equal on both sides exactly when (but for a hash collision,
/// 2⁻⁶⁴ a group) they hold the same row versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// The first block.
    pub(super) block: u32,
    pub(super) tuples: u64,
    xor: Option<i64>,
}

/// The fingerprints of some groups of `size` blocks, of those before `end`, in order.
///
/// The aggregate keeps the planner from flattening the lateral subquery into a join with a
/// sequential scan: each group is a TID range scan of its own.
pub(super) async fn groups(
    connection: &Session,
    relation: &QualifiedName,
    groups: &[u32],
    size: u32,
    end: u32,
    xmin: Xmin,
) -> Result<Vec<Fingerprint>> {
    let sql = format!(
        r#"
        select g.block, f.tuples, f.xor
          from unnest($1::int8[], $2::tid[], $3::tid[]) as g (block, low, high)
         cross join lateral (
               select count(*) as tuples, bit_xor(hashtidextended(r.ctid, {xmin})) as xor
                 from only {relation} as r
                where r.ctid >= g.low and r.ctid < g.high) as f
        "#,
        xmin = xmin.expression(),
    );
    let (low, high) = tid::bounds(groups, size, end);
    let groups: Vec<i64> = groups.iter().map(|&block| i64::from(block)).collect();
    let rows: Vec<(i64, i64, Option<i64>)> =
        connection.query(&sql, &[&groups, &low, &high]).await?;
    let fingerprint = |(block, tuples, xor): (i64, i64, Option<i64>)| Fingerprint {
        block: block as u32,
        tuples: tuples as u64,
        xor,
    };
    Ok(rows.into_iter().map(fingerprint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_reused_once_four_billion_were_used() {
        assert_eq!(ReusedIds::between(1000, (1 << 32) - 1), Ok(None));
        let reused = |base, head| ReusedIds::between(base, head).unwrap().unwrap();
        let epoch = 1u64 << 32;
        assert_eq!(
            reused(epoch + 5_000_000, epoch + 6_000_000),
            ReusedIds { first: 5_000_000 - (1 << 20), count: 1_000_000 + (1 << 20) }
        );
        // Over the wrap.
        assert_eq!(reused(epoch, epoch + 10).first, u32::MAX - (1 << 20) + 1);
        assert!(ReusedIds::between(epoch, 2 * epoch).is_err());
    }

    #[test]
    fn both_servers_share_an_id_and_reused_ones_are_marked() {
        let shared = |marked| Xmin { age_of_3: 10, wrapped: true, marked };
        for id in [3, 700, 1 << 31, u32::MAX] {
            let on_base = shared(None).of_id(id);
            let reused = Some(ReusedIds { first: id.wrapping_sub(2), count: 3 });
            assert_eq!(on_base | MARK, shared(reused).of_id(id));
            let others = Some(ReusedIds { first: id.wrapping_add(1), count: 3 });
            assert_eq!(on_base, shared(others).of_id(id));
        }
    }
}
