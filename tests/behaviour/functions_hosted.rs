//! The packaged app under the Functions host, with several handlers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deltacompare_testbed::Azurite;
use deltacompare_testbed::functions_host::{FunctionsHost, HostOptions, Level};
use tempfile::TempDir;

use crate::support::package;

/// Another handler than this one is there.
async fn started_again(host: &FunctionsHost, instance: usize, was: u32) -> u32 {
    let since = Instant::now();
    loop {
        match host.handler_pid(instance) {
            Some(pid) if pid != was => return pid,
            _ => assert!(since.elapsed() < Duration::from_secs(60), "{:#?}", host.log()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn the_package_starts_and_is_started_again() {
    let app = TempDir::new().unwrap();
    package(app.path());
    let azurite = Azurite::shared().unwrap();
    let settings =
        BTreeMap::from([("DELTACOMPARE_QUEUES".to_owned(), azurite.connection_string())]);
    let options = HostOptions { settings, instances: 2, ..HostOptions::default() };
    let host = FunctionsHost::start(app.path(), options).await.unwrap();
    host.ready().await.unwrap();
    let health = async || {
        let answer = reqwest::get(format!("{}/api/health", host.url())).await.unwrap();
        // Up, and without servers to compare.
        assert_eq!(answer.status(), 503);
        let health: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(health["control_database"], "not configured");
    };
    health().await;
    // Every other function wants a key.
    let closed = reqwest::get(format!("{}/api/recoveries", host.url())).await.unwrap();
    assert_eq!(closed.status(), 401);

    // Killed, and told to end: neither is taken for intended.
    let mut pid = host.handler_pid(1).unwrap();
    for signal in ["-KILL", "-TERM"] {
        let kill = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(kill.unwrap().success());
        pid = started_again(&host, 1, pid).await;
        health().await;
    }
    // Nothing that it wrote looks like an alert.
    let alerts: Vec<String> = host
        .log()
        .into_iter()
        .filter(|line| line.by_handler && line.level == Level::Error)
        .map(|line| line.text)
        .collect();
    assert_eq!(alerts, Vec::<String>::new());
}

tests! {
    the_package_starts_and_is_started_again: own_servers,
}
