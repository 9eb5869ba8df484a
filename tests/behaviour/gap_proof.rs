//! Whether the two restores cover the gap between a real slot that was lost and one that was made
//! anew: proven, violated by so many bytes, or not provable and why.

use std::ops::Deref;
use std::time::Duration;

use deltacompare_testbed::{
    Options, Postgres, Production, RestoreOptions, RestorePoint, Server, StopMode,
};
use serde_json::Value;

use crate::support::{Fingerprint, Gap, Run, deltacompare};

/// Where the slots stood on production, and points to restore to around that.
struct Story {
    production: Production,
    /// `confirmed_flush_lsn` of the lost slot when it was dropped.
    lost_at: String,
    new_slot: String,
    /// Before, and after, the last change that the lost slot delivered.
    before_lost: RestorePoint,
    after_lost: RestorePoint,
    before_new: RestorePoint,
    after_new: RestorePoint,
}

async fn insert(server: &Server, id: i32) {
    server.sql(format!("insert into t values ({id}, 'v')")).await.unwrap();
}

/// Row 1 is streamed by the lost slot, 2 to 4 by none, 5 by the new slot.
async fn story() -> Story {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production
        .sql("create table t (id int primary key, v text); create publication p for all tables")
        .await
        .unwrap();
    production.base_backup().await.unwrap();
    production.create_logical_slot("lost", "pgoutput").await.unwrap();
    let before_lost = production.restore_point("before-lost").await.unwrap();
    insert(&production, 1).await;
    assert!(!production.decode_messages("lost", "p").await.unwrap().is_empty());
    let lost_at = production
        .value(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = 'lost'",
        )
        .await
        .unwrap();
    production.sql("select pg_drop_replication_slot('lost')").await.unwrap();
    insert(&production, 2).await;
    let after_lost = production.restore_point("after-lost").await.unwrap();
    insert(&production, 3).await;
    let before_new = production.restore_point("before-new").await.unwrap();
    insert(&production, 4).await;
    let new_slot = production.create_logical_slot("new", "pgoutput").await.unwrap();
    let after_new = production.restore_point("after-new").await.unwrap();
    insert(&production, 5).await;
    Story { production, lost_at, new_slot, before_lost, after_lost, before_new, after_new }
}

/// Two restores that were recorded as soon as they were made.
struct Restores {
    gap: Gap,
    recorded: Run,
}

impl Deref for Restores {
    type Target = Gap;

    fn deref(&self) -> &Gap {
        &self.gap
    }
}

impl Restores {
    fn record(&self) -> String {
        self.recorded.file("recorded.json").display().to_string()
    }
}

async fn restored(production: &Production, base: &RestorePoint, head: &RestorePoint) -> Restores {
    let (base, head) =
        tokio::try_join!(production.restore(base), production.restore(head)).unwrap();
    let gap = Gap::of(base, head).await;
    let recorded = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    recorded.assert_completed();
    Restores { gap, recorded }
}

async fn run(gap: &Restores, lost_at: &str, new_slot: &str, also: &[&str]) -> Run {
    let record = gap.record();
    let mut arguments =
        vec!["run", "--sink", "ndjson:{dir}/events", "--format", "landing", "--report"];
    arguments.extend(["{dir}/report", "--lost-at-lsn", lost_at, "--new-slot-lsn", new_slot]);
    arguments.extend(["--recorded", &record]);
    arguments.extend(also);
    deltacompare(gap, &arguments).run().await
}

/// Bytes from one LSN to another, by PostgreSQL.
async fn bytes(server: &Server, from: &str, to: &str) -> i64 {
    server.value(format!("select ('{to}'::pg_lsn - '{from}'::pg_lsn)::int8")).await.unwrap()
}

fn ids(run: &Run) -> Vec<String> {
    let events = run.events("events");
    let mut ids: Vec<String> =
        events.0.iter().map(|event| event.key.as_ref().unwrap()["id"].get().to_owned()).collect();
    ids.sort();
    ids
}

/// Report and status say the same.
async fn assert_verdict(gap: &Gap, run: &Run, verdict: &str) -> Value {
    let report = run.report("report");
    assert_eq!(report["gap"]["verdict"], verdict, "{report:#}");
    let status: String = gap
        .head
        .value(format!(
            "select gap::text from deltacompare.recovery where id = '{}'",
            report["recovery_id"].as_str().unwrap()
        ))
        .await
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap(), report["gap"]);
    assert!(run.stdout.contains(report["gap"]["why"].as_str().unwrap()), "{}", run.stdout);
    report["gap"].clone()
}

async fn restores_around_both_slots_are_proven_to_cover_the_gap_after_any_restart() {
    let story = story().await;
    let gap = restored(&story.production, &story.before_lost, &story.after_new).await;
    for (restart, verdict) in [
        (None, "proven"),
        (Some(StopMode::Fast), "proven"),
        // A crash takes the counts of writes along, and the runs before have written on both.
        (Some(StopMode::Immediate), crashed()),
    ] {
        if let Some(mode) = restart {
            for server in [&gap.base, &gap.head] {
                server.stop(mode).await.unwrap();
                server.start().await.unwrap();
            }
        }
        // A cross-check that lies after a restart is none.
        let replayed: Option<String> =
            gap.base.value("select pg_last_wal_replay_lsn()::text").await.unwrap();
        let run = run(&gap, &story.lost_at, &story.new_slot, &[]).await;
        run.assert_completed();
        let proof = assert_verdict(&gap, &run, verdict).await;
        let why = proof["why"].as_str().unwrap();
        for position in [&story.lost_at, &story.new_slot] {
            assert!(why.contains(position), "{why}");
        }
        let report = run.report("report");
        // What a named restore point says of itself is where recovery to it ends.
        assert_eq!(report["base_end_lsn"], story.before_lost.lsn, "{restart:?}");
        assert_eq!(report["head_end_lsn"], story.after_new.lsn, "{restart:?}");
        if restart.is_some() {
            assert_ne!(replayed.as_ref(), Some(&story.before_lost.lsn));
        }
        assert_eq!(ids(&run), ["1", "2", "3", "4"]);
    }
    let positions = ["--lost-at-lsn", &story.lost_at, "--new-slot-lsn", &story.new_slot];
    let record = gap.record();
    let arguments: Vec<&str> =
        ["plan", "--json", "--recorded", &record].into_iter().chain(positions).collect();
    let plan = deltacompare(&gap, &arguments).run().await;
    plan.assert_completed();
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["gap"]["verdict"], crashed());
    let wal = bytes(&gap.head, &story.before_lost.lsn, &story.after_new.lsn).await;
    assert_eq!(plan["gap_wal_bytes"], wal);
}

/// What is said of a restore that has crashed after something was written there: PostgreSQL 14 does
/// not say that counts were lost.
fn crashed() -> &'static str {
    if Postgres::find(None).unwrap().major() < 15 { "proven" } else { "not_provable" }
}

/// Counts that a crash takes along are of nothing where nothing was written.
async fn a_crash_before_anything_was_written_hides_nothing() {
    let story = story().await;
    let gap = restored(&story.production, &story.before_lost, &story.after_new).await;
    // The file that tells when the restore ended has a time in whole seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let record = gap.record();
    let plan = async || {
        let positions = ["--lost-at-lsn", &story.lost_at, "--new-slot-lsn", &story.new_slot];
        let arguments: Vec<&str> =
            ["plan", "--json", "--recorded", &record].into_iter().chain(positions).collect();
        let plan = deltacompare(&gap, &arguments).run().await;
        plan.assert_completed();
        serde_json::from_str::<Value>(&plan.stdout).unwrap()["gap"]["verdict"].clone()
    };
    gap.head.stop(StopMode::Immediate).await.unwrap();
    gap.head.start().await.unwrap();
    assert_eq!(plan().await, "proven");
    gap.head.sql("select pg_current_xact_id()").await.unwrap();
    assert_eq!(plan().await, crashed());
}

async fn a_gap_that_is_not_covered_is_refused_and_named_to_the_byte() {
    let story = story().await;
    let late = bytes(&story.production, &story.lost_at, &story.after_lost.lsn).await;
    let early = bytes(&story.production, &story.before_new.lsn, &story.new_slot).await;
    for (base, head, missing, words, found) in [
        (&story.after_lost, &story.after_new, late, "restore base to an earlier", &["3", "4"][..]),
        (&story.before_lost, &story.before_new, early, "restore head to a later", &["1", "2", "3"]),
        (&story.after_lost, &story.before_new, late + early, "; head ends", &["3"]),
    ] {
        let gap = restored(&story.production, base, head).await;
        let before = Fingerprint::of_both(&gap).await;
        let refused = run(&gap, &story.lost_at, &story.new_slot, &[]).await;
        let said = format!("VIOLATED by {missing} bytes");
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        for expected in [said.as_str(), words, "--accept hole"] {
            assert!(refused.stderr.contains(expected), "{expected}: {}", refused.stderr);
        }
        assert!(!refused.file("events").exists());
        if std::ptr::eq(head, &story.before_new) {
            // Known by one position alone.
            let restart = ["plan", "--new-slot-restart-lsn", &story.new_slot];
            let refused = deltacompare(&gap, &restart).run().await;
            assert_eq!(refused.code, Some(2), "{}", refused.stdout);
            assert!(refused.stderr.contains("lies after the end of head"), "{}", refused.stderr);
        }
        let after = Fingerprint::of_both(&gap).await;
        before.0.assert_same(&after.0, "base");
        before.1.assert_same(&after.1, "head");

        let accepted = run(&gap, &story.lost_at, &story.new_slot, &["--accept", "hole"]).await;
        accepted.assert_completed();
        let proof = assert_verdict(&gap, &accepted, "violated").await;
        assert_eq!(proof["bytes"], missing);
        let warnings = accepted.report("report")["warnings"].to_string();
        for output in [&warnings, &accepted.stderr, &accepted.stdout] {
            assert!(output.contains(&said), "{output}");
        }
        // It is not the verdict alone that says so: rows are really missing.
        assert_eq!(ids(&accepted), found);
    }
}

async fn what_cannot_be_known_is_said() {
    let story = story().await;
    let gap = restored(&story.production, &story.before_lost, &story.after_new).await;
    let plan = deltacompare(&gap, &["plan"]).run().await;
    plan.assert_completed();
    assert!(plan.stdout.contains("gap: not provable: neither --lost-at-lsn"), "{}", plan.stdout);

    let only_lost = ["plan", "--lost-at-lsn", story.lost_at.as_str()];
    let plan = deltacompare(&gap, &only_lost).run().await;
    plan.assert_completed();
    assert!(plan.stdout.contains("not provable: --new-slot-lsn was not"), "{}", plan.stdout);

    let swapped = run(&gap, &story.new_slot, &story.lost_at, &[]).await;
    assert_eq!(swapped.code, Some(2), "{}", swapped.stderr);
    assert!(swapped.stderr.contains("exchange them"), "{}", swapped.stderr);

    let nonsense = run(&gap, "17", &story.new_slot, &[]).await;
    assert_eq!(nonsense.code, Some(2), "{}", nonsense.stderr);
    assert!(nonsense.stderr.contains("is not an LSN"), "{}", nonsense.stderr);
}

/// The consumer had confirmed what the old primary never shipped to the new one.
async fn changes_confirmed_beyond_a_failover_are_not_provable() {
    let story = story().await;
    let production = &story.production;
    let promoted = production
        .restore_with(
            &story.after_lost,
            RestoreOptions { archive: true, ..RestoreOptions::default() },
        )
        .await
        .unwrap();
    insert(&promoted, 100).await;
    let new_slot = promoted.create_logical_slot("new", "pgoutput").await.unwrap();
    let back = promoted.restore_point("back").await.unwrap();
    let gap = restored(production, &story.before_lost, &back).await;

    let within = run(&gap, &story.lost_at, &new_slot, &[]).await;
    within.assert_completed();
    assert_verdict(&gap, &within, "proven").await;
    assert_eq!(ids(&within), ["1", "100", "2"]);

    // The old primary went on, and the slot there delivered row 3.
    let beyond = run(&gap, &story.before_new.lsn, &new_slot, &[]).await;
    beyond.assert_completed();
    let proof = assert_verdict(&gap, &beyond, "not_provable").await;
    assert!(proof["why"].as_str().unwrap().contains("failover"), "{proof}");
    assert!(beyond.stderr.contains("failover"), "{}", beyond.stderr);
}

async fn a_restore_that_was_written_to_proves_nothing() {
    let story = story().await;
    let gap = restored(&story.production, &story.before_lost, &story.after_new).await;
    insert(&gap.base, 1000).await;
    // PostgreSQL 14 counts a write some moments after its commit; that is another test's matter.
    let counted = "select pg_stat_get_tuples_inserted('t'::regclass)";
    while gap.base.value::<i64>(counted).await.unwrap() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let run = run(&gap, &story.lost_at, &story.new_slot, &["--accept", "written"]).await;
    run.assert_completed();
    let proof = assert_verdict(&gap, &run, "not_provable").await;
    assert!(proof["why"].as_str().unwrap().contains("written to"), "{proof}");
}

tests! {
    a_crash_before_anything_was_written_hides_nothing: own_servers,
    restores_around_both_slots_are_proven_to_cover_the_gap_after_any_restart: own_servers,
    a_gap_that_is_not_covered_is_refused_and_named_to_the_byte: own_servers,
    what_cannot_be_known_is_said: own_servers,
    changes_confirmed_beyond_a_failover_are_not_provable: own_servers,
    a_restore_that_was_written_to_proves_nothing: own_servers,
}
