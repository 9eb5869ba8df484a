//! A hub that is slower than a queue message may take.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions};
use serde_json::json;

use super::gap;
use crate::support::{Events, Hosted, assert_events_turn_base_into_head};

/// Throttled without end, a message ends in its time, before the host kills the app; the table waits
/// and does not fail, and once the hub takes events again it has them all.
#[tokio::test]
async fn a_throttled_hub_does_not_outlast_a_message() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let (endpoint, string) = (hub.endpoint(), hub.connection_string());
    let settings = [
        ("DELTACOMPARE_EVENT_HUB_ENDPOINT", endpoint.as_str()),
        ("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", string.as_str()),
    ];
    let app = Hosted::within("00:00:15", &gap, 1, &settings).await;
    hub.inject(Faults::default().every(1, Fault::ServerBusy));
    let body = json!({"sinks": [hub.sink(), "delta-table"], "format": "landing"});
    let id = app.begin(&body).await;
    let since = Instant::now();
    while !app.said().contains("was over while events waited for a sink") {
        assert_eq!(hub.stored(), 0);
        assert!(since.elapsed() < Duration::from_secs(60), "{}", app.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!app.said().contains("longer than functionTimeout"), "{}", app.said());
    let waiting = app.status(&id).await;
    assert_eq!(waiting["state"], "running", "{waiting:#}");
    assert_eq!(waiting["items"]["failed"], 0, "{waiting:#}");
    assert_eq!(waiting["items"]["completed"], 0, "{waiting:#}");

    hub.inject(Faults::default());
    app.completed(&id).await;
    let Events(events) = Events::delta_of(&gap.head, &id).await;
    let recovered: BTreeSet<String> = events.iter().map(|event| event.event_id.clone()).collect();
    let stored: BTreeSet<String> = hub.events().into_iter().map(|event| event.id).collect();
    assert_eq!(recovered.len(), 3000 + 120 + 2);
    assert!(stored == recovered, "{} stored, {} recovered", stored.len(), recovered.len());
    assert_events_turn_base_into_head(&gap, &["big", "log"], &Events(events)).await;
}
