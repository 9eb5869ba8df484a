//! Checksums of rows that see every difference of images.
//!
//! PostgreSQL's hash functions for types fold values that print differently (int8 -1 and
//! 4294967295, arrays of other bounds), so none of them is used: a value is hashed by its `send`
//! form where that tells all values apart that print differently, and by its printed text otherwise.
//! Send forms may differ for values that print the same (a NaN's payload); that only costs a look at
//! the rows.

use crate::catalog::{BaseType, Column};
use crate::diff::{Source, Tables, print};
use crate::sql::{Ident, Relation};

/// Built-in types with their send functions (PostgreSQL manual, `pg_type.typsend`).
const SENDS: [(u32, &str); 28] = [
    (16, "boolsend"),
    (17, "byteasend"),
    (20, "int8send"),
    (21, "int2send"),
    (23, "int4send"),
    (25, "textsend"),
    (26, "oidsend"),
    (114, "json_send"),
    (600, "point_send"),
    (650, "cidr_send"),
    (700, "float4send"),
    (701, "float8send"),
    (774, "macaddr8_send"),
    (790, "cash_send"),
    (829, "macaddr_send"),
    (869, "inet_send"),
    (1042, "bpcharsend"),
    (1043, "varcharsend"),
    (1082, "date_send"),
    (1083, "time_send"),
    (1114, "timestamp_send"),
    (1184, "timestamptz_send"),
    (1186, "interval_send"),
    (1266, "timetz_send"),
    (1560, "bit_send"),
    (1562, "varbit_send"),
    (1700, "numeric_send"),
    (2950, "uuid_send"),
];

/// Those whose send forms also tell apart what prints the same: a NaN's payload is sent, and not
/// printed. Arrays are like them (whether they have a bitmap for nulls is sent).
const SENDS_MORE: [u32; 3] = [600, 700, 701];

/// A 64-bit checksum of a row. The array is one of bytes, each column's, so bounds and dimensions
/// are always the same; nulls have a place of their own in it.
///
/// PostgreSQL adds up the hashes of an array's elements, and additions of the same numbers cancel
/// in the xor of rows far too often: had every row the same seed, two rows that swapped one value
/// would go unseen once in 10⁸ times (0.75⁶³). So each row's key is the seed of its hashes.
pub(super) fn of_row(tables: &Tables, source: &Source, key: &[usize], alias: &str) -> String {
    let seed = of_key(tables, source, key, alias);
    of_columns(tables, source, 0..source.columns.len(), &seed, alias)
}

/// A 64-bit hash of a row's key.
pub(super) fn of_key(tables: &Tables, source: &Source, key: &[usize], alias: &str) -> String {
    of_columns(tables, source, key.iter().copied(), "1", alias)
}

/// A 64-bit checksum of the stored values of a tuple that both sides have in one place.
pub(in crate::diff) fn of_tuple(tables: &Tables, source: &Source, alias: &str) -> String {
    let seed = format!("hashtidextended({alias}.ctid, 0)");
    of_columns(tables, source, 0..source.columns.len(), &seed, alias)
}

/// A 64-bit hash of a row's image: equal for two rows exactly when (but for a collision) they print
/// the same.
///
/// Without a key there is nothing to seed it with, and sums of the columns' hashes would stay as
/// they are when two rows exchange a value. So the sum of a row is hashed once more.
pub(super) fn of_image(tables: &Tables, source: &Source, alias: &str) -> String {
    let values: Vec<String> = (0..source.columns.len())
        .map(|at| {
            let column = &source.columns[at];
            if column.element.is_some() || SENDS_MORE.contains(&column.base.oid) {
                format!("textsend({})", print::printed(column, alias))
            } else {
                bytes(tables, source, at, alias)
            }
        })
        .collect();
    let sum = hash_array(&values, "1");
    hash_array(&[format!("int8send({sum})")], "1")
}

fn of_columns(
    tables: &Tables,
    source: &Source,
    columns: impl Iterator<Item = usize>,
    seed: &str,
    alias: &str,
) -> String {
    let bytes: Vec<String> = columns.map(|at| bytes(tables, source, at, alias)).collect();
    hash_array(&bytes, seed)
}

fn hash_array(bytes: &[String], seed: &str) -> String {
    format!("hash_array_extended(array[{}]::bytea[], {seed})", bytes.join(", "))
}

/// A column's value as bytes, in a way that both sides share.
fn bytes(tables: &Tables, source: &Source, at: usize, alias: &str) -> String {
    let column = &source.columns[at];
    let same_type = |other: &Column| other.base == column.base && other.element == column.element;
    let drifted = !same_type(&tables.head.columns[at])
        || tables.base.as_ref().is_some_and(|base| !same_type(&base.columns[at]));
    match send(column).filter(|_| !drifted) {
        Some(send) => {
            let value = format!("{alias}.{}", Ident::new(&column.name));
            // enum_send() takes no domain over an enum.
            let base = Relation::new(&column.base.schema, &column.base.name);
            let cast = if column.base.kind == 'e' { format!("::{base}") } else { String::new() };
            format!("{send}({value}{cast})")
        }
        None => format!("textsend({})", print::printed(column, alias)),
    }
}

fn send(column: &Column) -> Option<&'static str> {
    match &column.element {
        Some(element) => plain(element).map(|_| "array_send"),
        None => plain(&column.base),
    }
}

fn plain(base: &BaseType) -> Option<&'static str> {
    if base.kind == 'e' {
        // The label, not the number, which may mean another label on the other side.
        return Some("enum_send");
    }
    SENDS.iter().find(|(oid, _)| *oid == base.oid).map(|(_, send)| *send)
}
