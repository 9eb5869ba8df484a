//! Names, shapes and values that break naive SQL, with every strategy: what changed comes out, what
//! did not does not.

use std::time::Duration;

use deltacompare_testbed::{Options, Role, Server};

use crate::support::{Gap, Run, assert_events_turn_base_into_head, deltacompare, url};

/// `full`, and whatever else the product would choose, proved by `full`.
const STRATEGIES: [&[&str]; 2] = [&["--strategy", "full"], &["--verify", "full"]];

const LANDING: [&str; 9] = [
    "run",
    "--sink",
    "ndjson:{dir}/events",
    "--report",
    "{dir}/report",
    "--format",
    "landing",
    "--before",
    "full",
];

async fn run(gap: &Gap, arguments: &[&str]) -> Run {
    let run = deltacompare(gap, &[&LANDING[..], arguments].concat()).run().await;
    run.assert_completed();
    run
}

/// Tables with the inserts, updates and deletes that each must have.
type Expected<'a> = &'a [(&'a str, (u64, u64, u64))];

fn assert_counts(run: &Run, expected: Expected<'_>) {
    let report = run.report("report");
    let names: Vec<String> = report["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| format!("{}.{}", t["schema"].as_str().unwrap(), t["table"].as_str().unwrap()))
        .collect();
    for (table, counts) in expected {
        assert_eq!(run.counts("report", table), *counts, "{table}");
    }
    let unexpected: Vec<_> =
        names.iter().filter(|name| expected.iter().all(|(table, _)| table != name)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn hostile_identifiers() {
    let long = "é".repeat(31) + "x";
    assert_eq!(long.len(), 63);
    let names = [
        r#"a"; drop table b; --"#,
        "b",
        "it's",
        "select",
        "new\nline\tand tab",
        r"back\slash",
        "$1 {x} %s",
        "a.b",
        " ",
        "Ωμέγα🎉",
        &long,
        "deltacompare",
        "Robert'); drop schema public cascade; --",
    ];
    let (mut before, mut during) = (String::new(), String::new());
    let schemas = ["public", "select", r#"s"; drop schema public cascade; --"#, "a.b", &long];
    before += "create publication \"all\"\"; --\" for all tables;";
    for schema in &schemas {
        before += &format!("create schema if not exists {};", quoted(schema));
    }
    let mut expected = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let schema = schemas[number % schemas.len()];
        let table = format!("{}.{}", quoted(schema), quoted(name));
        let columns: Vec<String> =
            names.iter().map(|name| format!("{} text", quoted(name))).collect();
        // The key's own name is hostile too.
        before += &format!(
            "create table {table} ({}, primary key ({}));
             insert into {table} ({key}) select i from generate_series(1, 5) i;",
            columns.join(", "),
            quoted(name),
            key = quoted(name),
        );
        let value = quoted(names[(number + 1) % names.len()]);
        during += &format!(
            "insert into {table} ({key}) values ('6');
             update {table} set {value} = $x$'\"\\ $1$x$ where {key} in ('1', '2');
             delete from {table} where {key} = '3';",
            key = quoted(name),
        );
        expected.push((schema.to_owned(), (*name).to_owned()));
    }
    let gap = Gap::between(&before, &during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, &[strategy, &["--publication", "all\"; --"]].concat()).await;
        let report = run.report("report");
        let tables = report["tables"].as_array().unwrap();
        assert_eq!(tables.len(), names.len());
        for (schema, name) in &expected {
            let found = tables
                .iter()
                .find(|t| t["schema"] == schema.as_str() && t["table"] == name.as_str())
                .unwrap_or_else(|| panic!("{schema}.{name} is not in {report:#}"));
            let counts = (&found["inserts"], &found["updates"], &found["deletes"]);
            assert_eq!(counts, (&1.into(), &2.into(), &1.into()), "{schema}.{name}");
        }
    }
    // Names on the command line, quoted as in SQL.
    let table = r#""public"."a""; drop table b; --""#;
    let only = run(&gap, &["--table", table]).await;
    assert_eq!(only.report("report")["totals"]["updates"], 2);
    deltacompare(&gap, &["cleanup"]).run().await.assert_completed();
    let left: i64 = gap.head.value("select count(*) from pg_publication_tables").await.unwrap();
    assert_eq!(left, names.len() as i64);
}

#[tokio::test]
async fn tables_of_every_shape() {
    let before = "
        create publication others for all tables;
        create table empty (id int primary key);
        create table filled (id int primary key);
        create table emptied (id int primary key);
        insert into emptied select generate_series(1, 7);
        create table no_columns ();
        alter table no_columns replica identity full;
        insert into no_columns select from generate_series(1, 5);
        create table lost_columns (gone int, id int primary key, also_gone text, v text);
        insert into lost_columns select i, i, 'x', 'v' from generate_series(1, 9) i;
        alter table lost_columns drop column gone, drop column also_gone;
        create table lost_everything (a int);
        alter table lost_everything replica identity full;
        insert into lost_everything select generate_series(1, 4);
        alter table lost_everything drop column a;
        create table parent (id int primary key, v text);
        create table child (extra int, primary key (id)) inherits (parent);
        create table grandchild (primary key (id)) inherits (child);
        insert into parent select i, 'parent' from generate_series(1, 10) i;
        insert into child select i, 'child', i from generate_series(1, 10) i;
        insert into grandchild select i, 'grandchild', i from generate_series(1, 10) i;
        create table generated (id int primary key, v int,
                                twice int generated always as (v * 2) stored,
                                nth int generated always as identity);
        insert into generated (id, v) select i, i from generate_series(1, 10) i;
        create table reordered (a int primary key, b text, c text);
        insert into reordered select i, 'b', 'c' from generate_series(1, 5) i;
        create table by_index (a int not null, b text, unique (a));
        alter table by_index replica identity using index by_index_a_key;
        insert into by_index select i, 'b' from generate_series(1, 10) i;
        create unlogged table unlogged (id int primary key);
        create table chosen (id int primary key, v text);
        insert into chosen select i, 'v' from generate_series(1, 5) i;
    ";
    let during = "
        insert into filled select generate_series(1, 3);
        delete from emptied;
        insert into no_columns select from generate_series(1, 2);
        update lost_columns set v = 'w' where id = 1;
        delete from lost_columns where id = 2;
        delete from lost_everything where ctid = '(0,1)';
        update only parent set v = 'PARENT' where id = 1;
        update only child set v = 'CHILD' where id < 3;
        update only grandchild set v = 'GRANDCHILD' where id < 4;
        update generated set v = v + 1 where id < 3;
        alter table reordered add column d int;
        alter table reordered drop column b;
        update reordered set c = 'C' where a = 1;
        update by_index set b = 'B' where a < 3;
        update by_index set a = a + 100 where a = 10;
        insert into unlogged values (1);
        create table born (id int primary key);
        insert into born select generate_series(1, 6);
        drop table chosen;
        create table chosen (id int primary key, v text);
        insert into chosen select i, 'v' from generate_series(1, 5) i;
        update chosen set v = 'V' where id = 5;
    ";
    let gap = Gap::between(before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(
            &run,
            &[
                ("public.empty", (0, 0, 0)),
                ("public.filled", (3, 0, 0)),
                ("public.emptied", (0, 0, 7)),
                ("public.no_columns", (2, 0, 0)),
                ("public.lost_columns", (0, 1, 1)),
                ("public.lost_everything", (0, 0, 1)),
                ("public.parent", (0, 1, 0)),
                ("public.child", (0, 2, 0)),
                ("public.grandchild", (0, 3, 0)),
                ("public.generated", (0, 2, 0)),
                ("public.reordered", (0, 1, 0)),
                ("public.by_index", (1, 2, 1)),
                ("public.born", (6, 0, 0)),
                ("public.chosen", (0, 1, 0)),
            ],
        );
    }
}

#[tokio::test]
async fn what_publications_let_through() {
    if deltacompare_testbed::Postgres::find(None).unwrap().major() < 15 {
        println!("skipped: column lists and row filters came with PostgreSQL 15");
        return;
    }
    let before = "
        create table via_root (id int, region text, v text, primary key (id, region))
          partition by list (region);
        create table via_root_n partition of via_root for values in ('n');
        create table via_root_s partition of via_root for values in ('s')
          partition by range (id);
        create table via_root_s1 partition of via_root_s for values from (0) to (10);
        create table via_root_s2 partition of via_root_s for values from (10) to (1000);
        create publication root for table via_root with (publish_via_partition_root);
        create table leaves (id int primary key, v text) partition by range (id);
        create table leaves_1 partition of leaves for values from (0) to (10);
        create table leaves_2 (v text, id int not null, primary key (id));
        alter table leaves attach partition leaves_2 for values from (10) to (1000);
        create publication leaves for table leaves;
        create table rows_of (id int primary key, region text, v text);
        alter table rows_of replica identity full;
        create publication rows_of for table rows_of where (region = 'eu' and id > 5);
        create table columns_of (id int primary key, shown text, hidden text);
        create publication columns_of for table columns_of (id, shown);
        insert into via_root
          select i, r, 'v' from generate_series(1, 20) i, unnest(array['n', 's']) r;
        insert into leaves select i, 'v' from generate_series(1, 20) i;
        insert into rows_of
          select i, case i % 2 when 0 then 'eu' else 'us' end, 'v' from generate_series(1, 20) i;
        insert into columns_of select i, 'shown', 'hidden' from generate_series(1, 20) i;
    ";
    let during = "
        update via_root set v = 'V' where id in (1, 15);
        delete from via_root where id = 3;
        update via_root set region = 's', id = 100 where region = 'n' and id = 7;
        update leaves set v = 'V' where id in (1, 15);
        update leaves set id = 500 where id = 5;
        -- Within the filter, into it, out of it, and beyond it.
        update rows_of set v = 'V' where id in (2, 3, 6, 7, 8);
        update rows_of set region = 'eu' where id = 9;
        update rows_of set region = 'us' where id = 10;
        delete from rows_of where id in (12, 13);
        insert into rows_of values (30, 'eu', 'v'), (31, 'us', 'v');
        update columns_of set hidden = 'HIDDEN' where id < 10;
        update columns_of set shown = 'SHOWN' where id > 17;
    ";
    let gap = Gap::between(before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(
            &run,
            &[
                ("public.via_root", (1, 4, 3)),
                ("public.leaves_1", (0, 1, 1)),
                ("public.leaves_2", (1, 1, 0)),
                ("public.rows_of", (2, 2, 2)),
                ("public.columns_of", (0, 3, 0)),
            ],
        );
        let events = run.events("events");
        assert!(
            events.0.iter().all(|event| !format!("{event:?}").to_lowercase().contains("hidden")),
            "{events:?}"
        );
    }
}

/// Every table of `pg_type` that prints strangely, once with values and once without.
const ODD: &str = r#"
    create extension citext; create extension hstore; create extension ltree;
    create type mood as enum ('sad', 'it''s, ok', 'happy "x"');
    create type pair as (a int, b text);
    create type nested as (p pair, m mood, ps pair[]);
    create domain positive as int check (value > 0);
    create domain positives as positive[];
    create domain paired as pair;
    create domain money_of as money;
    create type textrange as range (subtype = text);
    create type shouting as (x text);
    create function shout(shouting) returns text language sql immutable as $$ select 'LOUD' $$;
    create cast (shouting as text) with function shout(shouting) as assignment;
    create table odd (
      id int primary key,
      a_bool bool, a_char "char", a_bpchar char(5), a_bpchar0 bpchar, a_name name, a_text text,
      a_varchar varchar(9), a_citext citext, a_bytea bytea,
      a_int2 int2, a_int8 int8, a_float4 float4, a_float8 float8, a_numeric numeric,
      a_numeric2 numeric(8,3), a_money money, a_oid oid, a_xid xid, a_xid8 xid8, a_cid cid,
      a_tid tid, a_regclass regclass, a_regtype regtype, a_regproc regproc,
      a_regprocedure regprocedure, a_regoper regoper, a_regoperator regoperator, a_regrole regrole,
      a_regnamespace regnamespace, a_regconfig regconfig, a_regdictionary regdictionary,
      a_regcollation regcollation, a_date date, a_time time(3), a_timetz timetz,
      a_timestamp timestamp, a_timestamptz timestamptz, a_interval interval, a_inet inet,
      a_cidr cidr, a_macaddr macaddr, a_macaddr8 macaddr8, a_bit bit(5), a_varbit varbit,
      a_uuid uuid, a_json json, a_jsonb jsonb, a_jsonpath jsonpath, a_xml xml, a_point point,
      a_line line, a_lseg lseg, a_box box, a_path path, a_polygon polygon, a_circle circle,
      a_tsvector tsvector, a_tsquery tsquery, a_lsn pg_lsn, a_snapshot pg_snapshot,
      a_txid txid_snapshot, an_aclitem aclitem, a_refcursor refcursor, an_int2vector int2vector,
      an_oidvector oidvector, an_int4range int4range, a_numrange numrange, a_tsrange tsrange,
      a_tstzrange tstzrange, a_daterange daterange, a_textrange textrange,
      an_int4multirange int4multirange, a_tstzmultirange tstzmultirange, a_mood mood, a_pair pair,
      a_nested nested, a_positive positive, some_positives positives, a_paired paired,
      a_money_of money_of, a_shouting shouting, an_hstore hstore, an_ltree ltree,
      bools bool[], bpchars char(3)[], texts text[], numerics numeric[], floats float8[],
      timestamptzs timestamptz[], byteas bytea[], moods mood[], pairs pair[], moneys money[],
      xmls xml[], inets inet[], points point[], boxes box[], regclasses regclass[],
      shoutings shouting[], shifted int[], matrix int[][]
    );
    insert into odd values (
      1, true, 'x', 'ab', 'ab   ', 'na me', E'tab\tnew\nline\\back"quote', 'v', 'CiTeXt',
      '\x00ff27', -1, -9223372036854775808, '-1.5', 'NaN', 'NaN', 1.500, -1234.5, 4294967295, '7',
      '18446744073709551615', '3', '(1,2)', 'odd', 'mood', 'shout', 'lower(text)', 'pg_catalog.||/',
      '+(int4,int4)', 'azure_admin', 'public', 'english', 'english_stem', '"C"', '0044-03-15 BC',
      '24:00:00', '23:59:59.999999-15:59:59', '294276-12-31 23:59:59.999999', 'infinity',
      '-1 year -2 days +03:04:05.6789', '10.0.0.1/32', '10.0.0.0/8', '08:00:2b:01:02:03',
      '08:00:2b:01:02:03:04:05', B'10101', B'', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      '{ "b" :1,  "a":[ ], "b": 2}', '{"b":1.00,"a":[]}', '$.a[*] ? (@ > 1)',
      '<?xml version="1.0" encoding="UTF-8"?><a>&lt;</a>', '(-0,1e-300)', '{1,2,3}',
      '[(0,0),(1,1)]', '((0,0),(1,1))', '[(0,0),(1,1)]', '((0,0),(1,1))', '<(0,0),0.1>',
      $$'it''s':1A,2B x:3$$, '!a & (b | c:*)', '16/B374D848', '10:20:10,14', '10:20:10,14',
      'azure_admin=r*w/postgres', 'cursor', '1 2 3', '4 5 6', '[1,5)', '(,1.50]', 'empty',
      '[2026-01-01 00:00+02,infinity)', '[,2026-01-01)', '["a b","c\"d")',
      '{[1,3),[5,7)}', '{[2026-01-01 00:00+02,2026-01-02 00:00-03)}', 'it''s, ok',
      '(1,"a ""quoted"" \\ b")', '("(,)","happy ""x""","{""(1,x)"",""(,)""}")', 5, '{1,2}', '(,)',
      1.5, '(quiet)', '"a b"=>"c\"d", e=>NULL', 'Top.Science.It',
      '{t,NULL,f}', '{a,"b ",NULL}', '{"",NULL,"NULL","a,b","c\"d\\"}', '{1.0,1.00,NaN}',
      '{-0,Infinity,1e-320,0.1}', '{2026-01-01 00:00:00+02,-infinity}', '{"\\x00","\\x"}',
      '{sad,"it''s, ok"}', '{"(1,)","(,)",NULL}', '{-1.5,2}', '{<a/>,NULL}', '{10.0.0.1,::1}',
      '{"(1,2)"}', '{(1,1),(0,0);(2,2),(1,1)}', '{odd,pg_class}', '{"(x)"}', '[-1:1]={1,2,3}',
      '{{1,2},{3,4}}'
    );
    insert into odd (id) values (2);
    insert into odd (id, a_pair, a_nested, a_paired, pairs) values
      (3, row(null, null), row(null, null, null), row(null, null), array[null, row(null, null)::pair]),
      (4, row(null, ''), row(row(null, null), null, '{}'), null, '{}');
    insert into odd (id, a_float8, a_float4, a_date, a_timestamp, a_interval, a_numeric, a_bpchar,
                     a_json, a_text, a_bytea, texts)
      values (5, '-0', 'Infinity', '-infinity', '4713-01-01 00:00:00 BC', '0', '-Infinity', '', 'null', '', '', '{}'),
             (6, 0.1::float8 + 0.2, 1e-45, 'infinity', 'infinity', '-178000000 years', 1e-200, null,
              '"\u0041"', null, null, '{{a},{b}}');
    create table odd_keyless as select * from odd;
    insert into odd_keyless select * from odd where id = 1;
    alter table odd_keyless replica identity full;
    create table odd_key (k1 numeric, k2 citext, k3 timestamptz, v int,
                          primary key (k1, k2, k3));
    insert into odd_key select i / 10.0, 'K' || i, 'epoch'::timestamptz + i * interval '1 h', i
      from generate_series(1, 20) i;
    create publication odd for table odd, odd_keyless, odd_key;
"#;

/// Settings that a database and a role may have, here as different as can be on two servers.
async fn unsettle(server: &Server, way: usize) {
    let mut statements = String::new();
    for (name, values) in [
        ("datestyle", ["German", "SQL, DMY"]),
        ("intervalstyle", ["iso_8601", "sql_standard"]),
        ("timezone", ["Asia/Kathmandu", "America/St_Johns"]),
        ("bytea_output", ["escape", "hex"]),
        ("extra_float_digits", ["-15", "0"]),
        ("lc_monetary", ["C.UTF-8", "C"]),
        ("lc_numeric", ["C", "C.UTF-8"]),
        ("search_path", ["public", "nowhere, public"]),
        ("xmloption", ["document", "content"]),
        ("xmlbinary", ["hex", "base64"]),
        ("quote_all_identifiers", ["on", "off"]),
        ("standard_conforming_strings", ["off", "on"]),
        ("backslash_quote", ["off", "on"]),
        ("array_nulls", ["off", "on"]),
        ("transform_null_equals", ["on", "off"]),
        ("client_encoding", ["LATIN1", "UTF8"]),
        ("default_transaction_isolation", ["serializable", "read committed"]),
        ("default_transaction_read_only", ["on", "off"]),
        ("default_transaction_deferrable", ["on", "off"]),
        ("statement_timeout", ["1ms", "20s"]),
        ("lock_timeout", ["1ms", "1s"]),
        ("idle_in_transaction_session_timeout", ["1ms", "2ms"]),
        ("idle_session_timeout", ["1ms", "2ms"]),
        ("enable_seqscan", ["off", "on"]),
        ("enable_hashjoin", ["off", "on"]),
        ("plan_cache_mode", ["force_generic_plan", "force_custom_plan"]),
        ("client_min_messages", ["debug5", "error"]),
    ] {
        for whose in ["role all", "database shop", "role azure_admin"] {
            // The sessions of this test must live.
            if whose == "role all" && name.ends_with("timeout") {
                continue;
            }
            let value = values[way];
            let list = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
            statements += &format!("alter {whose} set {name} = {list};");
        }
    }
    let mut postgres = server.connect_to("postgres").await.unwrap();
    let statements = format!("begin read write; {statements} commit");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.as_str())).execute(&mut postgres).await.unwrap();
}

#[tokio::test]
async fn values_that_print_strangely() {
    let gap = Gap::between(ODD, "create table elsewhere (id int)").await;
    let nothing: Expected<'_> = &[
        ("public.odd", (0, 0, 0)),
        ("public.odd_keyless", (0, 0, 0)),
        ("public.odd_key", (0, 0, 0)),
    ];
    for strategy in STRATEGIES {
        assert_counts(&run(&gap, strategy).await, nothing);
    }
    unsettle(&gap.base, 0).await;
    unsettle(&gap.head, 1).await;
    for strategy in STRATEGIES {
        assert_counts(&run(&gap, strategy).await, nothing);
    }
    unsettle(&gap.base, 1).await;
    unsettle(&gap.head, 0).await;
    assert_counts(&run(&gap, STRATEGIES[0]).await, nothing);
}

#[tokio::test]
async fn values_that_are_equal_and_differ() {
    let during = r#"
        update odd set a_float8 = '0' where id = 5;
        update odd set a_numeric2 = 1.5, a_numeric = 'NaN', a_citext = 'cItExT' where id = 1;
        update odd set a_nested = row(null, null, null) where id = 4;
        update odd set a_pair = null where id = 3;
        update odd set a_json = '"A"' where id = 6;
        update odd_keyless set a_citext = 'cItExT' where ctid = '(0,1)';
        update odd_key set v = v where v < 5;
        update odd_key set k1 = 1.50 where v = 15;
        update odd_key set k2 = 'k' || v where v in (16, 17);
        update odd_key set k3 = k3 at time zone 'Asia/Kathmandu' at time zone 'Asia/Kathmandu'
         where v = 18;
    "#;
    let before = format!("{ODD} update odd set a_numeric = 1.50 where id = 1;");
    let gap = Gap::between(&before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        // A key of another image is another key.
        assert_counts(
            &run,
            &[
                ("public.odd", (0, 5, 0)),
                ("public.odd_keyless", (1, 0, 1)),
                ("public.odd_key", (3, 0, 3)),
            ],
        );
        let events = run.events("events");
        assert_events_turn_base_into_head(&gap, &["odd", "odd_keyless", "odd_key"], &events).await;
    }
}

#[tokio::test]
async fn collations_that_fold() {
    let before = "
        create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table keyed (id int primary key, v text collate nocase, w text collate \"C\");
        create table by_text (id text collate nocase primary key, v int);
        create table keyless (v text collate nocase, w text collate \"C\");
        insert into keyed select i, 'V' || i, 'W' from generate_series(1, 9) i;
        insert into by_text select 'K' || i, i from generate_series(1, 9) i;
        insert into keyless select 'V' || i, 'W' from generate_series(1, 9) i;
        alter table keyless replica identity full;
        create publication folded for all tables;";
    let during = "
        update keyed set v = lower(v) where id < 4;
        update by_text set id = lower(id) where v < 4;
        update by_text set v = 100 where v = 4;
        update keyless set v = lower(v) where v in ('V1', 'V2');";
    let gap = Gap::between(before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(
            &run,
            &[
                ("public.keyed", (0, 3, 0)),
                ("public.by_text", (3, 1, 3)),
                ("public.keyless", (2, 0, 2)),
            ],
        );
    }
}

#[tokio::test]
async fn tables_of_1600_columns() {
    let columns: Vec<String> = (1..1600).map(|i| format!("c{i} int2")).collect();
    let before = format!(
        "create table wide (id int primary key, {columns});
         create table wide_keyless (id int, {columns});
         alter table wide_keyless replica identity full;
         insert into wide (id, c7, c1599) select i, i, i from generate_series(1, 200) i;
         insert into wide_keyless (id, c7, c1599) select i, i, i from generate_series(1, 200) i;
         insert into wide_keyless (id, c7, c1599) select 1, 1, 1 from generate_series(1, 9) i;
         create publication wide for all tables;",
        columns = columns.join(", ")
    );
    let during = "
        update wide set c1599 = -1 where id = 77;
        update wide_keyless set c1599 = -1 where id = 77;
        delete from wide_keyless where ctid = (select min(ctid) from wide_keyless where id = 1);";
    let gap = Gap::between(&before, during).await;
    for strategy in STRATEGIES {
        let run = run(&gap, strategy).await;
        assert_counts(&run, &[("public.wide", (0, 1, 0)), ("public.wide_keyless", (1, 0, 2))]);
        let events = run.events("events");
        assert_events_turn_base_into_head(&gap, &["wide", "wide_keyless"], &events).await;
    }
}

/// The largest resident size that any session of a recovery on this server has had so far, in MB.
async fn watch_memory(server: &Server) -> u64 {
    let mut largest = 0;
    loop {
        let sessions: Vec<(i32,)> = server
            .rows("select pid from pg_stat_activity where application_name ~ '^deltacompare_'")
            .await
            .unwrap();
        for (pid,) in sessions {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
                continue;
            };
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kilobytes: Option<u64> =
                peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
            largest = largest.max(kilobytes.unwrap_or(0) / 1024);
        }
        PEAK.store(largest, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

static PEAK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[tokio::test]
async fn rows_of_50_megabytes() {
    // What compresses to next to nothing is the harder one: the server's sizes say little of it.
    let before = "
        create table plain (id int primary key, v text);
        alter table plain alter column v set storage external;
        create table squeezed (id int primary key, v text);
        insert into plain select i, repeat('x', 50000000) from generate_series(1, 3) i;
        insert into squeezed select i, repeat('x', 50000000) from generate_series(1, 5) i;
        create publication large for all tables;";
    let during = "update plain set v = 'y' || v where id = 3;
                  update squeezed set v = 'y' || v where id = 3;";
    let options = Options { wal_segment_mb: 16, ..Options::default() };
    let gap = Gap::with_options(options, before, during).await;
    let arguments = ["--strategy", "full", "--parallel", "1"];
    let run = tokio::select! {
        run = run(&gap, &arguments) => run,
        _ = watch_memory(&gap.head) => unreachable!(),
    };
    assert_counts(&run, &[("public.plain", (0, 1, 0)), ("public.squeezed", (0, 1, 0))]);
    let peak = PEAK.load(std::sync::atomic::Ordering::Relaxed);
    println!("head's session took {peak} MB at most");
    // Some copies of one row, not of all rows.
    assert!(peak > 0 && peak < 700, "{peak} MB");
}

#[tokio::test]
async fn rights_of_another_role() {
    // The owner of tables, not of the database.
    let before = "create table t (id int primary key); insert into t values (1);
                  create publication p for all tables;
                  create role \"o'dd \"\"role\" login createrole replication password 'pw';
                  grant create on database shop to \"o'dd \"\"role\";
                  grant pg_read_all_data to \"o'dd \"\"role\" with admin option;";
    let gap = Gap::between(before, "insert into t values (2)").await;
    gap.head
        .sql("grant usage on foreign data wrapper postgres_fdw to \"o'dd \"\"role\"")
        .await
        .unwrap();
    let user = "o%27dd%20%22role";
    let program = deltacompare(&gap, &[&LANDING[..], STRATEGIES[0]].concat())
        .env("DELTACOMPARE_BASE", &url(&gap.base, user, "pw"))
        .env("DELTACOMPARE_HEAD", &url(&gap.head, user, "pw"));
    let run = program.run().await;
    run.assert_completed();
    assert_counts(&run, &[("public.t", (1, 0, 0))]);
    assert!(!run.stderr.contains(gap.base.password(Role::Admin)));
}
