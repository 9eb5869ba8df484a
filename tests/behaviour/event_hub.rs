//! Events in an event hub: all of them, once or more, where they belong.

mod access;
mod faults;
mod interrupted;
mod official_client;
mod partitions;
mod silent;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions, StoredEvent};

use crate::support::{Gap, Program, Run, deltacompare};

const SCHEMA: &str = r#"
    create table big (id int primary key, v text);
    create table log (message text);
    alter table log replica identity full;
    insert into big select i, repeat('v', 200) || i from generate_series(1, 6000) i;
    insert into log select 'm' || i from generate_series(1, 100) i;
"#;

const GAP: &str = r#"
    update big set v = 'new ' || v where id % 2 = 0;
    delete from big where id % 50 = 1;
    insert into log values ('new'), ('new');
"#;

async fn gap() -> Gap {
    let schema = format!("{SCHEMA} create publication shop for all tables");
    Gap::between(&schema, GAP).await
}

/// A run into the hub, with its connection string, and with the events in a file as well.
async fn run(gap: &Gap, hub: &EventHubs, more: &[&str]) -> Run {
    program(gap, hub, more).run().await
}

fn program(gap: &Gap, hub: &EventHubs, more: &[&str]) -> Program {
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let mut arguments = vec![
        "run",
        "--sink",
        &sink,
        "--event-hub-endpoint",
        &endpoint,
        "--sink",
        "ndjson:{dir}/events",
        "--report",
        "{dir}/report",
    ];
    arguments.extend(more);
    deltacompare(gap, &arguments)
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string())
}

/// The lines of the run's file, which are what the hub must have, counted.
fn lines(run: &Run) -> BTreeMap<Vec<u8>, usize> {
    lines_of(&run.file("events"))
}

fn lines_of(file: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut lines = BTreeMap::new();
    let file = std::fs::read(file).unwrap();
    for line in file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        *lines.entry(line.to_vec()).or_default() += 1;
    }
    lines
}

/// Nothing is lost, nothing is made up, and what comes twice comes under the same id.
fn assert_has_all(events: &[StoredEvent], expected: &BTreeMap<Vec<u8>, usize>) {
    let bodies: BTreeSet<&[u8]> = events.iter().map(|event| event.body.as_slice()).collect();
    let lines: BTreeSet<&[u8]> = expected.keys().map(Vec::as_slice).collect();
    assert!(bodies == lines, "{} bodies, {} lines", bodies.len(), lines.len());
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), bodies.len());
}

async fn every_event_arrives_with_its_properties() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let run = run(&gap, &hub, &["--cloud-events"]).await;
    run.assert_completed();
    let events = hub.events();
    let expected = lines(&run);
    assert_eq!(events.len(), 3000 + 120 + 2);
    assert_has_all(&events, &expected);
    let recovery = run.report("report")["recovery_id"].as_str().unwrap().to_owned();
    for event in &events {
        let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        let property = |name: &str| event.properties[name].as_str();
        assert_eq!(event.content_type, "application/json");
        assert_eq!(body["source"]["event_id"], event.id.as_str());
        assert_eq!(property("event_id"), event.id);
        assert_eq!(property("recovery_id"), recovery);
        assert_eq!(body["source"]["schema"], property("schema"));
        assert_eq!(body["source"]["table"], property("table"));
        let op = match body["op"].as_str().unwrap() {
            "c" => "I",
            "u" => "U",
            _ => "D",
        };
        assert_eq!(property("op"), op);
        assert_eq!(property("cloudEvents:id"), event.id);
        assert_eq!(property("cloudEvents:specversion"), "1.0");
    }
    let partitions: BTreeSet<usize> = events.iter().map(|event| event.partition).collect();
    assert_eq!(partitions.len(), 4);
    // Filled, not one by one; a connection to look whether the hub is there, and two to send.
    let (batches, connections, _) = hub.counts();
    assert!(batches < 200 && connections <= 3, "{batches} {connections}");
}

tests! {
    [access, faults, interrupted, official_client, partitions, silent, sizes]
    every_event_arrives_with_its_properties,
}
