//! `POST /api/recoveries/{id}/cancel`: ends a live recovery within seconds.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::app::App;
use super::problem::Problem;
use super::status;

/// 200 with the recovery's status; 409 if it has ended otherwise. Its items stop, since their
/// sessions end; its objects on the servers are dropped. A repetition changes nothing.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let id = status::recovery_id(&text)?;
    let steps = app.steps().await?;
    steps.store.cancel(id).await?;
    let recovery = steps.store.recovery(id).await?.ok_or_else(|| Problem::unknown_recovery(id))?;
    if !recovery.is_cancelled() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("recovery {id} has ended: there is nothing to cancel"),
        ));
    }
    if let Err(error) = steps.tidy(id).await {
        // It is cancelled; the watchdog tidies up.
        tracing::warn!(recovery = %id, %error, "not everything could be removed yet");
    }
    status::get(State(app), HeaderMap::new(), Path(text)).await
}
