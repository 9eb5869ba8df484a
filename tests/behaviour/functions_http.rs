//! The app, as the Functions host and its callers see it.

mod service;

use std::time::{Duration, Instant};

use service::Service;

#[tokio::test]
async fn it_answers_at_once_before_anything_is_configured() {
    let since = Instant::now();
    let service = Service::start(&[]).await;
    assert_eq!(service.get("/").await.status(), 200);
    // A busy machine starts programs slowly; the host gives it 30 s.
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let health = service.get("/api/health").await;
    assert_eq!(health.status(), 503);
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["control_database"], "not configured");
    // The host takes 0 for intended and would never start it again.
    assert_eq!(service.stop().await, Some(130));
}
