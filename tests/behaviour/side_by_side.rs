//! Several processes at one recovery, and recoveries beside each other: nobody takes from another
//! what that one is using.

use std::time::{Duration, Instant};

use deltacompare_testbed::{Options, Postgres, Production};
use tokio::process::Child;

use crate::support::{
    Gap, Program, assert_events_turn_base_into_head, deltacompare, hold_the_sink, leftovers, until,
    url, waiting_for_the_sink,
};

const SHOP: &str = "
    create table one (id int primary key, v text);
    create table two (id int primary key, v text);
    insert into one select i, 'v' from generate_series(1, 100) i;
    insert into two select i, 'v' from generate_series(1, 100) i;
    create publication shop for all tables";

const GAP: &str = "update one set v = 'w' where id < 10; delete from two";

/// A gap on whose head there is a status store already.
async fn gap() -> Gap {
    Gap::between(SHOP, GAP).await.with_status_store("public.one").await
}

/// The same on servers of its own.
async fn own_gap() -> Gap {
    Gap::own(Options::default(), SHOP, GAP).await.with_status_store("public.one").await
}

/// A recovery whose events go to the delta table, and a file with what it says.
fn program(gap: &Gap, arguments: &[&str]) -> Program {
    let program = deltacompare(gap, arguments);
    let stderr = std::fs::File::create(program.folder().join("stderr")).unwrap();
    program.stderr(stderr)
}

fn said(program: &Program) -> String {
    std::fs::read_to_string(program.folder().join("stderr")).unwrap()
}

async fn link(gap: &Gap) -> Vec<(i64,)> {
    let servers = "select oid::int8 from pg_foreign_server where srvname like 'deltacompare%'";
    gap.head.rows(servers).await.unwrap()
}

async fn recovery_id(gap: &Gap) -> String {
    gap.head.value("select id::text from deltacompare.recovery").await.unwrap()
}

async fn assert_ends_well(gap: &Gap, program: &Program, child: &mut Child) {
    let code = child.wait().await.unwrap().code();
    assert_eq!(code, Some(0), "{}", said(program));
    let state: String = gap.head.value("select state from deltacompare.recovery").await.unwrap();
    assert_eq!(state, "completed");
}

const RUN: [&str; 9] = [
    "run",
    "--sink",
    "delta-table",
    "--format",
    "landing",
    "--strategy",
    "full",
    "--parallel",
    "1",
];

/// Waits until a process that joins a recovery is at work on it, as far as others let it.
async fn joined(program: &Program) {
    let since = Instant::now();
    while !said(program).contains("2 tables, ") {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", said(program));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `--parallel` bounds how many tables are at work in all processes together.
async fn who_joins_or_leaves_does_not_take_the_link_away() {
    let gap = gap().await;
    let sink = hold_the_sink(&gap).await;
    let mut first = program(&gap, &RUN);
    let mut at_work = first.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    let id = recovery_id(&gap).await;
    let before = link(&gap).await;
    assert_eq!(before.len(), 1);
    // One joins and is told to stop, another stays.
    let mut leaving = program(&gap, &["run", "--resume", &id]);
    let mut left = leaving.spawn();
    joined(&leaving).await;
    assert_eq!(link(&gap).await, before, "the link was made anew under its user");
    let pid = left.id().unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(kill.success());
    assert_eq!(left.wait().await.unwrap().code(), Some(130), "{}", said(&leaving));
    assert_eq!(link(&gap).await, before, "the link went with one of its users");
    let mut second = program(&gap, &["run", "--resume", &id]);
    let mut joins = second.spawn();
    joined(&second).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let running = "select count(*) from deltacompare.work_item where state = 'running'";
    assert_eq!(gap.head.value::<i64>(running).await.unwrap(), 1);
    sink.close().await.unwrap();
    assert_ends_well(&gap, &first, &mut at_work).await;
    assert_ends_well(&gap, &second, &mut joins).await;
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    let events = crate::support::Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &["one", "two"], &events).await;
}

/// The key of the lock that the one process has that plans, verifies and closes a recovery.
fn coordinator_lock(id: &str) -> String {
    format!("select pg_advisory_lock(hashtextextended('deltacompare coordinates {id}', 0))")
}

/// Whoever ends first proves the result; the others wait, and none takes the foreign tables away
/// from under the proof.
async fn one_process_proves() {
    let gap = gap().await;
    let sink = hold_the_sink(&gap).await;
    let full = [&RUN[..], &["--verify", "full"]].concat();
    let mut first = program(&gap, &full);
    let mut one = first.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    let id = recovery_id(&gap).await;
    let mut second = program(&gap, &["run", "--resume", &id]);
    let mut two = second.spawn();
    joined(&second).await;
    // The proof is somebody else's for now.
    let proving = gap.head.connect().await.unwrap();
    proving.sql(&coordinator_lock(&id)).await.unwrap();
    sink.close().await.unwrap();
    until(&gap, "select count(*) = 2 from deltacompare.work_item where state = 'completed'").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let state: String = gap.head.value("select state from deltacompare.recovery").await.unwrap();
    assert_eq!(state, "running");
    proving.close().await.unwrap();
    assert_ends_well(&gap, &first, &mut one).await;
    assert_ends_well(&gap, &second, &mut two).await;
    let verified = [&first, &second].iter().filter(|p| said(p).contains("verifying")).count();
    assert!(verified <= 1, "verified twice");
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

async fn cleanup_is_refused_while_a_recovery_is_at_work() {
    let gap = own_gap().await;
    let sink = hold_the_sink(&gap).await;
    let mut at_work = program(&gap, &RUN);
    let mut child = at_work.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    let cleanup = deltacompare(&gap, &["cleanup", "--yes"]).run().await;
    assert_eq!(cleanup.code, Some(2), "{}", cleanup.stderr);
    let id = recovery_id(&gap).await;
    assert!(cleanup.stderr.contains(&format!("recovery {id} is at work")), "{}", cleanup.stderr);
    sink.close().await.unwrap();
    assert_ends_well(&gap, &at_work, &mut child).await;
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
}

/// Between its items, in planning or while it proves, no item of a recovery runs.
async fn cleanup_is_refused_while_a_recovery_is_between_items() {
    let gap = own_gap().await;
    let sink = hold_the_sink(&gap).await;
    let mut at_work = program(&gap, &RUN);
    let mut child = at_work.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    child.kill().await.unwrap();
    sink.close().await.unwrap();
    let lease = |lease: &str| {
        format!("update deltacompare.work_item set state = 'completed', lease_until = {lease}")
    };
    let id = recovery_id(&gap).await;
    let refused = async || {
        let cleanup = deltacompare(&gap, &["cleanup", "--yes"]).run().await;
        assert_eq!(cleanup.code, Some(2), "{}", cleanup.stderr);
        assert!(cleanup.stderr.contains(&format!("{id} is at work")), "{}", cleanup.stderr);
    };
    // Between two items, a process has the lease of the one that it has done.
    gap.head.sql(lease("now() + interval '20 s'")).await.unwrap();
    refused().await;
    gap.head.sql(lease("null")).await.unwrap();
    // Planning or proving.
    let coordinates = gap.head.connect().await.unwrap();
    coordinates.sql(&coordinator_lock(&id)).await.unwrap();
    refused().await;
    coordinates.close().await.unwrap();
    // The app has sent a message.
    let sent = |seconds| {
        format!(
            "update deltacompare.recovery
                set sent_at = clock_timestamp() - make_interval(secs => {seconds})"
        )
    };
    gap.head.sql(sent(60)).await.unwrap();
    refused().await;
    gap.head.sql(sent(600)).await.unwrap();
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

async fn two_recoveries_cannot_take_one_new_file() {
    let gap = gap().await;
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("ndjson:{}", folder.path().join("events").display());
    let arguments = ["run", "--format", "landing", "--sink", &sink];
    let (one, two) =
        tokio::join!(deltacompare(&gap, &arguments).run(), deltacompare(&gap, &arguments).run());
    let mut codes = [one.code, two.code];
    codes.sort();
    assert_eq!(codes, [Some(0), Some(2)], "{}\n---\n{}", one.stderr, two.stderr);
    let refused = if one.code == Some(2) { &one } else { &two };
    assert!(refused.stderr.contains("--sink ndjson:"), "{}", refused.stderr);
    let events = crate::support::Events::read(&folder.path().join("events"));
    assert_eq!(events.by_id().len(), events.0.len());
    assert_events_turn_base_into_head(&gap, &["one", "two"], &events).await;
}

async fn a_recovery_goes_on_with_its_own_restores_only() {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production.sql(SHOP).await.unwrap();
    production
        .sql(
            "create role monitor login createrole password 'pw';
             grant pg_read_all_data, pg_monitor to monitor with admin option",
        )
        .await
        .unwrap();
    production.base_backup().await.unwrap();
    let lost = production.restore_point("lost").await.unwrap();
    production.sql("update one set v = 'w' where id < 10").await.unwrap();
    let later = production.restore_point("later").await.unwrap();
    production.sql("delete from two").await.unwrap();
    let back = production.restore_point("back").await.unwrap();
    let (base, head) =
        tokio::try_join!(production.restore(&lost), production.restore(&back)).unwrap();
    // When a restore ended is told in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let other = production.restore(&later).await.unwrap();
    let gap = Gap::of(base, head).await;
    let first = deltacompare(&gap, &["run", "--sink", "delta-table", "--table", "public.one"]);
    first.run().await.assert_completed();
    let sink = hold_the_sink(&gap).await;
    let mut program = program(&gap, &["run", "--sink", "delta-table", "--table", "public.two"]);
    let mut child = program.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    child.kill().await.unwrap();
    sink.close().await.unwrap();
    let id: String = gap
        .head
        .value("select id::text from deltacompare.recovery where state = 'running'")
        .await
        .unwrap();
    // Both are on the same timeline. Without REPLICATION nothing says where they ended, but when.
    for url in [other.url(deltacompare_testbed::Role::Admin), url(&other, "monitor", "pw")] {
        let elsewhere = deltacompare(&gap, &["run", "--resume", &id])
            .env("DELTACOMPARE_BASE", &url)
            .run()
            .await;
        assert_eq!(elsewhere.code, Some(2), "{}", elsewhere.stderr);
        assert!(elsewhere.stderr.contains("began with other restores"), "{}", elsewhere.stderr);
    }
    deltacompare(&gap, &["run", "--resume", &id]).run().await.assert_completed();
    let deletes: i64 = gap
        .head
        .value(format!("select count(*) from deltacompare.delta where recovery_id = '{id}'"))
        .await
        .unwrap();
    assert_eq!(deletes, 100);
}

tests! {
    who_joins_or_leaves_does_not_take_the_link_away,
    one_process_proves,
    cleanup_is_refused_while_a_recovery_is_at_work: own_servers,
    cleanup_is_refused_while_a_recovery_is_between_items: own_servers,
    two_recoveries_cannot_take_one_new_file,
    a_recovery_goes_on_with_its_own_restores_only: own_servers,
}
