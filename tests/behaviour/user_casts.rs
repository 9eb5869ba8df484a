//! A database's own casts, operators and functions are never called: values are printed by their
//! type's output function and read by its input function, and compared by the type's own operators.

use deltacompare_testbed::Postgres;

use crate::support::{
    Gap, USER_CASTS, assert_events_turn_base_into_head, deltacompare, literal, skip,
};

/// Each type as a key (`k_…`) and beside one (`v_…`), with values to go from, the last two of which
/// only the gap brings.
const TYPES: [(&str, &str, [&str; 5]); 26] = [
    ("int2", "smallint", ["-9", "9", "0", "32767", "-32768"]),
    ("int4", "integer", ["-9", "9", "0", "2147483647", "-1"]),
    ("int8", "bigint", ["-9", "9", "0", "4294967295", "-1"]),
    ("numeric", "numeric", ["1.0", "-1.50", "NaN", "1e20", "7.00"]),
    ("float4", "real", ["1.5", "-1.5", "NaN", "0.1", "-0"]),
    ("float8", "double precision", ["1.5", "-1.5", "NaN", "0.30000000000000004", "-0"]),
    ("oid", "oid", ["1", "2", "3", "4294967295", "5"]),
    ("bytea", "bytea", ["\\x", "\\x00", "\\xff", "\\x5c27", "\\xdead"]),
    ("date", "date", ["2026-01-01", "2026-01-02", "infinity", "0044-03-15 BC", "1999-12-31"]),
    ("time", "time", ["10:00", "10:00:01", "24:00", "00:00:00.000001", "12:00"]),
    ("timetz", "timetz", ["10:00+01", "10:00:01+01", "24:00+00", "00:00-05", "12:00+00"]),
    // On one day: what prints the day alone loses these.
    (
        "timestamp",
        "timestamp",
        [
            "2026-01-01 10:00",
            "2026-01-01 11:00",
            "2026-01-01 12:00",
            "2026-01-01 13:00",
            "infinity",
        ],
    ),
    (
        "timestamptz",
        "timestamptz",
        [
            "2026-01-01 10:00Z",
            "2026-01-01 11:00Z",
            "2026-01-01 12:00Z",
            "2026-01-01 13:00Z",
            "infinity",
        ],
    ),
    ("interval", "interval", ["1 day", "23:00:00", "-1 mon", "1 year 2 days", "00:00:00.5"]),
    (
        "uuid",
        "uuid",
        [
            "00000000-0000-0000-0000-00000000000a",
            "00000000-0000-0000-0000-00000000000b",
            "00000000-0000-0000-0000-00000000000c",
            "abcdefab-0000-0000-0000-00000000000d",
            "abcdefab-0000-0000-0000-00000000000e",
        ],
    ),
    ("jsonb", "jsonb", ["{}", "[1, 2]", "\"a\"", "{\"a\": 1}", "1.50"]),
    ("pg_lsn", "pg_lsn", ["0/1", "0/A", "1/0", "F/FF", "0/B"]),
    (
        "macaddr",
        "macaddr",
        [
            "08:00:2b:01:02:03",
            "08:00:2b:01:02:04",
            "08:00:2b:01:02:05",
            "ff:ff:ff:ff:ff:ff",
            "08:00:2b:01:02:06",
        ],
    ),
    ("varbit", "varbit", ["1", "10", "", "111", "0"]),
    ("text", "text", ["a", "", "#1", "it's", "back\\slash"]),
    ("varchar", "varchar(20)", ["a", "", "#1", "it's", "back\\slash"]),
    (
        "domain",
        "public.day",
        ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "1999-12-31"],
    ),
    // Operators for these cannot be found where an implicit cast leads from them.
    ("ints", "integer[]", ["{1}", "{1,NULL}", "{}", "{2,3}", "{{1,2},{3,4}}"]),
    ("texts", "text[]", ["{a}", "{a,NULL}", "{a,\"NULL\"}", "{\"a b\"}", "{\"\\\"\"}"]),
    ("mood", "public.mood", ["sad", "ok", "glad", "high", "low"]),
    // A type of the user's own with operators of its own, and a domain over it.
    ("weird", "public.weird", ["a", "b", "c", "d", "e"]),
];

/// What the types need. The first casts are word for word those of a public report.
const PRELUDE: &str = r#"
    create type public.mood as enum ('sad', 'ok', 'glad', 'high', 'low');
    create domain public.day as date;
    create type public.weird;
    create function public.weird_in(cstring) returns public.weird
      language internal immutable strict as 'textin';
    create function public.weird_out(public.weird) returns cstring
      language internal immutable strict as 'textout';
    create type public.weird (input = public.weird_in, output = public.weird_out, like = text);
    create function public.weird_lt(public.weird, public.weird) returns bool
      language sql immutable strict as 'select textin(public.weird_out($1)) collate "C"
                                               < textin(public.weird_out($2)) collate "C"';
    create function public.weird_le(public.weird, public.weird) returns bool
      language sql immutable strict as 'select textin(public.weird_out($1)) collate "C"
                                               <= textin(public.weird_out($2)) collate "C"';
    create function public.weird_eq(public.weird, public.weird) returns bool
      language sql immutable strict as 'select textin(public.weird_out($1)) collate "C"
                                               = textin(public.weird_out($2)) collate "C"';
    create function public.weird_ge(public.weird, public.weird) returns bool
      language sql immutable strict as 'select textin(public.weird_out($1)) collate "C"
                                               >= textin(public.weird_out($2)) collate "C"';
    create function public.weird_gt(public.weird, public.weird) returns bool
      language sql immutable strict as 'select textin(public.weird_out($1)) collate "C"
                                               > textin(public.weird_out($2)) collate "C"';
    create function public.weird_cmp(public.weird, public.weird) returns int
      language sql immutable strict as 'select bttextcmp(textin(public.weird_out($1)) collate "C",
                                                         textin(public.weird_out($2)) collate "C")';
    create operator public.< (leftarg = public.weird, rightarg = public.weird,
                              function = public.weird_lt);
    create operator public.<= (leftarg = public.weird, rightarg = public.weird,
                               function = public.weird_le);
    create operator public.= (leftarg = public.weird, rightarg = public.weird,
                              function = public.weird_eq);
    create operator public.>= (leftarg = public.weird, rightarg = public.weird,
                               function = public.weird_ge);
    create operator public.> (leftarg = public.weird, rightarg = public.weird,
                              function = public.weird_gt);
    create operator class public.weird_ops default for type public.weird using btree as
      operator 1 public.<, operator 2 public.<=, operator 3 public.=, operator 4 public.>=,
      operator 5 public.>, function 1 public.weird_cmp(public.weird, public.weird);
    create domain public.weirder as public.weird;
    create table public.k_weirder (k public.weirder primary key, number int);
    insert into public.k_weirder values ('a', 1), ('b', 2), ('c', 3), ('d', 4), ('e', 5);
    create table neg (id int primary key, v text);
    insert into neg select i, 'v' from generate_series(-20, 20) i;
    create table large (id bigint primary key, at timestamp, v text);
    insert into large select i, timestamp '2026-01-01 00:00' + i * interval '1 s', repeat('x', 200)
      from generate_series(1, 3000) i;
"#;

/// Other operators of the user's in the schemas in which those of his types are looked for, and the
/// functions that they, and casts, use.
const OPERATORS: &str = r#"
    create function public.never(public.weirder, public.weird) returns bool
      language sql immutable as 'select false';
    create operator public.= (leftarg = public.weirder, rightarg = public.weird,
                              function = public.never);
    create function public.never(public.mood, public.mood) returns bool
      language sql immutable as 'select false';
    create operator public.= (leftarg = public.mood, rightarg = public.mood,
                              function = public.never);
    create function public.mood_text(public.mood) returns text strict immutable language sql
      as 'select ''another''::text';
    create cast (public.mood as text) with function public.mood_text(public.mood) as implicit;
    create function public.weird_text(public.weird) returns text strict immutable language sql
      as 'select ''another''::text';
    create cast (public.weird as text) with function public.weird_text(public.weird) as implicit;
    create function public.textin(text) returns text strict immutable language sql
      as 'select ''another''::text';
    create function public.format(text, public.mood) returns text immutable language sql
      as 'select ''another''::text';
"#;

/// What Oracle's friends have, before all other casts of the type are made.
const REPORTED: &str = r#"
    create function public.ora_ts(timestamp) returns text stable strict language sql
      as $$select to_char($1, 'DD-MON-YY')$$;
    create cast (timestamp as text) with function public.ora_ts(timestamp) as implicit;
    create function public.text(smallint) returns text strict immutable language sql
      as 'select pg_catalog.textin(pg_catalog.int2out($1))';
    create cast (smallint as text) with function public.text(smallint) as implicit;
    create function public.txt(uuid) returns text strict immutable language sql
      as $$select upper(pg_catalog.textin(pg_catalog.uuid_out($1)))$$;
    create cast (uuid as text) with function public.txt(uuid);
    create function public.txt(bigint) returns text strict immutable language sql
      as $$select concat('#', $1)$$;
    create cast (bigint as text) with function public.txt(bigint) as implicit;
    create function public.number(text) returns int strict immutable language sql
      as $$select pg_catalog.abs(pg_catalog.int4in(pg_catalog.textout($1)))$$;
    create cast (text as int) with function public.number(text) as assignment;
"#;

fn tables() -> Vec<String> {
    let of_types = TYPES.iter().flat_map(|(name, ..)| [format!("k_{name}"), format!("v_{name}")]);
    of_types.chain(["k_weirder", "neg", "large"].map(str::to_owned)).collect()
}

/// The type of a column of several values, and such a value.
fn several(declared: &str, values: &[&String]) -> (String, String) {
    // An array of arrays is an array with more dimensions.
    if declared.ends_with("[]") {
        return (declared.to_owned(), format!("{}::{declared}", values[0]));
    }
    let list: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
    (format!("{declared}[]"), format!("array[{}]::{declared}[]", list.join(", ")))
}

fn before() -> String {
    let mut sql = PRELUDE.to_owned();
    for (name, declared, values) in TYPES {
        let values = values.map(literal);
        let (several_type, two) = several(declared, &[&values[0], &values[1]]);
        sql += &format!(
            "create table k_{name} (k {declared} primary key, number int);
             insert into k_{name} values ({}, 1), ({}, 2), ({}, 3);
             create table v_{name} (id int primary key, v {declared}, vs {several_type});
             insert into v_{name} select i, {}, {two} from generate_series(1, 9) i;",
            values[0], values[1], values[2], values[0]
        );
    }
    sql += "create publication casts for all tables;";
    // The last, since hardly a statement means the same afterwards. What is there already stays.
    sql + REPORTED + USER_CASTS + OPERATORS
}

fn during() -> String {
    let mut sql = String::new();
    for (name, declared, values) in TYPES {
        let values = values.map(literal);
        let (_, one) = several(declared, &[&values[2]]);
        sql += &format!(
            "update k_{name} set number = 10 where number = 1;
             delete from k_{name} where number = 2;
             update k_{name} set k = {} where number = 3;
             insert into k_{name} values ({}, 5);
             update v_{name} set v = {} where id = 1;
             update v_{name} set vs = {one} where id = 2;
             update v_{name} set v = null where id = 3;
             delete from v_{name} where id = 4;
             insert into v_{name} values (10, {}, {one});",
            values[3], values[4], values[3], values[4]
        );
    }
    sql + "
        update k_weirder set number = 10 where number in (1, 2);
        delete from k_weirder where number = 3;
        delete from neg where id = -9;
        update neg set v = 'w' where id in (-5, 7);
        update large set at = at + interval '1 hour' where id between 1000 and 1009;
        update large set v = 'short' where id = 2000;
        delete from large where id = 2500;
    "
}

/// With each strategy.
async fn values_are_printed_and_read_by_their_types_own_functions() {
    let gap = Gap::between(&before(), &during()).await;
    let tables = tables();
    // `full` is what verifies the first, and what compares keys without operators in both.
    for (strategy, verify) in [("auto", "full"), ("content", "none")] {
        let run = deltacompare(
            &gap,
            &[
                "run",
                "--sink",
                "ndjson:{dir}/events",
                "--sink",
                "delta-table",
                "--format",
                "landing",
                "--report",
                "{dir}/report",
                "--verify",
                verify,
                "--strategy",
                strategy,
            ],
        )
        .run()
        .await;
        run.assert_completed();
        let events = run.events("events");
        for table in &tables {
            let expected = match table.as_str() {
                "k_weirder" => (0, 2, 1),
                "neg" => (0, 2, 1),
                "large" => (0, 11, 1),
                key if key.starts_with("k_") => (2, 1, 2),
                _ => (1, 3, 1),
            };
            let counts = run.counts("report", &format!("public.{table}"));
            assert_eq!(counts, expected, "{table} {strategy}");
        }
        let names: Vec<&str> = tables.iter().map(String::as_str).collect();
        assert_events_turn_base_into_head(&gap, &names, &events).await;
        let chosen = |table: &str| {
            let found = run.table("report", &format!("public.{table}"));
            found["strategy"].as_str().unwrap().to_owned()
        };
        if strategy == "auto" {
            assert_eq!(chosen("k_timestamp"), "row-versions");
            assert_eq!(chosen("k_weirder"), "row-versions");
            assert_eq!(chosen("v_mood"), "row-versions");
        }
        // Their keys are matched by a hash of what they print.
        let expected = if strategy == "auto" { "row-versions" } else { strategy };
        assert_eq!(chosen("k_mood"), expected, "{strategy}");
        assert_eq!(chosen("k_texts"), expected, "{strategy}");
        if strategy == "auto" {
            let status = deltacompare(&gap, &["plan"]).run().await;
            status.assert_completed();
            assert!(
                status.stdout.contains("has an implicit cast from public.mood"),
                "{}",
                status.stdout
            );
        }
    }
}

/// pgoutput keeps a filter as it was parsed; its text is ambiguous since the cast came.
async fn a_filter_that_a_cast_makes_ambiguous_is_refused() {
    if Postgres::find(None).unwrap().major() < 15 {
        skip("PostgreSQL 14 has no row filters");
        return;
    }
    let gap = Gap::between(
        "create table t (id int primary key, tags text[]); alter table t replica identity full;
         create table u (id int primary key);
         insert into t select i, array['a'] from generate_series(1, 9) i;
         create publication p for table t where (tags = '{a}'::text[]), u",
        "create cast (text[] as text) with inout as implicit;
         update t set tags = '{b}' where id = 1; insert into u values (1)",
    )
    .await;
    for strategy in ["auto", "full"] {
        let run = ["run", "--sink", "delta-table", "--strategy", strategy];
        let refused = deltacompare(&gap, &run).run().await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        for word in ["row filter of public.t", "on head", "--exclude public.t"] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
        }
        let without: Vec<&str> = run.into_iter().chain(["--exclude", "public.t"]).collect();
        deltacompare(&gap, &without).run().await.assert_completed();
    }
}

tests! {
    a_filter_that_a_cast_makes_ambiguous_is_refused: majors,
    values_are_printed_and_read_by_their_types_own_functions: majors,
}
