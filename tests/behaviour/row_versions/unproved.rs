//! Where it is not proved that head continues base's history, or that nobody wrote to a restore.

use std::time::Duration;

use deltacompare_testbed::{Connection, RestoreOptions, StopMode};

use super::*;
use crate::support::skip;

const SHOP: &str = "
    create table t (id int primary key, v text);
    create publication shop for all tables;
    insert into t select i, 'v' || i from generate_series(1, 500) i";

async fn production(options: Options) -> Production {
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production.sql(SHOP).await.unwrap();
    production.base_backup().await.unwrap();
    production
}

async fn assert_read_by_content(gap: &Gap, run: &Run, reason: &str, warning: &str) {
    run.assert_completed();
    let found = run.table("report", "public.t");
    assert_eq!(found["strategy"], "content", "{found:#}");
    assert!(found["strategy_reason"].as_str().unwrap().contains(reason), "{found:#}");
    let report = run.report("report");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains(warning)), "{report:#}");
    assert_events_turn_base_into_head(gap, &["t"], &run.events("events")).await;
}

/// Row versions that both sides have although each side wrote its own.
const FALSE_FRIENDS: &str =
    "select string_agg(ctid::text || xmin::text || v, ' ' order by ctid) from t where id > 500";

/// traps.md 1: base lies on the old primary's side of a failover and head on the new one's.
async fn restores_on_two_sides_of_a_failover_are_not_compared_by_row_version() {
    let production = production(Options::default()).await;
    let fork = production.restore_point("fork").await.unwrap();
    let promoted = production
        .restore_with(&fork, RestoreOptions { archive: true, ..RestoreOptions::default() })
        .await
        .unwrap();
    // The old primary goes on for a moment; each hands the same transaction id to another row.
    let old = "insert into t values (501, 'old')";
    let new = "insert into t values (501, 'new')";
    let next = |server: &str| format!("select '{server}', pg_snapshot_xmax(pg_current_snapshot())");
    production.sql(next("old")).await.unwrap();
    let xmax = "select pg_snapshot_xmax(pg_current_snapshot())::text::int8";
    let (a, b): (i64, i64) =
        (production.value(xmax).await.unwrap(), promoted.value(xmax).await.unwrap());
    for (server, behind) in [(&*production, b - a), (&promoted, a - b)] {
        for _ in 0..behind.max(0) {
            server.sql("select pg_current_xact_id()").await.unwrap();
        }
    }
    production.sql(old).await.unwrap();
    promoted.sql(new).await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    let back = promoted.restore_point("back").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
    let gap = Gap::of(base, head).await;
    let on_base: String = gap.base.value(FALSE_FRIENDS).await.unwrap();
    let on_head: String = gap.head.value(FALSE_FRIENDS).await.unwrap();
    assert_eq!(on_base.replace("old", "new"), on_head, "the trap is not set");

    let (auto, identity) =
        tokio::join!(program(&gap, "auto", &[]).run(), program(&gap, "row-versions", &[]).run(),);
    for run in [auto, identity] {
        assert_read_by_content(&gap, &run, "not proved", "not on head's history").await;
        assert_eq!(run.counts("report", "public.t"), (0, 1, 0));
    }
}

async fn restores_of_two_clusters_are_not_compared_by_row_version() {
    let own = || Options { own_identifier: true, ..Options::default() };
    let (one, other) = tokio::join!(production(own()), production(own()));
    one.sql("insert into t values (501, 'one')").await.unwrap();
    other.sql("insert into t values (501, 'other')").await.unwrap();
    let lost = one.restore_point("lost").await.unwrap();
    let back = other.restore_point("back").await.unwrap();
    let (base, head) = tokio::try_join!(one.restore(&lost), other.restore(&back)).unwrap();
    let oid = "select 't'::regclass::oid::int8 * 100000 + pg_relation_filenode('t')::int8";
    assert_eq!(
        base.value::<i64>(oid).await.unwrap(),
        head.value::<i64>(oid).await.unwrap(),
        "the trap is not set"
    );
    let gap = Gap::of(base, head).await;
    let run = program(&gap, "auto", &[]).run().await;
    assert_read_by_content(&gap, &run, "not proved", "restores of different servers").await;
    assert_eq!(run.counts("report", "public.t"), (0, 1, 0));
}

async fn without_counts_of_writes_rows_are_compared() {
    let conf = vec!["track_counts = off".to_owned()];
    let production = production(Options { conf, ..Options::default() }).await;
    let gap = Gap::own_over(production, async |production| {
        production.sql("update t set v = 'w' where id = 7").await.unwrap();
    })
    .await;
    let run = program(&gap, "auto", &[]).run().await;
    assert_read_by_content(&gap, &run, "track_counts is off", "track_counts is off on base").await;
}

/// A gap with one insert, and base where somebody inserted another row, which got the same place
/// and transaction id (traps.md 2).
async fn base_with_a_false_friend() -> Gap {
    let production = production(Options::default()).await;
    let gap = Gap::own_over(production, async |production| {
        production.sql("insert into t values (501, 'production')").await.unwrap();
    })
    .await;
    let xmin: i64 = gap.head.value("select xmin::text::int8 from t where id = 501").await.unwrap();
    loop {
        let next: i64 = gap
            .base
            .value("select pg_snapshot_xmax(pg_current_snapshot())::text::int8")
            .await
            .unwrap();
        assert!(next <= xmin, "base has moved on: {next} > {xmin}");
        if next == xmin {
            break;
        }
        gap.base.sql("select pg_current_xact_id()").await.unwrap();
    }
    gap
}

async fn assert_trap_is_set(gap: &Gap) {
    let on_base: String = gap.base.value(FALSE_FRIENDS).await.unwrap();
    let on_head: String = gap.head.value(FALSE_FRIENDS).await.unwrap();
    assert_eq!(on_base.replace("rogue", "production"), on_head, "the trap is not set");
}

async fn a_base_that_was_written_to_is_refused_or_compared_by_content() {
    let gap = base_with_a_false_friend().await;
    gap.base.sql("insert into t values (501, 'rogue')").await.unwrap();
    assert_trap_is_set(&gap).await;
    // PostgreSQL 14 counts with a delay.
    let counted = "select pg_stat_get_tuples_inserted('t'::regclass)";
    while gap.base.value::<i64>(counted).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for strategy in ["auto", "row-versions", "content"] {
        let run = program(&gap, strategy, &[]).run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(
            run.stderr.contains("base was written to since its restore: public.t (1 rows)"),
            "{}",
            run.stderr
        );
    }
    for strategy in ["auto", "row-versions"] {
        let run = program(&gap, strategy, &["--accept", "written"]).run().await;
        assert_read_by_content(&gap, &run, "written to", "not proved").await;
        assert_eq!(run.counts("report", "public.t"), (0, 1, 0));
    }
}

/// A session that lives on tells its counts late: PostgreSQL holds them back for up to ten seconds
/// (14: until its next transaction) if it told others a moment before.
async fn a_write_whose_count_is_held_back_is_noticed() {
    let gap = base_with_a_false_friend().await;
    let session = gap.base.connect().await.unwrap();
    // A name that begins as those of our sessions do.
    session.sql("set application_name = 'deltacompare-etl'").await.unwrap();
    // It tells what it has counted so far, and then nothing for a while.
    session.sql("select count(*) from t").await.unwrap();
    session.sql("insert into t values (501, 'rogue')").await.unwrap();
    assert_trap_is_set(&gap).await;
    let run = program(&gap, "auto", &["--verify", "none"]).run().await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    if Postgres::find(None).unwrap().major() >= 15 {
        let error = run.table("report", "public.t")["error"].to_string();
        assert!(error.contains("base was written to while it was compared"), "{error}");
    } else {
        assert!(run.stderr.contains("cannot be said while other sessions"), "{}", run.stderr);
    }
    session.close().await.unwrap();
}

/// Who accepts writes accepts that what is there is compared, not that row versions are: a write that
/// was not counted when the strategy was chosen fails the table, and `content` finds it.
async fn a_write_that_is_counted_late_is_accepted_where_contents_are_compared() {
    let gap = base_with_a_false_friend().await;
    let session = gap.base.connect().await.unwrap();
    session.sql("select count(*) from t").await.unwrap();
    session.sql("insert into t values (501, 'rogue')").await.unwrap();
    assert_trap_is_set(&gap).await;
    let accepted = ["--accept", "written", "--verify", "none"];
    let run = program(&gap, "auto", &accepted).run().await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    if Postgres::find(None).unwrap().major() >= 15 {
        let error = run.table("report", "public.t")["error"].to_string();
        assert!(error.contains("base was written to while it was compared"), "{error}");
    } else {
        assert!(run.stderr.contains("cannot be said while other sessions"), "{}", run.stderr);
    }
    let run = program(&gap, "content", &accepted).run().await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.t"), (0, 1, 0));
    session.close().await.unwrap();
}

/// Within a transaction that goes on nothing is told; the recovery waits with its verdict.
async fn a_session_in_a_transaction_keeps_the_recovery_open() {
    let gap = base_with_a_false_friend().await;
    let session = gap.base.connect().await.unwrap();
    session.sql("select count(*) from t").await.unwrap();
    session.sql("insert into t values (501, 'rogue')").await.unwrap();
    session.sql("begin").await.unwrap();
    session.sql("select count(*) from t").await.unwrap();
    assert_trap_is_set(&gap).await;
    let run = program(&gap, "auto", &["--verify", "none"]).run().await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("cannot be said while other sessions"), "{}", run.stderr);
    let (_, id) = run.stderr.split_once("--resume ").unwrap();
    let id = &id[..36];
    session.close().await.unwrap();
    let report = "{dir}/report";
    let run = deltacompare(&gap, &["run", "--resume", id, "--report", report]).run().await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("base was written to since its restore"), "{}", run.stderr);
}

/// A crash takes the counts with it, and so does a reset.
async fn counts_that_were_lost_prove_nothing() {
    if Postgres::find(None).unwrap().major() < 15 {
        skip("PostgreSQL 14 does not say when counts were lost");
        return;
    }
    for crash in [true, false] {
        let gap = base_with_a_false_friend().await;
        // The file that tells when the restore ended has a time in whole seconds.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        gap.base.sql("insert into t values (501, 'rogue')").await.unwrap();
        if crash {
            gap.base.stop(StopMode::Immediate).await.unwrap();
            gap.base.start().await.unwrap();
        } else {
            // The session that wrote adds its counts as it ends, which must not come after the reset.
            let counted = "select pg_stat_get_tuples_inserted('t'::regclass) > 0";
            while !gap.base.value::<bool>(counted).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            gap.base.sql("select pg_stat_reset()").await.unwrap();
        }
        assert_trap_is_set(&gap).await;
        let run = program(&gap, "auto", &[]).run().await;
        assert_read_by_content(
            &gap,
            &run,
            "counts of writes since the restores were lost",
            "base lost its counts",
        )
        .await;
        assert_eq!(run.counts("report", "public.t"), (0, 1, 0));
        let report = run.report("report");
        assert_eq!(report["gap"]["verdict"], "not_provable", "{report:#}");
        let why = report["gap"]["why"].as_str().unwrap();
        assert!(why.contains("a restore lost its counts of writes"), "{why}");
        // Who wants no progress wants to be warned.
        let quiet = program(&gap, "auto", &["--quiet"]).run().await;
        quiet.assert_completed();
        assert!(quiet.stderr.contains("warning: base lost its counts"), "{}", quiet.stderr);
        assert!(!quiet.stderr.contains("checking"), "{}", quiet.stderr);
    }
}

/// Also while the tables are compared, when connections break and are made again.
async fn counts_that_are_lost_during_the_run_fail_the_table() {
    if Postgres::find(None).unwrap().major() < 15 {
        skip("PostgreSQL 14 does not say when counts were lost");
        return;
    }
    let gap = base_with_a_false_friend().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let (run, ()) = tokio::join!(program(&gap, "auto", &["--verify", "none"]).run(), async {
        let connection = wait_for_items(&gap).await;
        gap.base.sql("select pg_stat_reset()").await.unwrap();
        connection.close().await.unwrap();
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let error = run.table("report", "public.t")["error"].to_string();
    assert!(error.contains("lost its counts of writes while it was compared"), "{error}");
}

/// A restart in good order keeps them.
async fn a_restart_disturbs_nothing() {
    let production = production(Options::default()).await;
    let gap = Gap::own_over(production, async |production| {
        production.sql("update t set v = 'w' where id = 7").await.unwrap();
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for server in [&gap.base, &gap.head] {
        server.stop(StopMode::Fast).await.unwrap();
        server.start().await.unwrap();
    }
    let run = program(&gap, "auto", &[]).run().await;
    run.assert_completed();
    assert_eq!(run.table("report", "public.t")["strategy"], "row-versions");
    assert_events_turn_base_into_head(&gap, &["t"], &run.events("events")).await;
}

/// Waits until the recovery has begun to read.
async fn wait_for_items(gap: &Gap) -> Connection {
    let connection = gap.head.connect().await.unwrap();
    for _ in 0..4000 {
        let begun = "select exists (select from deltacompare.work_item where state <> 'pending')";
        let running = connection.value::<bool>(begun, &[]).await;
        if running.unwrap_or(false) {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no item was begun");
}

async fn a_write_during_the_run_fails_the_table() {
    for side in ["base", "head"] {
        let production = production(Options::default()).await;
        let gap = Gap::own_over(production, async |production| {
            production.sql("create table other (id int primary key)").await.unwrap();
            production.sql("update t set v = 'w' where id = 7").await.unwrap();
        })
        .await;
        let server = if side == "base" { &gap.base } else { &gap.head };
        let (run, ()) = tokio::join!(program(&gap, "auto", &["--verify", "none"]).run(), async {
            let connection = wait_for_items(&gap).await;
            server.sql("update t set v = 'rogue' where id = 400").await.unwrap();
            connection.close().await.unwrap();
        });
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        let found = run.table("report", "public.t");
        assert_eq!(found["state"], "failed");
        let error = found["error"].as_str().unwrap();
        assert!(error.contains(&format!("{side} was written to")), "{error}");
        assert_eq!(run.table("report", "public.other")["state"], "completed");
    }
}

tests! {
    restores_on_two_sides_of_a_failover_are_not_compared_by_row_version: own_servers seconds(600),
    restores_of_two_clusters_are_not_compared_by_row_version: own_servers seconds(600),
    without_counts_of_writes_rows_are_compared: own_servers seconds(600),
    a_base_that_was_written_to_is_refused_or_compared_by_content: own_servers seconds(600),
    a_write_whose_count_is_held_back_is_noticed: own_servers seconds(600),
    a_write_that_is_counted_late_is_accepted_where_contents_are_compared: own_servers seconds(600),
    a_session_in_a_transaction_keeps_the_recovery_open: own_servers seconds(600),
    counts_that_were_lost_prove_nothing: own_servers seconds(600),
    counts_that_are_lost_during_the_run_fail_the_table: own_servers seconds(600),
    a_restart_disturbs_nothing: own_servers seconds(600),
    a_write_during_the_run_fails_the_table: own_servers seconds(600),
}
