//! Checksums of key ranges see every difference of images, whatever a type's hash or `=` folds, and
//! keys of every shape are walked once.

use std::fmt::Write as _;

use deltacompare_testbed::Postgres;

use crate::support::{Database, Gap, Run, assert_events_turn_base_into_head, run_by};

/// A type, a value, and another that differs from it only in what hash functions, `=` or a
/// canonical form may lose.
const PAIRS: &[(&str, &str, &str)] = &[
    ("int8", "-1", "4294967295"),
    ("int8", "0", "4294967297"),
    ("int8[]", "'{-1}'", "'{4294967295}'"),
    ("timestamp", "'2000-01-01'::timestamp - interval '1 us'", "'2000-01-01 01:11:34.967295'"),
    (
        "timestamptz",
        "'2000-01-01Z'::timestamptz - interval '1 us'",
        "'2000-01-01 01:11:34.967295Z'",
    ),
    ("time", "'00:00:00'", "'01:11:34.967297'"),
    ("money", "-0.01", "42949672.95"),
    ("pg_lsn", "'0/0'", "'1/1'"),
    ("xid8", "'0'", "'4294967297'"),
    ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
    ("int[]", "'{1,2,3,4}'", "'{{1,2},{3,4}}'"),
    ("int[]", "'{{1,2,3,4}}'", "'{{1},{2},{3},{4}}'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("text[]", "'{}'", "'{\"\"}'"),
    ("numeric", "1.0", "1.00"),
    ("numeric", "0", "0.0"),
    ("numeric[]", "'{1.0}'", "'{1.00}'"),
    ("float8", "0", "'-0'"),
    ("float4", "0", "'-0'"),
    ("float8[]", "'{0}'", "'{-0}'"),
    ("float8", "0.1", "0.1::float8 + 1.4e-17"),
    ("char(3)", "'a'", "'a' || chr(0160)"),
    ("text", "'a'", "'a '"),
    ("text", "''", "null"),
    ("text collate folding", "'straße'", "'STRASSE'"),
    ("text collate folding", "'a'", "'A'"),
    ("varchar", "'é'", "'e' || chr(769)"),
    ("name", "'a'", "'A'"),
    ("\"char\"", "'a'", "''"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("jsonb", "'{\"a\":1.0}'", "'{\"a\":1.00}'"),
    ("jsonb[]", "array['1.0'::jsonb]", "array['1.00'::jsonb]"),
    ("interval", "'1 day'", "'24 hours'"),
    ("interval", "'1 mon'", "'30 days'"),
    ("interval[]", "'{1 day}'", "'{24 hours}'"),
    ("bit varying", "'1'", "'10'"),
    ("bit varying", "'0'", "''"),
    ("bit(4)", "'1000'", "'1001'"),
    ("hue", "'red'", "'green'"),
    ("hue[]", "'{red}'", "'{green}'"),
    ("a_hue", "'red'", "'green'"),
    ("numrange", "'[1.0,2)'", "'[1.00,2)'"),
    ("numrange", "'(,)'", "'empty'"),
    ("nummultirange", "'{[1.0,2)}'", "'{[1.00,2)}'"),
    ("tstzrange", "'[2000-01-01,)'", "'(2000-01-01,)'"),
    ("spot", "row(1.0, null)", "row(1.00, null)"),
    ("spot", "row(null, null)", "null"),
    ("spot[]", "array[row(1.0, 'a')::spot]", "array[row(1.00, 'a')::spot]"),
    ("xml", "'<a/>'", "'<a></a>'"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/31'"),
    ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("timetz", "'12:00+00'", "'13:00+01'"),
    ("uuid", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"),
    ("bool", "true", "false"),
    ("point", "'(0,0)'", "'(-0,0)'"),
    ("box", "'(1,1),(0,0)'", "'(1,1),(-0,0)'"),
    ("polygon", "'((0,0),(1,1))'", "'((1,1),(0,0))'"),
    ("path", "'((0,0),(1,1))'", "'[(0,0),(1,1)]'"),
    ("lseg", "'[(0,0),(1,1)]'", "'[(1,1),(0,0)]'"),
    ("line", "'{1,2,3}'", "'{2,4,6}'"),
    ("circle", "'<(0,0),1>'", "'<(1,1),1>'"),
    ("tsvector", "'a:1'", "'a:1A'"),
    ("tsquery", "'a & b'", "'b & a'"),
    ("jsonpath", "'$.a'", "'$.\"b\"'"),
    ("int2vector", "'1 2'", "'1 3'"),
    ("oidvector", "'1 2'", "'1 3'"),
    ("oid", "4294967295", "0"),
    ("tid", "'(0,1)'", "'(1,0)'"),
    ("txid_snapshot", "'1:1:'", "'1:2:'"),
    ("small", "1.0", "1.00"),
    ("small[]", "array[1.0::small]", "array[1.00::small]"),
    ("ints", "'{1}'", "'[5:5]={1}'"),
    ("citext", "'a'", "'A'"),
    ("x.ltree", "'a.b'", "'a.B'"),
    ("x.hstore", "'a=>NULL'", "'a=>\"NULL\"'"),
    ("x.cube", "'(0)'", "'(-0)'"),
];

async fn run(gap: &Gap, strategy: &str, more: &[&str]) -> Run {
    let run = run_by(gap, strategy, more).run().await;
    run.assert_completed();
    run
}

/// A table for each of [`PAIRS`], named so and made and changed by these statements, which have
/// `TABLE`, `TYPE`, `ONE` and `OTHER` in them. Yields them with what they are about.
async fn gap_of_pairs(create: &str, change: &str) -> (Gap, Vec<(String, String)>) {
    let postgres = Postgres::find(None).unwrap();
    let has_extensions =
        ["citext", "ltree", "hstore", "cube"].iter().all(|name| postgres.has_extension(name));
    let mut before = "
        create schema x;
        create type hue as enum ('red', 'green');
        create domain a_hue as hue;
        create type spot as (n numeric, t text);
        create domain small as numeric check (value < 100);
        create domain ints as int[];
        create collation folding (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
    "
    .to_owned();
    if has_extensions {
        before += "create extension citext; create extension ltree schema x;
            create extension hstore schema x; create extension cube schema x;";
    }
    let mut during = String::new();
    let mut tables = Vec::new();
    for (number, (kind, one, other)) in PAIRS.iter().enumerate() {
        if !has_extensions && (*kind == "citext" || kind.starts_with("x.")) {
            continue;
        }
        let table = format!("v{number}");
        let of_table = |statements: &str| {
            statements
                .replace("TABLE", &table)
                .replace("TYPE", kind)
                .replace("ONE", one)
                .replace("OTHER", other)
        };
        before += &of_table(create);
        during += &of_table(change);
        tables.push((table, format!("{kind}: {one}, {other}")));
    }
    before += "create publication shop for all tables;";
    (Gap::between(&before, &during).await, tables)
}

async fn assert_each(gap: &Gap, run: &Run, tables: &[(String, String)], changes: (u64, u64, u64)) {
    for (table, what) in tables {
        let counts = run.counts("report", &format!("public.{table}"));
        assert_eq!(counts, changes, "{what}");
    }
    let names: Vec<&str> = tables.iter().map(|(table, _)| table.as_str()).collect();
    assert_events_turn_base_into_head(gap, &names, &run.events("events")).await;
}

fn assert_content(run: &Run, tables: &[(String, String)]) {
    for (table, what) in tables {
        let found = run.table("report", &format!("public.{table}"));
        assert_eq!(found["strategy"], "content", "{what}");
    }
}

async fn every_difference_of_images_is_one_update() {
    // One row changes there, one back, one stays, one is null.
    let (gap, tables) = gap_of_pairs(
        "create table TABLE (id int primary key, v TYPE);
         insert into TABLE values (1, ONE), (2, OTHER), (3, ONE), (4, OTHER), (5, null);",
        "update TABLE set v = OTHER where id = 1; update TABLE set v = ONE where id = 2;",
    )
    .await;
    let (content, auto) =
        tokio::join!(run(&gap, "content", &["--verify", "full"]), run(&gap, "auto", &[]));
    for run in [&content, &auto] {
        assert_each(&gap, run, &tables, (0, 2, 0)).await;
    }
    assert_content(&content, &tables);
}

async fn every_difference_is_seen_among_equal_rows_without_a_key() {
    let (gap, tables) = gap_of_pairs(
        "create table TABLE (v TYPE); alter table TABLE replica identity full;
         insert into TABLE values (ONE), (ONE), (ONE), (OTHER), (OTHER), (null);",
        "update TABLE set v = OTHER where ctid = '(0,1)';
         update TABLE set v = v where ctid in ('(0,2)', '(0,4)', '(0,6)');",
    )
    .await;
    let content = run(&gap, "content", &[]).await;
    assert_each(&gap, &content, &tables, (1, 0, 1)).await;
    assert_content(&content, &tables);
}

/// Two rows or two columns that exchange a value leave every sum of theirs as it was. Few do, each far
/// from the next: nothing else may give the rows around them away.
async fn exchanged_values_are_seen() {
    let gap = Gap::between(
        "create table two_rows (id int primary key, a text, b text);
         insert into two_rows select i, 'a' || i, 'b' || i from generate_series(1, 20000) i;
         create table two_columns (like two_rows including all);
         insert into two_columns select * from two_rows;
         create publication shop for all tables",
        "update two_rows r set a = o.a from two_rows o
          where r.id % 500 in (1, 2) and o.id = r.id + case r.id % 500 when 1 then 1 else -1 end;
         update two_columns set a = b, b = a where id % 500 = 1",
    )
    .await;
    let run = run(&gap, "content", &[]).await;
    for (table, updates) in [("two_rows", 80), ("two_columns", 40)] {
        assert_eq!(run.counts("report", &format!("public.{table}")), (0, updates, 0));
    }
    let tables = ["two_rows", "two_columns"];
    assert_events_turn_base_into_head(&gap, &tables, &run.events("events")).await;
}

/// A value moves to a column of another type, or goes from two columns at once: hashes of integer
/// types are the same function, and terms of an xor may cancel.
async fn values_that_move_between_columns_are_seen() {
    let columns = ["s int2", "i int4", "l int8", "o oid", "b bool", "m int8"];
    let set = |of: fn(usize) -> String| {
        let values = columns.iter().enumerate().map(|(at, column)| {
            let (name, _) = column.split_once(' ').unwrap();
            let value = if name == "b" { "v = 1" } else { "v" };
            format!("case when {} then {value} end as {name}", of(at))
        });
        values.collect::<Vec<_>>().join(", ")
    };
    // Without a key, so that each row is found on its own and not because of its neighbours.
    let rows = "from generate_series(0, 63) v, generate_series(0, 5) x, generate_series(0, 5) y,
                     (values (true), (false)) k (two)
                where x <> y and (v < 2 or 4 not in (x, y))";
    let gap = Gap::between(
        &format!(
            "create table moved (row text, {});
             alter table moved replica identity full;
             insert into moved select concat_ws(',', v, x, y, two), {} {rows};
             create publication shop for all tables",
            columns.join(", "),
            set(|at| format!("x = {at} or two and y = {at}")),
        ),
        &format!(
            "truncate moved;
             insert into moved select concat_ws(',', v, x, y, two), {} {rows}",
            set(|at| format!("not two and y = {at}")),
        ),
    )
    .await;
    let run = run(&gap, "content", &[]).await;
    assert_events_turn_base_into_head(&gap, &["moved"], &run.events("events")).await;
}

/// Tables with keys of many shapes: definition of the key's columns, their names, and rows as a
/// query of key and `v`, at base and at head.
const SHAPES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "gaps",
        "k int8",
        "k",
        "select i::int8 * i * i * 1000003, 0 from generate_series(-2000, 2000) i",
        "select i::int8 * i * i * 1000003, (i % 100 = 0)::int from generate_series(-1990, 2010) i",
    ),
    (
        "limits",
        "k int8",
        "k",
        "select k, 0 from unnest(array[-9223372036854775808, -9223372036854775807, -1, 0, 1,
                                       9223372036854775806, 9223372036854775807]) k",
        "select k, (k > 5)::int from unnest(array[-9223372036854775808, 0, 1, 2,
                                                  9223372036854775805, 9223372036854775807]) k",
    ),
    (
        "small_limits",
        "k int2",
        "k",
        "select i, 0 from generate_series(-32768, 32767, 7) i",
        "select i, (i % 5 = 0)::int from generate_series(-32767, 32767, 2) i",
    ),
    (
        "dense_after_void",
        "k int",
        "k",
        "select k, 0 from (select -2147483648 union all select generate_series(2147480000, 2147483647))
           s (k)",
        "select k, k % 2 from (select -2147483648 union all
                               select generate_series(2147480000, 2147483647)) s (k)",
    ),
    (
        "composite",
        "a text collate \"C\", b int, c text collate \"C\"",
        "b, a, c",
        "select 'a' || i % 3, i % 50, 'c' || i, 0 from generate_series(1, 3000) i",
        "select 'a' || i % 3, i % 50, 'c' || i, (i % 500 = 0)::int from generate_series(10, 3010) i",
    ),
    (
        "uuids",
        "k uuid",
        "k",
        "select md5(i::text)::uuid, 0 from generate_series(1, 3000) i",
        "select md5(i::text)::uuid, (i % 500 = 0)::int from generate_series(10, 3010) i",
    ),
    (
        "instants",
        "k timestamptz",
        "k",
        "select case i when 1 then 'infinity' else '2026-01-01Z'::timestamptz + i * interval '1.3 s' end,
                0 from generate_series(1, 3000) i",
        "select case i when 3001 then '-infinity' else '2026-01-01Z'::timestamptz + i * interval '1.3 s'
                end, (i % 500 = 0)::int from generate_series(10, 3001) i",
    ),
    (
        "icu",
        "k text collate \"de-x-icu\"",
        "k",
        "select case i % 3 when 0 then 'ä' when 1 then 'A' else 'ß' end || i, 0
           from generate_series(1, 3000) i",
        "select case i % 3 when 0 then 'ä' when 1 then 'A' else 'ß' end || i, (i % 500 = 0)::int
           from generate_series(10, 3010) i",
    ),
    (
        "folded",
        "k text collate folding",
        "k",
        "select case i % 3 when 0 then 'ä' when 1 then 'A' else 'b' end || i, 0
           from generate_series(1, 3000) i",
        "select case when i % 7 = 0 then upper(k) else k end, (i % 500 = 0)::int
           from (select case i % 3 when 0 then 'ä' when 1 then 'A' else 'b' end || i, i
                   from generate_series(10, 3010) i) s (k, i)",
    ),
    (
        "numbers",
        "k numeric",
        "k",
        "select i / 7.0, 0 from generate_series(-1500, 1500) i",
        "select i / 7.0 + case when i % 9 = 0 then 0.00000000000000000000000 else 0 end,
                (i % 500 = 0)::int from generate_series(-1400, 1600) i",
    ),
    ("only_in_base", "k int", "k", "select i, 0 from generate_series(1, 3000) i", "select 1, 1 where false"),
    ("only_in_head", "k int", "k", "select 1, 1 where false", "select i, 0 from generate_series(1, 3000) i"),
    (
        "text_only_in_base",
        "k text collate \"C\"",
        "k",
        "select 'k' || i, 0 from generate_series(1, 3000) i",
        "select 'k5', 1",
    ),
    ("text_only_in_head", "k text collate \"C\"", "k", "select 1, 1 where false", "select 'k' || i, 0 from generate_series(1, 3000) i"),
    (
        "hashed_only_in_base",
        "k text",
        "k",
        "select 'k' || i, 0 from generate_series(1, 3000) i",
        "select 'k5', 1",
    ),
    ("hashed_only_in_head", "k text", "k", "select 1, 1 where false", "select 'k' || i, 0 from generate_series(1, 3000) i"),
    ("both_empty", "k text", "k", "select 1, 1 where false", "select 1, 1 where false"),
    ("one_row", "k text", "k", "select 'k', 0", "select 'k', 1"),
    ("one_other", "k int", "k", "select 1, 0", "select -1, 0"),
    ("ends", "k int", "k", "select i, 0 from generate_series(-500, 2000) i", "select i, 0 from generate_series(0, 2500) i"),
];

async fn keys_of_every_shape_are_walked_once() {
    let mut before =
        "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
            .to_owned();
    let mut during = String::new();
    for (table, columns, key, at_base, at_head) in SHAPES {
        write!(
            before,
            "create table {table} ({columns}, v int, primary key ({key})); insert into {table} {at_base};"
        )
        .unwrap();
        write!(during, "truncate {table}; insert into {table} {at_head};").unwrap();
    }
    before += "create publication shop for all tables;";
    let production = Database::new().await;
    production.sql(before).await.unwrap();
    let gap = Gap::over(production, async |production| {
        production.sql(during).await.unwrap();
        // The bounds of items come from statistics.
        production.sql("analyze").await.unwrap();
    })
    .await;
    let names: Vec<&str> = SHAPES.iter().map(|shape| shape.0).collect();
    let (whole, ranges) =
        tokio::join!(run(&gap, "auto", &[]), run(&gap, "content", &["--range-blocks", "4"]));
    for run in [whole, ranges] {
        for table in &names {
            let found = run.table("report", &format!("public.{table}"));
            assert_eq!(found["strategy"], "content", "{table}");
        }
        assert_events_turn_base_into_head(&gap, &names, &run.events("events")).await;
    }
}

/// Ranges of keys hold the same rows on both sides only where both are known to sort alike. Others are
/// compared by a hash of the key. Restores on machines with other versions of a collation look like
/// these.
async fn keys_that_sort_in_two_ways_have_no_ranges() {
    let gap = Gap::between(
        "create type size as enum ('s', 'l');
         create table by_text (id text collate \"C\" primary key, v int);
         create table by_size (id size primary key, v int);
         create domain sized as size;
         create table by_domain (id sized primary key, v int);
         create table alike (id text collate \"C\" primary key, v int);
         insert into by_text select case i % 2 when 0 then 'a' else 'B' end || i, 0
           from generate_series(1, 3000) i;
         insert into alike select id, v from by_text;
         insert into by_size values ('s', 0), ('l', 0);
         insert into by_domain values ('s', 0), ('l', 0);
         create publication shop for all tables;",
        "alter table by_text alter id type text collate \"und-x-icu\";
         alter type size add value 'm' before 'l';
         update by_text set v = 1 where id like '%7';
         update alike set v = 1 where id like '%7';
         delete from by_size where id = 'l';
         update by_size set v = 1;
         update by_domain set v = 1",
    )
    .await;
    let names = ["by_text", "by_size", "by_domain", "alike"];
    let run = run(&gap, "content", &[]).await;
    for (table, why) in names.iter().zip([
        "the order of key column \"id\" depends on a collation",
        "the order of key column \"id\" depends on names in the catalog",
        "the order of key column \"id\" depends on names in the catalog",
        "",
    ]) {
        let found = run.table("report", &format!("public.{table}"));
        assert_eq!(found["strategy"], "content", "{found}");
        let reason = found["strategy_reason"].as_str().unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(reason.contains("compared by a hash of its key"), !why.is_empty(), "{reason}");
    }
    assert_events_turn_base_into_head(&gap, &names, &run.events("events")).await;
}

/// Where head has few rows or none, a step ends where base has enough: what is left of base is not
/// read again at each step.
async fn rows_that_only_base_has_are_read_a_few_times() {
    const ROWS: i64 = 300_000;
    let gap = Gap::between(
        &format!(
            "create table t (a text collate \"C\", b int, v int, primary key (a, b));
             insert into t select lpad(i::text, 9, '0'), 0, 0 from generate_series(1, {ROWS}) i;
             create publication shop for all tables"
        ),
        "delete from t where b = 0 and a > '000000010'",
    )
    .await;
    let run = run(&gap, "content", &[]).await;
    let inserted = run.counts("report", "public.t");
    assert_eq!(inserted, (0, 0, ROWS as u64 - 10));
    assert_events_turn_base_into_head(&gap, &["t"], &run.events("events")).await;
    // Counts of a session are there when it has ended.
    let read = "select idx_tup_read from pg_stat_user_indexes where indexrelname = 't_pkey'";
    let read: i64 = gap.base.value(read).await.unwrap();
    assert!((ROWS..6 * ROWS).contains(&read), "{read} of {ROWS}");
}

tests! {
    every_difference_of_images_is_one_update: seconds(600),
    every_difference_is_seen_among_equal_rows_without_a_key: seconds(600),
    exchanged_values_are_seen: seconds(600),
    values_that_move_between_columns_are_seen: seconds(600),
    keys_of_every_shape_are_walked_once: seconds(600),
    keys_that_sort_in_two_ways_have_no_ranges: seconds(600),
    rows_that_only_base_has_are_read_a_few_times: seconds(600),
}
