//! Small tables are claimed together, many at a time, and reported each by itself: a process that dies
//! among them loses nothing, and a table that fails does not take its neighbours with it.

use std::time::{Duration, Instant};

use deltacompare_testbed::{Connection, Options, Postgres, Production};
use serde_json::{Value, json};

use crate::functions_faults::{assert_whole_of, start};
use crate::support::{
    Events, Gap, Hosted, Program, assert_events_turn_base_into_head, deltacompare, leftovers, until,
};

/// Tables `t01` to `t36`, one without a key, and some with nothing in them. A worker alone claims
/// fourteen at a time, the third part of them; `t20` is in the middle of the second part.
const TABLES: u32 = 36;
const EMPTY: u32 = 3;

fn names() -> Vec<String> {
    (1..=TABLES + EMPTY).map(|n| format!("t{n:02}")).chain(["log".to_owned()]).collect()
}

/// A gap on whose head there is a status store already.
async fn gap() -> Gap {
    let each = |what: fn(u32) -> String| (1..=TABLES).map(what).collect::<String>();
    let before = each(|n| {
        format!(
            "create table t{n:02} (id int primary key, v int);
             insert into t{n:02} select i, i from generate_series(1, 3) i;"
        )
    });
    let empty: String = (TABLES + 1..=TABLES + EMPTY)
        .map(|n| format!("create table t{n:02} (id int primary key, v int);"))
        .collect();
    let log = "create table log (line text); alter table log replica identity full;
               insert into log select 'l' from generate_series(1, 3);
               create publication shop for all tables";
    let during = each(|n| {
        format!(
            "update t{n:02} set v = 10 + {n} where id = 2; delete from t{n:02} where id = 1;
             insert into t{n:02} values (9, 9);"
        )
    });
    let (before, during) =
        (format!("{before}{empty}{log}"), format!("{during} insert into log values ('l')"));
    Gap::between(&before, &during).await.with_status_store("public.t01").await
}

/// A recovery of the command line that has one worker.
fn run(gap: &Gap, arguments: &[&str]) -> Program {
    deltacompare(gap, &[&["run", "--lease-seconds", "2"], arguments].concat())
}

const NEW: [&str; 6] = ["--sink", "delta-table", "--format", "landing", "--parallel", "1"];

fn request() -> Value {
    json!({"sinks": ["delta-table"], "format": "landing", "parallel": 1})
}

/// Whoever writes an event of `t20` waits until this is closed.
async fn stop_at_t20(gap: &Gap) -> Connection {
    let gate = gap.head.connect().await.unwrap();
    // A session that a recovery does not take for somebody who may have written.
    gate.sql(
        "set application_name = 'deltacompare gate'; select pg_advisory_lock(20);
         create or replace function public.gate() returns trigger
           language plpgsql security definer set lock_timeout = 0 as $$
           begin perform pg_advisory_xact_lock_shared(20); return new; end $$;
         create or replace trigger gate before insert on deltacompare.delta for each row
           when (new.table_name = 't20') execute function public.gate()",
    )
    .await
    .unwrap();
    gate
}

const AT_T20: &str = "select exists (select from pg_locks
    where locktype = 'advisory' and objid = 20 and not granted
      and database = (select oid from pg_database where datname = current_database()))";

/// Nothing is to be done any more.
const CLEANED: &str = "select bool_and(cleaned_at is not null) from deltacompare.recovery";

async fn value(gap: &Gap, sql: &str) -> i64 {
    gap.head.value(sql.to_owned()).await.unwrap()
}

/// The batch of `t20` is claimed, and one of its tables is worked on.
async fn assert_in_a_batch(gap: &Gap) {
    let claimed = "select count(*) from deltacompare.work_item where state = 'running'";
    assert!(value(gap, claimed).await > 1);
    let at_work = "select count(*) from deltacompare.item_standing where standing = 'running'";
    assert_eq!(value(gap, at_work).await, 1);
}

/// A recovery of the app that is held in the middle of a batch, with what holds it and its id.
async fn stopped_in_a_batch(gap: &Gap) -> (Hosted, Connection, String) {
    let app = start(gap, 1, &[]).await;
    let gate = stop_at_t20(gap).await;
    let id = app.begin(&request()).await;
    until(gap, AT_T20).await;
    assert_in_a_batch(gap).await;
    (app, gate, id)
}

/// A recovery of the command line whose process was killed in the middle of a batch: its id.
async fn killed_in_a_batch(gap: &Gap) -> String {
    let gate = stop_at_t20(gap).await;
    let mut killed = run(gap, &NEW);
    let mut child = killed.spawn();
    until(gap, AT_T20).await;
    assert_in_a_batch(gap).await;
    child.kill().await.unwrap();
    gate.close().await.unwrap();
    recovery_id(gap).await
}

async fn recovery_id(gap: &Gap) -> String {
    gap.head.value("select id::text from deltacompare.recovery").await.unwrap()
}

/// Everything came out, the counts are those of the events, and nothing is left.
async fn assert_recovered(gap: &Gap, id: &str) {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let events = Events::delta_of(&gap.head, id).await;
    assert_events_turn_base_into_head(gap, &names, &events).await;
    assert_eq!(events.0.len() as u32, 3 * TABLES + 1);
    let counted = "select sum(inserts + updates + deletes)::int8 from deltacompare.work_item";
    assert_eq!(value(gap, counted).await, events.0.len() as i64);
    let balanced = "select count(*) from deltacompare.account where balance = 0 and error is null";
    assert_eq!(value(gap, balanced).await, names.len() as i64);
    assert_eq!(leftovers(gap).await, Vec::<String>::new());
}

async fn killed_among_them_and_resumed() {
    let gap = gap().await;
    let id = killed_in_a_batch(&gap).await;
    let resumed = run(&gap, &["--resume", &id, "--report", "{dir}/report"]).run().await;
    resumed.assert_completed();
    assert_recovered(&gap, &id).await;
    // Each table by its name.
    for n in 1..=TABLES {
        assert_eq!(resumed.counts("report", &format!("public.t{n:02}")), (1, 1, 1), "{n}");
    }
    let empty = resumed.table("report", &format!("public.t{:02}", TABLES + 1));
    assert_eq!((&empty["state"], &empty["rows_head"]), (&json!("completed"), &json!(0)));
}

async fn the_app_carries_on_among_them() {
    let gap = gap().await;
    let id = killed_in_a_batch(&gap).await;
    let app = start(&gap, 2, &[]).await;
    assert_whole_of(&gap, &app, &id, &[]).await;
    drop(app);
    assert_recovered(&gap, &id).await;
}

async fn the_command_line_carries_on_among_them() {
    let gap = gap().await;
    let (app, gate, id) = stopped_in_a_batch(&gap).await;
    let status = app.status(&id).await;
    assert_eq!(status["items"]["running"], 1, "{status:#}");
    drop(app);
    gate.close().await.unwrap();
    run(&gap, &["--resume", &id]).run().await.assert_completed();
    assert_recovered(&gap, &id).await;
}

async fn one_bad_table_fails_alone_and_is_tried_again_alone() {
    let gap = gap().await;
    let app = Hosted::start(&gap, 1, &[]).await;
    gap.head
        .sql(
            "create function public.no() returns trigger language plpgsql as
               $$ begin raise check_violation using message = 'not this one'; end $$;
             create trigger no before insert on deltacompare.delta for each row
               when (new.table_name = 't20') execute function public.no()",
        )
        .await
        .unwrap();
    let id = app.begin(&request()).await;
    let status = app.ended(&id).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    let tables = &status["tables"];
    assert_eq!((&tables["failed"], &tables["completed"]), (&json!(1), &json!(names().len() - 1)));
    let bad = app.table(&id, "t20").await;
    assert!(bad["error"].as_str().unwrap().contains("not this one"), "{bad:#}");
    let others = "select sum(attempt)::int8 from deltacompare.work_item where table_name <> 't20'";
    let before = value(&gap, others).await;

    gap.head.sql("drop function public.no() cascade").await.unwrap();
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 200);
    app.completed(&id).await;
    assert_eq!(value(&gap, others).await, before, "what had completed was done again");
    until(&gap, CLEANED).await;
    drop(app);
    assert_recovered(&gap, &id).await;
}

async fn cancelled_among_them() {
    let gap = gap().await;
    let (app, gate, id) = stopped_in_a_batch(&gap).await;
    let since = Instant::now();
    let cancelled = app.post(&format!("/api/recoveries/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status(), 200);
    let cancelled: Value = cancelled.json().await.unwrap();
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    // Nobody holds on to any of them, and who was at it has stopped.
    let claimed = "select count(*) from deltacompare.work_item where state = 'running'";
    assert_eq!(value(&gap, claimed).await, 0);
    until(&gap, &format!("select not ({})", AT_T20.strip_prefix("select ").unwrap())).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    gate.close().await.unwrap();
    let left = loop {
        let mut left = leftovers(&gap).await;
        left.retain(|it| !it.contains("session deltacompare status"));
        if left.is_empty() || since.elapsed() > Duration::from_secs(30) {
            break left;
        }
    };
    assert_eq!(left, Vec::<String>::new());
    let later = "select count(*) from deltacompare.delta where table_name > 't20'";
    assert_eq!(value(&gap, later).await, 0, "it went on");
}

/// Nobody knows which table a process has died of: those that it had are claimed one by one from then
/// on, and only the one that kills again and again fails.
async fn one_that_kills_its_process_fails_alone() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    let gate = stop_at_t20(&gap).await;
    let id = app.begin(&request()).await;
    let failed = "select exists (select from deltacompare.work_item where state = 'failed')";
    let since = Instant::now();
    let (mut killed, mut last) = (0, 0);
    // When the last one was killed. Its session stays for some seconds and waits on.
    let mut killed_at = "-infinity".to_owned();
    while !gap.head.value::<bool>(failed).await.unwrap() {
        assert!(since.elapsed() < Duration::from_secs(100), "{}", app.said());
        let attempt = "select coalesce(max(attempt), 0)::int8 from deltacompare.work_item
                        where table_name = 't20' and state = 'running'";
        let attempt = value(&gap, attempt).await;
        let at_t20 = format!(
            "select exists (select from pg_locks l join pg_stat_activity a using (pid)
                where l.locktype = 'advisory' and l.objid = 20 and not l.granted
                  and a.datname = current_database() and a.query_start > '{killed_at}')"
        );
        if attempt > last && gap.head.value::<bool>(at_t20).await.unwrap() {
            last = attempt;
            killed += 1;
            killed_at = gap.head.value("select clock_timestamp()::text").await.unwrap();
            let handler = app.host.handler_pid(1).unwrap().to_string();
            let kill = std::process::Command::new("kill").args(["-KILL", &handler]).status();
            assert!(kill.unwrap().success());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(killed, 3);
    gate.close().await.unwrap();
    let status = app.ended(&id).await;
    assert_eq!(status["tables"]["failed"], 1, "{status:#}");
    assert_eq!(status["tables"]["completed"], names().len() - 1, "{status:#}");
    let bad = app.table(&id, "t20").await;
    assert!(bad["error"].as_str().unwrap().contains("again and again"), "{bad:#}");
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 200);
    app.completed(&id).await;
    until(&gap, CLEANED).await;
    drop(app);
    assert_recovered(&gap, &id).await;
}

/// On demand: prints what a table with nothing in it costs, planned, by the command line and by the
/// app. `DELTACOMPARE_TEST_TABLES` says how many there are: 12,000 unless it is set.
async fn what_one_with_nothing_in_it_costs() {
    let tables: u32 = std::env::var("DELTACOMPARE_TEST_TABLES")
        .map_or(12_000, |text| text.parse().expect("DELTACOMPARE_TEST_TABLES"));
    let options = Options::default();
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    production
        .sql(format!(
            "do $$ begin for t in 1..{tables} loop
               execute format('create table t%s (id int primary key, v text)', t);
               if t % 500 = 0 then commit; end if; end loop; end $$"
        ))
        .await
        .unwrap();
    production.sql("create publication shop for all tables").await.unwrap();
    let gap = Gap::own_over(production, async |production| {
        production.sql("insert into t1 values (1, 'v')").await.unwrap();
    })
    .await;
    let each = |what: &str, since: Instant| {
        let took = since.elapsed().as_secs_f64();
        let each = took * 1000.0 / f64::from(tables);
        std::println!("{what}: {took:.1} s, {each:.2} ms a table");
    };
    let since = Instant::now();
    let plan = deltacompare(&gap, &["plan", "--json"]).run().await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    each("planned", since);
    let since = Instant::now();
    let run = ["run", "--sink", "delta-table", "--format", "landing"];
    deltacompare(&gap, &run).run().await.assert_completed();
    each("command line", since);
    let app = Hosted::start(&gap, 1, &[]).await;
    let since = Instant::now();
    let id = app.begin(&json!({"sinks": ["delta-table"], "format": "landing"})).await;
    while ["planning", "running"].contains(&app.status(&id).await["state"].as_str().unwrap()) {
        assert!(since.elapsed() < Duration::from_secs(1500), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    each("app", since);
    let status = app.status(&id).await;
    assert_eq!(status["tables"]["completed"], tables, "{status:#}");
    assert_eq!(status["totals"]["inserts"], 1, "{status:#}");
}

tests! {
    killed_among_them_and_resumed,
    the_app_carries_on_among_them,
    the_command_line_carries_on_among_them,
    one_bad_table_fails_alone_and_is_tried_again_alone,
    cancelled_among_them,
    one_that_kills_its_process_fails_alone,
    what_one_with_nothing_in_it_costs: own_servers on_demand seconds(3600),
}
