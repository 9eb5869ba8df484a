//! Rows counted by statements that share nothing with the strategies: neither their joins, ranges,
//! aliases and checksums nor any index. What a strategy has lost, a count still finds.

use super::{Source, print};
use crate::catalog::Key;
use crate::error::Result;
use crate::postgres::Session;

/// Keeps a session from using indexes to its end. An index may miss rows (a collation that changed,
/// a damaged page); the table itself does not.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn use_no_index(connection: &Session) -> Result<()> {
    connection
        .execute(
            r#"
            select set_config('enable_seqscan', 'on', false),
                   set_config('enable_indexscan', 'off', false),
                   set_config('enable_indexonlyscan', 'off', false),
                   set_config('enable_bitmapscan', 'off', false)
            "#,
            &[],
        )
        .await?;
    Ok(())
}

/// The published rows of tables on a side, in their order, in a session that uses no index. Reads each
/// table from its first block to its last, with as many parallel workers as the server allows.
///
/// # Errors
/// PostgreSQL's own, of whichever table.
pub(crate) async fn count_rows(connection: &Session, sources: &[&Source]) -> Result<Vec<u64>> {
    let counts: Vec<String> = sources
        .iter()
        .enumerate()
        .map(|(place, source)| {
            let only = if source.only { "only " } else { "" };
            let filter = source.filter.as_ref().map(|filter| format!(" where ({filter})"));
            format!(
                "select {place}, pg_catalog.count(*) from {only}{relation} as r{filter}",
                relation = source.relation,
                filter = filter.unwrap_or_default(),
            )
        })
        .collect();
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("{} order by 1", counts.join(" union all "));
    let rows: Vec<(i32, i64)> = connection.query(&sql, &[]).await?;
    Ok(rows.into_iter().map(|(_, rows)| rows as u64).collect())
}

/// The published rows of a side whose key prints like this, in the same way.
///
/// # Errors
/// PostgreSQL's own.
pub(crate) async fn count_rows_with_key(
    connection: &Session,
    source: &Source,
    key: &[usize],
    printed: &[Option<String>],
) -> Result<u64> {
    let sql = format!(
        "select pg_catalog.count(*) from {rows} where pg_catalog.array_eq({key}, $1::text[])",
        rows = source.rows("r"),
        key = print::key(&Key::Columns(key.to_vec()), source, "r"),
    );
    let rows: i64 = connection.query_one(&sql, &[&printed]).await?;
    Ok(rows as u64)
}
