//! Which column keeps a table from being read.

use super::{Source, print};
use crate::error::Result;
use crate::postgres::Session;

/// How long one column may be looked through.
const LOOK_WITHIN_MS: &str = "60000";

/// The first of a table's compared columns that has a value that cannot be printed as UTF-8 text: it
/// is too long, or has other bytes. `None` if there is none, or if that was not found out in time.
///
/// Reads the whole table, once for each column; for tables that failed. To be called in a session of
/// its own.
///
/// # Errors
/// The session broke.
pub(crate) async fn unreadable_column<'a>(
    session: &Session,
    source: &'a Source,
) -> Result<Option<&'a str>> {
    session
        .execute("select set_config('statement_timeout', $1, false)", &[&LOOK_WITHIN_MS])
        .await?;
    for column in &source.columns {
        let sql = format!(
            "select count(convert_to({}, 'UTF8')) from {}",
            print::printed(column, "r"),
            source.rows("r")
        );
        let Err(error) = session.query_one::<i64>(&sql, &[]).await else { continue };
        match error.sqlstate() {
            // query_canceled
            Some("57014") => return Ok(None),
            Some(_) => return Ok(Some(&column.name)),
            None => return Err(error),
        }
    }
    Ok(None)
}
