//! Tables of many columns, and rows of many bytes.

use std::time::Duration;

use deltacompare_testbed::{Options, Server};

use super::{STRATEGIES, assert_counts, run};
use crate::support::{Gap, assert_events_turn_base_into_head};

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
    let gap = Gap::own(options, before, during).await;
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

tests! {
    tables_of_1600_columns: seconds(600),
    rows_of_50_megabytes: own_servers seconds(600),
}
