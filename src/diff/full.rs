//! The `full` strategy: read everything, join on head.
//!
//! The seed's FULL OUTER JOIN, by image: both sides print every row where it is stored, head joins
//! on the printed key. It needs nothing but a foreign table, so it is the baseline and the judge
//! of the other strategies. Cost: every row of base crosses the network, and head's hash join
//! spills both sides to temporary files.

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{Change, Image, RowChange, Step, Tables, print};
use crate::catalog::{Key, Table};
use crate::error::{Error, Result};

/// Changes in one step of the stream: enough to be worth a write, few enough to hold.
const STEP_CHANGES: usize = 1000;
/// Bytes of images in one step of the stream.
const STEP_BYTES: usize = 1 << 20;

/// All changes of a table, deletes first, so that a consumer with unique constraints meets a value
/// again only after it is gone. Reads within the transaction that is open on `head`.
pub(super) fn changes<'a>(
    head: &'a mut PgConnection,
    tables: &'a Tables,
) -> BoxStream<'a, Result<Step>> {
    try_stream! {
        // Reading a foreign table through a cursor, merging two sorted sides is what the planner
        // likes best when it knows nothing of the printed keys. Sorting both sides costs twice a
        // hash join.
        sqlx::query("select set_config('enable_mergejoin', 'off', true)")
            .execute(&mut *head)
            .await?;
        let rows_on_head: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {}", tables.head.rows("h"))))
                .fetch_one(&mut *head)
                .await?;
        yield Step::Compared(rows_on_head as u64);
        let table = &tables.table;
        let sql = match table.key {
            Key::Columns(_) => keyed(tables),
            Key::WholeRow => multiset(tables),
        };
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(head);
        let mut step = Vec::new();
        let mut bytes = 0;
        let mut deletes = 0;
        while let Some(row) = rows.try_next().await? {
            let (row, copies) = read(&row, table)?;
            let row_bytes = match &row {
                RowChange::Insert(image) | RowChange::Delete(image) => image.bytes(),
                RowChange::Update { before, after } => before.bytes() + after.bytes(),
            };
            if matches!(row, RowChange::Delete(_)) {
                deletes += copies;
            }
            for ordinal in 0..copies {
                step.push(Change::new(row.clone(), ordinal));
                bytes += row_bytes;
                if step.len() >= STEP_CHANGES || bytes >= STEP_BYTES {
                    bytes = 0;
                    yield Step::Changes(std::mem::take(&mut step));
                }
            }
        }
        if !step.is_empty() {
            yield Step::Changes(step);
        }
        yield Step::Compared(deletes);
    }
    .boxed()
}

/// The same after another strategy gave up for this reason, having counted some rows of head.
pub(super) fn instead<'a>(
    head: &'a mut PgConnection,
    tables: &'a Tables,
    reason: String,
    mut counted: u64,
) -> BoxStream<'a, Result<Step>> {
    try_stream! {
        yield Step::Note(format!("{reason}: compared by full instead"));
        let mut steps = changes(head, tables);
        while let Some(step) = steps.try_next().await? {
            yield match step {
                Step::Compared(rows) => {
                    let again = rows.min(std::mem::take(&mut counted));
                    Step::Compared(rows - again)
                }
                step => step,
            };
        }
    }
    .boxed()
}

/// Rows with a key: joined on it, kept where the images differ. Columns: base's image, head's
/// image, and 1.
///
/// The fences (`offset 0`) keep conditions and orders off the foreign table, whose columns are text
/// only on this side.
fn keyed(tables: &Tables) -> String {
    let table = &tables.table;
    format!(
        r#"
        select b.image, h.image, 1::int8
          from (select {head_key} as key, {head_image} as image from {head} offset 0) h
          full join (select {base_key} as key, {base_image} as image from {base} offset 0) b
            on b.key = h.key
         where b.image is distinct from h.image
         order by h.image is not null
        "#,
        head_key = print::key(&table.key, &tables.head, "h"),
        head_image = print::image(&tables.head, "h"),
        head = tables.head.rows("h"),
        base_key = print::foreign_key(table, "b"),
        base_image = print::foreign_image(table, "b"),
        base = foreign(tables),
    )
}

/// Rows without a key: images counted on both sides, kept where the counts differ, with the
/// difference as the number of copies.
fn multiset(tables: &Tables) -> String {
    let table = &tables.table;
    format!(
        r#"
        select case when copies < 0 then image end,
               case when copies > 0 then image end,
               abs(copies)
          from (select image, sum(side)::int8 as copies
                  from (select 1 as side, {head_image} as image from {head}
                        union all
                        select -1, b.image
                          from (select {base_image} as image from {base} offset 0) b) both_sides
                 group by image
                having sum(side) <> 0) surplus
         order by copies > 0
        "#,
        head_image = print::image(&tables.head, "h"),
        head = tables.head.rows("h"),
        base_image = print::foreign_image(table, "b"),
        base = foreign(tables),
    )
}

/// Base's published rows as head reads them, as an item of a from list with the alias `b`.
fn foreign(tables: &Tables) -> String {
    match &tables.foreign {
        Some(foreign) => format!("{foreign} b"),
        None => format!("(select * from {} limit 0) b", tables.head.relation),
    }
}

fn read(row: &PgRow, table: &Table) -> Result<(RowChange, u64)> {
    let image = |at: usize| -> Result<Option<Image>> {
        let value = row.try_get_raw(at)?;
        match value.as_bytes() {
            Ok(bytes) => Image::from_text_array(bytes, table.columns.len()).map(Some),
            Err(_) => Ok(None),
        }
    };
    let copies: i64 = row.try_get(2)?;
    let change = match (image(0)?, image(1)?) {
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete(before),
        (None, Some(after)) => RowChange::Insert(after),
        (None, None) => return Err(Error::item("the join returned a row that is on neither side")),
    };
    Ok((change, copies.unsigned_abs()))
}
