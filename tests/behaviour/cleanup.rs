//! `cleanup` says what it would remove, and removes it only on demand; an app that runs meanwhile
//! goes on.

use deltacompare_testbed::Options;
use serde_json::{Value, json};

use crate::functions_faults;
use crate::support::{Events, Gap, assert_events_turn_base_into_head, deltacompare};

const SCHEMA: &str = r#"
    create table t (id int primary key, v text);
    insert into t select i, 'v' from generate_series(1, 100) i;
"#;

const GAP: &str = "update t set v = 'w' where id > 60";

async fn nothing_is_removed_without_yes() {
    let gap = Gap::own(Options::default(), SCHEMA, GAP).await;
    let through_head = ["--strategy", "full", "--keep-objects"];
    let run =
        [&["run", "--sink", "delta-table", "--table", "public.t"], &through_head[..]].concat();
    for _ in 0..2 {
        deltacompare(&gap, &run).run().await.assert_completed();
    }
    let ids: Vec<(String,)> = gap
        .head
        .rows("select id::text from deltacompare.recovery order by created_at")
        .await
        .unwrap();
    // One was killed more than a lease ago, and of one only events are left.
    gap.head
        .sql(format!(
            "update deltacompare.recovery set state = 'running' where id = '{}';
             update deltacompare.work_item set lease_until = null;
             insert into deltacompare.delta (recovery_id, event_id, schema_name, table_name, op, event)
             values ('6f9619ff-8b86-4d11-b42d-00c04fc964ff', '6f9619ff-8b86-4d11-b42d-00c04fc964ff',
                     'public', 't', 'I', '{{}}')",
            ids[1].0
        ))
        .await
        .unwrap();
    let listed = deltacompare(&gap, &["cleanup"]).run().await;
    assert_eq!(listed.code, Some(2), "{}", listed.stderr);
    let name = |id: &str| format!("deltacompare_{}", &id[24..]);
    for word in [
        format!("recovery {}: completed, database {}", ids[0].0, gap.head.database()),
        format!("recovery {}: running, can be resumed", ids[1].0),
        "recovery 6f9619ff-8b86-4d11-b42d-00c04fc964ff: without a status, 1 events".to_owned(),
        "40 events in the delta table".to_owned(),
        format!("base: role {}", name(&ids[0].0)),
        format!("base: role {}", name(&ids[1].0)),
        format!("head: schema {}", name(&ids[0].0)),
        "head: schema deltacompare (status and delta tables)".to_owned(),
    ] {
        assert!(listed.stdout.contains(&word), "no {word:?} in {}", listed.stdout);
    }
    for word in ["nothing was removed", "--yes", "81 events"] {
        assert!(listed.stderr.contains(word), "{}", listed.stderr);
    }
    let rows = "select count(*) from deltacompare.delta";
    assert_eq!(gap.head.value::<i64>(rows).await.unwrap(), 81);
    let roles = format!(
        "select count(*) from pg_roles where rolname in ('{}', '{}')",
        name(&ids[0].0),
        name(&ids[1].0)
    );
    assert_eq!(gap.base.value::<i64>(&roles).await.unwrap(), 2);

    let removed = deltacompare(&gap, &["cleanup", "--yes"]).run().await;
    removed.assert_completed();
    assert!(removed.stdout.contains("dropped head: schema deltacompare"), "{}", removed.stdout);
    let left = "select count(*) from pg_namespace where nspname ~ '^deltacompare'";
    assert_eq!(gap.head.value::<i64>(left).await.unwrap(), 0);
    assert_eq!(gap.base.value::<i64>(&roles).await.unwrap(), 0);
    let nothing = deltacompare(&gap, &["cleanup"]).run().await;
    nothing.assert_completed();
    assert!(nothing.stdout.contains("nothing to remove"), "{}", nothing.stdout);
}

async fn an_app_whose_status_was_removed_makes_it_again() {
    let gap = Gap::own(Options::default(), SCHEMA, GAP).await;
    let app = functions_faults::start(&gap, 1, &[]).await;
    let request = json!({"sinks": ["delta-table"], "format": "landing", "tables": ["public.t"]});
    let id = app.begin(&request).await;
    app.completed(&id).await;
    let healthy = async || {
        let health = app.get("/api/health").await;
        let code = health.status().as_u16();
        let health: Value = health.json().await.unwrap();
        (code, health["control_database"].as_str().unwrap().to_owned())
    };
    assert_eq!(healthy().await, (200, "ok".to_owned()));

    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    let list = app.get("/api/recoveries").await;
    assert_eq!(list.status(), 200);
    let list: Value = list.json().await.unwrap();
    assert_eq!(list["recoveries"], json!([]), "{list:#}");
    assert_eq!(app.get(&format!("/api/recoveries/{id}")).await.status(), 404);
    assert_eq!(healthy().await, (200, "ok".to_owned()));
    let id = app.begin(&request).await;
    app.completed(&id).await;
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &["t"], &events).await;

    // A part of it cannot be made again: what the rest says is not to be lost.
    gap.head.sql("drop table deltacompare.delta").await.unwrap();
    assert_eq!(healthy().await, (503, "incomplete".to_owned()));
    let list = app.get("/api/recoveries").await;
    assert_eq!(list.status(), 500);
    let problem: Value = list.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("cleanup --yes"), "{problem:#}");
    deltacompare(&gap, &["cleanup", "--yes"]).run().await.assert_completed();
    assert_eq!(healthy().await, (200, "ok".to_owned()));
    let id = app.begin(&request).await;
    app.completed(&id).await;
}

tests! {
    nothing_is_removed_without_yes: own_servers,
    an_app_whose_status_was_removed_makes_it_again: own_servers,
}
