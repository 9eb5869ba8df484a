//! Microsoft's own client: it finds what was sent, and where it looks for it.

use std::collections::BTreeMap;

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions, OfficialClient};

use super::{gap, lines, run};
use crate::support::deltacompare;

/// Set to a connection string of Microsoft's own emulator (testbed/event-hubs-emulator), it has the
/// first test run there instead of at the stand-in.
const EMULATOR: &str = "DELTACOMPARE_EVENT_HUBS_EMULATOR";

/// Body, properties, content type, message id, and the service's annotations.
async fn the_official_client_reads_what_was_sent() {
    let gap = gap().await;
    let emulator = std::env::var(EMULATOR).ok();
    let stand_in = EventHubs::start(HubOptions::default()).await.unwrap();
    let (run, client) = match &emulator {
        None => (
            run(&gap, &stand_in, &["--cloud-events"]).await,
            OfficialClient::of(&stand_in.emulator_connection_string(), "orders"),
        ),
        Some(string) => {
            let arguments = [
                "run",
                "--cloud-events",
                "--sink",
                "event-hub:localhost/orders",
                "--sink",
                "ndjson:{dir}/events",
                "--report",
                "{dir}/report",
            ];
            let program = deltacompare(&gap, &arguments)
                .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", string);
            (program.run().await, OfficialClient::of(string, "orders"))
        }
    };
    run.assert_completed();
    let recovery = run.report("report")["recovery_id"].as_str().unwrap().to_owned();
    let mut expected = lines(&run);
    assert_eq!(expected.len(), 3000 + 120 + 2);
    let mut numbers = BTreeMap::<u64, Vec<u64>>::new();
    for event in client.read(expected.len(), &recovery).await.unwrap() {
        let property = |name: &str| event["properties"][name].as_str().unwrap();
        let line = event["body"].as_str().unwrap();
        let body: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(expected.remove(line.as_bytes()).is_some(), "made up, or twice: {line}");
        assert_eq!(event["content_type"], "application/json");
        assert!(event["partition_key"].is_null());
        assert!(event["enqueued"].as_f64().unwrap() > 1.0e9);
        assert!(!event["offset"].as_str().unwrap().is_empty());
        assert_eq!(event["message_id"], body["source"]["event_id"]);
        assert_eq!(event["message_id"], property("event_id"));
        assert_eq!(recovery, property("recovery_id"));
        assert_eq!(body["source"]["schema"], property("schema"));
        assert_eq!(body["source"]["table"], property("table"));
        assert_eq!(body["op"] == "d", property("op") == "D");
        assert_eq!(event["message_id"], property("cloudEvents:id"));
        assert_eq!(property("cloudEvents:specversion"), "1.0");
        assert_eq!(property("cloudEvents:source"), format!("/deltacompare/recoveries/{recovery}"));
        let table = format!("{}.{}", property("schema"), property("table"));
        assert_eq!(property("cloudEvents:subject"), table);
        let partition = event["partition"].as_u64().unwrap();
        numbers.entry(partition).or_default().push(event["sequence_number"].as_u64().unwrap());
    }
    assert!(expected.is_empty(), "{} were not read", expected.len());
    assert!(numbers.len() > 1, "all in one partition");
    assert!(numbers.values().all(|numbers| numbers.is_sorted()));
}

/// A row's recovered event is where the stream's, sent by Microsoft's own client under the row's
/// key, is.
async fn keys_meet_in_their_partition() {
    let gap = gap().await;
    let hub =
        EventHubs::start(HubOptions { partitions: 7, ..HubOptions::default() }).await.unwrap();
    let run = run(&gap, &hub, &["--table", "public.big"]).await;
    run.assert_completed();
    let recovered = hub.events();
    let keys: Vec<String> = (1..=40).map(|id| format!("{{\"id\":{}}}", 2 * id)).collect();
    let arguments: Vec<&str> = keys.iter().map(String::as_str).collect();
    let client = OfficialClient::of(&hub.emulator_connection_string(), "orders");
    client.send(&arguments).await.unwrap();
    let read = client.read(recovered.len() + keys.len(), "").await.unwrap();
    let mut streamed = BTreeMap::new();
    let mut ours = BTreeMap::new();
    for event in read {
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

tests! {
    the_official_client_reads_what_was_sent,
    keys_meet_in_their_partition,
}
