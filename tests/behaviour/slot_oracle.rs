//! The events of a recovery are what a slot that was never lost would have delivered, net: the same
//! interval is decoded by a real logical slot on production.

use std::collections::BTreeMap;

use deltacompare_testbed::{Options, Postgres, Production};

use crate::support::{
    Gap, Printer, State, Streamed, TableName, deltacompare, net_of_stream, printers, read_stream,
};

const SCHEMA: &str = r#"
    create type mood as enum ('sad', 'ok', 'happy');
    create type pair as (n int, t text);
    create domain amount as numeric(12, 3);

    create table customer (
      id bigint primary key, name text not null, mood mood, born date, balance numeric,
      limits numeric(10, 2), tags text[], pair pair, due amount, seen timestamptz, score float8,
      weight float4, active boolean, code char(4), address inet, picture bytea, profile jsonb,
      raw json, wait interval, token uuid, at time
    );
    create table line (
      order_id int, product text, amount numeric, note text, primary key (order_id, product)
    );
    create table document (id int primary key, title text, body text, attachment bytea);
    alter table document alter body set storage external, alter attachment set storage external;
    create table log (at timestamptz, message text);
    alter table log replica identity full;
    create table audit (id int primary key, what text, body text);
    alter table audit alter body set storage external;
    alter table audit replica identity full;
    create table account (id int primary key, login text not null, note text);
    create unique index account_login on account (login);
    alter table account replica identity using index account_login;
    create table stock (sku text primary key, amount int);
    create table "Odd ""Name""" ("key" numeric primary key, "select" text, "A b" float8);
    create table generated (id int primary key, a int, twice int generated always as (a * 2) stored);
    create table measured (id int, day date, value int, note text, primary key (id, day))
      partition by range (day);
    create table measured_1 partition of measured for values from ('2026-01-01') to ('2026-02-01');
    create table measured_2 partition of measured for values from ('2026-02-01') to ('2026-03-01');
    create table measured_x partition of measured default;
    create table shipped (id int, place text, what text, primary key (id, place)) partition by list (place);
    create table shipped_a partition of shipped for values in ('a');
    create table shipped_b partition of shipped for values in ('b');
    create table many (id int primary key, v text);
    create table untouched (id int primary key, v text);

    create publication leaves for all tables;
    create publication root for all tables with (publish_via_partition_root = true);

    insert into customer
      select i, 'customer ' || i, (enum_range(null::mood))[i % 4], '2000-01-01'::date + i, i * 1.10,
             i * 1.5, array['a', null, 'b' || i], format('(%s,x)', i)::pair, i / 3.0, '2026-01-01'::timestamptz + i * interval '1 h',
             i / 7.0::float8, i / 7.0::float4, i % 2 = 0, 'c' || i, '10.0.0.1'::inet + i,
             decode(lpad(to_hex(i), 8, '0'), 'hex'), jsonb_build_object('i', i, 'b', null),
             ('{"z" : ' || i || ', "a":1.0}')::json, i * interval '90 min', md5(i::text)::uuid, '12:00'::time + i * interval '1 s'
        from generate_series(1, 300) i;
    insert into line select i, 'p' || j, j * 1.0 from generate_series(1, 60) i, generate_series(1, 4) j;
    insert into document
      select i, 'title ' || i, repeat('text ' || i, 1500), decode(repeat('ab', 5000 + i), 'hex')
        from generate_series(1, 40) i;
    insert into log select '2026-01-01'::timestamptz + i / 3 * interval '1 s', 'm' from generate_series(1, 90) i;
    insert into audit select i, 'w' || i, repeat('body ' || i, 1200) from generate_series(1, 40) i;
    insert into account select i, 'login ' || i from generate_series(1, 60) i;
    insert into stock select 'sku ' || i, i from generate_series(1, 80) i;
    insert into "Odd ""Name""" select i * 1.0, 's' || i, 0 from generate_series(1, 50) i;
    insert into generated select i, i from generate_series(1, 30) i;
    insert into measured
      select i, '2026-01-01'::date + i % 80, i, 'n' from generate_series(1, 200) i;
    insert into shipped select i, chr(97 + i % 2), 'w0' from generate_series(1, 40) i;
    insert into many select i, 'v' || i from generate_series(1, 60000) i;
    insert into untouched select i, 'v' from generate_series(1, 20) i;
"#;

/// Each is sent at once; without `begin` it is a transaction.
const GAP: &[&str] = &[
    // Chains of updates, and what cancels out.
    "update customer set balance = balance + 1 where id between 1 and 40",
    "update customer set balance = balance - 1 where id between 1 and 20",
    "update customer set name = name, mood = mood where id between 50 and 60",
    "insert into customer (id, name) select i, 'short-lived' from generate_series(1000, 1010) i",
    "update customer set name = 'renamed ' || id where id between 1005 and 1010",
    "delete from customer where id between 1000 and 1008",
    "delete from customer where id between 70 and 79",
    "insert into customer (id, name) select i, 'again' from generate_series(70, 74) i",
    // The same rows come back as they were.
    "with gone as (delete from customer where id between 90 and 95 returning *) \
     insert into customer select * from gone",
    // Images differ where values are equal.
    "update customer set balance = 110.00 where id = 100",
    "update customer set score = '-0' where id = 101; update customer set score = 0 where id = 102",
    "update customer set limits = null, tags = '{}', pair = null, profile = 'null', raw = '1.0', \
     wait = '30 days', at = '24:00' where id between 110 and 120",
    "update customer set seen = 'infinity', born = '-infinity', score = 'NaN', weight = '-Infinity', \
     balance = 'NaN' where id = 121",
    // Keys change, to free ones and around in a ring.
    "update line set product = 'q' || product where order_id = 7",
    "update line set order_id = order_id + 1000 where order_id between 20 and 22",
    "update line set order_id = order_id - 1000 where order_id = 1021",
    "delete from line where order_id = 9; insert into line values (9, 'p1', 1.00, 'new')",
    "update line set amount = amount * 1.0 where order_id = 11",
    "begin; update line set product = 'tmp' where order_id = 13 and product = 'p1'; \
     update line set product = 'p1' where order_id = 13 and product = 'p2'; \
     update line set product = 'p2' where order_id = 13 and product = 'tmp'; commit",
    // Toasted columns that change and that do not.
    "update document set title = 'new ' || title where id between 1 and 10",
    "update document set body = body || '!' where id between 5 and 15",
    "update document set attachment = null where id between 14 and 18",
    "update document set id = id + 100 where id between 20 and 25",
    "update document set id = id + 200, body = 'short' where id between 26 and 28",
    "delete from document where id = 30; \
     insert into document select 30, title, body, attachment from document where id = 31",
    "update audit set what = 'new' where id between 1 and 10",
    "update audit set body = body || '!' where id between 8 and 12; delete from audit where id > 35",
    "update audit set id = id + 500 where id between 20 and 22",
    // A multiset.
    "insert into log select at, message from log limit 5",
    "delete from log where ctid in (select ctid from log order by at desc limit 7)",
    "update log set message = 'n' where at = '2026-01-01 00:00:10Z'",
    "insert into log values (null, null), (null, null), (null, '')",
    // The index is the identity, the primary key is not.
    "update account set note = 'n' where id between 1 and 5",
    "update account set login = 'new ' || login where id between 4 and 9",
    "update account set id = id + 1000 where id between 15 and 20",
    "delete from account where id between 30 and 35",
    "begin; delete from account where id = 40; insert into account values (9999, 'login 40', 'x'); commit",
    // Everything goes; some of it comes back.
    "truncate stock",
    "insert into stock select 'sku ' || i, i + i % 2 from generate_series(1, 30) i",
    "insert into \"Odd \"\"Name\"\"\" values (0.5, 'x', '-0')",
    "update \"Odd \"\"Name\"\"\" set \"key\" = 3.00 where \"key\" = 3",
    "update \"Odd \"\"Name\"\"\" set \"select\" = null, \"A b\" = '1e-300' where \"key\" < 3",
    "update generated set a = a + 1 where id < 5; insert into generated values (100, 1); \
     delete from generated where id = 10",
    // Rows move between partitions.
    "update measured set value = -value where id between 1 and 20",
    "update measured set day = day + 31 where id between 15 and 40",
    "update measured set day = day - 31 where id between 15 and 20",
    "delete from measured where id between 100 and 110",
    "insert into measured select i, '2026-03-05', i from generate_series(500, 510) i",
    "delete from measured_2; insert into measured values (900, '2026-02-10', 1, 'new')",
    // Of one partition alone, a stream that goes via the root would not tell it (and the events of
    // a recovery restore the state nevertheless).
    "truncate shipped",
    "insert into shipped select i, case when i < 20 then 'a' else 'b' end, 'w' || i % 2 \
       from generate_series(10, 30) i",
    // New versions lie far from the old ones.
    "update many set v = 'new' where id % 7 = 0",
    "update many set v = v where id % 5 = 0; update many set v = v where id % 10 = 0",
    "delete from many where id % 97 = 0; update many set id = id + 100000 where id % 101 = 0",
    "insert into many select i, 'again' from generate_series(1, 60000) i where i % 97 = 0 and i % 2 = 0",
    // What is not committed did not happen.
    "begin; update customer set name = 'never'; delete from line; truncate untouched; rollback",
    "begin; insert into customer (id, name) values (2000, 'kept'); savepoint s; \
     update customer set name = 'never' where id = 2000; delete from stock; rollback to s; \
     insert into customer (id, name) values (2001, 'kept too'); commit",
    "begin; update customer set name = 'prepared' where id = 200; prepare transaction 'one'",
    "begin; update customer set name = 'never' where id = 201; prepare transaction 'two'",
    "commit prepared 'one'",
    "rollback prepared 'two'",
    "begin; update customer set name = 'still open' where id = 202; prepare transaction 'three'",
];

/// A gap that both slots have decoded.
async fn decoded() -> (Gap, [(&'static str, Vec<Streamed>); 2]) {
    let options =
        Options { conf: vec!["max_prepared_transactions = 10".into()], ..Options::default() };
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production.sql(SCHEMA).await.unwrap();
    let mut streams = [("leaves", Vec::new()), ("root", Vec::new())];
    let gap = Gap::own_over(production, async |production| {
        for publication in ["leaves", "root"] {
            production.create_logical_slot(publication, "pgoutput").await.unwrap();
        }
        for statement in GAP {
            production.sql(*statement).await.unwrap();
        }
        for (publication, stream) in &mut streams {
            let messages = production.decode_messages(publication, publication).await.unwrap();
            *stream = read_stream(&messages);
        }
    })
    .await;
    (gap, streams)
}

async fn events_are_the_net_effect_of_the_stream() {
    let (gap, streams) = decoded().await;
    let partitions = ["measured_1", "measured_2", "measured_x", "shipped_a", "shipped_b"];
    let plain = [
        "customer",
        "line",
        "document",
        "log",
        "audit",
        "account",
        "stock",
        "\"Odd \"\"Name\"\"\"",
        "generated",
        "many",
        "untouched",
    ];
    for (publication, stream) in streams {
        let parts: &[&str] =
            if publication == "root" { &["measured", "shipped"] } else { &partitions };
        let mut expected = BTreeMap::new();
        let (on_base, on_head) = printers(&gap).await;
        for table in plain.iter().chain(parts).map(|table| TableName::of(table)) {
            let base = State::read(&on_base, &table).await;
            let net = net_of_stream(&stream, &table, &base);
            assert_eq!(net, base.changes_to(&State::read(&on_head, &table).await), "{table}");
            assert_eq!(net.is_empty(), table.name == "untouched", "{table}");
            expected.insert(table, net);
        }
        on_base.close().await;
        on_head.close().await;
        for strategy in ["auto", "content", "full"] {
            let run = deltacompare(
                &gap,
                &[
                    "run",
                    "--publication",
                    publication,
                    "--sink",
                    "ndjson:{dir}/events",
                    "--format",
                    "landing",
                    "--strategy",
                    strategy,
                    "--report",
                    "{dir}/report",
                ],
            )
            .run()
            .await;
            run.assert_completed();
            let events = run.events("events");
            let mut compared = 0;
            let head = Printer::of(&gap.head).await;
            for (table, expected) in &expected {
                let mut changes = events.changes(&head, table).await;
                changes.sort();
                assert_eq!(changes, *expected, "{publication}, {strategy}: {table}");
                compared += changes.len();
            }
            head.close().await;
            assert_eq!(events.0.len(), compared, "{publication}: events of other tables");
            let totals = &run.report("report")["totals"];
            let count = |of: &str| totals[of].as_u64().unwrap() as usize;
            assert_eq!(count("inserts") + count("updates") + count("deletes"), compared);
            println!("{publication}, {strategy}: {} streamed, {compared} events", stream.len());
        }
    }
}

tests! {
    events_are_the_net_effect_of_the_stream: own_servers majors seconds(600),
}
