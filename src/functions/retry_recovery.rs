//! `POST /api/recoveries/{id}/retry`: opens what failed again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::app::App;
use super::problem::Problem;
use super::status;

/// 200 with the recovery's status; 409 unless it has failed.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let id = status::recovery_id(&text)?;
    app.queues().await?;
    let store = app.store().await?;
    if store.recovery(id).await?.is_none() {
        return Err(Problem::unknown_recovery(id));
    }
    if !store.retry(id).await? {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("recovery {id} has not failed: only what has failed is tried again"),
        ));
    }
    if let Err(error) = app.send_due(id).await {
        // It is open again; the watchdog sends the message.
        tracing::warn!(recovery = %id, %error, "the message was not sent");
    }
    status::get(State(app), HeaderMap::new(), Path(text)).await
}
