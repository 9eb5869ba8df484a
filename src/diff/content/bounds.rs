//! Keys at which a table is cut into parts.

use crate::catalog::Key;
use crate::diff::{Image, Tables, print};
use crate::error::Result;
use crate::postgres::{Ident, Row, Session};

/// Blocks that are read for each part, and at most.
const BLOCKS_A_PART: u64 = 8;
const MOST_BLOCKS: u64 = 1000;

/// Whole keys that cut a table of so many pages on head into so many parts of about equal size,
/// in their order; fewer where it has fewer rows. Out of the rows in a few of its blocks, chosen by
/// chance, so that neither missing statistics nor a first key column with few values matters.
pub(crate) async fn key_bounds(
    head: &Session,
    tables: &Tables,
    pages: u64,
    parts: u32,
) -> Result<Vec<Vec<String>>> {
    let Key::Columns(key) = &tables.table.key else { return Ok(Vec::new()) };
    if parts < 2 {
        return Ok(Vec::new());
    }
    let source = &tables.head;
    let blocks = (BLOCKS_A_PART * u64::from(parts)).min(MOST_BLOCKS);
    let percent = (100.0 * blocks as f64 / pages.max(1) as f64).min(100.0);
    let order: Vec<String> =
        key.iter().map(|&at| format!("r.{}", Ident::new(&source.columns[at].name))).collect();
    // Every n-th row of the sample but the last, which would leave nothing behind it.
    let sql = format!(
        r#"
        select s.key
          from (select {key} as key, row_number() over (order by {order}) as number,
                       count(*) over () as rows
                  from {rows} tablesample system ($1)
                 {filter}) as s
         where s.number > 1 and s.number % greatest(s.rows / $2::int8, 1::int8) = 0
         order by s.number
         limit $2 - 1
        "#,
        key = print::key(&tables.table.key, source, "r"),
        order = order.join(", "),
        rows = source.all_rows("r"),
        filter = source.filter.as_ref().map(|filter| format!("where {filter}")).unwrap_or_default(),
    );
    let rows = head.query::<Row>(&sql, &[&(percent as f32), &i64::from(parts)]).await?;
    rows.iter()
        .map(|row| {
            let image = Image::read_columns(row, 0, key.len())?;
            Ok(image.iter().flatten().map(str::to_owned).collect())
        })
        .collect()
}
