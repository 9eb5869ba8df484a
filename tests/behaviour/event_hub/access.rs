//! Who is let in, and how connections are made.

use std::time::Duration;

use deltacompare_testbed::IdentityEndpoint;
use deltacompare_testbed::event_hubs::{EventHubs, HubOptions};

use super::{assert_has_all, gap, lines, run};
use crate::support::deltacompare;
use crate::vault::{self, Azure};

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

async fn a_hub_that_is_not_there_is_refused() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions::default()).await.unwrap();
    hub.exists(false);
    let run = run(&gap, &hub, &[]).await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("check that the hub exists"), "{}", run.stderr);
}

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

async fn connections_are_tls_and_the_certificate_counts() {
    let gap = gap().await;
    let hub = EventHubs::start(HubOptions { tls: true, ..HubOptions::default() }).await.unwrap();
    let stranger = run(&gap, &hub, &[]).await;
    assert_eq!(stranger.code, Some(2), "{}", stranger.stderr);
    assert!(stranger.stderr.contains("certificate"), "{}", stranger.stderr);
    let authority = hub.authority().display().to_string();
    let trusted = run(&gap, &hub, &["--event-hub-sslrootcert", &authority]).await;
    trusted.assert_completed();
    assert_has_all(&hub.events(), &lines(&trusted));
    // The certificate is for the address, not for any name.
    let other_name = hub.endpoint().replace("127.0.0.1", "localhost");
    let sink = hub.sink();
    let arguments = [
        "run",
        "--sink",
        &sink,
        "--event-hub-endpoint",
        &other_name,
        "--event-hub-sslrootcert",
        &authority,
    ];
    let run = deltacompare(&gap, &arguments)
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string())
        .run()
        .await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("certificate"), "{}", run.stderr);
}

/// A policy's connection string in the vault, whose key is changed in the middle.
async fn a_policys_key_may_change_while_it_is_used() {
    let azure = Azure::start(None).await;
    let gap = vault::gap(&azure).await;
    let options = HubOptions { tokens_last: Duration::from_millis(500), ..HubOptions::default() };
    let hub = EventHubs::start(options).await.unwrap();
    azure.vault.set("hub", &hub.connection_string());
    let (sink, endpoint) = (hub.sink(), hub.endpoint());
    let arguments = [
        "run",
        "--sink",
        &sink,
        "--event-hub-endpoint",
        &endpoint,
        "--event-hub-connection-string-secret",
        "hub",
        "--max-events-per-second",
        "100",
        "--sink",
        "ndjson:{dir}/events",
    ];
    let (run, ()) = tokio::join!(azure.program(&gap, &arguments).run(), async {
        while hub.stored() < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hub.change_key();
        azure.vault.set("hub", &hub.connection_string());
    });
    run.assert_completed();
    assert_eq!(hub.stored(), 500);
    assert_has_all(&hub.events(), &lines(&run));
    // Two places at once are one too many, and none of it is shown.
    let both = azure
        .program(&gap, &arguments)
        .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", &hub.connection_string())
        .run()
        .await;
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    assert!(both.stderr.contains("keep one"), "{}", both.stderr);
    // What is in the secret is not a connection string.
    azure.vault.set("hub", "Walrus9");
    let wrong = azure.program(&gap, &arguments).run().await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("it has no Endpoint"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("Walrus9"), "{}", wrong.stderr);
}

tests! {
    an_identity_is_enough,
    a_hub_that_is_not_there_is_refused,
    a_wrong_key_is_refused_and_not_shown,
    connections_are_tls_and_the_certificate_counts,
    a_policys_key_may_change_while_it_is_used: own_servers,
}
