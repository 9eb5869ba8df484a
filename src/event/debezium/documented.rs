//! The tables of `docs/events.md` against the program.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::super::landing::LandingValue;
use super::super::testing::column;
use super::DebeziumValue;
use crate::catalog::Column;
use crate::model::{
    BinaryMode, DebeziumOptions, DecimalMode, HstoreMode, IntervalMode, TimePrecision,
};

const EVENTS: &str = include_str!("../../../docs/events.md");

/// The rows of the table under a heading, cell by cell.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = EVENTS.split_once(&format!("\n## {heading}\n")).unwrap();
    section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" |").map(str::trim).collect())
        .collect()
}

/// The types as the document names them, with one of each as the catalog has it.
fn types() -> BTreeMap<&'static str, Column> {
    let built_in = [
        ("bool", "bool", 16),
        ("int2", "int2", 21),
        ("int4", "int4", 23),
        ("int8", "int8", 20),
        ("oid", "oid", 26),
        ("float4", "float4", 700),
        ("float8", "float8", 701),
        ("numeric", "numeric", 1700),
        ("numeric(p,s)", "numeric", 1700),
        ("money", "money", 790),
        ("text", "text", 25),
        ("varchar", "varchar", 1043),
        ("char(n)", "bpchar", 1042),
        ("\"char\"", "char", 18),
        ("json", "json", 114),
        ("jsonb", "jsonb", 3802),
        ("xml", "xml", 142),
        ("uuid", "uuid", 2950),
        ("inet", "inet", 869),
        ("cidr", "cidr", 650),
        ("macaddr", "macaddr", 829),
        ("macaddr8", "macaddr8", 774),
        ("tsvector", "tsvector", 3614),
        ("int4range", "int4range", 3904),
        ("int8range", "int8range", 3926),
        ("numrange", "numrange", 3906),
        ("tsrange", "tsrange", 3908),
        ("tstzrange", "tstzrange", 3910),
        ("daterange", "daterange", 3912),
        ("bytea", "bytea", 17),
        ("date", "date", 1082),
        ("time", "time", 1083),
        ("timestamp", "timestamp", 1114),
        ("timestamptz", "timestamptz", 1184),
        ("timetz", "timetz", 1266),
        ("interval", "interval", 1186),
        ("bit(1)", "bit", 1560),
        ("varbit(1)", "varbit", 1562),
        ("bit(n)", "bit", 1560),
        ("varbit", "varbit", 1562),
        ("point", "point", 600),
        ("name", "name", 19),
        ("int2vector", "int2vector", 22),
        ("oidvector", "oidvector", 30),
        ("multiranges", "int4multirange", 4451),
        ("box", "box", 603),
        ("circle", "circle", 718),
        ("line", "line", 628),
        ("lseg", "lseg", 601),
        ("path", "path", 602),
        ("polygon", "polygon", 604),
        ("regclass and its kin", "regclass", 2205),
        ("pg_lsn", "pg_lsn", 3220),
        ("xid", "xid", 28),
        ("tid", "tid", 27),
        ("tsquery", "tsquery", 3615),
        ("jsonpath", "jsonpath", 4072),
        ("snapshots", "pg_snapshot", 5038),
        ("refcursor", "refcursor", 1790),
        ("all other types", "aclitem", 1033),
    ];
    let extensions = [
        ("citext", "citext"),
        ("ltree", "ltree"),
        ("isbn", "isbn"),
        ("enums", "mood"),
        ("hstore", "hstore"),
        ("geometry", "geometry"),
        ("geography (PostGIS)", "geography"),
        ("vector", "vector"),
        ("halfvec (pgvector)", "halfvec"),
        ("sparsevec", "sparsevec"),
        ("composite types", "pair"),
        ("issn and the other isn types", "issn"),
    ];
    let mut types: BTreeMap<&str, Column> = built_in
        .map(|(documented, name, oid)| (documented, column("c", name, oid)))
        .into_iter()
        .chain(extensions.map(|(documented, name)| (documented, column("c", name, 20_000))))
        .collect();
    for (name, typmod) in
        [("numeric(p,s)", (10 << 16 | 2) + 4), ("bit(1)", 1), ("varbit(1)", 1), ("bit(n)", 8)]
    {
        types.get_mut(name).unwrap().typmod = typmod;
    }
    for (name, kind) in [("enums", 'e'), ("composite types", 'c'), ("multiranges", 'm')] {
        types.get_mut(name).unwrap().base.kind = kind;
    }
    types
}

#[test]
fn every_type_is_written_as_documented() {
    let mut types = types();
    let options = DebeziumOptions::default();
    for row in rows("Types") {
        let [named, landing, debezium, unknown] = row[..] else { panic!("{row:?}") };
        // What follows a type, and arrays, is told by values: `recorded.rs`.
        let (named, _) = named.split_once("; arrays").unwrap_or((named, ""));
        if named.starts_with('…') || named.contains("arrays") {
            continue;
        }
        for name in named.split(", ") {
            let mut column = types.remove(name).unwrap_or_else(|| panic!("{name}: which type?"));
            let text = match LandingValue::of(&column) {
                LandingValue::Boolean => "`true`",
                LandingValue::Integer | LandingValue::Float => "number",
                LandingValue::Text if name == "bytea" || name == "date" => "`\"",
                LandingValue::Text => "string",
            };
            assert!(landing.starts_with(text), "{name}: landing {landing}");
            column.not_null = true;
            let chosen = DebeziumValue::of(&column, &options);
            assert_eq!(chosen.value.is_none(), debezium.starts_with("left out"), "{name}");
            assert_eq!(chosen.warning.is_some(), debezium.contains("*warning*"), "{name}");
            let Some(value) = chosen.value else { continue };
            // The default settings' comes first.
            if let Some(unknown) = unknown.strip_prefix('`') {
                let (unknown, _) = unknown.split_once('`').unwrap();
                assert_eq!(String::from_utf8(value.absent).unwrap(), unknown, "{name}");
            }
        }
    }
    assert!(types.is_empty(), "not documented: {:?}", types.keys());
}

/// `| property | values, the default first | types |`
#[test]
fn every_setting_is_documented_with_its_values() {
    fn values<T: ValueEnum + Default + PartialEq + 'static>() -> Vec<String> {
        let name = |value: &T| value.to_possible_value().unwrap().get_name().to_owned();
        let all = T::value_variants();
        assert!(all[0] == T::default(), "the default comes first");
        all.iter().map(name).collect()
    }
    let documented: BTreeMap<&str, Vec<String>> = rows("Settings of Debezium's")
        .into_iter()
        .map(|row| {
            let words = row[1].split(", ").map(|word| word.trim_matches('`').to_owned());
            (row[0].trim_matches('`'), words.collect())
        })
        .collect();
    let program = BTreeMap::from([
        ("decimal.handling.mode", values::<DecimalMode>()),
        ("time.precision.mode", values::<TimePrecision>()),
        ("binary.handling.mode", values::<BinaryMode>()),
        ("interval.handling.mode", values::<IntervalMode>()),
        ("hstore.handling.mode", values::<HstoreMode>()),
    ]);
    assert_eq!(documented, program);
}
