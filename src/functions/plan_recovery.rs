//! Queue `recovery-plan`: takes a recovery's next step, which is planning or closing it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use tracing::Instrument;

use super::app::App;
use super::invocation;
use super::queue::Message;
use crate::error::Result;

pub(super) async fn plan(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    match invocation::message(&body) {
        Ok(message) => {
            let span = invocation::span("PlanRecovery", &headers, message.trace.as_deref());
            invocation::answer(advance(&app, message).instrument(span).await)
        }
        Err(error) => invocation::answer(Err(error)),
    }
}

async fn advance(app: &App, message: Message) -> Result<()> {
    app.engine().await?.advance(message.recovery, None).await?;
    app.send_due(message.recovery, message.trace).await
}
