//! The timer: closes and sends again what others left. Two at once do no harm.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::app::App;
use super::invocation;
use crate::error::Result;
use crate::telemetry::metrics;

pub(super) async fn watch(State(app): State<Arc<App>>) -> Response {
    invocation::answer(look(&app).await)
}

async fn look(app: &App) -> Result<()> {
    let steps = app.steps().await?;
    for id in steps.store.live().await? {
        app.send_due(id, None).await?;
    }
    metrics::standing(steps.store.standing().await?);
    for id in steps.store.untidy().await? {
        if let Err(error) = steps.advance(id).await {
            tracing::warn!(recovery = %id, %error, "not everything could be removed yet");
        }
    }
    Ok(())
}
