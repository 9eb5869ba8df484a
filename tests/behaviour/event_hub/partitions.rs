//! Which partition an event is in.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions};

use super::{assert_has_all, gap, lines, run};

async fn by_table_a_table_is_in_one_partition() {
    let gap = gap().await;
    let hub =
        EventHubs::start(HubOptions { partitions: 9, ..HubOptions::default() }).await.unwrap();
    let run = run(&gap, &hub, &["--partition-by", "table"]).await;
    run.assert_completed();
    assert_has_all(&hub.events(), &lines(&run));
    let mut partitions = BTreeMap::<String, BTreeSet<usize>>::new();
    for event in hub.events() {
        partitions.entry(event.properties["table"].clone()).or_default().insert(event.partition);
    }
    assert_eq!(partitions.len(), 2);
    assert!(partitions.values().all(|of_table| of_table.len() == 1), "{partitions:?}");
}

/// The largest hub that the service has.
async fn a_hub_may_have_a_thousand_partitions() {
    let gap = gap().await;
    let hub =
        EventHubs::start(HubOptions { partitions: 1024, ..HubOptions::default() }).await.unwrap();
    let run = run(&gap, &hub, &["--partition-by", "round-robin"]).await;
    run.assert_completed();
    let events = hub.events();
    assert_has_all(&events, &lines(&run));
    let partitions: BTreeSet<usize> = events.iter().map(|event| event.partition).collect();
    assert!(partitions.len() > 900, "{}", partitions.len());
    let (_, connections, _) = hub.counts();
    assert!(connections <= 3, "{connections}: some were given up");
}

async fn round_robin_is_even_and_a_repeat_is_where_the_first_is() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions { largest_message: 20_000, ..HubOptions::default() })
        .await
        .unwrap();
    hub.inject(Faults::default().every(7, Fault::CutAfterStoring));
    let run = run(&gap, &hub, &["--partition-by", "round-robin"]).await;
    run.assert_completed();
    let events = hub.events();
    assert_has_all(&events, &lines(&run));
    let mut partitions = BTreeMap::<String, BTreeSet<usize>>::new();
    for event in &events {
        partitions.entry(event.id.clone()).or_default().insert(event.partition);
    }
    assert!(events.len() > partitions.len(), "nothing was repeated");
    assert!(partitions.values().all(|of_event| of_event.len() == 1));
    let mut counts = [0; 4];
    for of_event in partitions.values() {
        counts[*of_event.first().unwrap()] += 1;
    }
    // A quarter of 3,122 each, with the luck of the dice.
    assert!(counts.iter().all(|count| (680..880).contains(count)), "{counts:?}");
}

tests! {
    by_table_a_table_is_in_one_partition,
    a_hub_may_have_a_thousand_partitions,
    round_robin_is_even_and_a_repeat_is_where_the_first_is,
}
