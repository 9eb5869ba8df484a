//! What the service does to a batch: nothing is lost, and nothing made up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deltacompare_testbed::Collector;
use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions};

use super::{assert_has_all, gap, lines, program, run};
use crate::support::Gap;

/// Every kind of trouble, each often enough that every run meets it.
async fn assert_survives(faults: Faults) {
    assert_survives_on(&gap().await, faults).await;
}

async fn assert_survives_on(gap: &Gap, faults: Faults) {
    let options = HubOptions { largest_message: 20_000, ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    hub.inject(faults);
    let run = run(gap, &hub, &[]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let (batches, ..) = hub.counts();
    assert!(batches > 60, "{batches}: too few to meet the fault");
}

async fn rejections_that_are_not_acceptance_do_not_count() {
    let faults = Faults::default().every(7, Fault::Modified).every(5, Fault::Released);
    assert_survives(faults).await;
}

async fn a_busy_service_is_waited_for() {
    assert_survives(Faults::default().every(50, Fault::ServerBusy)).await;
}

/// The metrics have the service's own count of what it stored, and how often it was asked again.
async fn what_the_service_did_is_measured() {
    let gap = gap().await;
    let collector = Collector::start("key").await.unwrap();
    let options = HubOptions { largest_message: 20_000, ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    hub.inject(Faults::default().every(50, Fault::ServerBusy).every(23, Fault::CutAfterStoring));
    let run = program(&gap, &hub, &[])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=key")
        .run()
        .await;
    run.assert_completed();
    let lines = lines(&run);
    assert_has_all(&hub.events(), &lines);
    let points = collector.points();
    let sum = |metric: &str, attribute: Option<(&str, &str)>| -> u64 {
        let points = points.iter().filter(|point| {
            point.metric == metric
                && attribute.is_none_or(|(name, value)| point.attributes[name] == value)
        });
        points.map(|point| point.value as u64).sum()
    };
    let found: usize = lines.values().sum();
    let into_hub = Some(("sink", "event-hub"));
    assert_eq!(sum("deltacompare.events.acknowledged", into_hub), found as u64);
    assert_eq!(sum("deltacompare.events.acknowledged", Some(("sink", "ndjson"))), found as u64);
    assert_eq!(sum("deltacompare.changes", None), found as u64);
    // What was stored twice, or more often, was sent so often; more was, since whole connections
    // were cut.
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for event in hub.events() {
        *times.entry(event.id).or_default() += 1;
    }
    let stored_again = times.values().filter(|&&times| times > 1).count() as u64;
    let repeated = sum("deltacompare.events.repeated", into_hub);
    assert!(repeated >= stored_again, "{repeated} of {stored_again}");
    assert!(stored_again > 0);
    let throttles = sum("deltacompare.throttles", None);
    assert!(throttles > 0);
    assert!(sum("deltacompare.retries", Some(("of", "send"))) > throttles);
}

async fn links_are_attached_again() {
    let faults = Faults::default().every(11, Fault::Detach).every(13, Fault::Unauthorized);
    assert_survives(faults).await;
}

async fn connections_are_made_again() {
    let faults = Faults::default()
        .every(17, Fault::Cut)
        .every(23, Fault::CutAfterStoring)
        .every(29, Fault::ConnectionForced);
    assert_survives(faults).await;
}

async fn hub_with_short_tokens() -> EventHubs {
    let options = HubOptions {
        largest_message: 20_000,
        tokens_last: Duration::from_millis(500),
        ..HubOptions::default()
    };
    EventHubs::start(options).await.unwrap()
}

async fn tokens_are_renewed_before_they_end() {
    let gap = gap().await;
    let hub = hub_with_short_tokens().await;
    let run = run(&gap, &hub, &["--max-events-per-second", "1000"]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let (.., tokens) = hub.counts();
    assert!(tokens > 3, "{tokens}");
}

/// At the first token of a connection as well as at a later one.
async fn a_connection_may_break_while_a_token_is_shown() {
    let gap = gap().await;
    let hub = hub_with_short_tokens().await;
    hub.inject(Faults::default().cut_at_token(3));
    let run = run(&gap, &hub, &["--max-events-per-second", "1000"]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let (_, connections, tokens) = hub.counts();
    // A third of all that were shown are not among those that were taken.
    assert!(tokens > 3, "{tokens}");
    assert!(connections > 3, "{connections}: none was cut");
}

async fn a_message_that_the_service_finds_too_large_is_cut() {
    assert_survives(Faults::default().every(31, Fault::TooLarge)).await;
}

/// Waits until the hub has some events, and more are on their way.
async fn has_some(hub: &EventHubs) {
    while hub.stored() < 300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// So many that the run goes on while something happens to the hub.
const SLOWLY: [&str; 2] = ["--max-events-per-second", "800"];

async fn a_hub_that_vanishes_for_a_while_costs_time_only() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let (run, (before, after)) = tokio::join!(run(&gap, &hub, &SLOWLY), async {
        has_some(&hub).await;
        hub.exists(false);
        // What is in the middle of being stored.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = hub.stored();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = hub.stored();
        hub.exists(true);
        (before, after)
    });
    run.assert_completed();
    assert_eq!(before, after, "a hub that was gone took events");
    assert!(before < 3122, "{before}: it was over before the hub was gone");
    assert_has_all(&hub.events(), &lines(&run));
}

/// Whoever waits is told in time, and what is not accepted does not count.
async fn a_hub_that_stays_away_stops_the_run_in_time() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let impatient = [&SLOWLY[..], &["--event-hub-patience-seconds", "4"]].concat();
    let (run, since) = tokio::join!(run(&gap, &hub, &impatient), async {
        has_some(&hub).await;
        hub.exists(false);
        Instant::now()
    });
    assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let error = &run.stderr;
    assert!(error.contains("has accepted nothing for"), "{error}");
    assert!(error.contains("check that the hub exists and is enabled"), "{error}");
    assert!(error.contains("go on with --resume"), "{error}");
}

async fn a_partition_that_stalls_holds_back_no_other() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    hub.stall(Some(1));
    let (run, stored) = tokio::join!(run(&gap, &hub, &[]), async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut stored = [0; 4];
        for event in hub.events() {
            stored[event.partition] += 1;
        }
        hub.stall(None);
        stored
    });
    run.assert_completed();
    let [first, stalled, third, fourth] = stored;
    assert_eq!(stalled, 0);
    assert!(first.min(third).min(fourth) > 0, "{stored:?}");
    assert_has_all(&hub.events(), &lines(&run));
}

async fn a_partition_that_stalls_for_good_stops_the_run_in_time() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    hub.stall(Some(1));
    let since = Instant::now();
    let failed = run(&gap, &hub, &["--event-hub-patience-seconds", "1"]).await;
    assert!(since.elapsed() < Duration::from_secs(90), "{:?}", since.elapsed());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let error = &failed.stderr;
    assert!(error.contains("partition 1 has accepted nothing for"), "{error}");
    assert!(error.contains("go on with --resume"), "{error}");
    // The next recovery finds a hub that answers.
    hub.stall(None);
    let next = run(&gap, &hub, &[]).await;
    next.assert_completed();
    let id = next.report("report")["recovery_id"].as_str().unwrap().to_owned();
    let mut events = hub.events();
    events.retain(|event| event.properties["recovery_id"] == id);
    assert_has_all(&events, &lines(&next));
}

/// Each fault in turn, out of a hat: the same hat for the same seed.
async fn whatever_happens_nothing_is_lost() {
    let gap = gap().await;
    for seed in [1, 2, 3] {
        assert_survives_on(&gap, Faults::random(seed, 9)).await;
    }
}

tests! {
    rejections_that_are_not_acceptance_do_not_count,
    a_busy_service_is_waited_for,
    what_the_service_did_is_measured,
    links_are_attached_again,
    connections_are_made_again,
    tokens_are_renewed_before_they_end,
    a_connection_may_break_while_a_token_is_shown,
    a_message_that_the_service_finds_too_large_is_cut,
    a_hub_that_vanishes_for_a_while_costs_time_only,
    a_hub_that_stays_away_stops_the_run_in_time,
    a_partition_that_stalls_holds_back_no_other,
    a_partition_that_stalls_for_good_stops_the_run_in_time,
    whatever_happens_nothing_is_lost,
}
