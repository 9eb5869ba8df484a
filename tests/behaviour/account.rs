//! The account of each table: `inserts − deletes = rows of head − rows of base`, and no key comes out
//! twice but as a delete and then an insert. What a strategy has lost or made up is found out.

use std::time::Duration;

use deltacompare_testbed::Postgres;
use serde_json::{Value, json};

use crate::support::{
    Database, Events, Gap, Hosted, Program, Run, assert_events_turn_base_into_head, deltacompare,
    hold_the_sink, until, waiting_for_the_sink,
};

fn program(gap: &Gap, more: &[&str]) -> Program {
    let mut arguments = vec!["run", "--format", "landing", "--sink", "ndjson:{dir}/events"];
    arguments.extend(["--report", "{dir}/report"]);
    arguments.extend(more);
    deltacompare(gap, &arguments)
}

/// Tables with their set-up, what happens to them in the gap, and what of them is published.
const SOUND: &[(&str, &str, &str, &str)] = &[
    (
        "keyed",
        "create table keyed (id int primary key, v text);
         insert into keyed select i, repeat('v', i % 50) from generate_series(1, 5000) i",
        "update keyed set v = 'new' where id % 10 = 0; delete from keyed where id % 77 = 0;
         update keyed set id = id + 100000 where id % 50 = 1;
         insert into keyed select i, 'i' from generate_series(20000, 20100) i",
        "true",
    ),
    (
        "swapped",
        "create table swapped (id int primary key, v text);
         insert into swapped select i, 'v' || i from generate_series(1, 1000) i",
        "update swapped set id = -id; update swapped set id = 1001 + id",
        "true",
    ),
    (
        "numbers",
        "create table numbers (n numeric primary key, v text);
         insert into numbers select (i || '.0')::numeric, 'v' from generate_series(1, 300) i",
        "update numbers set n = (trim_scale(n) || '.00')::numeric where n <= 30",
        "true",
    ),
    (
        "keyless",
        "create table keyless (a int, b text); alter table keyless replica identity full;
         insert into keyless select i % 100, 'b' from generate_series(1, 3000) i",
        "delete from keyless where ctid in (select ctid from keyless where a < 5 limit 20);
         insert into keyless select 7, 'b' from generate_series(1, 9) i; update keyless set b = b where a = 50",
        "true",
    ),
    (
        "parts",
        "create table parts (id int, part int, v text, primary key (id, part)) partition by list (part);
         create table parts_1 partition of parts for values in (1);
         create table parts_2 partition of parts for values in (2);
         insert into parts select i, i % 2 + 1, 'v' from generate_series(1, 3000) i",
        "update parts set part = 3 - part where id % 100 = 0; delete from parts where id < 20",
        "true",
    ),
    (
        "parent",
        "create table parent (id int primary key, v text);
         create table child (primary key (id)) inherits (parent);
         insert into parent select i, 'v' from generate_series(1, 200) i;
         insert into child select i, 'v' from generate_series(1, 90) i",
        "delete from only parent where id > 150; delete from child where id > 80",
        "true",
    ),
    (
        "filtered",
        "create table filtered (id int primary key, kind int); alter table filtered replica identity full;
         insert into filtered select i, i % 3 from generate_series(1, 2000) i",
        "update filtered set kind = 2 where id <= 100; delete from filtered where id between 500 and 599;
         insert into filtered select i, i % 3 from generate_series(3000, 3100) i",
        "kind < 2",
    ),
    (
        "rewritten",
        "create table rewritten (id int primary key, v text);
         insert into rewritten select i, 'v' from generate_series(1, 2000) i",
        "delete from rewritten where id % 9 = 0; alter table rewritten alter id type bigint",
        "true",
    ),
    ("emptied", "create table emptied (id int primary key); insert into emptied values (1), (2)", "delete from emptied", "true"),
    ("nothing", "create table nothing (id int primary key)", "", "true"),
    (
        "created",
        "",
        "create table created (id int primary key); insert into created select i from generate_series(1, 40) i;
         alter publication shop add table created",
        "true",
    ),
    (
        "\"count(*); --\"",
        "create table \"count(*); --\" (rows int primary key, count int, pg_catalog int);
         insert into \"count(*); --\" select i, i, i from generate_series(1, 100) i",
        "delete from \"count(*); --\" where rows > 90",
        "true",
    ),
];

async fn sound() -> Gap {
    let production = Database::new().await;
    for (_, before, ..) in SOUND {
        production.sql(*before).await.unwrap();
    }
    let filters = Postgres::find(None).unwrap().major() >= 15;
    let published: Vec<String> = SOUND
        .iter()
        .filter(|table| table.0 != "created")
        .map(|(table, .., filter)| match (*table, filters) {
            ("parent", _) => "only parent, only child".to_owned(),
            (table, true) if *filter != "true" => format!("{table} where ({filter})"),
            (table, _) => table.to_owned(),
        })
        .collect();
    production
        .sql(format!(
            "create publication shop for table {} with (publish_via_partition_root)",
            published.join(", ")
        ))
        .await
        .unwrap();
    Gap::over(production, async |production| {
        for (_, _, during, _) in SOUND {
            production.sql(*during).await.unwrap();
        }
    })
    .await
}

async fn what_is_right_balances_in_every_strategy() {
    let gap = sound().await;
    let filters = Postgres::find(None).unwrap().major() >= 15;
    for (strategy, more) in [
        ("auto", ["--range-blocks", "3"].as_slice()),
        ("row-versions", &["--verify", "count"]),
        ("content", &["--range-blocks", "3"]),
        ("full", &[]),
    ] {
        let run = program(&gap, &[&["--strategy", strategy], more].concat()).run().await;
        run.assert_completed();
        for (table, .., filter) in SOUND {
            let name = format!("public.{}", table.trim_matches('"'));
            let found = run.table("report", &name);
            let only = if *table == "parent" { "only " } else { "" };
            let filter = if filters { filter } else { "true" };
            let rows = format!("select count(*) from {only}{table} where {filter}");
            let on_base: i64 =
                if *table == "created" { 0 } else { gap.base.value(rows.as_str()).await.unwrap() };
            let on_head: i64 = gap.head.value(rows.as_str()).await.unwrap();
            assert_eq!(
                [&found["rows_base"], &found["rows_head"], &found["balance"]],
                [&json!(on_base), &json!(on_head), &json!(0)],
                "{strategy} {found:#}"
            );
            assert_eq!(found["warnings"].to_string().matches("account").count(), 0, "{found:#}");
        }
        let whole: Vec<&str> =
            SOUND.iter().filter(|table| table.3 == "true").map(|table| table.0).collect();
        assert_events_turn_base_into_head(&gap, &whole, &run.events("events")).await;
        assert!(run.stdout.contains("rows head"), "{}", run.stdout);
    }
}

fn assert_failed(run: &Run, table: &str, words: &[&str]) {
    assert_eq!(run.code, Some(1), "{}\n{}", run.stdout, run.stderr);
    let found = run.table("report", &format!("public.{table}"));
    assert_eq!(found["state"], "failed", "{table}");
    let error = found["error"].as_str().unwrap();
    for words in words {
        assert!(error.contains(words), "{table}: {error}");
    }
    assert!(run.stdout.contains(&format!("failed: public.{table}: ")), "{}", run.stdout);
}

/// Rows that come into the table while its index is not kept.
fn hide(table: &str, statements: &str) -> String {
    let ready = |ready: bool| {
        format!("update pg_index set indisready = {ready} where indrelid = '{table}'::regclass")
    };
    format!("{}; {statements}; {}", ready(false), ready(true))
}

/// Indexes that do not find all rows, as damaged ones do: on head, on base, and while many rows were
/// updated.
async fn damaged() -> Gap {
    let rows = "select i, 'v' || i from generate_series(1, 20000) i";
    let before = format!(
        "create table inserted (id int primary key, v text); insert into inserted {rows};
         create table lost_on_base (id int primary key, v text);
         {lost_on_base};
         create table lost_on_head (id int primary key, v text); insert into lost_on_head {rows};
         create table twice (id int primary key, v text); insert into twice values (1, 'v');
         create table sound (id int primary key, v text); insert into sound {rows};
         create publication shop for all tables",
        lost_on_base = hide("lost_on_base", &format!("insert into lost_on_base {rows}")),
    );
    let during = format!(
        "{inserted};
         update lost_on_base set v = 'new' where id % 2 = 0;
         {lost_on_head};
         insert into twice values (2, 'w');
         {twice};
         update sound set v = 'new' where id % 1000 = 0; delete from sound where id = 7",
        inserted =
            hide("inserted", "insert into inserted select i, 'i' from generate_series(-9, 0) i"),
        lost_on_head = hide("lost_on_head", "update lost_on_head set v = 'new'"),
        twice = hide("twice", "insert into twice values (2, 'x')"),
    );
    Gap::between(&before, &during).await
}

async fn rows_that_an_index_hides_do_not_balance() {
    let gap = damaged().await;
    let run = program(&gap, &["--strategy", "content"]).run().await;
    // Ten inserts are missing.
    let account = "its account does not balance: base has 20000 rows and head 20010, which is +10, \
                   but 0 inserts less 0 deletes were found, which is +0";
    assert_failed(&run, "inserted", &[account, "--strategy full"]);
    assert_eq!(run.table("report", "public.inserted")["balance"], 10);
    assert_eq!(run.table("report", "public.sound")["state"], "completed");

    let run = program(&gap, &["--strategy", "row-versions", "--range-blocks", "40"]).run().await;
    // Old versions were not found by their keys, so that updates became inserts.
    assert_failed(&run, "lost_on_base", &["does not balance: base has 20000 rows and head 20000"]);
    assert_eq!(run.table("report", "public.inserted")["state"], "completed");
    assert_eq!(run.table("report", "public.sound")["state"], "completed");

    // In one work item: new versions were not found by their keys, and their rows were deleted too.
    let run = program(&gap, &["--strategy", "row-versions"]).run().await;
    assert_failed(&run, "lost_on_head", &["a key came out twice", "--strategy full"]);
    // This one is twice in the table, and may come out twice.
    let twice = run.table("report", "public.twice");
    assert_eq!((&twice["state"], &twice["balance"]), (&json!("completed"), &json!(0)));
    assert_eq!(run.counts("report", "public.twice"), (2, 0, 0));
    assert!(twice["warnings"].to_string().contains("in the table more than once"), "{twice:#}");
    assert_events_turn_base_into_head(&gap, &["sound"], &run.events("events")).await;
}

/// Fails, is repaired, and is counted anew.
async fn a_table_that_failed_its_account_is_retried_from_the_beginning() {
    let gap = damaged().await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let id = app
        .begin(&json!({
            "sinks": ["delta-table"], "format": "landing", "strategy": "content",
            "tables": ["public.inserted", "public.sound"]
        }))
        .await;
    let ended = app.ended(&id).await;
    assert_eq!(ended["state"], "failed", "{ended:#}\n{}", app.said());
    let table = app.table(&id, "inserted").await;
    assert_eq!((&table["balance"], &table["rows_head"]), (&json!(10), &json!(20010)), "{table:#}");
    assert!(table["error"].as_str().unwrap().contains("does not balance"), "{table:#}");
    gap.head.sql("reindex table inserted").await.unwrap();
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 200);
    app.completed(&id).await;
    let table = app.table(&id, "inserted").await;
    assert_eq!((&table["balance"], &table["inserts"]), (&json!(0), &json!(10)), "{table:#}");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &["inserted", "sound"], &events).await;
}

/// Writes are accepted, so that nobody refuses these; but what is there was not compared.
async fn rows_that_vanish_behind_the_comparison_do_not_balance() {
    let gap = Gap::between(
        "create table first (id int primary key, v text);
         create table second (id int primary key, v text);
         insert into first select i, repeat('v', 100) from generate_series(1, 20000) i;
         insert into second select i, 'v' from generate_series(1, 100) i;
         create publication shop for all tables",
        "update second set v = 'w' where id < 10",
    )
    .await;
    let more = ["--sink", "delta-table", "--accept", "written", "--strategy", "content"];
    // So that there is a delta table.
    program(&gap, &[&more[..], &["--table", "public.second"]].concat())
        .run()
        .await
        .assert_completed();
    let sink = hold_the_sink(&gap).await;
    let arguments = [&more[..], &["--parallel", "1"]].concat();
    let (run, ()) = tokio::join!(program(&gap, &arguments).run(), async {
        until(&gap, &waiting_for_the_sink(1)).await;
        gap.head.sql("delete from first where id <= 5").await.unwrap();
        drop(sink);
    });
    let account = "base has 20000 rows and head 19995, which is -5, but 0 inserts less 0 deletes";
    assert_failed(&run, "first", &[account]);
    let second = run.table("report", "public.second");
    assert_eq!((&second["state"], &second["balance"]), (&json!("completed"), &json!(0)));
}

/// A checkpoint has the rows so far with it: counted by a statement at the end, they are the same.
async fn an_account_goes_on_at_its_checkpoint() {
    // Several windows of blocks.
    let gap = Gap::between(
        "create table few (id int primary key);
         create table many (id int primary key, v text, pad text);
         insert into many select i, 'v', repeat('x', 300) from generate_series(1, 42000) i;
         create publication shop for all tables",
        "update many set v = 'w' where id % 3 = 0; delete from many where id % 7 = 0",
    )
    .await;
    // So that there is a delta table.
    let delta = ["--sink", "delta-table", "--strategy", "row-versions", "--lease-seconds", "1"];
    let few = [&delta[..], &["--table", "public.few"]].concat();
    program(&gap, &few).run().await.assert_completed();
    gap.head.sql("truncate deltacompare.recovery cascade").await.unwrap();
    let sink = hold_the_sink(&gap).await;
    let many = [&delta[..], &["--table", "public.many"]].concat();
    let mut program = program(&gap, &many);
    let mut child = program.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(sink);
    let checkpoint = "select checkpoint is not null and state = 'running'
                        from deltacompare.work_item";
    until(&gap, checkpoint).await;
    child.kill().await.unwrap();
    let (id, passed): (String, i64) = gap
        .head
        .rows(
            "select recovery_id::text, (account #>> '{passed,head}')::int8
               from deltacompare.work_item where state = 'running'",
        )
        .await
        .unwrap()
        .remove(0);
    assert!(passed > 0 && passed < 36_000, "{passed} rows before the checkpoint");
    let resumed =
        deltacompare(&gap, &["run", "--resume", &id, "--report", "{dir}/report"]).run().await;
    resumed.assert_completed();
    let found = resumed.table("report", "public.many");
    assert_eq!(
        [&found["rows_base"], &found["rows_head"], &found["balance"]],
        [&json!(42_000), &json!(36_000), &json!(0)],
        "{found:#}"
    );
    let counted: Value = serde_json::from_str(
        &gap.head
            .value::<String>("select (account -> 'passed')::text from deltacompare.work_item")
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!((&counted["base"], &counted["head"]), (&json!(42_000), &json!(36_000)));
}

/// Where a table is large, its row versions were counted already; where they are few for its size, or
/// where that is asked for, a statement counts.
async fn large_tables_are_counted_on_the_way() {
    // Pages that are nearly empty: 70 MB each.
    let create = |table: &str| {
        format!(
            "create table {table} (id int primary key, pad text)
               with (fillfactor = 10, autovacuum_enabled = off);
             insert into {table} select i, repeat('x', 300) from generate_series(1, 18000) i;"
        )
    };
    let gap = Gap::between(
        &format!(
            "{}{} delete from hollow where id % 100 > 0;
             create publication shop for all tables",
            create("large"),
            create("hollow")
        ),
        "update large set pad = 'new' where id % 100 = 0; delete from large where id < 10;
         update hollow set pad = 'new' where id % 200 = 0",
    )
    .await;
    let size = "select min(pg_relation_size(c)) > 67108864
                  from unnest(array['large', 'hollow']::regclass[]) c";
    assert!(gap.head.value::<bool>(size).await.unwrap(), "the tables are too small");
    let scans = async |table: &str| -> i64 {
        // Sessions tell of their scans when they end, or a moment later.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let scans = format!("select seq_scan from pg_stat_user_tables where relname = '{table}'");
        gap.head.value(scans.as_str()).await.unwrap()
    };
    let mut counted = Vec::new();
    for more in [["--strategy", "row-versions"].as_slice(), &["--verify", "count"]] {
        let before = (scans("large").await, scans("hollow").await);
        let run = program(&gap, more).run().await;
        run.assert_completed();
        for (table, on_base, on_head) in [("large", 18_000, 17_991), ("hollow", 180, 180)] {
            let found = run.table("report", &format!("public.{table}"));
            assert_eq!(found["strategy"], "row-versions");
            assert_eq!(
                [&found["rows_base"], &found["rows_head"], &found["balance"]],
                [&json!(on_base), &json!(on_head), &json!(0)],
                "{found:#}"
            );
        }
        let after = (scans("large").await, scans("hollow").await);
        counted.push((after.0 > before.0, after.1 > before.1));
        assert_events_turn_base_into_head(&gap, &["large", "hollow"], &run.events("events")).await;
    }
    assert_eq!(counted, [(false, true), (true, true)]);
}

/// A sequence tells of rows that neither state has.
async fn rows_that_came_and_went_are_noted() {
    let gap = Gap::between(
        "create table outbox (id bigint generated by default as identity primary key, v text);
         create table kept (id bigserial primary key, v text);
         create table cyclic (id int primary key generated always as identity (maxvalue 100 cycle));
         insert into outbox (v) select 'v' from generate_series(1, 50);
         insert into kept (v) select 'v' from generate_series(1, 50);
         insert into cyclic select from generate_series(1, 50);
         create publication p for all tables",
        "insert into outbox (v) select 'w' from generate_series(1, 1000);
         delete from outbox where v = 'w' and id % 10 > 0;
         insert into kept (v) select 'w' from generate_series(1, 1000);
         delete from cyclic; insert into cyclic select from generate_series(1, 90)",
    )
    .await;
    let arguments = ["run", "--sink", "delta-table", "--report", "{dir}/report"];
    let run = deltacompare(&gap, &arguments).run().await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.outbox"), (100, 0, 0));
    let warnings = |table: &str| run.table("report", table)["warnings"].to_string();
    let noted = warnings("public.outbox");
    // As many as the sequence may have been ahead are not counted.
    let values = noted.split("handed out at least ").nth(1).and_then(|rest| rest.split(' ').next());
    let values: i64 = values.unwrap_or_else(|| panic!("{noted}")).parse().unwrap();
    assert!((836..=900).contains(&values), "{noted}");
    for table in ["public.kept", "public.cyclic"] {
        assert_eq!(warnings(table), "[]", "{table}");
    }
}

tests! {
    rows_that_came_and_went_are_noted,
    what_is_right_balances_in_every_strategy,
    rows_that_an_index_hides_do_not_balance,
    a_table_that_failed_its_account_is_retried_from_the_beginning,
    rows_that_vanish_behind_the_comparison_do_not_balance,
    an_account_goes_on_at_its_checkpoint,
    large_tables_are_counted_on_the_way,
}
