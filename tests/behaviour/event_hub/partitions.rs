//! Which partition an event is in.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::event_hubs::{EventHubs, Fault, Faults, HubOptions};

use super::{assert_has_all, gap, lines, lines_of, program, run};
use crate::support::{deltacompare, until};

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

/// Grows from 4 to 8 partitions between a kill and the resumption: what is sent again is where it
/// was, and the report tells. One that was deleted and made anew has lost what it was given.
async fn a_recovery_keeps_the_partitions_that_it_began_with() {
    let gap = gap().await;
    for replaced in [false, true] {
        let options = HubOptions { largest_message: 20_000, ..HubOptions::default() };
        let hub = EventHubs::start(options).await.unwrap();
        let slowly = ["--max-events-per-second", "500", "--range-blocks", "8"];
        let mut first = program(&gap, &hub, &[&slowly[..], &["--lease-seconds", "1"]].concat());
        let folder = first.folder().to_owned();
        let mut killed = first.spawn();
        let id = "select id::text from deltacompare.recovery where state = 'running'
                   order by created_at desc limit 1";
        let counted = "select exists (select from deltacompare.work_item w
            join deltacompare.recovery r on r.id = w.recovery_id
            where r.state = 'running' and (w.state = 'completed' or w.done is not null))";
        until(&gap, counted).await;
        killed.kill().await.unwrap();
        let id: String = gap.head.value(id).await.unwrap();
        let sent: BTreeSet<String> = hub.events().into_iter().map(|event| event.id).collect();
        assert!((1..3122).contains(&sent.len()), "{}", sent.len());

        hub.grow(8);
        if replaced {
            hub.replace();
        }
        let resume = deltacompare(&gap, &["run", "--resume", &id, "--report", "{dir}/report"])
            .env("DELTACOMPARE_EVENT_HUB_ENDPOINT", &hub.endpoint())
            .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string());
        let run = resume.run().await;
        if replaced {
            assert_eq!(run.code, Some(1), "{}", run.stderr);
            for word in ["was deleted and made anew", "begin a new recovery"] {
                assert!(run.stderr.contains(word), "{}", run.stderr);
            }
            assert_eq!(hub.stored(), 0);
            let state: String = gap
                .head
                .value(format!("select state from deltacompare.recovery where id = '{id}'"))
                .await
                .unwrap();
            assert_eq!(state, "failed");
            continue;
        }
        run.assert_completed();
        let warnings = run.report("report")["warnings"].to_string();
        assert!(warnings.contains("grew from 4 to 8 partitions"), "{warnings}");
        let events = hub.events();
        let mut partitions = BTreeMap::<&str, BTreeSet<usize>>::new();
        for event in &events {
            partitions.entry(event.id.as_str()).or_default().insert(event.partition);
        }
        assert_eq!(partitions.len(), 3122);
        assert!(events.len() > partitions.len(), "nothing was repeated");
        assert!(partitions.values().all(|of_event| of_event.len() == 1));
        assert!(events.iter().all(|event| event.partition < 4));
        assert_has_all(&events, &lines_of(&folder.join("events")));
    }
}

tests! {
    by_table_a_table_is_in_one_partition,
    a_hub_may_have_a_thousand_partitions,
    round_robin_is_even_and_a_repeat_is_where_the_first_is,
    a_recovery_keeps_the_partitions_that_it_began_with,
}
