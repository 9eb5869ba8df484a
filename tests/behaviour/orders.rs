//! Rows are matched by the bytes of their keys. An index whose order depends on a collation may be
//! stale, and an order that depends on the catalog may differ between the servers: neither decides
//! what is an insert or a delete.

use std::collections::BTreeMap;

use deltacompare_testbed::Postgres;
use serde_json::Value;

use crate::support::{Database, Gap, Run, assert_events_turn_base_into_head, run_by, skip};

/// Two ICU collations whose order changes later, as it does with another version of the library:
/// `mix` keeps its version, `aged` says that it had another one.
const COLLATIONS: &str = "
    create collation mix (provider = icu, locale = 'und-u-kf-upper');
    create collation aged (provider = icu, locale = 'und-u-kf-upper');
";

/// The other order. Sessions that have used the collations keep the old one.
const OTHER_LIBRARY: &str = "
    do $$
    declare
        locale text;
    begin
        for locale in
            select attname from pg_attribute
             where attrelid = 'pg_collation'::regclass
               and attname = any (case when current_setting('server_version_num')::int >= 150000
                                       then array['colliculocale', 'colllocale']
                                       else array['collcollate', 'collctype'] end)
        loop
            execute format('update pg_collation set %I = ''und-u-kf-lower''
                             where collname in (''mix'', ''aged'')', locale);
        end loop;
        update pg_collation set collversion = 'older' where collname = 'aged';
    end $$
";

/// Rows with keys that differ in case only, which is where the two orders differ.
fn mixed_rows(table: &str, columns: &str, rows: u32) -> String {
    format!(
        "create table {table} ({columns}, v int, pad text);
         insert into {table}
           select (case when i % 2 = 0 then 'Key' else 'key' end) || lpad((i / 2)::text, 5, '0'), i,
                  repeat('x', 100)
             from generate_series(0, {} - 1) i;",
        rows
    )
}

async fn run(gap: &Gap, strategy: &str, more: &[&str]) -> Run {
    run_by(gap, strategy, more).run().await
}

/// What the report says of a table's warnings.
fn warnings(found: &Value) -> Vec<&str> {
    found["warnings"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

/// A table, and the inserts, updates and deletes that must come out of it.
type Expected = (&'static str, (u64, u64, u64));

/// All strategies agree on these tables, and are right. Head cannot read the keys that base printed
/// of those in `unreadable`, so that their events cannot be applied there.
async fn assert_exact(
    gap: &Gap,
    tables: &[Expected],
    unreadable: &[&str],
    ways: &[(&str, &[&str])],
) {
    for (strategy, more) in ways {
        let run = run(gap, strategy, more).await;
        run.assert_completed();
        let found: Vec<(&str, (u64, u64, u64))> = tables
            .iter()
            .map(|(table, _)| (*table, run.counts("report", &format!("public.{table}"))))
            .collect();
        assert_eq!(found, tables, "{strategy} {more:?}");
        let names: Vec<&str> = tables
            .iter()
            .map(|(table, _)| *table)
            .filter(|table| !unreadable.contains(table))
            .collect();
        assert_events_turn_base_into_head(gap, &names, &run.events("events")).await;
    }
}

const ALL_WAYS: &[(&str, &[&str])] = &[
    ("auto", &["--range-blocks", "4"]),
    ("content", &["--range-blocks", "4", "--verify", "full"]),
    ("full", &[]),
];

/// The index of a text key is in the order of an older library: it finds a part of the keys only.
async fn a_stale_index_decides_nothing() {
    let production = Database::new().await;
    let mut before = COLLATIONS.to_owned();
    before += &mixed_rows("updated", "k text collate mix primary key", 5000);
    before += &mixed_rows("scattered", "k text collate mix primary key", 5000);
    before += &mixed_rows("aged_keys", "k text collate aged primary key", 2000);
    before += &mixed_rows("chosen", "k varchar(20) collate mix not null unique", 2000);
    before += "
        alter table chosen replica identity using index chosen_k_key;
        create type tagged as (k text collate mix, n int);
        create table composites (k tagged primary key, v int);
        insert into composites select row(k, v)::tagged, v from updated where v < 2000;
        create type spans as range (subtype = text, collation = mix);
        create table ranges (k spans primary key, v int);
        insert into ranges select spans(k, 'zzz'), v from updated where v < 2000;
        create table arrays (k text[] collate mix, n int, v int, primary key (k, n));
        insert into arrays select array['x', k], v % 7, v from updated where v < 2000;
        create table parts (k text collate mix, part int, v int, primary key (k, part))
          partition by list (part);
        create table parts_1 partition of parts for values in (1);
        create table parts_2 partition of parts for values in (2);
        insert into parts select k, v % 2 + 1, v from updated where v < 2000;
        -- Keys whose order is their own are compared as before.
        create table numbers (k int primary key, v int);
        insert into numbers select i, i from generate_series(1, 5000) i;
        create table bytewise (k text collate \"C\", d date, v int, primary key (k, d));
        insert into bytewise select k, '2026-01-01', v from updated;
        create publication shop for all tables with (publish_via_partition_root = true)
    ";
    production.sql(before).await.unwrap();
    production.sql(OTHER_LIBRARY).await.unwrap();
    let gap = Gap::over(production, async |production| {
        for statement in [
            "update updated set v = v + 1",
            // Every tenth row moves to the end, one in a hundred goes, and new ones come.
            "update scattered set v = v + 1 where v % 10 = 3",
            "delete from scattered where v % 100 = 50",
            "insert into scattered select 'new' || i, i from generate_series(1, 200) i",
            "update aged_keys set v = v + 1",
            "update chosen set v = v + 1",
            "update composites set v = v + 1",
            "update ranges set v = v + 1",
            "update arrays set v = v + 1",
            "update parts set v = v + 1",
            "update numbers set v = v + 1 where k % 10 = 0",
            "update bytewise set v = v + 1 where v % 10 = 0",
        ] {
            production.sql(statement).await.unwrap();
        }
    })
    .await;
    let found: i64 = gap
        .base
        .value(
            "select count(*) from (select k from updated offset 0) a
               cross join lateral (select set_config('enable_seqscan', 'off', true)) s
              where exists (select from updated b where b.k = a.k)",
        )
        .await
        .unwrap();
    assert!(found > 0, "{found}");
    let tables: &[Expected] = &[
        ("updated", (0, 5000, 0)),
        ("scattered", (200, 500, 50)),
        ("aged_keys", (0, 2000, 0)),
        ("chosen", (0, 2000, 0)),
        ("composites", (0, 2000, 0)),
        ("ranges", (0, 2000, 0)),
        ("arrays", (0, 2000, 0)),
        ("parts", (0, 2000, 0)),
        ("numbers", (0, 500, 0)),
        ("bytewise", (0, 500, 0)),
    ];
    assert_exact(&gap, tables, &[], ALL_WAYS).await;
    let run = run(&gap, "auto", &[]).await;
    for (table, warned) in [("updated", false), ("aged_keys", true), ("bytewise", false)] {
        let found = run.table("report", &format!("public.{table}"));
        assert_eq!(found["strategy"], "row-versions", "{found}");
        let says = warnings(&found).iter().any(|it| it.contains("older") && it.contains("aged"));
        assert_eq!(says, warned, "{found}");
    }
}

/// Rows with one key got in through a stale index. They come out as the stream sent them, with a
/// warning that has their number.
async fn duplicate_keys_are_counted_and_sent_as_they_are() {
    let production = Database::new().await;
    let mut before = COLLATIONS.to_owned();
    before += &mixed_rows("came", "k text collate mix primary key", 3000);
    // Updates stay in the block, so that no index is asked whether the key is there.
    before += "create table were (k text collate mix primary key, v int, pad text)
                 with (fillfactor = 40);
               insert into were select * from came;";
    before += "create table sound (k int primary key, v int); insert into sound values (1, 1);
               create publication shop for all tables";
    production.sql(before).await.unwrap();
    production.sql(OTHER_LIBRARY).await.unwrap();
    // What the index finds is in conflict; the rest gets in a second time.
    let twice = |table: &str| {
        format!(
            "insert into {table}
               select (case when i % 2 = 0 then 'Key' else 'key' end) || lpad((i / 2)::text, 5, '0'),
                      -i - 1, repeat('y', 100)
                 from generate_series(0, 2999) i
             on conflict do nothing"
        )
    };
    production.sql(twice("were")).await.unwrap();
    let gap = Gap::over(production, async |production| {
        production.sql(twice("came")).await.unwrap();
        production.sql("update were set v = v - 10000 where v < 0").await.unwrap();
        production.sql("update sound set v = 2").await.unwrap();
    })
    .await;
    let doubles = async |table: &str| -> i64 {
        gap.head
            .value(format!(
                "select count(*) from (select from {table} group by k collate \"C\"
                                        having count(*) > 1) d"
            ))
            .await
            .unwrap()
    };
    let (came, were) = (doubles("came").await, doubles("were").await);
    assert!(came > 100 && were > 100, "{came} {were}");
    for (strategy, more) in ALL_WAYS {
        let run = run(&gap, strategy, &[more, &["--before", "full"][..]].concat()).await;
        run.assert_completed();
        let counts = |table: &str| run.counts("report", &format!("public.{table}"));
        assert_eq!(counts("came"), (came as u64, 0, 0), "{strategy}");
        assert_eq!(counts("were"), (0, were as u64, 0), "{strategy}");
        for (table, keys) in [("came", came), ("were", were), ("sound", 0)] {
            let found = run.table("report", &format!("public.{table}"));
            let says = format!("{keys} of the changed keys have more than one row");
            let said = warnings(&found).iter().any(|it| it.contains(&says));
            assert_eq!(said, keys > 0, "{strategy} {found}");
        }
        for event in run.events("events").of("public.were") {
            let (before, after) = (event.before_row().unwrap(), event.after_row().unwrap());
            let number = |row: &BTreeMap<String, Option<String>>| -> i64 {
                row["v"].as_deref().unwrap().parse().unwrap()
            };
            assert_eq!(number(&after), number(&before) - 10000, "{}", event.line);
            assert_eq!(before["k"], after["k"], "{}", event.line);
        }
    }
}

/// The order of these keys follows the catalog, which changed in the gap: keys are matched by what
/// they print.
async fn an_order_that_follows_the_catalog_is_not_walked() {
    let swap = "alter type sw rename value 'a' to 'tmp'; alter type sw rename value 'b' to 'a';
                alter type sw rename value 'tmp' to 'b';";
    let mut before = "
        create type sw as enum ('a', 'b', 'c', 'd'); create type ck as (m sw, n int);
        create table ce (k ck primary key, v text);
        insert into ce select row(l::sw, i)::ck, 'v' || i || l
          from generate_series(1, 6000) i, unnest(array['a', 'b']) l;
        create type swrange as range (subtype = sw);
        create table re (k swrange, n int, v text, primary key (k, n));
        insert into re select swrange(l::sw, 'd'), i, 'v' || i || l
          from generate_series(1, 3000) i, unnest(array['a', 'b']) l;
        create table ae (k sw[], n int, v text, primary key (k, n));
        insert into ae select array['c', l]::sw[], i, 'v' || i || l
          from generate_series(1, 3000) i, unnest(array['a', 'b']) l;
        create domain sd as sw;
        create table de (k sd, n int, v text, primary key (k, n));
        insert into de select l::sw, i, 'v' || i || l
          from generate_series(1, 3000) i, unnest(array['a', 'b']) l;
        create table rk (k regclass primary key, v text);
        -- A label that the other server does not know, and a composite that grew.
        create type hue as enum ('red', 'green'); create type hk as (h hue, n int);
        create table renamed (k hk primary key, v int);
        insert into renamed select row('red', i)::hk, i from generate_series(1, 3000) i;
        create type inside as (n int); create type outside as (i inside, n int);
        create table grown (k outside primary key, v int);
        insert into grown select row(row(i), i)::outside, i from generate_series(1, 3000) i;
        create table jsons (k jsonb primary key, v int);
        insert into jsons select to_jsonb('k' || i), i from generate_series(1, 3000) i;
    "
    .to_owned();
    // Its operators for order have names of their own.
    let has_hstore = Postgres::find(None).unwrap().has_extension("hstore");
    if has_hstore {
        before += "create extension hstore; create table hstores (k hstore primary key, v int);
                   insert into hstores select hstore('k', i::text), i from generate_series(1, 3000) i;";
    }
    for number in 1..=40 {
        before += &format!("create table x{number} ();");
        before += &format!("insert into rk values ('x{number}', 'v{number}');");
    }
    let mut during = swap.to_owned();
    for number in (1..=40).step_by(2) {
        let other = number + 1;
        during += &format!(
            "alter table x{number} rename to tmp; alter table x{other} rename to x{number};
             alter table tmp rename to x{other};"
        );
    }
    during += "alter type hue rename value 'red' to 'scarlet';
               alter type inside add attribute t text;
               update renamed set v = -v where v % 10 = 0;
               update jsons set v = -v where v % 10 = 0;";
    before += "create publication shop for table ce, re, ae, de, rk, renamed, grown, jsons;";
    if has_hstore {
        before += "alter publication shop add table hstores;";
        during += "update hstores set v = -v where v % 10 = 0; delete from hstores where v = 1;";
    }
    let gap = Gap::between(&before, &during).await;
    let mut tables: Vec<Expected> = vec![
        ("ce", (0, 12000, 0)),
        ("re", (0, 6000, 0)),
        ("ae", (0, 6000, 0)),
        ("de", (0, 6000, 0)),
        ("rk", (0, 40, 0)),
        ("renamed", (3000, 0, 3000)),
        ("grown", (3000, 0, 3000)),
        ("jsons", (0, 300, 0)),
    ];
    if has_hstore {
        tables.push(("hstores", (0, 300, 1)));
    }
    assert_exact(&gap, &tables, &["renamed", "grown"], ALL_WAYS).await;
}

/// A key `without overlaps` has a GiST index, which has no order: nothing walks it.
async fn a_temporal_key_is_matched_without_its_index() {
    let postgres = Postgres::find(None).unwrap();
    if postgres.major() < 18 || !postgres.has_extension("btree_gist") {
        skip("keys without overlaps came with PostgreSQL 18, and need btree_gist");
        return;
    }
    let gap = Gap::between(
        "create extension btree_gist;
         create table stay (room int, during daterange, guest text,
                            primary key (room, during without overlaps));
         insert into stay
           select i % 300, daterange('2020-01-01'::date + i / 300 * 2, '2020-01-01'::date + i / 300 * 2 + 2), 'g' || i
             from generate_series(0, 29999) i;
         create publication shop for all tables",
        "update stay set guest = 'new' where room = 7;
         delete from stay where room = 8;
         insert into stay values (1000, '[2026-01-01,)', 'long')",
    )
    .await;
    assert_exact(&gap, &[("stay", (1, 100, 100))], &[], ALL_WAYS).await;
}

/// Keys that are equal by `=` and print otherwise: the delete comes first, or a consumer that
/// compares by `=` loses the row.
async fn deletes_of_equal_keys_come_first() {
    let gap = Gap::between(
        "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table folded (k text collate folding primary key, v int);
         insert into folded select 'key' || i, i from generate_series(1, 3000) i;
         create publication shop for all tables",
        "update folded set k = upper(k) where v % 3 = 0",
    )
    .await;
    for (strategy, more) in ALL_WAYS {
        let run = run(&gap, strategy, more).await;
        run.assert_completed();
        assert_eq!(run.counts("report", "public.folded"), (1000, 0, 1000), "{strategy}");
        let events = run.events("events");
        let ops: String = events.of("public.folded").iter().map(|event| &*event.op).collect();
        assert_eq!(ops, format!("{}{}", "D".repeat(1000), "I".repeat(1000)), "{strategy} {more:?}");
    }
}

/// A key whose index does not keep it unique, though the catalog says so: the table fails by name,
/// and the walk does not begin at one key again and again.
async fn a_walk_that_does_not_get_on_fails_its_table() {
    let gap = Gap::between(
        "create table wrong (k text collate \"C\" not null, v int);
         create index wrong_k on wrong (k);
         insert into wrong select 'a' || i, i from generate_series(1, 1000) i;
         insert into wrong select 'same', i from generate_series(1, 60000) i;
         -- Damage.
         update pg_index set indisunique = true where indexrelid = 'wrong_k'::regclass;
         alter table wrong replica identity using index wrong_k;
         create table sound (k text collate \"C\" primary key, v int);
         insert into sound select 'k' || i, i from generate_series(1, 20000) i;
         create publication shop for all tables",
        "delete from wrong where v % 2 = 0; update sound set v = -v where v % 2 = 0",
    )
    .await;
    for more in [&[][..], &["--range-blocks", "100"]] {
        let run = run(&gap, "content", more).await;
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        let wrong = run.table("report", "public.wrong");
        assert_eq!(wrong["state"], "failed", "{wrong}");
        let error = wrong["error"].as_str().unwrap();
        assert!(error.contains("public.wrong") && error.contains("reindex"), "{error}");
        assert_eq!(run.counts("report", "public.sound"), (0, 10000, 0));
    }
}

tests! {
    a_stale_index_decides_nothing: majors,
    duplicate_keys_are_counted_and_sent_as_they_are: majors,
    an_order_that_follows_the_catalog_is_not_walked: majors,
    a_temporal_key_is_matched_without_its_index: majors,
    deletes_of_equal_keys_come_first,
    a_walk_that_does_not_get_on_fails_its_table,
}
