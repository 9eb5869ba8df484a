//! A hub that accepts connections and never answers holds up who sends to it, and nobody else.

use std::time::{Duration, Instant};

use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{Events, Gap, Hosted, assert_events_turn_base_into_head};

/// A way to a hub whose first connection leads nowhere. Tells when that was made.
async fn way_to(hub: &EventHubs) -> (String, mpsc::UnboundedReceiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("amqp://{}", listener.local_addr().unwrap());
    let to = hub.endpoint().strip_prefix("amqp://").unwrap().to_owned();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (_silent, _) = listener.accept().await.unwrap();
        tell.send(Instant::now()).unwrap();
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    (endpoint, told)
}

async fn another_recovery_of_the_process_completes_meanwhile() {
    let gap = Gap::between(
        "create table t (id int primary key, v text);
         insert into t select i, 'v' from generate_series(1, 100) i;
         create publication shop for all tables",
        "update t set v = 'w' where id < 10",
    )
    .await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    let (endpoint, mut silent_since) = way_to(&hub).await;
    let string = hub.connection_string();
    let settings = [
        ("DELTACOMPARE_EVENT_HUB_ENDPOINT", endpoint.as_str()),
        ("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", string.as_str()),
    ];
    let app = Hosted::start(&gap, 1, &settings).await;
    let begin = async |sinks: Value| {
        app.begin(&json!({"sinks": sinks, "format": "landing", "allow_concurrent": true})).await
    };
    // Another hub of the namespace.
    let silent = begin(json!([hub.sink().replace("orders", "silent")])).await;
    let since = silent_since.recv().await.unwrap();
    let id = begin(json!([hub.sink(), "delta-table"])).await;
    app.completed(&id).await;
    // A connection is waited for so long, and then made anew.
    let waited = since.elapsed();
    assert!(waited < Duration::from_secs(30), "completed after {waited:?}");
    assert_eq!(app.status(&silent).await["state"], "planning");
    let events = Events::delta_of(&gap.head, &id).await;
    assert_events_turn_base_into_head(&gap, &["t"], &events).await;
    assert_eq!(hub.stored(), events.0.len() as u64);
    let cancelled = app.post(&format!("/api/recoveries/{silent}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status(), 200);
}

tests! {
    another_recovery_of_the_process_completes_meanwhile,
}
