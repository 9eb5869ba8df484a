//! What may happen to the app in the middle of a recovery: messages that are lost or come again,
//! servers and networks that go away, more tables than locks. Nothing is lost, nothing is left. How a
//! handler dies: see [`crate::functions_kills`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deltacompare_testbed::functions_host::{HostOptions, Level, Queue};
use deltacompare_testbed::{Options, Postgres, Production, Proxy, Role, Server, StopMode};
use serde_json::{Value, json};

use crate::support::{
    Events, Gap, Hosted, assert_events_turn_base_into_head, hold_the_sink, until,
    waiting_for_the_sink,
};

/// So many rows with a key, and fewer without, which need a foreign table.
pub(super) fn schema(rows: u32) -> String {
    format!(
        "create table orders (id int primary key, v text);
         create table log (at int, line text);
         alter table log replica identity full;
         insert into orders select i, 'v' || i from generate_series(1, {rows}) i;
         insert into log select i / 2, 'l' from generate_series(1, {rows} / 30) i;
         create publication shop for all tables"
    )
}

/// Changes of every kind; of the rows with a key one in `every`, or fewer.
pub(super) fn changes(every: u32) -> String {
    format!(
        "update orders set v = 'w' where id % {every} = 0;
         delete from orders where id % ({every} * 5 - 4) = 0;
         insert into orders select i, 'new' from generate_series(100001, 100000 + 2800 / {every}) i;
         delete from log where at % 9 = 0;
         insert into log select i, 'm' from generate_series(1, 50) i"
    )
}

async fn gap() -> Gap {
    Gap::between(&schema(60_000), &changes(7)).await
}

pub(super) const TABLES: [&str; 2] = ["orders", "log"];

/// Times scaled down; a handler that dies is always started again.
fn hurried() -> HostOptions {
    HostOptions {
        lease: Duration::from_secs(2),
        crash_window: Duration::ZERO,
        ..HostOptions::default()
    }
}

const HURRIED: [(&str, &str); 2] =
    [("DELTACOMPARE_LEASE_SECONDS", "1"), ("DELTACOMPARE_RESEND_SECONDS", "2")];

pub(super) async fn start(gap: &Gap, instances: usize, settings: &[(&str, &str)]) -> Hosted {
    let all: Vec<_> = HURRIED.iter().chain(settings).copied().collect();
    let app = Hosted::hurried(gap, HostOptions { instances, ..hurried() }, &all).await;
    // The first request makes the status store.
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    app
}

pub(super) fn request(strategy: &str) -> Value {
    json!({
        "sinks": ["delta-table"], "format": "landing", "strategy": strategy, "range_blocks": 64,
        "parallel": 2,
    })
}

/// Whoever writes events takes so many seconds, so that a recovery can be met in its middle.
pub(super) async fn slow_down(gap: &Gap, seconds: f64) {
    gap.head
        .sql(format!(
            "create function public.slow() returns trigger language plpgsql as
               $$ begin perform pg_sleep({seconds}); return null; end $$;
             create trigger slow after insert on deltacompare.delta
               for each statement execute function public.slow()"
        ))
        .await
        .unwrap();
}

async fn state(gap: &Gap, id: &str) -> String {
    let query = format!("select state from deltacompare.recovery where id = '{id}'");
    gap.head.value(query).await.unwrap()
}

/// The recovery completed; its events turn base into head; nothing of it is left.
async fn assert_whole(gap: &Gap, app: &Hosted, id: &str) {
    assert_whole_of(gap, app, id, &TABLES).await;
}

/// The same of tables of choice.
pub(super) async fn assert_whole_of(gap: &Gap, app: &Hosted, id: &str, tables: &[&str]) {
    let since = Instant::now();
    // Asked of the app, which may be down for a moment: sessions of ours on the servers would have the
    // recovery wait longer for counts of writes.
    let status = loop {
        let status = app.get(&format!("/api/recoveries/{id}")).await;
        if status.status() == 200 {
            let status: Value = status.json().await.unwrap();
            if !["planning", "running"].contains(&status["state"].as_str().unwrap()) {
                break status;
            }
        }
        assert!(since.elapsed() < Duration::from_secs(120), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status["state"], "completed", "{status:#}\n{}", app.said());
    let open: i64 = gap
        .head
        .value(format!(
            "select count(*) from deltacompare.work_item
              where recovery_id = '{id}' and state <> 'completed'"
        ))
        .await
        .unwrap();
    assert_eq!(open, 0, "an item is stuck");
    let events = Events::delta_of(&gap.head, id).await;
    assert_events_turn_base_into_head(gap, tables, &events).await;
    // Counts and events agree, whatever was done twice.
    let counted: i64 = gap
        .head
        .value(format!(
            "select sum(inserts + updates + deletes)::int8 from deltacompare.work_item
              where recovery_id = '{id}'"
        ))
        .await
        .unwrap();
    assert_eq!(counted, events.0.len() as i64);
    let since = Instant::now();
    loop {
        let mut left = crate::support::leftovers(gap).await;
        left.retain(|it| !it.contains("session deltacompare status"));
        if left.is_empty() {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{left:#?}\n{}", app.said());
    }
}

/// The connection breaks between a result and its checkpoint, and the handler lives.
async fn a_status_database_that_fails_at_any_write_loses_nothing() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    slow_down(&gap, 0.3).await;
    let id = app.begin(&request("content")).await;
    let mut broken = 0;
    while ["planning", "running"].contains(&state(&gap, &id).await.as_str()) && broken < 5 {
        let ended: i64 = gap
            .head
            .value(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                  where application_name = 'deltacompare status' and state = 'active'
                    and datname = current_database()",
            )
            .await
            .unwrap();
        broken += i32::from(ended > 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(broken > 0, "it was never met at a write");
    assert_whole(&gap, &app, &id).await;
}

/// Another recovery that nobody can read does not keep the watchdog from this one.
async fn messages_that_are_lost_are_sent_again() {
    let gap = gap().await;
    let app = start(&gap, 2, &[]).await;
    slow_down(&gap, 0.3).await;
    gap.head
        .sql(
            "insert into deltacompare.recovery
               (id, state, request, base, head, database, restores, gap)
             values (gen_random_uuid(), 'running', '[]', '', '', 'other', '', '{}')",
        )
        .await
        .unwrap();
    let (plan, work) = (app.queue("recovery-plan").await, app.queue("recovery-work").await);
    let id = app.begin(&request("content")).await;
    for _ in 0..20 {
        plan.clear().await.unwrap();
        work.clear().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_whole(&gap, &app, &id).await;
}

/// Every message many times, in the wrong order, to two instances: an item is claimed once.
async fn messages_that_come_again_and_in_any_order_do_nothing_twice() {
    let gap = gap().await;
    let app = start(&gap, 2, &[("DELTACOMPARE_LEASE_SECONDS", "30")]).await;
    slow_down(&gap, 0.3).await;
    let (plan, work) = (app.queue("recovery-plan").await, app.queue("recovery-work").await);
    let id = app.begin(&request("content")).await;
    at_work(&gap).await;
    let send = async |queue: &Queue, message: Value| {
        queue.send(&STANDARD.encode(message.to_string())).await.unwrap();
    };
    for _ in 0..3 {
        for item in (0..8).rev() {
            send(&work, json!({"recovery": id, "item": item})).await;
        }
        send(&plan, json!({"recovery": id})).await;
    }
    assert_whole(&gap, &app, &id).await;
    let claims: BTreeMap<i32, i32> = gap
        .head
        .rows::<(i32, i32)>("select number, attempt from deltacompare.work_item")
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert!(claims.len() > 1);
    assert!(claims.values().all(|&claims| claims == 1), "claimed more than once: {claims:?}");
}

async fn at_work(gap: &Gap) {
    until(gap, "select exists (select from deltacompare.delta)").await;
}

async fn base_and_head_may_be_restarted() {
    let gap = Gap::own(Options::default(), &schema(60_000), &changes(7)).await;
    let app = start(&gap, 2, &[]).await;
    slow_down(&gap, 0.3).await;
    let id = app.begin(&request("content")).await;
    at_work(&gap).await;
    for server in [&gap.base, &gap.head] {
        server.stop(StopMode::Fast).await.unwrap();
        server.start().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_whole(&gap, &app, &id).await;
}

async fn a_network_that_breaks_or_stands_still_loses_nothing() {
    let gap = gap().await;
    let base = Proxy::to(gap.base.port()).await.unwrap();
    let head = Proxy::to(gap.head.port()).await.unwrap();
    let url = |server: &Server, proxy: &Proxy| {
        let (user, password) = (Role::Admin.name(), server.password(Role::Admin));
        let (host, port, database) = (server.host(), proxy.port(), server.database());
        format!("postgres://{user}:{password}@{host}:{port}/{database}?sslmode=disable")
    };
    let (on_base, on_head) = (url(&gap.base, &base), url(&gap.head, &head));
    let settings = [("DELTACOMPARE_BASE", &*on_base), ("DELTACOMPARE_HEAD", &*on_head)];
    let app = start(&gap, 2, &settings).await;
    slow_down(&gap, 0.3).await;
    let id = app.begin(&request("content")).await;
    at_work(&gap).await;
    base.drop_connections();
    head.drop_connections();
    tokio::time::sleep(Duration::from_millis(500)).await;
    base.cut();
    head.cut();
    tokio::time::sleep(Duration::from_secs(3)).await;
    base.heal();
    head.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    base.stall();
    head.stall();
    tokio::time::sleep(Duration::from_secs(4)).await;
    base.drop_connections();
    head.drop_connections();
    assert_whole(&gap, &app, &id).await;
}

async fn a_table_may_take_many_continuations() {
    // A step holds fewer rows the wider they are: a dozen steps at least.
    let wide = schema(30_000).replace("'v' || i", "rpad('v' || i, 400, 'x')");
    let gap = Gap::between(&wide, &changes(7)).await;
    let app = start(&gap, 1, &[("DELTACOMPARE_WORK_SECONDS", "1")]).await;
    slow_down(&gap, 1.2).await;
    let mut request = request("content");
    request["range_blocks"] = json!(100_000);
    let id = app.begin(&request).await;
    assert_whole(&gap, &app, &id).await;
    // A claim and a return each.
    let most: i32 =
        gap.head.value("select max(attempt) from deltacompare.work_item").await.unwrap();
    assert!(most > 20, "{most} attempts are fewer than ten continuations");
}

async fn a_message_that_was_given_up_fails_its_item_and_no_other() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    let poison = app.queue("recovery-work-poison").await;
    let mut request = request("content");
    request["parallel"] = json!(1);
    let held = hold_the_sink(&gap).await;
    let id = app.begin(&request).await;
    until(&gap, &waiting_for_the_sink(1)).await;
    let last: i32 = gap
        .head
        .value("select max(number) from deltacompare.work_item where state = 'pending'")
        .await
        .unwrap();
    let message = json!({"recovery": id, "item": last}).to_string();
    poison.send(&STANDARD.encode(message)).await.unwrap();
    let failed = "select exists (select from deltacompare.work_item where state = 'failed')";
    until(&gap, failed).await;
    held.close().await.unwrap();
    let status = app.ended(&id).await;
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!(status["items"]["failed"], 1, "{status:#}");
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 200);
    assert_whole(&gap, &app, &id).await;
}

/// Somebody else's messages: one error each, and they are gone.
async fn messages_that_are_not_ours_are_told_of_once() {
    let gap = gap().await;
    let app = start(&gap, 1, &[]).await;
    let (plan, work) = (app.queue("recovery-plan").await, app.queue("recovery-work").await);
    let recovery = uuid::Uuid::new_v4();
    for (queue, text) in [
        (&plan, "not JSON".to_owned()),
        (&plan, json!({"order": 7}).to_string()),
        (&work, json!([1, 2]).to_string()),
        (&work, json!({"recovery": recovery}).to_string()),
    ] {
        queue.send(&STANDARD.encode(text)).await.unwrap();
    }
    let since = Instant::now();
    while app.host.counts().deleted < 4 {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.host.counts().returned, 0);
    let errors: Vec<String> = app
        .host
        .log()
        .into_iter()
        .filter(|line| line.by_handler && line.level == Level::Error)
        .map(|line| line.text)
        .collect();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    for error in errors {
        assert!(error.contains("a message that is not one of this app's was dropped"), "{error}");
        assert!(error.contains("\"invocation\":"), "{error}");
    }
}

/// Who asks is answered, and what looks by itself does not pile up.
async fn a_head_that_does_not_answer_is_told_of_within_seconds() {
    let gap = gap().await;
    let head = Proxy::to(gap.head.port()).await.unwrap();
    let on_head = gap
        .head
        .url(Role::Admin)
        .replace(&format!(":{}/", gap.head.port()), &format!(":{}/", head.port()));
    assert!(on_head.contains(&head.port().to_string()));
    let app = start(&gap, 1, &[("DELTACOMPARE_HEAD", &on_head)]).await;
    head.stall();
    let asked = Instant::now();
    let answers = (0..12).map(async |_| app.get("/api/recoveries").await);
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let why = answer.text().await.unwrap();
        assert!(why.contains("the control database does not answer in 5 s"), "{why}");
    }
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    // The Watchdog, which looks every other second here, has nothing to miss.
    tokio::time::sleep(Duration::from_secs(12)).await;
    head.heal();
    head.drop_connections();
    let since = Instant::now();
    while app.get("/api/recoveries").await.status() != 200 {
        assert!(since.elapsed() < Duration::from_secs(30), "{}", app.said());
    }
    let said = app.said();
    assert!(!said.contains("the invocation failed"), "{said}");
    // Once for each reason: that there is no answer, and perhaps that the connection broke.
    let told = said.matches("the Watchdog sees no recoveries for now").count();
    assert!((1..=2).contains(&told), "{told} times: {said}");
}

async fn hundreds_of_tables_in_one_recovery() {
    many_tables(500).await;
}

/// On demand: some minutes.
async fn thousands_of_tables_in_one_recovery() {
    many_tables(5000).await;
}

/// So many tables on servers whose table of locks holds far fewer than their objects.
async fn many_tables(tables: usize) {
    let options =
        Options { conf: vec!["max_locks_per_transaction = 10".to_owned()], ..Options::default() };
    let production = Production::start(&Postgres::find(None).unwrap(), options).await.unwrap();
    let each = |what: &str| {
        format!(
            "do $$ begin for t in 1..{tables} loop {what}
               if t % 20 = 0 then commit; end if; end loop; end $$"
        )
    };
    production
        .sql(each(
            "execute format('create table t%s (id int primary key, v int);
                             insert into t%s select i, i from generate_series(1, 3) i', t, t);",
        ))
        .await
        .unwrap();
    production.sql("create publication shop for all tables").await.unwrap();
    let gap = Gap::own_over(production, async |production| {
        let change = each("execute format('update t%s set v = %s where id = 2', t, t + 9);");
        production.sql(change).await.unwrap();
    })
    .await;
    let app = start(&gap, 2, &[("DELTACOMPARE_LEASE_SECONDS", "30")]).await;
    let mut request = request("full");
    request["parallel"] = json!(8);
    let id = app.begin(&request).await;
    let since = Instant::now();
    let within = Duration::from_secs(240) * tables.div_ceil(500) as u32;
    while ["planning", "running"].contains(&state(&gap, &id).await.as_str()) {
        assert!(since.elapsed() < within, "{}", app.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = app.status(&id).await;
    assert_eq!(status["tables"]["completed"], tables, "{status:#}");
    assert_eq!(status["totals"]["updates"], tables, "{status:#}");
    // Some of them whole; of the others, each has its one event.
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &["t1", "t77", "t500"], &events).await;
    let with_event: i64 = gap
        .head
        .value(
            "select count(*) from deltacompare.delta
              where op = 'U' and event -> 'after' ->> 'v' = (substr(table_name, 2)::int + 9)::text",
        )
        .await
        .unwrap();
    assert_eq!(with_event, tables as i64);
    assert_whole_of(&gap, &app, &id, &[]).await;
}

tests! {
    a_status_database_that_fails_at_any_write_loses_nothing,
    messages_that_are_lost_are_sent_again,
    messages_that_come_again_and_in_any_order_do_nothing_twice,
    base_and_head_may_be_restarted: own_servers,
    a_network_that_breaks_or_stands_still_loses_nothing,
    a_table_may_take_many_continuations,
    a_message_that_was_given_up_fails_its_item_and_no_other,
    messages_that_are_not_ours_are_told_of_once,
    a_head_that_does_not_answer_is_told_of_within_seconds,
    hundreds_of_tables_in_one_recovery: own_servers,
    thousands_of_tables_in_one_recovery: own_servers on_demand seconds(1800),
}
