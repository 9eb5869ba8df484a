//! The dashboard in a real browser, against a real recovery of the packaged app: `browser.mjs` does
//! what an operator does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Database, Gap, Hosted, deltacompare};

/// Tables of different sizes, each with changes.
fn shop(tables: &[(&str, u32)]) -> (String, String) {
    let mut before = String::from("create schema shop; create publication shop for all tables;");
    let mut during = String::new();
    for (table, rows) in tables {
        before.push_str(&format!(
            "create table shop.{table} (id int primary key, v text, pad text);
             insert into shop.{table} select i, 'v', repeat('x', 100) from generate_series(1, {rows}) i;"
        ));
        during.push_str(&format!(
            "update shop.{table} set v = 'w' where id % 40 = 0;
             delete from shop.{table} where id % 170 = 0;
             insert into shop.{table} select i, 'new', '' from generate_series({rows} + 1, {rows} * 1.01) i;"
        ));
    }
    (before, during)
}

/// Whoever writes an event of a table takes his time, and those of customers are not taken.
const TROUBLE: &str = "
    create function public.slow() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.002); return new; end $$;
    create trigger slow before insert on deltacompare.delta
      for each row execute function public.slow();
    create function public.no() returns trigger language plpgsql as
      $$ begin raise check_violation using message = 'not customers'; end $$;
    create trigger no before insert on deltacompare.delta for each row
      when (new.table_name = 'customers') execute function public.no()";

async fn trouble(gap: &Gap, app: &Hosted, trouble: &str) {
    // The first request makes the status store.
    assert_eq!(app.get("/api/recoveries").await.status(), 200);
    gap.head.sql(trouble).await.unwrap();
}

/// Where `scripts/screenshots` wants pictures.
fn screenshots() -> Option<PathBuf> {
    std::env::var_os("DELTACOMPARE_SCREENSHOTS").map(PathBuf::from)
}

/// Does in the browser what `scenario` says.
async fn browse(app: &Hosted, scenario: &str, id: &str, tables: usize) {
    let browser = deltacompare_testbed::browser().unwrap();
    let given = json!({
        "url": app.host.url(), "key": app.host.host_key(), "id": id, "tables": tables,
        "chromium": browser.chromium, "modules": browser.modules, "screenshots": screenshots(),
    });
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/dashboard/browser.mjs");
    let ended = Command::new("node")
        .arg(script)
        .arg(scenario)
        .env("DASHBOARD", given.to_string())
        .kill_on_drop(true)
        .status()
        .await
        .unwrap();
    assert!(ended.success(), "{scenario}: see above\n{}", app.said());
}

async fn a_recovery_is_followed_retried_and_saved() {
    let tables = [
        ("orders", 30_000),
        ("order_lines", 60_000),
        ("customers", 8_000),
        ("payments", 20_000),
        ("shipments", 12_000),
        ("stock", 5_000),
        ("prices", 3_000),
        ("visits", 40_000),
    ];
    let (before, during) = shop(&tables);
    let production = Database::new().await;
    production.sql(before).await.unwrap();
    // Where two slots could have stood.
    let mut slots = Vec::<String>::new();
    let gap = Gap::over(production, async |production| {
        let now = "select pg_current_wal_insert_lsn()::text";
        slots.push(production.value(now).await.unwrap());
        production.sql(during).await.unwrap();
        slots.push(production.value(now).await.unwrap());
    })
    .await;
    // Without a record of the restores nothing is proven.
    let record = deltacompare(&gap, &["record", "--file", "{dir}/recorded.json"]).run().await;
    record.assert_completed();
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(record.file("recorded.json")).unwrap()).unwrap();
    let app = Hosted::start(&gap, 1, &[]).await;
    trouble(&gap, &app, TROUBLE).await;
    let id = app
        .begin(&json!({
            "sinks": ["delta-table"], "format": "landing", "parallel": 2, "range_blocks": 400,
            "publications": ["shop"], "lost_at_lsn": slots[0], "new_slot_lsn": slots[1],
            "recorded": recorded,
        }))
        .await;
    browse(&app, "follows", &id, tables.len()).await;
    gap.head.sql("drop function public.no() cascade").await.unwrap();
    browse(&app, "retries", &id, tables.len()).await;
    assert_eq!(app.status(&id).await["state"], "completed");
}

async fn a_recovery_is_cancelled_once_that_is_confirmed() {
    let (before, during) = shop(&[("orders", 60_000), ("visits", 60_000)]);
    let gap = Gap::between(&before, &during).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    trouble(&gap, &app, &TROUBLE.replace("0.002", "3")).await;
    let id = app.begin(&json!({"sinks": ["delta-table"], "format": "landing"})).await;
    browse(&app, "cancels", &id, 2).await;
    assert_eq!(app.status(&id).await["state"], "cancelled");
    let since = Instant::now();
    while !crate::support::leftovers(&gap).await.iter().all(|it| it.contains("status")) {
        assert!(since.elapsed() < Duration::from_secs(20), "something is left");
    }
}

async fn five_thousand_tables_and_wrong_keys() {
    let (before, during) = shop(&[("orders", 100)]);
    let gap = Gap::between(&before, &during).await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let id = app.begin(&json!({"sinks": ["delta-table"], "format": "landing"})).await;
    app.completed(&id).await;
    browse(&app, "refuses", &id, 1).await;
    // Planning so many would take this test too long: their items are written as the planner does.
    gap.head
        .sql(format!(
            r#"
            insert into deltacompare.work_item
                   (recovery_id, number, batch, schema_name, table_name, strategy, strategy_reason,
                    spec, bytes, state, inserts, updates, deletes, rows_compared, seconds, warnings, error)
            select recovery_id, 10000 + n, 10000 + n, 'shop', 't_' || lpad(n::text, 4, '0'), strategy,
                   strategy_reason, spec, 8192 * n,
                   case when n % 100 = 0 then 'failed' else 'completed' end, n, n / 2, n / 9,
                   n * 100, n / 100.0, case when n % 7 = 0 then '["a warning"]'::jsonb else '[]' end,
                   case when n % 100 = 0 then 'it failed' end
              from deltacompare.work_item, generate_series(1, 5000) n
             where recovery_id = '{id}';
            delete from deltacompare.work_item where table_name = 'orders'
            "#
        ))
        .await
        .unwrap();
    browse(&app, "many", &id, 5000).await;
}

async fn the_page_is_open_to_all_and_holds_no_data() {
    let gap = Gap::between("create table t (id int primary key)", "insert into t values (1)").await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let mut pages = Vec::new();
    for path in ["/api/dashboard", "/api/dashboard/any"] {
        let page = reqwest::get(format!("{}{path}", app.host.url())).await.unwrap();
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        pages.push(page.text().await.unwrap());
    }
    assert_eq!(pages[0], pages[1]);
    for secret in [gap.head.host(), app.host.host_key(), "http://", "https://"] {
        // But for the name of a namespace, which nobody asks for.
        assert!(!pages[0].replace("http://www.w3.org/2000/svg", "").contains(secret), "{secret}");
    }
}

tests! {
    a_recovery_is_followed_retried_and_saved: browser seconds(300),
    a_recovery_is_cancelled_once_that_is_confirmed: browser seconds(300),
    five_thousand_tables_and_wrong_keys: browser seconds(300),
    the_page_is_open_to_all_and_holds_no_data,
}
