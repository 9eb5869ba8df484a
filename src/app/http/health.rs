//! `GET /api/health`: whether the app can do its work. Anonymous, so it names no host.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::state::{ANSWERS_WITHIN, App};

/// The health of the app, seen from this instance.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::app) struct Health {
    /// `ok`, or `unavailable` if something that it needs is missing.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// The control database: `ok`, `not configured`, `unreachable`, or `incomplete` if status tables
    /// are missing and cannot be made again.
    control_database: &'static str,
}

/// Whether the app can do its work. What exactly is wrong stands in the log.
#[utoipa::path(
    get,
    path = "/api/health",
    operation_id = "Health",
    security(()),
    responses(
        (status = 200, description = "It can.", body = Health),
        (status = 503, description = "Something that it needs is missing.", body = Health),
    )
)]
pub(in crate::app) async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    let control_database = match app.servers().await {
        Err(error) => {
            tracing::warn!(%error, "not configured");
            "not configured"
        }
        Ok(servers) => {
            let answer = servers.head.connect("deltacompare health");
            match tokio::time::timeout(ANSWERS_WITHIN, answer).await {
                Ok(Ok(_)) => tables(&app).await,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "unreachable");
                    "unreachable"
                }
                Err(_) => "unreachable",
            }
        }
    };
    let healthy = control_database == "ok";
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = if healthy { "ok" } else { "unavailable" };
    let version = env!("CARGO_PKG_VERSION");
    (code, Json(Health { status, version, control_database }))
}

/// Whether the status tables are there. A connection alone would be well even if they are gone.
async fn tables(app: &App) -> &'static str {
    match tokio::time::timeout(ANSWERS_WITHIN, app.store()).await {
        Ok(Ok(_)) => "ok",
        Ok(Err(error)) => {
            tracing::warn!(%error, "incomplete");
            "incomplete"
        }
        Err(_) => "unreachable",
    }
}
