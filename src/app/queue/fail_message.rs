//! The poison queues: messages that the host gave up. These functions never fail, since a poison
//! queue has none of its own; what they cannot store now, the watchdog finds.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use crate::app::host::invocation;
use crate::app::queues::Message;
use crate::app::state::App;
use crate::error::Result;

/// Queue `recovery-work-poison`: the item fails, unless somebody is at it; the items of a batch get
/// messages of their own.
pub(in crate::app) async fn fail_work_item(State(app): State<Arc<App>>, body: Bytes) -> Response {
    never_fail(fail_item(&app, &body).await)
}

/// Queue `recovery-plan-poison`: a recovery that could not be planned or closed for so long fails,
/// and can be retried.
pub(in crate::app) async fn fail_plan(State(app): State<Arc<App>>, body: Bytes) -> Response {
    never_fail(fail_recovery(&app, &body).await)
}

async fn fail_recovery(app: &App, body: &Bytes) -> Result<()> {
    let id = invocation::message::<Message>(body)?.recovery;
    tracing::error!(recovery = %id, "a recovery could not be planned or closed for long");
    let reason = "it could not be planned or closed for long: see the log of PlanRecovery, then \
                  retry";
    app.store().await?.fail_stalled(id, reason).await
}

async fn fail_item(app: &App, body: &Bytes) -> Result<()> {
    let message: Message = invocation::message(body)?;
    let Some(batch) = message.item else { return Ok(()) };
    tracing::error!(recovery = %message.recovery, item = batch, "a message was given up");
    let reason = "the Functions host gave its message up after too many attempts: see the log of \
                  DiffTable, then retry";
    app.store().await?.fail_batch(message.recovery, batch, reason).await?;
    app.send_due(message.recovery, message.trace).await
}

fn never_fail(outcome: Result<()>) -> Response {
    if let Err(error) = outcome {
        tracing::error!(%error, "a message that was given up could not be dealt with");
    }
    invocation::answer(Ok(()))
}
