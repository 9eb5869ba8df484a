//! Fingerprints of groups of blocks.

use std::ops::Range;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::Result;
use crate::sql::Relation;

/// xmin, shifted by a constant that is the same on both servers: the permanent transaction ids
/// (below 3) are the only ones whose age differs between them, and rows from before PostgreSQL 9.4
/// the only ones that show these; such rows merely become candidates. Ages are taken as 64 bits and
/// masked, since past two billion transactions they overflow 32.
///
/// Cheaper than any cast of xmin; `age(xmin)` alone would differ between the servers.
pub(super) const SHIFTED_XMIN: &str =
    "((age(xmin)::int8 - (select age('3'::xid))::int8) & 4294967295)";

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
) -> Result<Vec<Fingerprint>> {
    let sql = format!(
        r#"
        select g.block, f.tuples, f.xor
          from generate_series($1::int8, $2::int8 - 1, $3::int8) as g (block)
         cross join lateral (
               select count(*) as tuples, bit_xor(hashtidextended(ctid, {SHIFTED_XMIN})) as xor
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
