//! The `full` strategy: read everything, join on head.
//!
//! The seed's FULL OUTER JOIN, by image: both sides print every row where it is stored, head joins
//! on the printed key. It needs nothing but a foreign table, so it is the baseline and the judge
//! of the other strategies. Cost: every row of base crosses the network, and head's hash join
//! spills both sides to temporary files.

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::{Change, DiffItem, Image, RowChange, Tables, key_hash, print};
use crate::catalog::{Key, Table};
use crate::error::{Error, Result};
use crate::postgres::{Binary, Ident, Row, Session};

/// Changes in one item of the stream: enough to be worth a write, few enough to hold.
const STEP_CHANGES: usize = 1000;
/// Bytes of images in one item of the stream.
const STEP_BYTES: usize = 1 << 20;

/// All changes of a table, deletes first, so that a consumer with unique constraints meets a value
/// again only after it is gone. Reads within the transaction that is open on `head`.
pub(super) fn changes<'a>(
    head: &'a Session,
    tables: &'a Tables,
) -> BoxStream<'a, Result<DiffItem>> {
    try_stream! {
        // Reading a foreign table through a cursor, merging two sorted sides is what the planner
        // likes best when it knows nothing of the printed keys. Sorting both sides costs twice a
        // hash join.
        head.execute("select set_config('enable_mergejoin', 'off', true)", &[])
            .await?;
        let rows_on_head: i64 =
            head.query_one(&format!("select count(*) from {}", tables.head.rows("r")), &[])
                .await?;
        yield DiffItem::Compared(rows_on_head as u64);
        let table = &tables.table;
        let sql = match &table.key {
            Key::Columns(key) if tables.sound_index => keyed(tables, key),
            Key::Columns(key) => keyed_with_copies(tables, key),
            Key::WholeRow => multiset(tables),
        };
        let mut keys_with_copies = 0;
        let mut rows = head.query_stream::<Row>(&sql, &[]).await?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut deletes = 0;
        while let Some(row) = rows.try_next().await? {
            keys_with_copies = row.try_get::<_, i64>(4)? as u64;
            let Copies { row, copies, first } = read(row, table)?;
            let row_bytes = match &row {
                RowChange::Insert(image) | RowChange::Delete(image) => image.bytes(),
                RowChange::Update { before, after } => before.bytes() + after.bytes(),
            };
            if matches!(row, RowChange::Delete(_)) {
                deletes += copies;
            }
            let mut left = Some(row);
            for (more, ordinal) in (0..copies).rev().zip(first..) {
                // The last one is the row itself.
                let Some(row) = (if more > 0 { left.clone() } else { left.take() }) else { break };
                batch.push(Change::new(row, ordinal));
                bytes += row_bytes;
                if batch.len() >= STEP_CHANGES || bytes >= STEP_BYTES {
                    bytes = 0;
                    yield DiffItem::Changes(std::mem::take(&mut batch));
                }
            }
        }
        if !batch.is_empty() {
            yield DiffItem::Changes(batch);
        }
        yield DiffItem::Compared(deletes);
        if let Some(note) = key_hash::copies_note(keys_with_copies) {
            yield note;
        }
    }
    .boxed()
}

/// The same after another strategy gave up for this reason, having counted some rows of head.
pub(super) fn instead<'a>(
    head: &'a Session,
    tables: &'a Tables,
    reason: String,
    mut counted: u64,
) -> BoxStream<'a, Result<DiffItem>> {
    try_stream! {
        yield DiffItem::Note(format!("{reason}: compared by full instead"));
        let mut items = changes(head, tables);
        while let Some(item) = items.try_next().await? {
            yield match item {
                DiffItem::Compared(rows) => {
                    let again = rows.min(std::mem::take(&mut counted));
                    DiffItem::Compared(rows - again)
                }
                item => item,
            };
        }
    }
    .boxed()
}

/// Rows with a key: joined on it, kept where the images differ. Columns: base's image, head's
/// image, how many such rows there are, the ordinal of the first, and how many of the changed keys
/// have more than one row.
///
/// Key columns are joined as text each, and arrays compared by a function: where a database has an
/// implicit cast from `text[]`, PostgreSQL finds no `=` for arrays that is the best.
///
/// The fences (`offset 0`) keep conditions and orders off the foreign table, whose columns are text
/// only on this side.
fn keyed(tables: &Tables, key: &[usize]) -> String {
    let table = &tables.table;
    let list = |columns: Vec<String>| -> String {
        let named = columns.into_iter().enumerate();
        // Compared byte by byte, whatever the columns' collations.
        let named = named.map(|(n, column)| format!("({column} collate \"C\") as k{n}"));
        named.collect::<Vec<_>>().join(", ")
    };
    let on: Vec<String> = (0..key.len()).map(|n| format!("b.k{n} = h.k{n}")).collect();
    let head_key =
        key.iter().map(|&at| print::printed(&tables.head.columns[at], "r")).collect::<Vec<_>>();
    let base_key = key.iter().map(|&at| print::foreign(&table.columns[at], "r")).collect();
    format!(
        r#"
        select b.image, h.image, 1::int8, 0::int8, 0::int8
          from (select {head_key}, {head_image} as image from {head} offset 0) as h
          full join (select {base_key}, {base_image} as image from {base} offset 0) as b
            on {on}
         where coalesce(array_ne(b.image, h.image), true)
         order by h.image is not null
        "#,
        head_key = list(head_key),
        head_image = print::image(&tables.head, "r"),
        head = tables.head.rows("r"),
        base_key = list(base_key),
        base_image = print::foreign_image(table, "r"),
        base = foreign(tables),
        on = on.join(" and "),
    )
}

/// The same where the unique index may have let a key in twice, which a join would multiply: images
/// are counted on both sides, and of each key those that are left over are paired in their order, as
/// [`row_pairing::pair_copies`](super::row_pairing::pair_copies) does. Base has as many rows of a key
/// as head, less what is left over of head's and more what is left over of base's.
///
/// A key is the text of its array here, which is another one for every other key: a database may have
/// an implicit cast from `text[]`, and then no `=` for arrays is the best.
fn keyed_with_copies(tables: &Tables, key: &[usize]) -> String {
    let table = &tables.table;
    let text = |columns: Vec<String>| {
        format!("(textin(array_out(array[{}]::text[])) collate \"C\")", columns.join(", "))
    };
    let head_key =
        key.iter().map(|&at| print::printed(&tables.head.columns[at], "r")).collect::<Vec<_>>();
    let base_key = key.iter().map(|&at| print::foreign(&table.columns[at], "r")).collect();
    format!(
        r#"
        with difference as materialized (
          select u.key, u.image, sum(u.side) as copies
            from (select 1 as side, {head_key} as key, {head_image} as image from {head}
                  union all
                  select -1, b.key, b.image
                    from (select {base_key} as key, {base_image} as image from {base} offset 0) as b
                 ) as u
           group by u.key, u.image
          having sum(u.side) <> 0
        ),
        numbered as (
          select s.key, s.image, s.copies > 0 as on_head,
                 row_number() over (partition by s.key, s.copies > 0 order by s.image) as number
            from difference as s
           cross join lateral generate_series(1, abs(s.copies)) as copy (number)
        ),
        keys as (
          select s.key, sum(s.copies) as more
            from difference as s
           group by s.key
        ),
        counted as (
          select k.key, count(*) as rows
            from (select {head_key} as key from {head} offset 0) as k
           where k.key in (select s.key from difference as s)
           group by k.key
        )
        select b.image, h.image, 1::int8, coalesce(h.number, b.number) - 1,
               (select count(*)
                  from keys as k
                  left join counted as c on c.key = k.key
                 where greatest(coalesce(c.rows, 0), coalesce(c.rows, 0) - k.more) > 1)
          from (select n.key, n.image, n.number from numbered as n where not n.on_head) as b
          full join (select n.key, n.image, n.number from numbered as n where n.on_head) as h
            on h.key = b.key and h.number = b.number
         order by h.image is not null
        "#,
        head_key = text(head_key),
        head_image = print::image(&tables.head, "r"),
        head = tables.head.rows("r"),
        base_key = text(base_key),
        base_image = print::foreign_image(table, "r"),
        base = foreign(tables),
    )
}

/// Rows without a key: images counted on both sides, kept where the counts differ, with the
/// difference as the number of copies.
fn multiset(tables: &Tables) -> String {
    let table = &tables.table;
    format!(
        r#"
        select case when d.copies < 0 then d.image end,
               case when d.copies > 0 then d.image end,
               abs(d.copies), 0::int8, 0::int8
          from (select s.image, sum(s.side) as copies
                  from (select 1 as side, {head_image} as image from {head}
                        union all
                        select -1, b.image
                          from (select {base_image} as image from {base} offset 0) as b) as s
                 group by s.image
                having sum(s.side) <> 0) as d
         order by d.copies > 0
        "#,
        head_image = print::image(&tables.head, "r"),
        head = tables.head.rows("r"),
        base_image = print::foreign_image(table, "r"),
        base = foreign(tables),
    )
}

/// Base's published rows as head reads them, as an item of a from list with the alias `r`: every
/// column is text.
fn foreign(tables: &Tables) -> String {
    match &tables.foreign {
        Some(foreign) => format!("{foreign} as r"),
        None => {
            let columns = tables.table.columns.iter();
            let columns =
                columns.map(|column| format!("null::text as {}", Ident::new(&column.name)));
            let columns: Vec<String> = columns.collect();
            format!("(select {} where false) as r", columns.join(", "))
        }
    }
}

/// What happened to rows of one image.
struct Copies {
    row: RowChange,
    copies: u64,
    /// The ordinal of the first.
    first: u64,
}

/// The row is dropped with it: its images are copied.
fn read(row: Row, table: &Table) -> Result<Copies> {
    let image = |at: usize| -> Result<Option<Image>> {
        let array: Option<Binary> = row.try_get(at)?;
        array.map(|array| Image::from_text_array(array.0, table.columns.len())).transpose()
    };
    let copies: i64 = row.try_get(2)?;
    let first: i64 = row.try_get(3)?;
    let row = match (image(0)?, image(1)?) {
        (Some(before), Some(after)) => RowChange::Update { before, after },
        (Some(before), None) => RowChange::Delete(before),
        (None, Some(after)) => RowChange::Insert(after),
        (None, None) => return Err(Error::item("the join returned a row that is on neither side")),
    };
    Ok(Copies { row, copies: copies.unsigned_abs(), first: first.unsigned_abs() })
}
