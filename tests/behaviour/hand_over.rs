//! A recovery is carried on by whoever is there, however it was begun: what the command line began by
//! the app, and the other way round, in the middle of a table and after kill -9.

use std::time::Duration;

use serde_json::json;

use crate::functions_faults::{
    TABLES, assert_whole_of, changes, request, schema, slow_down, start,
};
use crate::support::{
    Events, Gap, Program, assert_events_turn_base_into_head, deltacompare, leftovers, until,
};

/// A gap on whose head there is a status store already, and whose large table takes some steps.
async fn gap() -> Gap {
    let gap =
        Gap::between(&schema(60_000), &changes(7)).await.with_status_store("public.log").await;
    slow_down(&gap, 0.4).await;
    gap
}

/// A recovery of the command line.
fn run(gap: &Gap, arguments: &[&str]) -> Program {
    deltacompare(gap, &[&["run", "--lease-seconds", "2"], arguments].concat())
}

async fn recovery_id(gap: &Gap) -> String {
    gap.head.value("select id::text from deltacompare.recovery").await.unwrap()
}

/// The large table has a checkpoint and is not done.
const IN_THE_MIDDLE: &str = "select exists (select from deltacompare.work_item
    where table_name = 'orders' and state = 'running' and checkpoint is not null)";

/// Rows that count as compared, and by how many attempts.
async fn attempts(gap: &Gap) -> (i64, i32) {
    let counts = "select (done ->> 'rows_compared')::int8, attempt from deltacompare.work_item
                   where table_name = 'orders'";
    gap.head.rows::<(i64, i32)>(counts).await.unwrap().pop().unwrap()
}

async fn the_app_carries_on_what_the_command_line_began() {
    let gap = gap().await;
    let sinks = ["--sink", "delta-table", "--format", "landing", "--strategy", "content"];
    let mut program = run(&gap, &sinks);
    let mut child = program.spawn();
    until(&gap, IN_THE_MIDDLE).await;
    child.kill().await.unwrap();
    let id = recovery_id(&gap).await;
    let (rows, attempt) = attempts(&gap).await;
    assert!(rows > 0 && attempt == 1, "{rows} rows, attempt {attempt}");

    let app = start(&gap, 2, &[]).await;
    assert_whole_of(&gap, &app, &id, &TABLES).await;
    let (_, attempt) = attempts(&gap).await;
    assert!(attempt > 1, "attempt {attempt}");
}

async fn the_command_line_carries_on_what_the_app_began() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    let mut request = request("content");
    request["range_blocks"] = json!(100_000);
    let id = app.begin(&request).await;
    until(&gap, IN_THE_MIDDLE).await;
    // With its host and its queues.
    drop(app);
    let (rows, before) = attempts(&gap).await;
    assert!(rows > 0, "{rows} rows");

    run(&gap, &["--resume", &id]).run().await.assert_completed();
    let (_, attempt) = attempts(&gap).await;
    assert!(attempt > before, "attempt {attempt}");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

/// An interrupted run has taken its link away: the app sets it up again.
async fn the_app_carries_on_what_was_interrupted() {
    let gap = gap().await;
    let sinks = ["--sink", "delta-table", "--format", "landing", "--strategy", "full"];
    let mut program = run(&gap, &[&sinks[..], &["--parallel", "1"]].concat());
    let mut child = program.spawn();
    until(&gap, "select exists (select from deltacompare.delta)").await;
    let pid = child.id().unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    let id = recovery_id(&gap).await;
    let app = start(&gap, 1, &[]).await;
    assert_whole_of(&gap, &app, &id, &TABLES).await;
}

/// The app writes no files, and leaves a recovery that does to those who can.
async fn the_app_leaves_a_recovery_that_writes_a_file() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    let sink = format!("ndjson:{}", file.display());
    let sinks = ["--sink", &sink, "--sink", "delta-table", "--format", "landing"];
    let mut program = run(&gap, &[&sinks[..], &["--strategy", "content"]].concat());
    let mut child = program.spawn();
    until(&gap, IN_THE_MIDDLE).await;
    child.kill().await.unwrap();
    let id = recovery_id(&gap).await;
    let before = attempts(&gap).await;
    // The watchdog looks every other second, and the lease runs out after two.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(attempts(&gap).await, before);
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 409);
    assert!(retried.text().await.unwrap().contains(&format!("--resume {id}")));

    run(&gap, &["--resume", &id]).run().await.assert_completed();
    assert_events_turn_base_into_head(&gap, &TABLES, &Events::read(&file)).await;
}

tests! {
    the_app_carries_on_what_the_command_line_began,
    the_command_line_carries_on_what_the_app_began,
    the_app_carries_on_what_was_interrupted,
    the_app_leaves_a_recovery_that_writes_a_file,
}
