//! Tables without a key are multisets: counted and summed on both sides, whatever the rows' order,
//! places and copies.

use std::time::Duration;

use crate::support::{
    Database, Gap, Program, Run, assert_events_turn_base_into_head, deltacompare,
};

/// Tables, what happens to them, and the inserts and deletes that must come out. All are rewritten,
/// so that their row versions cannot be compared.
const CASES: &[(&str, &str, &str, (u64, u64))] = &[
    (
        "pairs",
        "create table pairs (a int, b text);
         insert into pairs values (1, 'x'), (1, 'x'), (2, 'same'), (2, 'same'), (2, 'same')",
        // Both pairs would be 0 in an xor.
        "update pairs set b = 'y' where a = 1",
        (2, 2),
    ),
    (
        "twins",
        "create table twins (a int);
         insert into twins select i from generate_series(1, 20000) i, generate_series(1, 2)",
        // The xor of two equal hashes is 0 before and after; enough of them share a bucket.
        "update twins set a = a + 1000000",
        (40000, 40000),
    ),
    (
        "exchanged",
        "create table exchanged (a text, b text);
         insert into exchanged select 'a' || i, 'b' || i from generate_series(1, 5000) i",
        // All columns' own sums stay as they were.
        "update exchanged e set a = o.a from exchanged o
           where substr(e.b, 2)::int % 1000 in (1, 2)
             and substr(o.b, 2)::int = substr(e.b, 2)::int + case substr(e.b, 2)::int % 1000
                                                              when 1 then 1 else -1 end",
        (10, 10),
    ),
    (
        "moved",
        "create table moved (a int, b text);
         insert into moved select i, 'b' from generate_series(1, 5000) i",
        "create temp table gone as select * from moved where a % 3 = 0;
         delete from moved where a % 3 = 0; insert into moved select * from gone; drop table gone",
        (0, 0),
    ),
    (
        "prints_the_same",
        "create table prints_the_same (f float8, g float4, a int[], p point, fs float8[]);
         insert into prints_the_same
           select 'nan', 'nan', array[1, 2], '(nan,1)', '{nan}' from generate_series(1, 3)",
        // Other bytes of the same: a NaN's sign, a bitmap of nulls without a null.
        "update prints_the_same
            set f = 'inf'::float8 - 'inf'::float8, g = 'inf'::float4 - 'inf'::float4,
                a = array[1, null], p = point('inf'::float8 - 'inf'::float8, 1),
                fs = array['inf'::float8 - 'inf'::float8];
         update prints_the_same set a[2] = 2",
        (0, 0),
    ),
    (
        "copies",
        "create table copies (a int);
         insert into copies select i % 10 from generate_series(0, 999) i",
        // One copy less of each, and some more of one.
        "delete from copies where ctid in (select min(ctid) from copies group by a);
         insert into copies select 7 from generate_series(1, 6) i",
        (5, 9),
    ),
    (
        "parts",
        "create table parts (a int, b int) partition by list (b);
         create table parts_1 partition of parts for values in (1);
         create table parts_2 (b int, a int);
         alter table parts attach partition parts_2 for values in (2);
         insert into parts select i, i % 2 + 1 from generate_series(1, 2000) i",
        "update parts set b = 3 - b where a % 100 = 0",
        (20, 20),
    ),
    (
        "parent",
        "create table parent (a int); create table child () inherits (parent);
         insert into parent select i from generate_series(1, 100) i;
         insert into child select i from generate_series(1, 50) i",
        "delete from only parent where a > 90; update child set a = -a",
        (0, 10),
    ),
    ("emptied", "create table emptied (a int); insert into emptied values (1), (1)", "delete from emptied", (0, 2)),
    ("filled", "create table filled (a int)", "insert into filled values (1), (1)", (2, 0)),
    ("nothing", "create table nothing (a int)", "", (0, 0)),
    (
        "columnless",
        "create table columnless (); insert into columnless default values",
        "insert into columnless default values",
        (1, 0),
    ),
    (
        "hostile",
        "create table \"a\"\"; drop table b; --\" (\"ha sh\" int, \"leaf\" text, hash int, place int);
         insert into \"a\"\"; drop table b; --\" select i, 'x', i, i from generate_series(1, 100) i",
        "update \"a\"\"; drop table b; --\" set hash = 0 where hash <= 3",
        (3, 3),
    ),
];

fn name(case: &str) -> &str {
    if case == "hostile" { "\"a\"\"; drop table b; --\"" } else { case }
}

async fn run(gap: &Gap, more: &[&str]) -> Run {
    let mut arguments = vec!["run", "--format", "landing", "--sink", "ndjson:{dir}/events"];
    arguments.extend(["--report", "{dir}/report"]);
    arguments.extend(more);
    deltacompare(gap, &arguments).run().await
}

async fn multisets_are_compared_by_counts_and_sums() {
    let production = Database::new().await;
    for (table, before, ..) in CASES {
        production.sql(*before).await.unwrap();
        let table = name(table);
        production.sql(format!("alter table {table} replica identity full")).await.unwrap();
    }
    production
        .sql(
            "alter table parts_1 replica identity full; alter table parts_2 replica identity full;
             alter table child replica identity full;
             create publication shop for all tables with (publish_via_partition_root)",
        )
        .await
        .unwrap();
    let gap = Gap::over(production, async |production| {
        for (table, _, during, _) in CASES {
            production.sql(*during).await.unwrap();
            if !["parts", "hostile"].contains(table) {
                production.sql(format!("vacuum full {table}")).await.unwrap();
            }
        }
        production.sql("vacuum full parts_1").await.unwrap();
        production.sql("vacuum full \"a\"\"; drop table b; --\"").await.unwrap();
    })
    .await;
    let (auto, content) =
        tokio::join!(run(&gap, &["--verify", "full"]), run(&gap, &["--strategy", "content"]));
    let names: Vec<&str> = CASES.iter().map(|case| name(case.0)).collect();
    for run in [&auto, &content] {
        run.assert_completed();
        for (table, .., (inserts, deletes)) in CASES {
            let table = name(table).trim_matches('"').replace("\"\"", "\"");
            let table = format!("public.{table}");
            assert_eq!(run.table("report", &table)["strategy"], "content", "{table}");
            assert_eq!(run.counts("report", &table), (*inserts, 0, *deletes), "{table}");
        }
        assert_events_turn_base_into_head(&gap, &names, &run.events("events")).await;
    }
    let reason = auto.table("report", "public.pairs")["strategy_reason"].to_string();
    assert!(reason.contains("rewritten"), "{reason}");
}

/// Where too much differs, the database counts, and the report and the status say so.
async fn large_changes_are_counted_by_the_database() {
    let gap = Gap::between(
        "create table many (a int); alter table many replica identity full;
         insert into many select 1 from generate_series(1, 1000001) i;
         create publication shop for all tables",
        "update many set a = 2 where ctid = '(0,1)'",
    )
    .await;
    let run = run(&gap, &["--strategy", "content"]).await;
    run.assert_completed();
    let found = run.table("report", "public.many");
    assert_eq!(found["strategy"], "content");
    assert_eq!(run.counts("report", "public.many"), (1, 0, 1));
    assert_eq!(found["rows_compared"], 1_000_002, "{found:#}");
    let note = "compared by full instead";
    assert!(found["warnings"].to_string().contains(note), "{found:#}");
    let stored: String =
        gap.head.value("select warnings::text from deltacompare.work_item").await.unwrap();
    assert!(stored.contains(note), "{stored}");
}

/// Killed between two batches, it goes on behind what is durable, and nothing comes out wrong.
async fn a_multiset_goes_on_at_its_checkpoint() {
    // Four batches: three quarters of a million rows in buckets that differ.
    let gap = Gap::between(
        "create table many (a int); alter table many replica identity full;
         insert into many select i from generate_series(1, 750000) i;
         create publication shop for all tables",
        "update many set a = -a where a % 10 = 0",
    )
    .await;
    let (program, id, done) = killed_behind_a_checkpoint(&gap).await;
    let resumed = deltacompare(&gap, &["run", "--resume", &id]).run().await;
    resumed.assert_completed();
    let events = crate::support::Events::read(&program.folder().join("events"));
    let ids = events.by_id().len();
    assert_eq!(ids, 150_000);
    let again = events.0.len() - ids;
    println!("{done} inserts before the checkpoint, {again} events again");
    assert!(done > 0 && again as i64 <= 150_000 - 2 * done, "{done}, {again}");
    let counts = "select inserts || ' ' || updates || ' ' || deletes from deltacompare.work_item";
    assert_eq!(gap.head.value::<String>(counts).await.unwrap(), "75000 0 75000");

    // Behind a checkpoint of a build that hashed in another way other rows would be left out.
    gap.head.sql("truncate deltacompare.recovery cascade").await.unwrap();
    let (_program, id, _) = killed_behind_a_checkpoint(&gap).await;
    let other = "update deltacompare.work_item
                    set checkpoint = jsonb_set(checkpoint, '{bucket,hashed_by}', '1')";
    gap.head.sql(other).await.unwrap();
    let refused = deltacompare(&gap, &["run", "--resume", &id]).run().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stdout.contains("hashes rows in another way"), "{}", refused.stdout);
}

async fn killed_behind_a_checkpoint(gap: &Gap) -> (Program, String, i64) {
    let mut program = deltacompare(
        gap,
        &[
            "run",
            "--format",
            "landing",
            "--sink",
            "ndjson:{dir}/events",
            "--lease-seconds",
            "1",
            "--strategy",
            "content",
        ],
    );
    let mut child = program.spawn();
    let checkpoint = "select coalesce((select checkpoint is not null and state = 'running'
                                         from deltacompare.work_item), false)";
    while !gap.head.value::<bool>(checkpoint).await.unwrap_or(false) {
        assert!(child.try_wait().unwrap().is_none(), "no checkpoint was stored");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().await.unwrap();
    let (id, done): (String, i64) = gap
        .head
        .rows("select recovery_id::text, (done ->> 'inserts')::int8 from deltacompare.work_item")
        .await
        .unwrap()
        .remove(0);
    (program, id, done)
}

tests! {
    multisets_are_compared_by_counts_and_sums,
    large_changes_are_counted_by_the_database,
    a_multiset_goes_on_at_its_checkpoint,
}
