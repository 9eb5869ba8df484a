//! Interesting values of every built-in type, besides those that were recorded from the connector:
//! a declared type, and SQL expressions.

pub(super) const VALUES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false", "null"]),
    ("smallint", &["-32768", "32767"]),
    ("bigint", &["-9223372036854775808", "9007199254740993", "9223372036854775807"]),
    ("real", &["'NaN'", "'-Infinity'", "'-0'", "'1e-45'", "'3.4028235e38'", "0.1", "16777217"]),
    (
        "double precision",
        &["'NaN'", "'Infinity'", "'-0'", "'5e-324'", "'1.7976931348623157e308'", "0.1", "1e23"],
    ),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "repeat('9', 100)::numeric",
            "('-0.' || repeat('0', 99) || '1')::numeric",
            "(repeat('12345', 20) || '.' || repeat('67890', 20))::numeric",
            "'1.10'",
            "'1.1000'",
            "'0.000'",
            "'1e1000'",
            "'-1e-1000'",
        ],
    ),
    ("numeric(38,10)", &["'-1234567890123456789012345678.0123456789'", "'0'", "'NaN'"]),
    ("money", &["'92233720368547758.07'", "'-92233720368547758.08'", "'0.01'"]),
    (
        "text",
        &[
            "''",
            "'null'",
            "E'tab\\t newline\\n return\\r quote\" backslash\\\\ \\u0001\\u001f\\u007f\\u2028'",
            // Every character of the first plane, and some of all others.
            "(select string_agg(chr(i), '' order by i) from generate_series(1, 65535) i
               where i not between 55296 and 57343)",
            "(select string_agg(chr(p * 65536 + i), '' order by p, i) from generate_series(1, 16) p,
               unnest(array[0, 1, 4660, 65533]) i)",
            "repeat('🦀', 100000)",
        ],
    ),
    ("character(5)", &["'ab'", "''", "'ab  '"]),
    ("character varying(5)", &["'ab  '", "'äöüß€'"]),
    ("\"char\"", &["'a'", "''", "'\\200'"]),
    ("name", &["repeat('n', 63)"]),
    ("bytea", &["''", "(select decode(string_agg(lpad(to_hex(i), 2, '0'), '' order by i), 'hex') from generate_series(0, 255) i)"]),
    ("date", &["'4714-11-24 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "'0001-01-01'", "'0001-12-31 BC'", "'2000-02-29'"]),
    ("time", &["'00:00'", "'24:00:00'", "'23:59:60'", "'23:59:59.999999'"]),
    ("time(2)", &["'12:34:56.789'", "'24:00:00'"]),
    ("time with time zone", &["'24:00:00+00'", "'00:00+15:59:59'", "'23:59:59.999999-15:59'"]),
    (
        "timestamp",
        &["'4714-11-24 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'infinity'", "'-infinity'", "'2016-12-31 23:59:60'", "'1883-11-18 12:03:58.000001'"],
    ),
    (
        "timestamp with time zone",
        &["'4714-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'", "'infinity'", "'2016-12-31 23:59:60+00'", "'0001-01-01 00:00:00+00 BC'"],
    ),
    (
        "interval",
        &["'0'", "'1 year 2 mons 3 days 04:05:06.789'", "'-1 mon +1 day -00:00:01'", "'178000000 years'", "'-178000000 years'", "'00:00:00.000001'", "'2562047788:00:54.775807'"],
    ),
    ("bit(8)", &["B'10000001'", "B'00000000'"]),
    ("bit varying", &["B''", "B'1'", "B'0101010101'", "repeat('10', 500)::bit varying"]),
    ("inet", &["'10.0.0.1'", "'10.1.2.3/8'", "'::1'", "'fe80::1/64'", "'::ffff:1.2.3.4'", "'0.0.0.0/0'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'", "'::/0'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("uuid", &["'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("json", &["'{\"a\": 1, \"a\" :2,\t\"b\":[ ] }'", "'1e400'", "'\"\\u0000\"'", "' null '"]),
    (
        "jsonb",
        &["'{\"b\": 1e400, \"a\": 0.1000, \"aa\": -0}'", "'123456789012345678901234567890.123456789'", "'null'", "'\"\\ud83e\\udd80\"'", "(repeat('[', 500) || repeat(']', 500))::jsonb"],
    ),
    ("xml", &["'<a b=\"c\">&lt;&#9;é</a>'", "'text <b/> text'", "'<?xml version=\"1.0\"?><a/>'"]),
    ("tsvector", &["'''a b'':1A,2 ''c''''d'':3 e'", "''"]),
    ("tsquery", &["'a & !(b | c:*AB) <2> d'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1 && @.b like_regex \"^x\" flag \"i\")'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_class'"]),
    ("regtype", &["'int4[]'"]),
    ("pg_lsn", &["'FFFFFFFF/FFFFFFFF'", "'0/0'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("point", &["'(1e-300,-0)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,-1,0}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'((0,0),(1,1))'"]),
    ("path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("circle", &["'<(0,0),1.5>'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'", "'(5,10]'"]),
    ("numrange", &["'[1.10,2.00]'", "'(1.1,infinity]'"]),
    ("tstzrange", &["'[-infinity,2024-01-01 00:00+00)'"]),
    ("daterange", &["'[0044-03-15 BC,infinity]'"]),
    ("int8multirange", &["'{}'", "'{[1,2),[5,9)}'", "'{(,)}'"]),
    ("integer[]", &["'{}'", "'{1,NULL,3}'", "'[2:3]={1,2}'", "'[0:1][-5:-4]={{1,2},{3,4}}'", "'{{{1}},{{2}}}'"]),
    ("text[]", &["'{\"a,b\",\"c\\\"d\\\\e\",NULL,\"NULL\",\"\",\" \",é}'", "array[array['a', null], array['{', '}']]"]),
    ("numeric[]", &["'{1.10,1.100,NaN,NULL}'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("bytea[]", &["array['\\x00ff'::bytea, '']"]),
    ("timestamptz[]", &["'{infinity,\"0044-03-15 00:00+00 BC\",NULL}'"]),
    ("double precision[]", &["'{-0,NaN,5e-324}'"]),
    ("json[]", &["array['{\"a\" : 1, \"a\":2}'::json]"]),
    ("positive", &["1.50", "null"]),
    ("mood", &["'happy'", "'its \"so\"'"]),
    ("mood[]", &["'{happy,NULL,\"its \\\"so\\\"\"}'"]),
    (
        "nested",
        &[
            "row(1, row(2.50, array['x', null])::pair, null)::nested",
            "row(null, null, null)::nested",
            "null",
            "row(null, row(null, '{}')::pair, '')::nested",
        ],
    ),
    ("pair[]", &["array[row(1.0, array['a\"b'])::pair, null, row(null, null)::pair]"]),
    ("positive[]", &["'{1.5,NULL}'"]),
    ("hstore", &["'\"a\"=>NULL, \"b\"=>\"\", \"c d\"=>\"x\\\"y\\\\z\", é=>🦀'", "''"]),
    ("citext", &["'AbC'", "''"]),
    ("citext[]", &["'{AbC,aBC,NULL}'"]),
    ("ltree", &["'Top.Science_1.Astronomy'", "''"]),
    ("geometry", &["'SRID=4326;POINT Z (1 2 3)'", "'MULTIPOLYGON EMPTY'", "'POINT(NaN NaN)'"]),
    ("geography", &["'SRID=4326;LINESTRING(0 0,179.9 89.9)'"]),
    ("vector", &["'[1,-0,1e-45]'"]),
];

/// What the types above need; extensions are made where there are any.
pub(super) const TYPES: &str = r#"
    create type mood as enum ('sad', 'happy', 'its "so"');
    create type comp as (n int, t text);
    create type pair as (amount numeric, tags text[]);
    create type nested as (n int, p pair, t text);
    create domain positive as numeric check (value > 0);
    create domain dint as int; create domain ddint as dint;
    create domain dnum as numeric(10, 4); create domain dnum2 as numeric;
    create domain dtext as text; create domain dts as timestamp(3); create domain darr as int[];
    create domain dbit as bit(3); create domain dvar as varchar(5); create domain dtsz as timestamptz(2);
"#;
