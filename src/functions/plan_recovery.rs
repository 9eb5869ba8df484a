//! Queue `recovery-plan`: takes a recovery's next step, which is planning or closing it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use super::app::App;
use super::invocation;
use crate::error::Result;

pub(super) async fn plan(State(app): State<Arc<App>>, body: Bytes) -> Response {
    invocation::answer(advance(&app, &body).await)
}

async fn advance(app: &App, body: &Bytes) -> Result<()> {
    let message = invocation::message(body)?;
    app.steps().await?.advance(message.recovery).await?;
    app.send_due(message.recovery).await
}
