//! SQL that prints a value as its type's output function does.

use super::Source;
use crate::catalog::{Column, Key, Table};
use crate::sql::Ident;

/// Built-in types whose cast to text *is* their output function. Other casts are not: bool says
/// `true` for `t`, char(n) loses its padding, inet gains a mask, and anybody may define a cast for
/// a type of theirs.
const CAST_PRINTS: [u32; 20] = [
    20,   // int8
    21,   // int2
    23,   // int4
    25,   // text
    26,   // oid
    114,  // json
    17,   // bytea
    700,  // float4
    701,  // float8
    1043, // varchar
    1082, // date
    1083, // time
    1114, // timestamp
    1184, // timestamptz
    1186, // interval
    1266, // timetz
    1700, // numeric
    2950, // uuid
    3802, // jsonb
    3220, // pg_lsn
];

/// An expression of type text with the column's value as its type prints it, null for null.
pub(super) fn printed(column: &Column, table_alias: &str) -> String {
    let value = format!("{table_alias}.{}", Ident::new(&column.name));
    if CAST_PRINTS.contains(&column.base.oid) {
        format!("{value}::text")
    } else {
        // format() calls the output function, but prints null as nothing. A composite whose
        // fields are all null `is null` and yet is not null: num_nulls() sees the difference.
        format!("case when num_nulls({value}) = 0 then format('%s', {value}) end")
    }
}

/// The images of rows on the server that holds them, as `text[]` in column order.
pub(super) fn image(source: &Source, alias: &str) -> String {
    array(source.columns.iter().map(|column| printed(column, alias)))
}

/// The same out of a foreign table, whose columns are text already.
pub(super) fn foreign_image(table: &Table, alias: &str) -> String {
    array(foreign(table, 0..table.columns.len(), alias))
}

/// The key's columns of an image: what pairs two rows. The whole image for a table without a key.
pub(super) fn key(key: &Key, source: &Source, alias: &str) -> String {
    match key {
        Key::Columns(key) => array(key.iter().map(|&at| printed(&source.columns[at], alias))),
        Key::WholeRow => image(source, alias),
    }
}

/// The same out of a foreign table.
pub(super) fn foreign_key(table: &Table, alias: &str) -> String {
    match &table.key {
        Key::Columns(key) => array(foreign(table, key.iter().copied(), alias)),
        Key::WholeRow => foreign_image(table, alias),
    }
}

fn foreign(
    table: &Table,
    columns: impl Iterator<Item = usize>,
    alias: &str,
) -> impl Iterator<Item = String> {
    columns.map(move |at| format!("{alias}.{}", Ident::new(&table.columns[at].name)))
}

/// Columns may have collations that do not go together; images are compared byte by byte.
fn array(values: impl Iterator<Item = String>) -> String {
    format!("(array[{}]::text[] collate \"C\")", values.collect::<Vec<_>>().join(", "))
}
