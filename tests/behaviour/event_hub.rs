//! Events in an event hub: all of them, once or more, where they belong.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::IdentityEndpoint;
use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions, StoredEvent};

use crate::support::{Gap, Run, deltacompare};

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

/// A run into the hub, with its connection string and the events in the delta table as well.
async fn run(gap: &Gap, hub: &EventHubs, more: &[&str]) -> Run {
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
        .run()
        .await
}

/// The lines of the run's file, which are what the hub must have, counted.
fn lines(run: &Run) -> BTreeMap<Vec<u8>, usize> {
    let mut lines = BTreeMap::new();
    let file = std::fs::read(run.file("events")).unwrap();
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

#[tokio::test]
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

/// Every kind of trouble, each often enough that every run meets it.
async fn assert_survives(faults: Faults) {
    let gap = gap().await;
    let options = HubOptions { largest_message: 20_000, ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    hub.inject(faults);
    let run = run(&gap, &hub, &[]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let (batches, ..) = hub.counts();
    assert!(batches > 60, "{batches}: too few to meet the fault");
}

#[tokio::test]
async fn rejections_that_are_not_acceptance_do_not_count() {
    let faults = Faults::default().every(7, Fault::Modified).every(5, Fault::Released);
    assert_survives(faults).await;
}

#[tokio::test]
async fn a_busy_service_is_waited_for() {
    assert_survives(Faults::default().every(50, Fault::ServerBusy)).await;
}

#[tokio::test]
async fn links_are_attached_again() {
    let faults = Faults::default().every(11, Fault::Detach).every(13, Fault::Unauthorized);
    assert_survives(faults).await;
}

#[tokio::test]
async fn connections_are_made_again() {
    let faults = Faults::default()
        .every(17, Fault::Cut)
        .every(23, Fault::CutAfterStoring)
        .every(29, Fault::ConnectionForced);
    assert_survives(faults).await;
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end() {
    let gap = gap().await;
    let options = HubOptions {
        largest_message: 20_000,
        tokens_last: std::time::Duration::from_millis(500),
        ..HubOptions::default()
    };
    let hub = EventHubs::start(options).await.unwrap();
    let run = run(&gap, &hub, &["--max-events-per-second", "1000"]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let (.., tokens) = hub.counts();
    assert!(tokens > 3, "{tokens}");
}

#[tokio::test]
async fn an_identity_is_enough() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let identity = IdentityEndpoint::start(None).await.unwrap();
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let arguments = [
        "run",
        "--sink",
        &sink,
        "--event-hub-endpoint",
        &endpoint,
        "--sink",
        "ndjson:{dir}/events",
    ];
    let program = || {
        let mut program = deltacompare(&gap, &arguments);
        for (name, value) in identity.environment() {
            program = program.env(name, &value);
        }
        program
    };
    let refused = program().run().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("Azure Event Hubs Data Sender"), "{}", refused.stderr);

    hub.trust(identity.tokens());
    let run = program().run().await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    assert_eq!(identity.tokens().resources(), ["https://eventhubs.azure.net"]);
}

#[tokio::test]
async fn an_event_that_is_too_large_goes_by_claim_check() {
    let gap = Gap::between(
        "create table wide (id int primary key, v text); create publication shop for all tables",
        "insert into wide select i, repeat('x', 5000 * i) from generate_series(1, 20) i",
    )
    .await;
    let options = HubOptions { largest_message: 64 << 10, ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    let run = run(&gap, &hub, &[]).await;
    run.assert_completed();
    let events = hub.events();
    assert_eq!(events.len(), 20);
    let expected = lines(&run);
    let claims: Vec<&StoredEvent> =
        events.iter().filter(|event| event.properties.contains_key("claim_check")).collect();
    assert!((5..15).contains(&claims.len()), "{}", claims.len());
    for claim in claims {
        let body: serde_json::Value = serde_json::from_slice(&claim.body).unwrap();
        assert_eq!(body["event_id"], claim.id.as_str());
        let query = format!(
            "select event::text from deltacompare.delta where event_id = '{}' \
               and recovery_id = '{}'",
            body["event_id"].as_str().unwrap(),
            body["recovery_id"].as_str().unwrap()
        );
        let rows: Vec<(String,)> = gap.head.rows(&query).await.unwrap();
        assert!(expected.contains_key(rows[0].0.as_bytes()));
        assert_eq!(body["bytes"].as_u64().unwrap() as usize, rows[0].0.len());
    }
    for event in events.iter().filter(|event| !event.properties.contains_key("claim_check")) {
        assert!(expected.contains_key(&event.body));
    }
}

#[tokio::test]
async fn a_message_that_the_service_finds_too_large_is_cut() {
    assert_survives(Faults::default().every(31, Fault::TooLarge)).await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_refused() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    hub.exists(false);
    let run = run(&gap, &hub, &[]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("check that the hub exists"), "{}", run.stderr);
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_not_shown() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let other = EventHubs::start(HubOptions::default()).await.unwrap();
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let run = deltacompare(&gap, &["run", "--sink", &sink, "--event-hub-endpoint", &endpoint])
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &other.connection_string())
        .env("DELTACOMPARE_LOG", "trace")
        .run()
        .await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("invalid signature"), "{}", run.stderr);
    let string = other.connection_string();
    let (_, key) = string.split_once("SharedAccessKey=").unwrap();
    assert!(!run.stderr.contains(key) && !run.stdout.contains(key));
    assert!(!run.stderr.contains("sig="), "a signature is in the log");
}

/// Read back by Microsoft's own client.
#[tokio::test]
async fn the_official_client_reads_what_was_sent() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let run = run(&gap, &hub, &[]).await;
    run.assert_completed();
    let stored = hub.events();
    let count = stored.len().to_string();
    let read = hub.official_client("read", &[&count]).await.unwrap();
    let mut seen = BTreeMap::new();
    for line in read.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = event["sequence_number"].as_u64().unwrap();
        assert_eq!(event["offset"], number.to_string());
        assert_eq!(event["content_type"], "application/json");
        assert!(event["partition_key"].is_null());
        assert!(event["enqueued"].as_f64().unwrap() > 1.0e9);
        seen.insert((event["partition"].as_u64().unwrap() as usize, number), event);
    }
    assert_eq!(seen.len(), stored.len());
    // In the same order, and all of it.
    for (event, expected) in seen.values().zip(&stored) {
        assert_eq!(event["partition"], expected.partition);
        assert_eq!(event["message_id"], expected.id.as_str());
        assert_eq!(event["body"].as_str().unwrap().as_bytes(), expected.body);
        assert_eq!(event["properties"]["event_id"], expected.id.as_str());
        assert_eq!(event["properties"]["table"], expected.properties["table"].as_str());
        assert_eq!(event["properties"]["op"], expected.properties["op"].as_str());
    }
}

/// A row's recovered event is where the stream's, sent by Microsoft's own client under the row's
/// key, is.
#[tokio::test]
async fn keys_meet_in_their_partition() {
    let gap = gap().await;
    let hub =
        EventHubs::start(HubOptions { partitions: 7, ..HubOptions::default() }).await.unwrap();
    let run = run(&gap, &hub, &["--table", "public.big"]).await;
    run.assert_completed();
    let recovered = hub.events();
    let keys: Vec<String> = (1..=40).map(|id| format!("{{\"id\":{}}}", 2 * id)).collect();
    let arguments: Vec<&str> = keys.iter().map(String::as_str).collect();
    hub.official_client("send", &arguments).await.unwrap();
    let read =
        hub.official_client("read", &[&(recovered.len() + keys.len()).to_string()]).await.unwrap();
    let mut streamed = BTreeMap::new();
    let mut ours = BTreeMap::new();
    for line in read.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let partition = event["partition"].as_u64().unwrap();
        match event["partition_key"].as_str() {
            Some(key) => streamed.insert(key.to_owned(), partition),
            None => {
                let body: serde_json::Value =
                    serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
                let row = if body["after"].is_null() { &body["before"] } else { &body["after"] };
                ours.insert(format!("{{\"id\":{}}}", row["id"]), partition)
            }
        };
    }
    assert_eq!(streamed.len(), keys.len());
    for (key, partition) in streamed {
        assert_eq!(ours[&key], partition, "{key}");
    }
}
