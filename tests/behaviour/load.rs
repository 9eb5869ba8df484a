//! What a recovery costs the servers and the machine it runs on, in bounds.

mod large_rows;

use std::time::Duration;

use deltacompare_testbed::{Options, Server};
use futures_util::future::join_all;

use crate::support::{Gap, Program, Run, deltacompare};

fn program(gap: &Gap, strategy: &str, more: &[&str]) -> Program {
    let mut arguments = vec!["run", "--format", "landing", "--sink", "ndjson:{dir}/events"];
    arguments.extend(["--report", "{dir}/report", "--strategy", strategy]);
    arguments.extend(more);
    deltacompare(gap, &arguments)
}

/// Bytes of temporary files that sessions of the database have written, once they have told.
async fn temp_bytes(server: &Server) -> i64 {
    let bytes = "select temp_bytes from pg_stat_database where datname = current_database()";
    let mut last = -1;
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = server.value::<i64>(bytes).await.unwrap();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn assert_strategy(run: &Run, strategy: &str) {
    run.assert_completed();
    for table in ["public.keyed", "public.keyless"] {
        assert_eq!(run.table("report", table)["strategy"], strategy, "{table}");
    }
}

/// Only `full` needs room for a table on head; `work_mem` is PostgreSQL's default.
async fn comparing_writes_no_temporary_files() {
    let gap = Gap::between(
        "create table keyed (id int, grp text, v text, pad text, primary key (grp, id));
         create table keyless (id int, v text, pad text);
         alter table keyless replica identity full;
         insert into keyed select i, 'g' || i % 7, 'v', repeat('x', 100) from generate_series(1, 150000) i;
         insert into keyless select i, 'v', repeat('x', 100) from generate_series(1, 150000) i;
         create publication shop for all tables",
        "update keyed set v = 'w' where id % 10 = 0; update keyless set v = 'w' where id % 100 = 0",
    )
    .await;
    let mut written = Vec::new();
    for strategy in ["row-versions", "content", "full"] {
        let (base, head) = (temp_bytes(&gap.base).await, temp_bytes(&gap.head).await);
        assert_strategy(&program(&gap, strategy, &["--range-blocks", "500"]).run().await, strategy);
        written.push((
            strategy,
            temp_bytes(&gap.base).await - base,
            temp_bytes(&gap.head).await - head,
        ));
    }
    println!("{written:?}");
    assert_eq!(written[..2], [("row-versions", 0, 0), ("content", 0, 0)]);
    // The scale shows what it would show.
    assert!(written[2].2 > 10_000_000, "{written:?}");
}

/// One session on either server for each of `--parallel`; besides, on head, one that says that the
/// process is there, four for the status, and one to set up and prove; on base one of these.
async fn sessions_are_as_many_as_documented() {
    let gap = Gap::own(
        Options::default(),
        "create table keyed (id int primary key, v text, pad text);
         create table keyless (id int, v text);
         alter table keyless replica identity full;
         insert into keyed select i, 'v', repeat('x', 100) from generate_series(1, 30000) i;
         insert into keyless select i, 'v' from generate_series(1, 30000) i;
         create publication shop for all tables",
        "update keyed set v = 'w' where id % 10 = 0; update keyless set v = 'w' where id % 100 = 0",
    )
    .await;
    gap.base.sql("alter role azure_admin connection limit 4").await.unwrap();
    gap.head.sql("alter role azure_admin connection limit 9").await.unwrap();
    for strategy in ["row-versions", "content", "full"] {
        let more = ["--range-blocks", "50", "--parallel", "3", "--verify", "full"];
        assert_strategy(&program(&gap, strategy, &more).run().await, strategy);
    }
    let refused = "too many connections for role";
    for server in [&gap.base, &gap.head] {
        assert!(!server.log().contains(refused), "{}", server.log());
    }
    gap.base.sql("alter role azure_admin connection limit 1").await.unwrap();
    program(&gap, "content", &["--range-blocks", "50", "--parallel", "3"]).run().await;
    assert!(gap.base.log().contains(refused), "the limit limits nothing");
}

/// The most memory that the program's process ever had, in kB.
async fn peak(mut program: Program) -> u64 {
    let mut child = program.spawn();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = now.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        peak = peak.max(now.unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    peak
}

/// Rows of 96 kB, and 200,000 keys behind a hole that a step of integers jumps over at once; and the
/// same with statistics that are missing, or wrong by a thousand.
async fn memory_is_bounded_for_wide_rows_and_holes_in_keys() {
    let statistics = [
        "",
        "; analyze",
        "; analyze; update pg_class set reltuples = reltuples * 1000
           where relname in ('wide', 'holes', 'wide_keyless')",
    ];
    let gaps = statistics.map(async |statistics| {
        Gap::between(
            &format!(
                "create table wide (id int primary key, v text) with (autovacuum_enabled = off);
                 alter table wide alter v set storage external;
                 create table holes (id int8 primary key, v text) with (autovacuum_enabled = off);
                 create table wide_keyless (id int, v text) with (autovacuum_enabled = off);
                 alter table wide_keyless alter v set storage external;
                 alter table wide_keyless replica identity full;
                 insert into wide select i, repeat('x', 96000) from generate_series(1, 600) i;
                 insert into wide_keyless
                   select i, repeat('x', 96000) from generate_series(1, 400) i;
                 insert into holes values (-9000000000000000000, 'v');
                 insert into holes select i, repeat('y', 100) from generate_series(1, 200000) i;
                 create publication shop for all tables{statistics}"
            ),
            "update wide set v = repeat('z', 96000);
             update wide_keyless set v = repeat('z', 96000);
             update holes set v = repeat('w', 100)",
        )
        .await
    });
    for (gap, statistics) in join_all(gaps).await.iter().zip(statistics) {
        for strategy in ["row-versions", "content"] {
            let peak = peak(program(gap, strategy, &["--parallel", "1"])).await;
            println!("{strategy}{statistics}: {peak} kB");
            assert!(peak > 1000, "not measured");
            assert!(peak < 150_000, "{strategy}{statistics}: {peak} kB");
        }
    }
}

tests! {
    [large_rows]
    comparing_writes_no_temporary_files,
    sessions_are_as_many_as_documented: own_servers,
    memory_is_bounded_for_wide_rows_and_holes_in_keys: seconds(600),
}
