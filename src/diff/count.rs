//! Rows counted by statements that share nothing with the strategies: neither their joins, ranges,
//! aliases and checksums nor any index. What a strategy has lost, a count still finds.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Source, print};
use crate::catalog::Key;
use crate::error::Result;

/// The published rows of a side. Reads the table from its first block to its last, with as many
/// parallel workers as the server allows, within the transaction that is open.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn count_rows(connection: &mut PgConnection, source: &Source) -> Result<u64> {
    without_indexes(connection).await?;
    // No alias: a filter names the columns of its table and nothing else.
    let sql = format!(
        "select pg_catalog.count(*) from {only}{relation}{filter}",
        only = if source.only { "only " } else { "" },
        relation = source.relation,
        filter =
            source.filter.as_ref().map(|filter| format!(" where ({filter})")).unwrap_or_default(),
    );
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(rows as u64)
}

/// The published rows of a side whose key prints like this. Reads the whole table, too.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn count_rows_with_key(
    connection: &mut PgConnection,
    source: &Source,
    key: &[usize],
    printed: &[Option<String>],
) -> Result<u64> {
    without_indexes(connection).await?;
    let sql = format!(
        "select pg_catalog.count(*) from {rows} where {key} operator(pg_catalog.=) $1::text[]",
        rows = source.rows("r"),
        key = print::key(&Key::Columns(key.to_vec()), source, "r"),
    );
    let rows: i64 =
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(printed).fetch_one(connection).await?;
    Ok(rows as u64)
}

/// An index may miss rows (a collation that changed, a damaged page); the table itself does not.
async fn without_indexes(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        r#"
        select set_config('enable_seqscan', 'on', true),
               set_config('enable_indexscan', 'off', true),
               set_config('enable_indexonlyscan', 'off', true),
               set_config('enable_bitmapscan', 'off', true)
        "#,
    )
    .execute(connection)
    .await?;
    Ok(())
}
