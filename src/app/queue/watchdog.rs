//! The timer: closes and sends again what others left. Two at once do no harm, and trouble with one
//! recovery does not keep it from the others.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use uuid::Uuid;

use crate::app::host::invocation;
use crate::app::state::{App, LastRound, in_time};
use crate::error::Result;
use crate::telemetry::metrics;

pub(in crate::app) async fn watch(State(app): State<Arc<App>>) -> Response {
    // A round that meets servers in trouble may take longer than the time to the next one.
    let Ok(mut last) = app.watchdog.try_lock() else { return invocation::answer(Ok(())) };
    invocation::answer(look(&app, &mut last).await)
}

async fn look(app: &App, last: &mut LastRound) -> Result<()> {
    let live = match live(app).await {
        Ok(live) => live,
        // Nothing is configured yet, or the servers are gone when all is done: nobody misses anything.
        Err(error) if !last.live => {
            let trouble = error.to_string();
            if last.trouble.as_ref() != Some(&trouble) {
                tracing::info!(%error, "the Watchdog sees no recoveries for now");
                last.trouble = Some(trouble);
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    *last = LastRound { live: !live.is_empty(), trouble: None };
    let engine = app.engine().await?;
    let mut looked = Ok(());
    for id in live {
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

/// The recoveries that have not ended.
async fn live(app: &App) -> Result<Vec<Uuid>> {
    in_time(app.answering_store().await?.live()).await
}
