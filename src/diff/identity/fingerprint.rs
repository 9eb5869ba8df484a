//! Fingerprints of groups of blocks.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::Result;
use crate::sql::Relation;

/// xmin, shifted by a constant that is the same on both servers: the permanent transaction ids
/// (below 3) are the only ones whose age differs between them, and rows from before PostgreSQL 9.4
/// the only ones that show these; such rows merely become candidates. Ages are taken as 64 bits and
/// masked, since past two billion transactions they overflow 32.
///
/// Cheaper than any cast of xmin; `age(xmin)` alone would differ between the servers.
const SHIFTED_XMIN: &str = "((age(xmin)::int8 - (select age('3'::xid))::int8) & 4294967295)";

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

/// An expression for xmin that both servers share. With ids that are reused, head's are marked, so
/// that its rows with them are never taken for base's; their images decide.
pub(super) fn xmin(reused: Option<ReusedIds>) -> String {
    match reused {
        None => SHIFTED_XMIN.to_owned(),
        // Shifted, the id x is 3 - x.
        Some(ReusedIds { first, count }) => format!(
            "({SHIFTED_XMIN} | case when ((3 - {SHIFTED_XMIN} - {first}) & 4294967295) < {count} \
             then 4294967296 else 0 end)"
        ),
    }
}

/// What some neighbouring blocks hold. Equal on both sides exactly when (but for a hash collision,
/// 2⁻⁶⁴ a group) they hold the same row versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Fingerprint {
    /// The first block.
    #[sqlx(try_from = "i64")]
    pub(super) block: u32,
    #[sqlx(try_from = "i64")]
    pub(super) tuples: u64,
    xor: Option<i64>,
}

/// The size of a relation in blocks.
pub(super) async fn blocks(connection: &mut PgConnection, relation: u32) -> Result<u32> {
    let blocks: i64 = sqlx::query_scalar(
        "select pg_relation_size($1::int8::oid::regclass) / current_setting('block_size')::int8",
    )
    .bind(i64::from(relation))
    .fetch_one(connection)
    .await?;
    // PostgreSQL numbers blocks with 32 bits.
    Ok(u32::try_from(blocks).unwrap_or(u32::MAX))
}

/// The fingerprints of a window of blocks, one for each `size` blocks, in order.
///
/// The aggregate keeps the planner from flattening the lateral subquery into a join with a
/// sequential scan: each group is a TID range scan of its own.
pub(super) async fn groups(
    connection: &mut PgConnection,
    relation: &Relation,
    window: &Range<u32>,
    size: u32,
    xmin: &str,
) -> Result<Vec<Fingerprint>> {
    let sql = format!(
        r#"
        select g.block, f.tuples, f.xor
          from generate_series($1::int8, $2::int8 - 1, $3::int8) as g (block)
         cross join lateral (
               select count(*) as tuples, bit_xor(hashtidextended(ctid, {xmin})) as xor
                 from only {relation}
                where ctid >= ('(' || g.block || ',0)')::tid
                  and ctid < ('(' || least(g.block + $3::int8, $2::int8) || ',0)')::tid) f
        "#
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(i64::from(window.start))
        .bind(i64::from(window.end))
        .bind(i64::from(size))
        .fetch_all(connection)
        .await?)
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
}
