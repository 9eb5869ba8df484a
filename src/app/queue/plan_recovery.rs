//! Queue `recovery-plan`: takes a recovery's next step, which is planning or closing it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::on_message;
use crate::app::queues::Message;
use crate::app::state::App;
use crate::error::Result;

pub(in crate::app) async fn plan(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    on_message(&app, "PlanRecovery", &headers, &body, |message| advance(&app, message)).await
}

async fn advance(app: &App, message: Message) -> Result<()> {
    app.engine().await?.advance(message.recovery, None).await?;
    app.send_due(message.recovery, message.trace).await
}
