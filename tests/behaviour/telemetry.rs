//! What the app logs of a recovery: JSON lines that docs/operations.md describes, and no data.

mod otlp;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Gap, Hosted};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The lines that the app wrote, each of which is a document.
fn lines(app: &Hosted) -> Vec<Value> {
    let lines = app.host.log().into_iter().filter(|line| line.by_handler);
    lines
        .map(|line| serde_json::from_str(&line.text).unwrap_or_else(|_| panic!("{}", line.text)))
        .collect()
}

async fn every_item_has_a_span_and_its_figures_and_shows_no_row() {
    let gap = Gap::between(
        "create table by_block (id int primary key, v text);
         create table \"By Key\" (id text primary key, v text);
         insert into by_block select i, 'a value' from generate_series(1, 5000) i;
         insert into \"By Key\" select 'a key ' || i, 'a value' from generate_series(1, 5000) i;
         create publication shop for all tables",
        "update by_block set v = 'a value of now' where id % 100 = 0;
         delete from \"By Key\" where id like '%77'",
    )
    .await;
    let app = Hosted::start(&gap, 1, &[]).await;
    let id =
        app.begin(&json!({"sinks": ["delta-table"], "format": "landing", "range_blocks": 8})).await;
    app.completed(&id).await;
    let lines = lines(&app);
    let completed: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "work item completed").collect();
    let sum = |table: &str, field: &str| -> u64 {
        let of_table = completed.iter().filter(|line| line["span"]["table"] == table);
        of_table.map(|line| line[field].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("public.by_block", "updates"), 50, "{completed:#?}");
    assert_eq!(sum("public.\"By Key\"", "deletes"), 50, "{completed:#?}");
    assert_eq!(sum("public.by_block", "rows_compared"), 5000, "{completed:#?}");
    let ranges: Vec<&str> =
        completed.iter().map(|line| line["span"]["range"].as_str().unwrap()).collect();
    assert!(ranges.iter().any(|range| range.starts_with("blocks 0..")), "{ranges:?}");

    // Each line has the invocation that it belongs to, by the id that the host gave it.
    let invocations: BTreeSet<&str> =
        completed.iter().map(|line| line["invocation"].as_str().unwrap()).collect();
    assert!(invocations.iter().all(|id| id.parse::<Uuid>().is_ok()), "{invocations:?}");
    assert!(invocations.len() > 1, "{invocations:?}");
    assert!(!app.said().contains("already exists, skipping"), "{}", app.said());

    // Every field that is documented is there, and no other; so too in the queries.
    let of =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    for line in &completed {
        assert_eq!(line["span"]["recovery"], id.as_str());
        for field in of(&line["span"]).iter().filter(|field| *field != "name") {
            assert!(OPERATIONS.contains(&format!("`span.{field}`")), "span.{field}");
        }
        for field in of(line).iter().filter(|field| *field != "span") {
            assert!(OPERATIONS.contains(&format!("`{field}`")), "{field}");
        }
    }
    for word in OPERATIONS.split("line.").skip(1) {
        let path: String =
            word.chars().take_while(|it| it.is_alphanumeric() || "_.".contains(*it)).collect();
        let pointer = format!("/{}", path.trim_end_matches('.').replace('.', "/"));
        let found = lines.iter().any(|line| line.pointer(&pointer).is_some());
        assert!(found || pointer == "/error", "line.{path} is in no line");
    }

    for line in app.host.log() {
        for data in ["a value", "a key"] {
            assert!(!line.text.contains(data), "{}", line.text);
        }
    }
}

tests! {
    [otlp]
    every_item_has_a_span_and_its_figures_and_shows_no_row,
}
