//! Values that print strangely, and servers that are set to print them differently.

use deltacompare_testbed::{Options, Server};

use super::{Expected, STRATEGIES, assert_counts, run};
use crate::support::{Gap, assert_events_turn_base_into_head};

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
    let postgres = server.connect_to("postgres").await.unwrap();
    let statements = format!("begin read write; {statements} commit");
    postgres.sql(&statements).await.unwrap();
}

async fn values_that_print_strangely() {
    let gap = Gap::own(Options::default(), ODD, "create table elsewhere (id int)").await;
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

tests! {
    values_that_print_strangely: own_servers majors,
    values_that_are_equal_and_differ,
    collations_that_fold,
}
