//! Checksums of rows that see every difference of images.
//!
//! PostgreSQL's hash functions of some types fold values that print differently (int8 -1 and
//! 4294967295, numeric 1.0 and 1.00, arrays of other bounds). Only those that do not are used as they
//! are ([`hash`]); every other value is hashed by its `send` form where that tells all values apart
//! that print differently, and by its printed text otherwise. Send forms may differ for values that
//! print the same (a NaN's payload); that only costs a look at the rows.

use std::fmt::Display;

use crate::catalog::{BaseType, Column};
use crate::diff::{Source, Tables, print};
use crate::postgres::Ident;

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

/// Short values of fixed size: the hexadecimal text of their send form hashes faster than an array
/// of bytes does.
const SHORT: [u32; 11] = [700, 701, 774, 790, 829, 1082, 1083, 1114, 1184, 1186, 1266];

/// A 64-bit checksum of a row: the hash of its key, seeded with its other values'.
///
/// Had rows no seed of their own, the xor of rows would not see two rows that swapped a value. The
/// key's hash mixes its seed well, so that it is needed once a row and not once a column: it was a
/// fifth of the cost.
pub(super) fn of_row(tables: &Tables, source: &Source, key: &[usize], alias: &str) -> String {
    let values = |columns: Vec<usize>| {
        of_values(columns.into_iter().map(|at| hash(tables, source, at, seed(at), alias)))
    };
    let others = (0..source.columns.len()).filter(|at| !key.contains(at)).collect();
    let keyed = keyed(tables, source, key, alias, values(others));
    // A hash of null is null, whatever its seed. No key should have one.
    let unkeyed = mixed(&values((0..source.columns.len()).collect()));
    format!("coalesce({keyed}, {unkeyed})")
}

/// A 64-bit checksum of the stored values of a tuple that both sides have in one place.
pub(super) fn of_tuple(tables: &Tables, source: &Source, alias: &str) -> String {
    let columns = 0..source.columns.len();
    let values = of_values(columns.map(|at| hash(tables, source, at, seed(at), alias)));
    format!("hashtidextended({alias}.ctid, {values})")
}

/// A 64-bit hash of a row's image: equal for two rows exactly when (but for a collision) they print
/// the same.
pub(super) fn of_image(tables: &Tables, source: &Source, alias: &str) -> String {
    let columns = (0..source.columns.len()).map(|at| {
        let column = &source.columns[at];
        if column.element.is_some() || SENDS_MORE.contains(&column.base.oid) {
            Hash::Of(hash_of_text(&print::printed(column, alias), seed(at)))
        } else {
            hash(tables, source, at, seed(at), alias)
        }
    });
    mixed(&of_values(columns))
}

/// The seed of a column's hash: had all columns the same, two of a row that swapped their values
/// would not be seen.
///
/// Seeds are as far apart as 63 bits let them be (multiples of the golden ratio). An int8 is hashed
/// as an int4 is, under its own seed xor its value: with seeds of 3 and 4, a 7 that moved from an
/// int4 to an int8 next to it would leave the row's hash as it was.
fn seed(at: usize) -> u64 {
    (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
}

/// The xor of some values' hashes, each under a seed of its column.
fn of_values(columns: impl Iterator<Item = Hash>) -> String {
    let mut terms = Vec::new();
    let mut bytes = Vec::new();
    for hash in columns {
        match hash {
            Hash::Of(hash) => terms.push(format!("coalesce({hash}, 0)")),
            Hash::Bytes(value) => bytes.push(value),
        }
    }
    if !bytes.is_empty() {
        // An array of bytes, each column's: bounds and dimensions are always the same, and nulls
        // have a place of their own in it.
        terms.push(hash_of_bytes(&bytes.join(", "), 0));
    }
    if terms.is_empty() { "0::int8".to_owned() } else { format!("({})", terms.join(" # ")) }
}

/// Sums and xors over rows of an xor of columns would stay much as they are when two rows exchange a
/// value. So what has no key to be mixed with is hashed once more.
fn mixed(values: &str) -> String {
    hash_of_bytes(&format!("int8send({values})"), 1)
}

/// A 64-bit hash of a row's key. Never null, whatever the key holds: the xor of rows would leave
/// the row out.
pub(super) fn of_key(tables: &Tables, source: &Source, key: &[usize], alias: &str) -> String {
    format!("coalesce({}, 0)", keyed(tables, source, key, alias, "1".to_owned()))
}

/// A 64-bit hash of the printed key: equal on both sides for keys that print the same, whatever
/// their types. Never null.
pub(super) fn of_printed_key(source: &Source, key: &[usize], alias: &str) -> String {
    key.iter().fold("0".to_owned(), |seed, &at| {
        let printed = print::printed(&source.columns[at], alias);
        format!("coalesce({}, 0)", hash_of_text(&printed, seed))
    })
}

/// The hash of a row's key under a seed; null if any column of it is (an array's would not be).
fn keyed(tables: &Tables, source: &Source, key: &[usize], alias: &str, seed: String) -> String {
    key.iter().fold(seed, |seed, &at| match hash(tables, source, at, &seed, alias) {
        Hash::Of(hash) => hash,
        Hash::Bytes(value) => hash_of_text(&format!("encode({value}, 'hex')"), &seed),
    })
}

fn hash_of_bytes(values: &str, seed: impl Display) -> String {
    format!("hash_array_extended(array[{values}]::bytea[], {seed})")
}

fn hash_of_text(text: &str, seed: impl Display) -> String {
    format!("hashtextextended({text} collate \"C\", {seed})")
}

/// How a column's value is hashed.
enum Hash {
    /// An expression for the hash; null for null.
    Of(String),
    /// An expression for the value as bytes, to be hashed in an array.
    Bytes(String),
}

/// The hash of a column's value under a seed, in a way that both sides share.
fn hash(tables: &Tables, source: &Source, at: usize, seed: impl Display, alias: &str) -> Hash {
    let column = &source.columns[at];
    let same_type = |other: &Column| other.base == column.base && other.element == column.element;
    let drifted = !same_type(&tables.head.columns[at])
        || tables.base.as_ref().is_some_and(|base| !same_type(&base.columns[at]));
    let of_text = |text: &str| hash_of_text(text, &seed);
    let value = format!("{alias}.{}", Ident::new(&column.name));
    let printed = print::printed(column, alias);
    if drifted {
        return Hash::Of(of_text(&printed));
    }
    match column.base.oid {
        16 => Hash::Of(format!("hashint4extended({value}::int4, {seed})")),
        // Its hash folds the halves into one: the seed keeps them apart. See `seed`.
        20 => Hash::Of(format!("hashint8extended({value}, {seed} # {value})")),
        21 => Hash::Of(format!("hashint2extended({value}, {seed})")),
        23 => Hash::Of(format!("hashint4extended({value}, {seed})")),
        26 => Hash::Of(format!("hashoidextended({value}, {seed})")),
        2950 => Hash::Of(format!("uuid_hash_extended({value}, {seed})")),
        // By its bytes, whatever its own collation takes for equal.
        25 | 1043 => Hash::Of(of_text(&format!("{value}::text"))),
        // Printing it is cheaper than an array of its send form.
        1700 => Hash::Of(of_text(&printed)),
        oid => match send(column) {
            Some(send) => {
                let bytes = format!("{send}({value}{})", column.base_cast());
                if SHORT.contains(&oid) {
                    Hash::Of(of_text(&format!("encode({bytes}, 'hex')")))
                } else {
                    Hash::Bytes(bytes)
                }
            }
            None => Hash::Of(of_text(&printed)),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_small_number_leads_from_one_seed_to_another() {
        // PostgreSQL's most columns.
        let mut seeds: Vec<u64> = (0..1600).map(seed).collect();
        seeds.sort_unstable();
        assert!(seeds.iter().all(|&seed| i64::try_from(seed).is_ok_and(|seed| seed > 1 << 50)));
        // Their xor is no smaller than their difference.
        assert!(seeds.windows(2).all(|two| two[1] - two[0] > 1 << 50));
    }
}
