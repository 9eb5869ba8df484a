//! Queue `recovery-work`: works on one item.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use super::app::App;
use super::invocation;
use crate::error::{Error, Result};

pub(super) async fn diff(State(app): State<Arc<App>>, body: Bytes) -> Response {
    invocation::answer(work(&app, &body).await)
}

async fn work(app: &App, body: &Bytes) -> Result<()> {
    let message = invocation::message(body)?;
    let number =
        message.item.ok_or_else(|| Error::refused("a message of this queue must name an item"))?;
    let again = app.steps().await?.work_on(message.recovery, number, app.stop.clone()).await?;
    if let Some(delay) = again {
        app.queues().await?.send(&message, delay).await?;
    }
    app.send_due(message.recovery).await
}
