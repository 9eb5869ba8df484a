//! Work that ends before the hub has taken everything: by the clock of a queue message, or killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions};
use serde_json::json;

use super::gap;
use crate::support::{Events, Gap, Hosted, assert_events_turn_base_into_head, deltacompare};

/// The hub has every event of the recovery, as the delta table has them, and they are the gap.
async fn assert_whole(gap: &Gap, hub: &EventHubs, id: &str) {
    let events = Events::delta_of(&gap.head, id).await;
    let recovered: BTreeSet<&str> = events.by_id().into_keys().collect();
    assert_eq!(recovered.len(), 3000 + 120 + 2);
    let stored = hub.events();
    let stored: BTreeSet<&str> = stored.iter().map(|event| event.id.as_str()).collect();
    assert!(stored == recovered, "{} stored, {} recovered", stored.len(), recovered.len());
    assert_events_turn_base_into_head(gap, &["big", "log"], &events).await;
}

/// Throttled without end, a message ends in its time, before the host kills the app; the table waits
/// and does not fail, and once the hub takes events again it has them all.
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
    assert_whole(&gap, &hub, &id).await;
}

/// Killed while it sends: what counts is in the hub, and who goes on sends the rest.
async fn what_counts_after_a_kill_is_in_the_hub() {
    let gap = gap().await;
    let options = HubOptions { largest_message: 20_000, ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    let sink = hub.sink();
    let program = |arguments: &[&str]| {
        deltacompare(&gap, &[arguments, &["--lease-seconds", "1"]].concat())
            .env("DELTACOMPARE_EVENT_HUB_ENDPOINT", &hub.endpoint())
            .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string())
    };
    let slowly = ["--max-events-per-second", "500", "--range-blocks", "8"];
    let arguments =
        [&["run", "--format", "landing", "--sink", &sink, "--sink", "delta-table"], &slowly[..]];
    let mut first = program(&arguments.concat());
    let mut killed = first.spawn();
    // Of items that have ended, and up to the checkpoints of the others.
    let counted =
        "select coalesce(sum(case when state = 'completed' then inserts + updates + deletes
                       else (done->>'inserts')::int8 + (done->>'updates')::int8
                            + (done->>'deletes')::int8 end), 0)::int8
                     from deltacompare.work_item";
    let since = Instant::now();
    while gap.head.value::<i64>(counted).await.unwrap_or(0) == 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing was counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().await.unwrap();
    let counted: i64 = gap.head.value(counted).await.unwrap();
    let there: BTreeSet<String> = hub.events().into_iter().map(|event| event.id).collect();
    assert!(counted as usize <= there.len(), "{counted} counted, {} stored", there.len());
    assert!(there.len() < 3122, "it was over before it was killed");

    let id: String = gap.head.value("select id::text from deltacompare.recovery").await.unwrap();
    let run = program(&["run", "--resume", &id, "--report", "{dir}/report"]).run().await;
    run.assert_completed();
    assert_whole(&gap, &hub, &id).await;
    assert_eq!(run.counts("report", "public.big"), (0, 3000, 120));
    assert_eq!(run.counts("report", "public.log"), (2, 0, 0));
}

tests! {
    a_throttled_hub_does_not_outlast_a_message,
    what_counts_after_a_kill_is_in_the_hub,
}
