//! Random values: mostly those at the edges of their types.

use proptest::prelude::*;
use proptest::sample::select;

/// A type of columns.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) declared: &'static str,
    /// Has a btree operator class, so can be part of a key.
    pub(super) ordered: bool,
    kind: Kind,
    edges: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Integer(i64, i64),
    Decimal,
    Float4,
    Float8,
    /// With at most so many characters.
    Text(usize),
    Date,
    Timestamp,
    Bytes,
    Uuid,
    /// Only edges.
    Fixed,
}

const fn of(declared: &'static str, kind: Kind, edges: &'static [&'static str]) -> Type {
    Type { declared, ordered: true, kind, edges }
}

const fn unordered(declared: &'static str, kind: Kind, edges: &'static [&'static str]) -> Type {
    Type { declared, ordered: false, kind, edges }
}

pub(super) static TYPES: [Type; 36] = [
    of("smallint", Kind::Integer(-32768, 32767), &["0", "1", "-1", "-32768", "32767"]),
    of("integer", Kind::Integer(-20, 20), &["0", "-1", "-2147483648", "2147483647", "4711"]),
    of(
        "bigint",
        Kind::Integer(i64::MIN, i64::MAX),
        // -1 and 4294967295, 0 and 4294967297 fold in PostgreSQL's hash.
        &["-9223372036854775808", "9223372036854775807", "0", "-1", "4294967295", "4294967297"],
    ),
    of(
        "numeric",
        Kind::Decimal,
        &[
            "0",
            "0.0",
            "0.00",
            "1",
            "1.0",
            "1.00",
            "-1.000",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789",
            "1e-20",
            "1e40",
            "-0.10",
        ],
    ),
    of("numeric(10,2)", Kind::Fixed, &["0", "1", "-1.25", "99999999.99", "NaN", "0.01", "-0.10"]),
    of("numeric(5,0)", Kind::Fixed, &["0", "1", "-99999", "NaN", "128", "-128", "-129", "255"]),
    of(
        "real",
        Kind::Float4,
        &["0", "-0", "1", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "1e7", "0.1"],
    ),
    of(
        "double precision",
        Kind::Float8,
        &[
            "0",
            "-0",
            "1",
            "NaN",
            "Infinity",
            "-Infinity",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "0.30000000000000004",
            "1e15",
            "1e16",
            "9007199254740993",
        ],
    ),
    of("text", Kind::Text(60), TEXTS),
    of("text", Kind::Text(400), TEXTS),
    of("varchar(12)", Kind::Text(12), &["", "a", "A", " a ", "null", "ünï🎉", "\\N", "a\tb"]),
    of("character(5)", Kind::Text(5), &["", "a", "ab   ", "🎉", "'", "\\"]),
    of("boolean", Kind::Fixed, &["t", "f"]),
    of(
        "date",
        Kind::Date,
        &[
            "1970-01-01",
            "infinity",
            "-infinity",
            "0001-01-01 BC",
            "4713-01-01 BC",
            "5874897-12-31",
            "1582-10-10",
            "2000-02-29",
            "9999-12-31",
            "10000-01-01",
        ],
    ),
    of(
        "time",
        Kind::Fixed,
        &["00:00", "24:00:00", "23:59:59.999999", "12:34:56.7", "00:00:00.000001"],
    ),
    of("time(2)", Kind::Fixed, &["00:00", "24:00:00", "23:59:59.99", "12:34:56.7"]),
    of("timestamp", Kind::Timestamp, TIMESTAMPS),
    of("timestamp(3)", Kind::Timestamp, TIMESTAMPS),
    of("timestamp with time zone", Kind::Timestamp, TIMESTAMPS),
    of(
        "interval",
        Kind::Fixed,
        // The first three are equal and print differently.
        &[
            "1 mon",
            "30 days",
            "720:00:00",
            "0",
            "-1 year -2 mons +3 days -04:05:06.789",
            "178000000 years",
            "00:00:00.000001",
        ],
    ),
    of("uuid", Kind::Uuid, &["00000000-0000-0000-0000-000000000000"]),
    of("bytea", Kind::Bytes, &["\\x", "\\x00", "\\xff", "\\x5c27", "\\xdeadbeef00"]),
    unordered(
        "json",
        Kind::Fixed,
        &[
            "null",
            "{}",
            "[]",
            "{\"a\": 1}",
            "{\"a\":1}",
            "{\"a\":1,\"a\":2}",
            "\"\\u00fc\"",
            " [1,  2 ]",
            "1.0",
            "\"line\\nbreak \\\"quoted\\\"\"",
            "{\"b\":null,\n\"a\":[1.00]}",
        ],
    ),
    of(
        "jsonb",
        Kind::Fixed,
        &["null", "{}", "{\"a\":1}", "1.0", "1.00", "[1,{\"b\":\"\\\"\"}]", "\"\\u00fc\"", "1e30"],
    ),
    of("public.mood", Kind::Fixed, &["sad", "ok", "Happy 'n' \"free\"", ""]),
    of("public.amount", Kind::Fixed, &["0", "1.5", "-1.500", "NaN", "123456789.123"]),
    of("public.word", Kind::Text(40), TEXTS),
    of(
        "integer[]",
        Kind::Fixed,
        &[
            "{}",
            "{1}",
            "{1,2}",
            "{1,NULL,-3}",
            "{{1,2},{3,4}}",
            "[0:1]={1,2}",
            "{NULL}",
            "{{{1}},{{2}}}",
            "{2147483647}",
        ],
    ),
    of(
        "text[]",
        Kind::Fixed,
        &[
            "{}",
            "{a}",
            "{\"\"}",
            "{NULL,\"NULL\",null}",
            "{\"a b\",\"{\",\"}\",\",\",\"\\\"\",\"\\\\\"}",
            "{{a,b},{\"}\",\"{\"}}",
            "[2:3]={x,y}",
            "{ünï🎉,\"line\nbreak\"}",
        ],
    ),
    of(
        "inet",
        Kind::Fixed,
        &[
            "127.0.0.1",
            "127.0.0.1/8",
            "10.0.0.0/24",
            "::1",
            "2001:db8::/32",
            "0.0.0.0/0",
            "10.0.0.1/32",
        ],
    ),
    of("cidr", Kind::Fixed, &["127.0.0.0/8", "::/0", "10.0.0.1/32"]),
    of(
        "\"Zweites \"\"Schema\"\"; drop table x; --\".pair",
        Kind::Fixed,
        &["(1,a)", "(,)", "(1,)", "(,\"\")", "(-1,\"a b\"\",\")", "(2,\"(\\\\)\")"],
    ),
    of("public.mood[]", Kind::Fixed, &["{}", "{sad}", "{ok,\"\"}", "{NULL}"]),
    of("numeric(6,2)[]", Kind::Fixed, &["{}", "{1.00}", "{1.5,NULL}", "{NaN}", "{-0.01,9999.99}"]),
    of("macaddr", Kind::Fixed, &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    of("int4range", Kind::Fixed, &["empty", "[1,5)", "(,)", "[,7)", "[3,)"]),
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "a ",
    "null",
    "NULL",
    "\\N",
    "\\",
    "\\\\",
    "'",
    "\"",
    "''",
    "{}",
    "(,)",
    "\t",
    "\n",
    "\r\n",
    "a\nb",
    "ü",
    "u\u{308}",
    "🎉",
    "\u{feff}",
    "\u{1}\u{7f}",
    "\u{2028}",
    "true",
    "0",
    "%s",
    "$1",
    "\u{10ffff}",
    "<&>",
];

const TIMESTAMPS: &[&str] = &[
    "1970-01-01 00:00:00",
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00 BC",
    "2000-01-01 00:00:00.000001",
    "1969-12-31 23:59:59.999999",
    "9999-12-31 23:59:59.999",
    "10000-01-01 00:00:00.5",
    "1899-12-31 23:59:59.12",
    "2024-02-29 12:34:56.1",
    "4713-01-01 00:00:00 BC",
];

impl Type {
    /// What PostgreSQL reads as a value.
    fn value(&'static self) -> BoxedStrategy<String> {
        let edges = select(self.edges).prop_map(str::to_owned);
        let others = match self.kind {
            Kind::Fixed => return edges.boxed(),
            Kind::Integer(from, to) => (from..=to).prop_map(|n| n.to_string()).boxed(),
            Kind::Decimal => (any::<i64>(), 0..25u32)
                .prop_map(|(digits, scale)| format!("{digits}e-{scale}"))
                .boxed(),
            Kind::Float4 => any::<f32>().prop_map(|n| n.to_string()).boxed(),
            Kind::Float8 => any::<f64>().prop_map(|n| n.to_string()).boxed(),
            Kind::Text(length) => prop::collection::vec(
                prop_oneof![
                    6 => prop::char::range('a', 'f'),
                    1 => any::<char>().prop_filter("no text has it", |c| *c != '\0'),
                ],
                0..=length,
            )
            .prop_map(|chars| chars.into_iter().collect())
            .boxed(),
            Kind::Date => (1..9999, 1..=12, 1..=28)
                .prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"))
                .boxed(),
            Kind::Timestamp => (1..9999, 1..=12, 1..=28, 0..86400, 0..1_000_000)
                .prop_map(|(y, m, d, s, f)| {
                    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
                    format!("{y:04}-{m:02}-{d:02} {hour:02}:{minute:02}:{second:02}.{f:06}")
                })
                .boxed(),
            Kind::Bytes => prop::collection::vec(any::<u8>(), 0..80)
                .prop_map(|bytes| {
                    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("\\x{digits}")
                })
                .boxed(),
            Kind::Uuid => any::<u128>().prop_map(|n| uuid::Uuid::from_u128(n).to_string()).boxed(),
        };
        let long = match self.kind {
            // Toasted, in and out of line.
            Kind::Text(length) if length >= 60 => {
                select(&[500usize, 9000][..]).prop_map(|length| "long ü ".repeat(length)).boxed()
            }
            _ => others.clone(),
        };
        prop_oneof![10 => edges, 10 => others, 1 => long].boxed()
    }

    /// The same, or null if that is allowed.
    pub(super) fn nullable(&'static self, not_null: bool) -> BoxedStrategy<Option<String>> {
        match not_null {
            true => self.value().prop_map(Some).boxed(),
            false => prop_oneof![1 => Just(None), 4 => self.value().prop_map(Some)].boxed(),
        }
    }
}
