//! Queue `recovery-work`: works on one item, or on a batch of small ones.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::on_message;
use crate::app::host::invocation;
use crate::app::queues::Message;
use crate::app::state::App;
use crate::error::{Error, Result};
use crate::recovery::Worked;

pub(in crate::app) async fn diff(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    on_message(&app, "DiffTable", &headers, &body, |message| work(&app, message)).await
}

async fn work(app: &App, message: Message) -> Result<()> {
    let Some(batch) = message.item else {
        let error = Error::refused("a message of this queue must name an item");
        invocation::drop_message(&error);
        return Ok(());
    };
    let worked = app.engine().await?.work(message.recovery, Some(batch), app.stop.clone()).await?;
    if let Worked::Open { after, .. } = worked {
        app.queues().await?.send(&message, after).await?;
    }
    app.send_due(message.recovery, message.trace).await
}
