//! Traces and metrics over OTLP: what a collector gets of a real recovery.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use deltacompare_testbed::{Collector, Span};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::OPERATIONS;
use crate::support::{Gap, Hosted, deltacompare};

const KEY: &str = "a-secret-of-the-collector";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(trace: &str, parent: &str) -> String {
    format!("00-{trace}-{parent}-01")
}

async fn gap() -> Gap {
    Gap::between(
        "create table secret_table (id int primary key, v text);
         create table \"By Key\" (id text primary key, v text);
         insert into secret_table select i, 'a value' from generate_series(1, 5000) i;
         insert into \"By Key\" select 'a key ' || i, 'a value' from generate_series(1, 3000) i;
         create publication shop for all tables",
        "update secret_table set v = 'a value of now' where id % 100 = 0;
         insert into secret_table select i, 'new' from generate_series(5001, 5007) i;
         delete from \"By Key\" where id like '%77'",
    )
    .await
}

/// Begins a recovery as a part of a trace; its id.
async fn begin(app: &Hosted, traceparent: &str) -> String {
    let begun = app
        .request(reqwest::Method::POST, "/api/recoveries")
        .header("traceparent", traceparent)
        .json(&json!({"sinks": ["delta-table"], "format": "landing", "range_blocks": 8}))
        .send()
        .await
        .unwrap();
    assert_eq!(begun.status(), 202);
    begun.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// All values of a metric where an attribute has a value, together; of all without one.
fn sum(collector: &Collector, metric: &str, only: Option<(&str, &str)>) -> f64 {
    let points = collector.points();
    let of_metric = points.iter().filter(|point| point.metric == metric);
    of_metric
        .filter(|point| {
            only.is_none_or(|(name, value)| {
                point.attributes.get(name).map(String::as_str) == Some(value)
            })
        })
        .map(|point| point.value)
        .sum()
}

fn count(collector: &Collector, step: &str) -> u64 {
    let points = collector.points();
    let of_step = points.iter().filter(|point| {
        point.metric == "deltacompare.step.duration"
            && point.attributes.get("step").map(String::as_str) == Some(step)
    });
    of_step.map(|point| point.count).sum()
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Waits until the collector has what it should have by now.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn a_recovery_is_one_trace_and_its_metrics_are_what_it_found() {
    let gap = gap().await;
    let collector = Collector::start(KEY).await.unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-key={KEY}")),
        ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let app = Hosted::start(&gap, 1, &settings).await;
    let id = begin(&app, &traceparent(TRACE, PARENT)).await;
    let status = app.completed(&id).await;
    let items = status["items"]["completed"].as_u64().unwrap();
    until("every span of an item arrives", || {
        named(&collector.spans(), "work_item").len() as u64 >= items
            && !named(&collector.spans(), "POST /api/recoveries").is_empty()
    })
    .await;
    until("the metrics arrive", || {
        sum(&collector, "deltacompare.attempts", None) as u64 >= items
            && count(&collector, "clean_up") >= 1
    })
    .await;

    until("the Watchdog has counted items", || {
        let points = collector.points();
        points.iter().filter(|point| point.metric == "deltacompare.items").count() == 4
    })
    .await;

    // The trace: asked for → each invocation → its item.
    let spans = collector.spans();
    let asked = named(&spans, "POST /api/recoveries");
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].trace.as_str(), asked[0].parent.as_str()), (TRACE, PARENT));
    let invocations = named(&spans, "DiffTable");
    for span in invocations.iter().chain(&named(&spans, "PlanRecovery")) {
        assert_eq!((&*span.trace, &span.parent), (TRACE, &asked[0].id), "{span:#?}");
        // The host sends a trace of its own with each call, which is not sampled.
        assert!(span.links.len() == 1 && span.links[0] != TRACE, "{span:#?}");
    }
    let worked = named(&spans, "work_item");
    assert_eq!(worked.len() as u64, items);
    for span in &worked {
        assert!(invocations.iter().any(|it| it.id == span.parent), "{span:#?}");
        assert_eq!(span.attributes["recovery"], id);
        for attribute in ["table", "range", "strategy", "attempt", "item"] {
            assert!(span.attributes.contains_key(attribute), "{attribute}: {span:#?}");
        }
        assert_eq!(span.resource["service.name"], "deltacompare");
        assert_eq!(span.resource["deployment.environment.name"], "test");
        assert!(!span.failed);
    }
    let tables: BTreeSet<&str> = worked.iter().map(|it| it.attributes["table"].as_str()).collect();
    assert_eq!(tables, BTreeSet::from(["public.\"By Key\"", "public.secret_table"]));

    // The metrics: the status has the same numbers.
    let totals = &status["totals"];
    for (op, total) in [("insert", "inserts"), ("update", "updates"), ("delete", "deletes")] {
        let counted = sum(&collector, "deltacompare.changes", Some(("op", op)));
        assert_eq!(counted as u64, totals[total].as_u64().unwrap(), "{op}");
    }
    let changes = sum(&collector, "deltacompare.changes", None);
    assert_eq!(changes as u64, 50 + 7 + 30);
    for (metric, field) in [
        ("deltacompare.rows_compared", "rows_compared"),
        ("deltacompare.bytes_compared", "bytes_expected"),
    ] {
        assert_eq!(
            sum(&collector, metric, None) as u64,
            status[field].as_u64().unwrap(),
            "{metric}"
        );
    }
    let delta_table = Some(("sink", "delta-table"));
    assert_eq!(sum(&collector, "deltacompare.events.acknowledged", delta_table), changes);
    assert_eq!(sum(&collector, "deltacompare.events.repeated", None), 0.0);
    let completed = sum(&collector, "deltacompare.attempts", Some(("outcome", "completed")));
    assert_eq!(completed as u64, items);
    assert_eq!(count(&collector, "compare"), items);
    for step in ["plan", "prove", "deliver"] {
        assert!(count(&collector, step) >= 1, "{step}");
    }

    // They are documented, with their units, and name nothing whose number has no bound.
    for point in collector.points() {
        let row = format!("| `{}` | `{}` |", point.metric, point.unit);
        assert!(OPERATIONS.contains(&row), "{row}");
        for value in point.attributes.values() {
            assert!(!value.contains("secret_table") && *value != id, "{point:#?}");
        }
    }
    assert_eq!(collector.refused(), 0);
    assert!(!app.said().contains(KEY), "the log has the collector's key");
}

/// Such a trace decides nothing: what the program measures is sent.
async fn a_trace_that_is_not_sampled_is_linked_and_not_continued() {
    let gap = gap().await;
    let collector = Collector::start(KEY).await.unwrap();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-key={KEY}")),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    let app = Hosted::without_insights(&gap, 1, &settings).await;
    let id = begin(&app, &format!("00-{TRACE}-{PARENT}-00")).await;
    app.completed(&id).await;
    until("the spans arrive", || {
        ["work_item", "DiffTable", "POST /api/recoveries"]
            .iter()
            .all(|name| !named(&collector.spans(), name).is_empty())
    })
    .await;
    let spans = collector.spans();
    let asked = named(&spans, "POST /api/recoveries")[0];
    assert_ne!(asked.trace, TRACE);
    assert_eq!((asked.links.as_slice(), asked.parent.as_str()), (&[TRACE.to_owned()][..], ""));
    for span in named(&spans, "DiffTable") {
        assert_eq!((&span.trace, &span.parent), (&asked.trace, &asked.id), "{span:#?}");
        assert!(span.links.is_empty(), "{span:#?}");
    }
    for span in named(&spans, "work_item") {
        assert_eq!(span.trace, asked.trace);
    }
    assert!(collector.points().is_empty(), "metrics were not wanted");
}

async fn a_run_sends_what_is_left_when_it_ends() {
    let gap = gap().await;
    let collector = Collector::start(KEY).await.unwrap();
    // Nothing is due within the run: neither the spans nor the metrics.
    let run = deltacompare(&gap, &["run", "--sink", "ndjson:{dir}/events", "--format", "landing"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-key={KEY}"))
        .env("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("TRACEPARENT", &traceparent(TRACE, PARENT))
        .run()
        .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let spans = collector.spans();
    let root = named(&spans, "run");
    assert_eq!(root.len(), 1, "{spans:#?}");
    assert_eq!((root[0].trace.as_str(), root[0].parent.as_str()), (TRACE, PARENT));
    let worked = named(&spans, "work_item");
    assert_eq!(worked.len(), 2);
    assert!(worked.iter().all(|span| span.parent == root[0].id), "{worked:#?}");
    let ndjson = Some(("sink", "ndjson"));
    assert_eq!(sum(&collector, "deltacompare.events.acknowledged", ndjson), 87.0);
    assert_eq!(sum(&collector, "deltacompare.changes", None), 87.0);
}

async fn a_collector_that_does_not_take_it_keeps_nobody_waiting() {
    let gap = gap().await;
    let collector = Collector::start("another key").await.unwrap();
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let closed = "http://user:a-secret-of-the-collector@127.0.0.1:9";
    for (endpoint, said) in [
        (collector.url(), Some("the collector answered 401")),
        (closed, Some("no connection")),
        // Its time is not over yet.
        (&silent_url, None),
        ("a-secret-of-the-collector", Some("must be an http or https URL")),
    ] {
        let began = Instant::now();
        let run = deltacompare(&gap, &["run", "--sink", "ndjson:{dir}/events"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-key={KEY}"))
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "600000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .run()
            .await;
        assert_eq!(run.code, Some(0), "{endpoint}: {}", run.stderr);
        assert!(began.elapsed() < Duration::from_secs(300), "{endpoint} held the run up");
        if let Some(said) = said {
            assert!(run.stderr.contains(said), "{endpoint}: {}", run.stderr);
        }
        for text in [&run.stderr, &run.stdout] {
            assert!(!text.contains(KEY), "{endpoint}: {text}");
        }
    }
    assert!(collector.refused() >= 1);
}

tests! {
    a_recovery_is_one_trace_and_its_metrics_are_what_it_found,
    a_trace_that_is_not_sampled_is_linked_and_not_continued,
    a_run_sends_what_is_left_when_it_ends,
    a_collector_that_does_not_take_it_keeps_nobody_waiting,
}
