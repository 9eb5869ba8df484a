//! The timer: closes and sends again what others left. Two at once do no harm, and trouble with one
//! recovery does not keep it from the others.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::app::host::invocation;
use crate::app::state::App;
use crate::error::Result;
use crate::telemetry::metrics;

pub(in crate::app) async fn watch(State(app): State<Arc<App>>) -> Response {
    invocation::answer(look(&app).await)
}

async fn look(app: &App) -> Result<()> {
    let engine = app.engine().await?;
    let mut looked = Ok(());
    for id in engine.store().live().await? {
        if let Err(error) = app.send_due(id, None).await {
            tracing::warn!(recovery = %id, %error, "the messages that it needs were not sent");
            looked = Err(error);
        }
    }
    metrics::standing(engine.store().standing().await?);
    for id in engine.store().needs_cleanup().await? {
        if let Err(error) = engine.advance(id, None).await {
            tracing::warn!(recovery = %id, %error, "not everything could be removed yet");
        }
    }
    looked
}
