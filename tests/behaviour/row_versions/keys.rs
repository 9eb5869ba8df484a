//! Keys of every type are found again, on whichever page the other version lies.

use super::*;

/// A type that can be a key, and an expression that makes distinct values of the integers `i`.
const KEYS: &[(&str, &str)] = &[
    ("bool", "i % 2 = 0"),
    ("int2", "i - 300"),
    ("int4", "i * 1000003 - 300000000"),
    ("int8", "(i - 300) * 30744573456182586 "),
    ("numeric", "case i when 7 then 'NaN' else (i - 300) / 7.0 end"),
    ("numeric(8,3)", "i / 100.0"),
    ("float4", "case i when 7 then 'NaN' when 8 then '-infinity' else i / 3.0 end"),
    ("float8", "case i when 7 then 'NaN' when 8 then '-0' else i / 3.0 end"),
    ("money", "i * 1.01"),
    ("text", "case i when 5 then '' when 6 then 'a\"b\\c,{}' when 7 then 'null' else 'é' || i end"),
    ("text collate \"und-x-icu\"", "case i % 2 when 0 then 'ä' else 'A' end || i"),
    ("text collate folding", "case i % 2 when 0 then 'ä' else 'A' end || i"),
    ("varchar(20)", "'v ' || i"),
    ("char(10)", "'c' || i"),
    ("\"char\"", "chr(64 + i % 60)"),
    ("name", "'n' || i"),
    ("bytea", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
    ("date", "case i when 7 then 'infinity' else '2026-01-01'::date - i * 3000 end"),
    ("time", "'00:00'::time + i * interval '1.000001 s'"),
    ("timetz", "('00:00+' || i % 14)::timetz + i * interval '1 s'"),
    ("timestamp", "'2026-01-01'::timestamp - i * interval '1000000.000001 s'"),
    (
        "timestamptz",
        "case i when 7 then 'infinity' else '2026-01-01Z'::timestamptz + i * interval '1 d' end",
    ),
    ("interval", "make_interval(months => i, secs => i + 0.5)"),
    ("uuid", "md5(i::text)::uuid"),
    ("inet", "('10.0.' || i % 250 || '.0/' || 8 + i % 24)::inet + i"),
    ("cidr", "('10.' || i % 250 || '.' || i / 250 || '.0/24')::cidr"),
    ("macaddr", "lpad(to_hex(i), 12, '0')::macaddr"),
    ("macaddr8", "lpad(to_hex(i), 16, '0')::macaddr8"),
    ("bit(12)", "i::bit(12)"),
    ("varbit", "substring(i::bit(12) from i % 3)"),
    ("oid", "i::int8 * 7000000"),
    ("pg_lsn", "('0/' || to_hex(i))::pg_lsn"),
    ("xid8", "(i::int8 * 10000000000)::text::xid8"),
    ("tid", "('(' || i || ',1)')::tid"),
    ("jsonb", "jsonb_build_object('i', i, 'a', jsonb_build_array(1.0, null))"),
    ("tsvector", "('w' || i || ':1A')::tsvector"),
    ("int4range", "int4range(i, i + 5)"),
    ("int4multirange", "int4multirange(int4range(i, i + 5))"),
    ("int4[]", "case i when 7 then '{}' else array[i, null, i] end"),
    ("text[]", "array['a b', null, i::text]"),
    ("hue", "(enum_range(null::hue))[1 + i % 3]"),
    ("hue[]", "array_fill('red'::hue, array[1 + i % 100])"),
    ("spot", "row(i, 'a \"b')::spot"),
    ("positive", "i + 1"),
    ("a_hue", "(enum_range(null::hue))[1 + i % 3]::text"),
    ("citext", "case i % 2 when 0 then 'b' else 'A' end || i"),
    ("citext[]", "array['A', case i % 2 when 0 then 'b' else 'B' end || i]"),
    ("a_citext", "case i % 2 when 0 then 'b' else 'A' end || i"),
    ("x.ltree", "('a.b' || i)::text::x.ltree"),
    ("x.isbn13", "x.isbn13('978' || lpad(i::text, 9, '0') || '?')"),
];

async fn keys_of_every_type_are_found() {
    let postgres = Postgres::find(None).unwrap();
    let production = Database::new().await;
    let has_extensions = ["citext", "ltree", "isn"].iter().all(|name| postgres.has_extension(name));
    let mut tables = vec!["pair".to_owned()];
    let mut before = "
        create schema x;
        create type hue as enum ('red', 'green', 'blue');
        create type spot as (x int, y text);
        create domain positive as int check (value > 0);
        create domain a_hue as hue;
        create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    "
    .to_owned();
    if has_extensions {
        before += "create extension citext; create domain a_citext as citext;
            create extension ltree schema x; create extension isn schema x;";
    }
    before += "create table pair (a text, b int8, c date, v int, pad text, primary key (c, a, b));
        insert into pair select 'a' || i % 7, i, '2026-01-01'::date + i % 3, 0, repeat('x', 300)
          from generate_series(1, 240) i;";
    let mut during = "update pair set v = 1 where b % 10 = 0;
        delete from pair where b % 10 = 1;
        update pair set b = -b where b % 10 = 2;"
        .to_owned();
    for (number, (kind, expression)) in KEYS.iter().enumerate() {
        if (kind.contains("citext") || kind.starts_with("x.")) && !has_extensions {
            continue;
        }
        let table = format!("k{number}");
        before += &format!(
            "create table {table} (k {kind} primary key, i int, v int, pad text);
             insert into {table}
               select distinct on (k) k, i, 0, repeat('x', 300)
                 from (select ({expression})::{plain} as k, i from generate_series(1, 240) i) s
                order by k, i;",
            plain = kind.split(" collate").next().unwrap(),
        );
        // Some change, some go, some come back, some are only rewritten; none stays where it was.
        during += &format!(
            "update {table} set v = case when i % 7 = 0 then 1 else 0 end;
             delete from {table} where i % 11 = 0;
             create temp table gone as select * from {table} where i % 13 = 0;
             delete from {table} where i % 13 = 0;
             insert into {table} select * from gone;
             drop table gone;"
        );
        tables.push(table);
    }
    before += "create publication shop for all tables;";
    production.sql(before).await.unwrap();
    let gap = Gap::after(production, &during).await;
    let (identity, content) = tokio::join!(
        program(&gap, "row-versions", &["--range-blocks", "6", "--verify", "none"]).run(),
        program(&gap, "content", &["--range-blocks", "2", "--verify", "none"]).run(),
    );
    for run in [&identity, &content] {
        run.assert_completed();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        assert_events_turn_base_into_head(&gap, &tables, &run.events("events")).await;
    }
    for table in &tables {
        let name = format!("public.{table}");
        assert_eq!(identity.table("report", &name)["strategy"], "row-versions", "{name}");
        assert_eq!(content.table("report", &name)["strategy"], "content", "{name}");
    }
    assert_same_changes(&[identity, content]);
}

/// Indexes that are no keys, and keys that no operator takes as they are.
async fn a_key_is_what_identifies_a_row() {
    let gap = Gap::between(
        "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table folded (k text collate folding not null, v int, filler text);
         create unique index folded_k on folded (k collate \"C\");
         alter table folded replica identity using index folded_k;
         insert into folded values ('a', 1), ('A', 1);
         create type size as enum ('s', 'l');
         create domain sized as size;
         create table by_size (k sized, i int, v int, primary key (k, i));
         insert into by_size select 's', i, 0 from generate_series(1, 2000) i;
         create table root (id int not null, v int) partition by range (id);
         create table leaf partition of root for values from (0) to (100);
         alter table only root add primary key (id);
         alter table root replica identity full;
         alter table leaf replica identity full;
         insert into root values (1, 1), (1, 1);
         create publication shop for all tables with (publish_via_partition_root)",
        "insert into folded select 'filler ' || i, 0, repeat('x', 500) from generate_series(1, 100) i;
         update folded set v = 2 where k collate \"C\" = 'A';
         insert into by_size values ('l', 1, 1);
         update by_size set v = 1 where i % 500 = 0;
         delete from by_size where i % 700 = 0;
         insert into root values (1, 2)",
    )
    .await;
    let run = program(&gap, "auto", &[]).run().await;
    run.assert_completed();
    assert_events_turn_base_into_head(&gap, &["by_size"], &run.events("events")).await;
    // Without a key, an update is a delete and an insert.
    assert_eq!(run.counts("report", "public.folded"), (101, 0, 1));
    assert_eq!(run.counts("report", "public.by_size"), (1, 4, 2));
    assert_eq!(run.counts("report", "public.root"), (1, 0, 0));
}

tests! {
    keys_of_every_type_are_found: seconds(600),
    a_key_is_what_identifies_a_row: seconds(600),
}
