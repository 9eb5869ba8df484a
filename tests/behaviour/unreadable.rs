//! Tables that cannot be read, or not now: each fails by name, with the server, the column and the way
//! on, and the others are whole.

use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use deltacompare_testbed::Server;
use futures_util::future::join_all;

use crate::support::{
    Database, Gap, Run, TableName, assert_recovered, deltacompare, hold_the_sink, run_by, until,
    waiting_for_the_sink,
};

async fn run(gap: &Gap, strategy: &str, more: &[&str]) -> Run {
    let arguments = [
        "run",
        "--sink",
        "ndjson:{dir}/events",
        "--format",
        "landing",
        "--report",
        "{dir}/report",
        "--strategy",
        strategy,
    ];
    deltacompare(gap, &[&arguments[..], more].concat()).run().await
}

/// The table failed, with all of these words.
fn assert_failed(run: &Run, table: &str, words: &[&str]) {
    assert_eq!(run.code, Some(1), "stdout:\n{}\nstderr:\n{}", run.stdout, run.stderr);
    let found = run.table("report", table);
    assert_eq!(found["state"], "failed", "{found}");
    let error = found["error"].as_str().unwrap();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

/// 141 MB of bits, which print as more than 1 GB: as with a `bytea` of 540 MB, no server can.
const LONG: &str = "
    create table unchanged (id int primary key, v int, long varbit);
    create table changed (id int primary key, v int, long varbit);
    insert into unchanged select i, i from generate_series(1, 20000) i;
    insert into changed select i, i from generate_series(1, 20000) i;
    do $$
    declare
      b varbit := repeat('01', 550000)::varbit;
    begin
      for i in 1..10 loop
        b := b || b;
      end loop;
      update unchanged set long = b where id = 20000;
      update changed set long = b where id = 20000;
    end $$;
    create publication p for all tables;
";

async fn a_value_that_no_server_can_print_is_named() {
    let gap = Gap::between(
        LONG,
        "update unchanged set v = -v where id <= 20;
         update changed set v = -v where id <= 20 or id = 20000",
    )
    .await;
    let words = [
        "column \"long\" of public.changed on ",
        "too long to be printed",
        "column list",
        "--exclude public.changed",
    ];
    let strategies = ["row-versions", "content"];
    let runs = join_all(strategies.map(|strategy| run(&gap, strategy, &[]))).await;
    for (strategy, run) in strategies.into_iter().zip(runs) {
        assert_failed(&run, "public.changed", &words);
        // The row that did not change is never printed.
        assert_eq!(run.table("report", "public.unchanged")["state"], "completed", "{strategy}");
        assert_eq!(run.counts("report", "public.unchanged"), (0, 20, 0), "{strategy}");
        // What was sent of the table that failed is in its report.
        let sent = run.events("events").of("changed").len() as u64;
        assert_eq!(run.counts("report", "public.changed"), (0, sent, 0), "{strategy}");
        if strategy == "content" {
            assert_eq!(sent, 20);
        }
    }
}

/// A database of the same servers in which text may be anything.
async fn ascii_database(production: &Database, name: &str) -> Server {
    production
        .sql(format!(
            "create database {name} template template0 encoding 'SQL_ASCII' lc_collate 'C' \
             lc_ctype 'C' owner azure_admin"
        ))
        .await
        .unwrap();
    production.in_database(name)
}

async fn bytes_that_are_no_utf8_are_named() {
    let production = Database::new().await;
    let names = ["values", "names"].map(|what| format!("{}_{what}", production.database()));
    let values = ascii_database(&production, &names[0]).await;
    let named = ascii_database(&production, &names[1]).await;
    values
        .sql(
            "create table bad (id int primary key, v text, w text);
             create table good (id int primary key, v text);
             insert into bad select i, 'v', 'w' from generate_series(1, 100) i;
             insert into good select i, 'é' from generate_series(1, 100) i;
             create publication p for all tables",
        )
        .await
        .unwrap();
    named
        .sql(
            r"do $$ begin
                execute format('create table %I (id int primary key)',
                               convert_from('\x62ff'::bytea, 'SQL_ASCII'));
              end $$;
              create table good (id int primary key);
              create publication p for all tables",
        )
        .await
        .unwrap();
    let gap = Gap::over(production, async |_| {
        values
            .sql(
                r"update bad set w = E'caf\xe9' where id = 7; update good set v = 'w' where id < 4",
            )
            .await
            .unwrap();
        named.sql("insert into good values (1)").await.unwrap();
    })
    .await;
    let within =
        async |name: &str| Gap::of(gap.base.in_database(name), gap.head.in_database(name)).await;
    let (values, named) = (within(&names[0]).await, within(&names[1]).await);
    let strategies = ["auto", "full"];
    let runs = join_all(strategies.map(|strategy| run(&values, strategy, &[]))).await;
    for (strategy, run) in strategies.into_iter().zip(runs) {
        let words = ["column \"w\" of public.bad on head", "no UTF-8", "--exclude public.bad"];
        assert_failed(&run, "public.bad", &words);
        assert_eq!(run.counts("report", "public.good"), (0, 3, 0), "{strategy}");
        assert_recovered(&values, &TableName::of("good"), &run.events("events")).await;
    }
    let run = run(&named, "auto", &[]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    for side in ["base", "head"] {
        let sentence = format!(r#"{side} has names that are no UTF-8"#);
        assert!(run.stderr.contains(&sentence), "{}", run.stderr);
    }
    assert!(run.stderr.contains(r#"relation "b\xff""#), "{}", run.stderr);
}

/// What a filter or a partition's bound says in bytes that are no UTF-8 concerns its own table alone.
async fn filters_and_bounds_that_are_no_utf8_concern_their_tables() {
    let production = Database::new().await;
    let name = format!("{}_filters", production.database());
    let database = ascii_database(&production, &name).await;
    database
        .sql(
            r"create table filtered (id int primary key, v text);
              alter table filtered replica identity full;
              create table plain (id int primary key, v text);
              create table parts (v text, id int, primary key (v, id)) partition by list (v);
              create table parts_1 partition of parts for values in (E'caf\xe9');
              create table parts_2 partition of parts for values in ('tea');
              insert into parts select 'tea', i from generate_series(1, 100) i;
              create publication menu for table filtered where (v = E'caf\xe9'), table plain;
              create publication roots for table parts with (publish_via_partition_root)",
        )
        .await
        .unwrap();
    let gap = Gap::over(production, async |_| {
        let more = "insert into plain values (1, 'v'); delete from parts where id < 4";
        database.sql(more).await.unwrap();
    })
    .await;
    let gap = Gap::of(gap.base.in_database(&name), gap.head.in_database(&name)).await;
    for strategy in ["row-versions", "content", "full"] {
        let run = run(&gap, strategy, &["--exclude", "public.filtered"]).await;
        run.assert_completed();
        assert_eq!(run.counts("report", "public.plain"), (1, 0, 0), "{strategy}");
        assert_eq!(run.counts("report", "public.parts"), (0, 0, 3), "{strategy}");
    }
    let only = run(&gap, "auto", &["--table", "public.plain"]).await;
    only.assert_completed();
    let refused = run(&gap, "auto", &[]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let words = ["row filter of public.filtered in publication \"menu\" on ", "--exclude"];
    for word in words {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
}

/// Writes nonsense over a page's header that the server has not read since it was restored.
async fn damage(server: &Server, table: &str, block: u64) {
    let path = format!("select pg_relation_filepath('{table}')");
    let path: String = server.value(path).await.unwrap();
    let path = server.data_dir().join(path);
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut header = [0; 24];
    file.seek(SeekFrom::Start(block * 8192)).unwrap();
    file.read_exact(&mut header).unwrap();
    assert_ne!(header, [0x5a; 24]);
    file.seek(SeekFrom::Start(block * 8192)).unwrap();
    file.write_all(&[0x5a; 24]).unwrap();
}

async fn a_damaged_page_is_named_with_its_server() {
    let gap = Gap::between(
        "create table sound (id int primary key, v text);
         create table torn (id int primary key, v text);
         insert into sound select i, 'v' from generate_series(1, 100) i;
         insert into torn select i, repeat('v', 100) from generate_series(1, 2000) i;
         create publication p for all tables",
        "update sound set v = 'w' where id = 1; update torn set v = 'w' where id = 1",
    )
    .await;
    damage(&gap.base, "torn", 5).await;
    let strategies = ["row-versions", "content", "full"];
    let runs = join_all(strategies.map(|strategy| run(&gap, strategy, &[]))).await;
    for (strategy, run) in strategies.into_iter().zip(runs) {
        let words = ["public.torn is damaged on base", "invalid page in block 5", "restore base"];
        assert_failed(&run, "public.torn", &words);
        assert_eq!(run.counts("report", "public.sound"), (0, 1, 0), "{strategy}");
    }
}

async fn a_lock_is_named_with_its_holder() {
    let gap = Gap::between(
        "create table free (id int primary key);
         create table held (id int primary key);
         create table part (id int primary key) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         create table outside (id int);
         create publication p for table free, held, part;
         create publication q for all tables with (publish_via_partition_root)",
        "insert into free values (1)",
    )
    .await;
    let plan = async |publication: &str, more: &[&str]| {
        deltacompare(&gap, &[&["plan", "--publication", publication][..], more].concat())
            .run()
            .await
    };
    // A partition is a part of its root, whether that is selected or left out.
    let cases = [
        ("p", "held", &[][..], Some("public.held")),
        ("p", "held", &["--exclude", "public.held"], None),
        ("p", "part_1", &[], Some("public.part_1")),
        ("q", "part_1", &[], Some("public.part_1")),
        ("q", "part_1", &["--exclude", "public.part"], None),
        ("p", "outside", &[], None),
    ];
    for (server, side) in [(&gap.base, "base"), (&gap.head, "head")] {
        let session = server.connect().await.unwrap();
        let pid: i32 = session.value("select pg_backend_pid()", &[]).await.unwrap();
        let some = if side == "base" { cases.len() } else { 1 };
        for (publication, table, more, named) in cases.into_iter().take(some) {
            session.sql(&format!("begin; lock table {table}")).await.unwrap();
            let since = Instant::now();
            let run = plan(publication, more).await;
            assert_eq!(run.code, Some(2), "{}", run.stderr);
            let sentence = match named {
                Some(named) => {
                    format!("{named} on {side} is locked by another session (pid {pid})")
                }
                // Who holds such a lock may have written, too.
                None => format!(
                    "a session on {side} (pid {pid}) has locked public.{table} and may have written"
                ),
            };
            assert!(run.stderr.contains(&sentence), "{}", run.stderr);
            let end = format!("pg_terminate_backend({pid})");
            assert_eq!(run.stderr.matches(&end).count(), 1, "{}", run.stderr);
            assert!(!run.stderr.contains("is being written to"), "{}", run.stderr);
            assert!(since.elapsed() < Duration::from_secs(9), "it waited for the lock");
            session.sql("rollback").await.unwrap();
        }
        session.close().await.unwrap();
    }
}

/// A lock that comes while the recovery runs is named with its holder, and waited for.
async fn a_lock_that_appears_is_named_and_waited_for() {
    let gap = Gap::between(
        "create table one (id int primary key, v text);
         create table other (id int primary key, v text);
         insert into one select i, repeat('v', 500) from generate_series(1, 20000) i;
         insert into other select i, repeat('v', 500) from generate_series(1, 20000) i;
         create publication p for all tables",
        "update one set v = 'w'; update other set v = 'w'",
    )
    .await;
    let more = ["--sink", "delta-table", "--parallel", "1"];
    let program = run_by(&gap, "row-versions", &more);
    let said = program.folder().join("said");
    let mut program = program.stderr(std::fs::File::create(&said).unwrap());
    let mut child = program.spawn();
    until(&gap, "select to_regclass('deltacompare.delta') is not null").await;
    // Whoever compares a table waits with its events, and has not opened the next one.
    let sink = hold_the_sink(&gap).await;
    until(&gap, &waiting_for_the_sink(1)).await;
    let next = "select table_name from deltacompare.work_item where state = 'pending' limit 1";
    let next: String = gap.head.value(next).await.unwrap();
    let holder = gap.base.connect().await.unwrap();
    let pid: i32 = holder.value("select pg_backend_pid()", &[]).await.unwrap();
    holder.sql(&format!("begin; lock table {next}")).await.unwrap();
    sink.sql("rollback").await.unwrap();
    sink.close().await.unwrap();
    let named = format!("public.{next} on base is locked by another session (pid {pid})");
    let since = Instant::now();
    while !std::fs::read_to_string(&said).unwrap().contains(&named) {
        assert!(since.elapsed() < Duration::from_secs(100), "{named}: never said");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder.sql("rollback").await.unwrap();
    holder.close().await.unwrap();
    let ended = child.wait().await.unwrap();
    assert!(ended.success(), "{}", std::fs::read_to_string(&said).unwrap());
}

/// Somebody cancels our statements, or ends our sessions: both are tried again.
async fn what_somebody_cancels_is_tried_again() {
    let gap = Gap::between(
        "create table t (id int primary key, v text);
         insert into t select i, 'v' from generate_series(1, 300000) i;
         create publication p for all tables",
        "update t set v = 'w' where id % 2 = 0",
    )
    .await;
    for (strategy, what) in [
        ("row-versions", "pg_cancel_backend"),
        ("full", "pg_cancel_backend"),
        ("full", "pg_terminate_backend"),
    ] {
        let mut program = run_by(&gap, strategy, &["--parallel", "1"]);
        let child = program.spawn();
        // Those that compare carry the recovery's name.
        let end = format!(
            "select count({what}(pid)) > 0 from pg_stat_activity
              where application_name ~ '^deltacompare_' and state = 'active'
                and datname = current_database() and query ilike '%from%public%'"
        );
        until(&gap, &end).await;
        let ended = child.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{strategy} {what}: {said}");
        let report = std::fs::read(program.folder().join("report")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["tables"][0]["updates"], 150_000, "{strategy} {what}");
    }
}

/// What cannot be read while the plan is made fails its table alone.
async fn a_key_that_cannot_be_read_for_the_plan_is_named() {
    let production = Database::new().await;
    let name = format!("{}_keys", production.database());
    let keys = ascii_database(&production, &name).await;
    keys.sql(
        r"create table bad (id text primary key, v text);
          create table good (id text primary key, v text);
          insert into bad select E'caf\xe9' || i, 'v' from generate_series(1, 2000) i;
          insert into good select 'é' || i, 'v' from generate_series(1, 2000) i;
          create publication p for all tables",
    )
    .await
    .unwrap();
    let gap = Gap::over(production, async |_| {
        keys.sql(
            "update bad set v = 'w' where id like '%7'; update good set v = 'w' where id like '%7'",
        )
        .await
        .unwrap();
    })
    .await;
    let gap = Gap::of(gap.base.in_database(&name), gap.head.in_database(&name)).await;
    let run = run(&gap, "content", &["--range-blocks", "2"]).await;
    assert_failed(&run, "public.bad", &["column \"id\" of public.bad on ", "no UTF-8"]);
    assert_eq!(run.counts("report", "public.good"), (0, 200, 0));
    assert_recovered(&gap, &TableName::of("good"), &run.events("events")).await;
}

tests! {
    a_value_that_no_server_can_print_is_named: seconds(600),
    bytes_that_are_no_utf8_are_named,
    filters_and_bounds_that_are_no_utf8_concern_their_tables,
    a_damaged_page_is_named_with_its_server,
    a_lock_is_named_with_its_holder,
    a_lock_that_appears_is_named_and_waited_for,
    what_somebody_cancels_is_tried_again,
    a_key_that_cannot_be_read_for_the_plan_is_named,
}
