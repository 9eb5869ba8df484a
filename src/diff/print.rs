//! SQL that prints a value as its type's output function does.

use super::Source;
use crate::catalog::{Column, Key, Table};
use crate::postgres::{Ident, Literal, QualifiedName};

/// Built-in types with their output functions (PostgreSQL manual, `pg_type.typoutput`). Only these
/// are called by name; see [`printed`].
const OUTPUTS: [(u32, &str); 18] = [
    (17, "byteaout"),
    (20, "int8out"),
    (21, "int2out"),
    (23, "int4out"),
    (26, "oidout"),
    (114, "json_out"),
    (700, "float4out"),
    (701, "float8out"),
    (1082, "date_out"),
    (1083, "time_out"),
    (1114, "timestamp_out"),
    (1184, "timestamptz_out"),
    (1186, "interval_out"),
    (1266, "timetz_out"),
    (1700, "numeric_out"),
    (2950, "uuid_out"),
    (3220, "pg_lsn_out"),
    (3802, "jsonb_out"),
];

/// Text and varchar, which are what they print. Nobody can define another cast between the two.
const TEXTS: [u32; 2] = [25, 1043];

/// An expression of type text with the column's value as its type's output function prints it, null
/// for null.
///
/// Never a cast to text: a database may define one for almost any type, built-in ones included, and
/// some built-in ones differ from the output function (bool says `true` for `t`, `char(n)` loses its
/// padding, inet gains a mask).
pub(super) fn printed(column: &Column, table_alias: &str) -> String {
    let value = format!("{table_alias}.{}", Ident::new(&column.name));
    let oid = column.base.oid;
    if TEXTS.contains(&oid) {
        return format!("{value}::text");
    }
    match OUTPUTS.iter().find(|(of, _)| *of == oid) {
        Some((_, output)) => format!("textin({output}({value}))"),
        // format() calls the output function as well, which costs a little more, and prints null as
        // nothing. A composite whose fields are all null `is null` and yet is not null: num_nulls()
        // sees the difference.
        None => format!("case when num_nulls({value}) = 0 then format('%s', {value}) end"),
    }
}

/// A literal of the column's type that its input function reads: a value as [`printed`] has it, or
/// null.
///
/// Never a cast from text, which a database may define too. The type has no modifier, so that a
/// value is not cut or rounded.
pub(super) fn literal(column: &Column, value: Option<&str>) -> String {
    let base = QualifiedName::new(&column.base.schema, &column.base.name);
    match value {
        Some(value) => format!("{}::{base}", Literal(value)),
        None => format!("null::{base}"),
    }
}

/// The images of rows on the server that holds them, as `text[]` in column order.
pub(super) fn image(source: &Source, alias: &str) -> String {
    array(source.columns.iter().map(|column| printed(column, alias)))
}

/// The same out of a foreign table, whose columns are text already.
pub(super) fn foreign_image(table: &Table, alias: &str) -> String {
    array(table.columns.iter().map(|column| foreign(column, alias)))
}

/// The key's columns of an image: what pairs two rows. The whole image for a table without a key.
pub(super) fn key(key: &Key, source: &Source, alias: &str) -> String {
    match key {
        Key::Columns(key) => array(key.iter().map(|&at| printed(&source.columns[at], alias))),
        Key::WholeRow => image(source, alias),
    }
}

/// A column of a foreign table.
pub(super) fn foreign(column: &Column, alias: &str) -> String {
    format!("{alias}.{}", Ident::new(&column.name))
}

/// Columns may have collations that do not go together; images are compared byte by byte.
fn array(values: impl Iterator<Item = String>) -> String {
    format!("(array[{}]::text[] collate \"C\")", values.collect::<Vec<_>>().join(", "))
}
