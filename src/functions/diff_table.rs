//! Queue `recovery-work`: works on one item, or on a batch of small ones.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use tracing::Instrument;

use super::app::App;
use super::invocation;
use super::queue::Message;
use crate::error::{Error, Result};
use crate::recovery::Worked;

pub(super) async fn diff(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    match invocation::message(&body) {
        Ok(message) => {
            let span = invocation::span("DiffTable", &headers, message.trace.as_deref());
            invocation::answer(work(&app, message).instrument(span).await)
        }
        Err(error) => invocation::answer(Err(error)),
    }
}

async fn work(app: &App, message: Message) -> Result<()> {
    let batch =
        message.item.ok_or_else(|| Error::refused("a message of this queue must name an item"))?;
    let worked = app.engine().await?.work(message.recovery, Some(batch), app.stop.clone()).await?;
    if let Worked::Open { after, .. } = worked {
        app.queues().await?.send(&message, after).await?;
    }
    app.send_due(message.recovery, message.trace).await
}
