//! Selections of nothing, and of what cannot be compared.

use super::{GAP, SHOP, assert_refused, assert_runs, run};
use crate::support::{Database, Gap, deltacompare};

async fn selections_of_nothing() {
    let more = "create view report as select * from customer;
                create publication empty;";
    let gap = Gap::between(&format!("{SHOP}{more}"), GAP).await;
    for (arguments, words) in [
        (
            &["--publication", "nosuch"][..],
            &["no publication \"nosuch\"", "it has: empty, shop"][..],
        ),
        (&["--publication", "empty"], &["no table is selected", "--table schema.table"]),
        (
            &["--exclude", "public.customer", "--exclude", "public.invoice"],
            &["no table is selected", "--exclude"],
        ),
        (&["--table", "public.nosuch"], &["no table public.nosuch", "check the spelling"]),
        (&["--exclude", "public.nosuch"], &["no table public.nosuch"]),
        (&["--table", "public.report"], &["public.report on head is not a table"]),
        (
            &["--publication", "empty", "--table", "public.customer"],
            &["does not publish public.customer", "leave --publication or this --table out"],
        ),
        (
            &["--table", "public.customer", "--exclude", "public.customer"],
            &["both in --table and in --exclude", "take it out of one"],
        ),
        (&["--table", "customer"], &["\"customer\" is not a table's name", "schema.table"]),
        (&["--sink", "kafka:x"], &["this is not a sink", "ndjson:<file> or delta-table"]),
        (&["--sink", "ndjson:"], &["is not a sink"]),
        (&["--format", "avro"], &["--format", "debezium, landing"]),
        (&["--strategy", "magic"], &["--strategy", "full"]),
        (&["--parallel", "0"], &["--parallel", "1..=256"]),
        (&["--fdw", "port=70000"], &["--fdw", "port is a number up to 65535"]),
        (&["--fdw", "hosts=x"], &["--fdw", "\"hosts\"", "did you mean host?", "sslrootcert"]),
        (&["--debezium", "decimal.handling.mode=text"], &["--debezium", "precise, double, string"]),
        (&["--debezium", "snapshot.mode=never"], &["snapshot.mode", "topic.prefix"]),
        (&["--sink", "delta_table"], &["did you mean delta-table?", "event-hub:<namespace>/<hub>"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (
            &["--sink", "ndjson:{dir}/nosuch/events"],
            &["the folder of", "does not exist", "create it"],
        ),
        (&["--sink", "ndjson:{dir}"], &["is not an empty file", "name another"]),
    ] {
        assert_refused(&gap, run(&gap, arguments), words).await;
    }

    let program = run(&gap, &["--sink", "ndjson:{dir}/old"]);
    let old = program.folder().join("old");
    std::fs::write(&old, "{}\n").unwrap();
    let refused = assert_refused(&gap, program, &["not an empty file", "--resume"]).await;
    assert_eq!(std::fs::read_to_string(refused.file("old")).unwrap(), "{}\n");

    let no_folder =
        ["run", "--sink", "ndjson:{dir}/events", "--report", "{dir}/nosuch/report.json"];
    let words = ["report.json cannot be a report", "its folder does not exist", "--report"];
    assert_refused(&gap, deltacompare(&gap, &no_folder), &words).await;
    let no_sink = deltacompare(&gap, &["run"]);
    assert_refused(&gap, no_sink, &["--sink"]).await;
    for prefix in ["", "event-hub:"] {
        let misplaced = format!("{prefix}Endpoint=sb://n/;SharedAccessKey=Walrus9");
        let program = run(&gap, &["--sink", &misplaced]);
        let refused = assert_refused(&gap, program, &["use event-hub:<namespace>/<hub>"]).await;
        assert!(!refused.stderr.contains("Walrus9"), "{}", refused.stderr);
    }
    let resume = ["run", "--resume", "0190d1d0-0000-7000-8000-000000000000"];
    assert_refused(&gap, deltacompare(&gap, &resume), &["no recovery 0190d1d0", "check the id"])
        .await;
    let resume = ["run", "--resume", "17"];
    assert_refused(&gap, deltacompare(&gap, &resume), &["--resume"]).await;

    gap.head.sql("drop publication shop; drop publication empty").await.unwrap();
    let words = ["no table is selected", "--table schema.table"];
    assert_refused(&gap, run(&gap, &[]), &words).await;
    let words = ["no publication \"shop\"", "it has none at all: name tables with --table"];
    assert_refused(&gap, run(&gap, &["--publication", "shop"]), &words).await;
}

async fn tables_that_no_slot_delivers() {
    let production = Database::new().await;
    production
        .sql(
            "create unlogged table fast (id int primary key);
             create table part (id int) partition by range (id);
             create table part_1 partition of part for values from (0) to (10);
             create table steady (id int primary key);
             create publication shop for table part, steady
               with (publish_via_partition_root = true);
             create publication leaves for table part, steady;
             create foreign data wrapper nowhere;
             create server nowhere foreign data wrapper nowhere;",
        )
        .await
        .unwrap();
    // A session's own table is in the catalog of a restore, too.
    let session = production.connect().await.unwrap();
    session.sql("create temporary table brief (id int primary key)").await.unwrap();
    let temporary: String =
        session.value("select pg_my_temp_schema()::regnamespace || '.brief'", &[]).await.unwrap();
    let gap = Gap::over(production, async |production| {
        production
            .sql(
                "create foreign table part_2 partition of part for values from (10) to (20)
                   server nowhere;
                 insert into part values (1); insert into steady values (1)",
            )
            .await
            .unwrap();
    })
    .await;
    drop(session);
    for table in ["public.fast", &temporary] {
        let words =
            [table, "is unlogged or temporary: no slot delivers its changes", "leave it out"];
        assert_refused(&gap, run(&gap, &["--table", table]), &words).await;
    }
    let words = [
        "partitions on head are foreign tables, whose rows no slot delivers: public.part_2",
        "detach them on this copy, or leave their root out with --exclude",
    ];
    assert_refused(&gap, run(&gap, &["--publication", "shop"]), &words).await;
    assert_refused(&gap, run(&gap, &["--table", "public.part"]), &words).await;
    let without = ["--publication", "shop", "--exclude", "public.part"];
    assert_eq!(assert_runs(run(&gap, &without)).await.report("report")["totals"]["inserts"], 1);
    // Where partitions are published one by one, a foreign one is simply not among them.
    let leaves = assert_runs(run(&gap, &["--publication", "leaves"])).await;
    assert_eq!(leaves.report("report")["totals"]["inserts"], 2);
    assert!(!leaves.report("report")["tables"].to_string().contains("part_2"));
}

tests! {
    selections_of_nothing: in_turn,
    tables_that_no_slot_delivers,
}
