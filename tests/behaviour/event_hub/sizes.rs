//! Events that are too large, and how many go in a second.

use std::time::{Duration, Instant};

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions, StoredEvent};

use super::{assert_has_all, gap, lines, run};
use crate::support::Gap;

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

/// How long the hub was filling, and what it had at the end. Ends with the run.
async fn filling(hub: &EventHubs, done: &tokio::sync::Notify) -> Duration {
    let mut first = None;
    let mut last = Instant::now();
    let mut stored = 0;
    loop {
        if hub.stored() > stored {
            stored = hub.stored();
            last = Instant::now();
            first.get_or_insert(last);
        }
        tokio::select! {
            () = done.notified() => return last - first.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

async fn caps_leave_the_live_stream_its_share() {
    let gap = gap().await;
    // 3,122 events, of some 700 bytes: a second's worth may go at once, the rest takes its time.
    for (cap, least) in [
        (["--max-events-per-second", "1000"], Duration::from_millis(2000)),
        (["--max-bytes-per-second", "500000"], Duration::from_millis(2500)),
    ] {
        let hub = EventHubs::start(HubOptions::default()).await.unwrap();
        let done = tokio::sync::Notify::new();
        let (run, took) = tokio::join!(
            async {
                let run = run(&gap, &hub, &cap).await;
                done.notify_one();
                run
            },
            filling(&hub, &done)
        );
        run.assert_completed();
        assert_has_all(&hub.events(), &lines(&run));
        assert!(took >= least, "{cap:?}: {took:?}");
    }
}

tests! {
    an_event_that_is_too_large_goes_by_claim_check,
    caps_leave_the_live_stream_its_share,
}
