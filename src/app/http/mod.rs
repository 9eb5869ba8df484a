//! What an operator, the command line and the dashboard ask over HTTP: one file a resource.

mod asked_plan;
mod cancel_recovery;
mod dashboard;
mod field;
mod health;
mod openapi;
mod plan;
pub(super) mod problem;
mod received;
mod recoveries;
mod request;
mod retry_recovery;
mod start_recovery;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::App;

pub(super) use received::{as_routed, receive_whole};

/// The addresses below `/api`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/health", get(health::health))
        .route("/api/dashboard", get(dashboard::show))
        .route("/api/dashboard/{id}", get(dashboard::show_recovery))
        .route("/api/recoveries", get(recoveries::list).post(start_recovery::start))
        .route("/api/recoveries/{id}", get(recoveries::get))
        .route("/api/recoveries/{id}/tables", get(recoveries::tables))
        .route("/api/recoveries/{id}/cancel", post(cancel_recovery::cancel))
        .route("/api/recoveries/{id}/retry", post(retry_recovery::retry))
        .route("/api/plan", post(plan::show))
        .route("/api/plan/{id}", get(asked_plan::get))
        .route("/api/openapi.json", get(openapi::describe))
}
