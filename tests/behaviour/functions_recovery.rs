//! A recovery through the app: begun over HTTP, planned and worked on by queue messages, in several
//! instances at once.

use std::time::{Duration, Instant};

use deltacompare_testbed::{Options, Postgres, Production, Role, Server};
use reqwest::Method;
use serde_json::{Value, json};
use twox_hash::XxHash3_128;

use crate::support::{
    Events, Gap, Hosted, assert_events_turn_base_into_head, deltacompare, hold_the_sink, skip,
    until, waiting_for_the_sink,
};

const SHOP: &str = "
    create table orders (id int primary key, v text, n numeric);
    create table customers (id bigint primary key, name text);
    create table log (at int, line text);
    alter table log replica identity full;
    insert into orders select i, 'v' || i, i from generate_series(1, 20000) i;
    insert into customers select i, 'c' || i from generate_series(1, 5000) i;
    insert into log select i / 2, 'l' from generate_series(1, 2000) i;
    create publication shop for all tables";

const GAP: &str = "
    update orders set v = 'w' where id % 7 = 0;
    delete from orders where id % 31 = 0;
    insert into orders select i, 'new', 0 from generate_series(100001, 100400) i;
    update customers set name = 'd' where id % 11 = 0;
    delete from log where at % 9 = 0;
    insert into log select i, 'm' from generate_series(1, 50) i";

const TABLES: [&str; 3] = ["orders", "customers", "log"];

/// What is left of recoveries on the two servers; the app's own idle sessions do not count.
async fn leftovers(gap: &Gap) -> Vec<String> {
    let since = Instant::now();
    loop {
        let mut left = crate::support::leftovers(gap).await;
        left.retain(|it| !it.contains("session deltacompare status"));
        if left.is_empty() || since.elapsed() > Duration::from_secs(10) {
            return left;
        }
    }
}

async fn value(gap: &Gap, query: &str) -> i64 {
    gap.head.value(query).await.unwrap()
}

async fn instances_share_the_work_and_the_events_turn_base_into_head() {
    let gap = Gap::between(SHOP, GAP).await;
    let app = Hosted::start(&gap, 2, &[]).await;
    // The first request makes the status store.
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    // Nobody gets rid of his events before five are at work, which is more than one instance takes.
    let held = hold_the_sink(&gap).await;
    let id = app
        .begin(&json!({
            "sinks": ["delta-table"], "format": "landing", "verify": "full", "range_blocks": 8,
            "parallel": 5,
        }))
        .await;
    until(&gap, &waiting_for_the_sink(5)).await;
    held.close().await.unwrap();
    let look = |status: &Value| {
        assert!(status["items"]["running"].as_u64().unwrap() <= 5, "{status:#}");
        let all = status["progress"].as_f64().unwrap() >= 1.0;
        assert!(!all || status["state"] == "completed", "{status:#}");
    };
    let status = app.watched(&id, look).await;
    assert_eq!(status["state"], "completed", "{status:#}\n{}", app.said());
    assert_eq!(status["progress"], 1.0);
    assert_eq!(status["tables"]["completed"], 3);
    assert_eq!(status["gap"]["verdict"], "not_provable");
    assert!(status["items"]["completed"].as_u64().unwrap() > 10, "{status:#}");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
    let changes: u64 = ["inserts", "updates", "deletes"]
        .iter()
        .map(|kind| status["totals"][kind].as_u64().unwrap())
        .sum();
    assert_eq!(changes, events.0.len() as u64);
    let orders = app.table(&id, "orders").await;
    assert_eq!(orders["state"], "completed");
    assert_eq!(orders["ranges_done"], orders["ranges"]);
    let of_orders = events.0.iter().filter(|event| event.table == "orders");
    let digest = of_orders
        .fold(0u128, |sum, event| sum.wrapping_add(XxHash3_128::oneshot(event.line.as_bytes())));
    assert_eq!(orders["events_digest"], digest.to_string());
    assert_eq!(value(&gap, "select count(distinct worker) from deltacompare.work_item").await, 2);
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

async fn what_failed_is_tried_again_and_nothing_else() {
    let gap = Gap::between(SHOP, GAP).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    // The first request makes the status store.
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    gap.head
        .sql(
            "create function public.no() returns trigger language plpgsql as
               $$ begin raise check_violation using message = 'not customers'; end $$;
             create trigger no before insert on deltacompare.delta for each row
               when (new.table_name = 'customers') execute function public.no()",
        )
        .await
        .unwrap();
    let id = app.begin(&json!({"sinks": ["delta-table"], "format": "landing"})).await;
    let failed = app.ended(&id).await;
    assert_eq!(failed["state"], "failed", "{failed:#}");
    assert_eq!(failed["tables"]["completed"], 2);
    let customers = app.table(&id, "customers").await;
    assert!(customers["error"].as_str().unwrap().contains("not customers"), "{customers:#}");
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    // Not while another one of the database is live.
    let held = hold_the_sink(&gap).await;
    let live = app.begin(&json!({"sinks": ["delta-table"], "format": "landing"})).await;
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 409);
    assert!(retried.text().await.unwrap().contains(&live));
    let cancelled = app.post(&format!("/api/recoveries/{live}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status(), 200);
    held.close().await.unwrap();
    let others = "select coalesce(sum(attempt), 0)::int8 from deltacompare.work_item
                   where table_name <> 'customers'";
    let others = &format!("{others} and recovery_id = '{id}'");
    let before = value(&gap, others).await;

    gap.head.sql("drop function public.no() cascade").await.unwrap();
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 200);
    let status = app.completed(&id).await;
    assert_eq!(status["error"], Value::Null);
    assert_eq!(value(&gap, others).await, before, "what had completed was done again");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    let again = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(again.status(), 409);
}

async fn a_recovery_of_the_command_line_that_is_cancelled_leaves_nothing() {
    let gap = Gap::between(SHOP, GAP).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    let sink = hold_the_sink(&gap).await;
    let arguments = ["run", "--sink", "delta-table", "--format", "landing", "--strategy", "full"];
    let mut program = deltacompare(&gap, &arguments);
    let mut child = program.spawn();
    until(&gap, &waiting_for_the_sink(1)).await;
    child.kill().await.unwrap();
    sink.close().await.unwrap();
    assert_ne!(leftovers(&gap).await, Vec::<String>::new());
    let id: String = gap.head.value("select id::text from deltacompare.recovery").await.unwrap();
    let cancelled = app.post(&format!("/api/recoveries/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status(), 200);
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

async fn a_cancelled_recovery_stops_within_seconds_and_leaves_nothing() {
    let gap = Gap::between(SHOP, GAP).await;
    let app = Hosted::start(&gap, 2, &[]).await;
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    // Whoever has events in hand takes his time.
    gap.head
        .sql(
            "create function public.slow() returns trigger language plpgsql as
               $$ begin perform pg_sleep(3); return new; end $$;
             create trigger slow before insert on deltacompare.delta
               for each row execute function public.slow()",
        )
        .await
        .unwrap();
    let id = app
        .begin(&json!({"sinks": ["delta-table"], "format": "landing", "strategy": "full"}))
        .await;
    let since = Instant::now();
    while app.status(&id).await["items"]["running"] != 3 {
        assert!(since.elapsed() < Duration::from_secs(60), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let since = Instant::now();
    let cancelled = app.post(&format!("/api/recoveries/{id}/cancel"), &json!({})).await;
    let cancelled_status = cancelled.status();
    let status: Value = cancelled.json().await.unwrap();
    assert_eq!(cancelled_status, 200, "{status:#}");
    assert_eq!(status["state"], "cancelled");
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    // Nobody writes any more once the statements that were under way have ended.
    let events = "select count(*) from deltacompare.delta";
    tokio::time::sleep(Duration::from_secs(8)).await;
    let written = value(&gap, events).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(value(&gap, events).await, written);
    assert_eq!(app.status(&id).await["state"], "cancelled");
    // Cancelling again changes nothing; it cannot be retried.
    let again = app.request(Method::POST, &format!("/api/recoveries/{id}/cancel"));
    assert_eq!(again.header("content-length", "0").send().await.unwrap().status(), 200);
    let retried = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status(), 409);
}

/// What the preflight refuses is said in the status, and nothing was changed for it.
async fn what_cannot_be_planned_says_why() {
    let gap = Gap::between(SHOP, GAP).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let body = json!({"sinks": ["delta-table"], "tables": ["public.nothing"]});
    let id = app.begin(&body).await;
    let status = app.ended(&id).await;
    assert_eq!(status["state"], "failed");
    assert!(status["error"].as_str().unwrap().contains("public.nothing"), "{status:#}");
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
    let plan = app.post("/api/plan", &body).await;
    assert_eq!(plan.status(), 422);
    let problem: Value = plan.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("public.nothing"), "{problem:#}");
}

/// The status stays where the settings say; what is compared is what the request says.
async fn a_request_may_name_another_database_than_the_settings() {
    let production =
        Production::start(&Postgres::find(None).unwrap(), Options::default()).await.unwrap();
    production.sql(SHOP).await.unwrap();
    production.sql("create database control owner azure_admin").await.unwrap();
    let gap = Gap::own_after(production, GAP).await;
    let control = |server: &Server| {
        let shop = format!("/{}?", server.database());
        server.url(Role::Admin).replace(&shop, "/control?")
    };
    let (base, head) = (control(&gap.base), control(&gap.head));
    let settings = [("DELTACOMPARE_BASE", base.as_str()), ("DELTACOMPARE_HEAD", head.as_str())];
    let app = Hosted::start(&gap, 1, &settings).await;
    let id = app
        .begin(&json!({
            "database": gap.head.database(), "sinks": ["delta-table"], "format": "landing",
            "strategy": "full",
        }))
        .await;
    let status = app.completed(&id).await;
    assert_eq!(status["database"], gap.head.database());
    let session = gap.head.connect_to("control").await.unwrap();
    let lines: Vec<String> =
        session.values("select event::text from deltacompare.delta", &[]).await.unwrap();
    session.close().await.unwrap();
    let events = Events::parse(lines.iter().map(String::as_str));
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
    assert_eq!(leftovers(&gap).await, Vec::<String>::new());
}

/// A retry could never prove what row versions say of a server that has lost its counts.
async fn what_would_fail_again_is_not_tried_again() {
    if Postgres::find(None).unwrap().major() < 15 {
        skip("PostgreSQL 14 does not say when counts were lost");
        return;
    }
    let gap = Gap::own(Options::default(), SHOP, GAP).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    let request = json!({"sinks": ["delta-table"], "format": "landing"});
    let held = hold_the_sink(&gap).await;
    let id = app.begin(&request).await;
    until(&gap, "select exists (select from pg_locks where not granted)").await;
    // Later than its restore, and so that the clock shows it.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    gap.base.sql("select pg_stat_reset()").await.unwrap();
    held.close().await.unwrap();
    let failed = app.ended(&id).await;
    assert_eq!(failed["state"], "failed", "{failed:#}");
    let orders = app.table(&id, "orders").await;
    let why = orders["error"].as_str().unwrap();
    assert!(why.contains("base lost its counts of writes while it was compared"), "{why}");

    let attempts = "select sum(attempt)::int8 from deltacompare.work_item";
    let before = value(&gap, attempts).await;
    let refused = app.post(&format!("/api/recoveries/{id}/retry"), &json!({})).await;
    assert_eq!(refused.status(), 409);
    let why = refused.text().await.unwrap();
    assert!(why.contains("base lost its counts of writes since the recovery was planned"), "{why}");
    assert_eq!(app.status(&id).await["state"], "failed");
    assert_eq!(value(&gap, attempts).await, before);

    // What the sentence says instead.
    let id = app.begin(&request).await;
    app.completed(&id).await;
    assert_eq!(app.table(&id, "orders").await["strategy"], "content");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &TABLES, &events).await;
}

tests! {
    instances_share_the_work_and_the_events_turn_base_into_head,
    what_failed_is_tried_again_and_nothing_else,
    a_recovery_of_the_command_line_that_is_cancelled_leaves_nothing,
    a_cancelled_recovery_stops_within_seconds_and_leaves_nothing,
    what_cannot_be_planned_says_why,
    a_request_may_name_another_database_than_the_settings: own_servers,
    what_would_fail_again_is_not_tried_again: own_servers,
}
