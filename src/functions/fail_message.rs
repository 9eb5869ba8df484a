//! The poison queues: messages that the host gave up. These functions never fail, since a poison
//! queue has none of its own; what they cannot store now, the watchdog finds.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use super::app::App;
use super::invocation;
use crate::error::Result;

/// Queue `recovery-work-poison`: the item fails, unless somebody is at it.
pub(super) async fn fail_work_item(State(app): State<Arc<App>>, body: Bytes) -> Response {
    never_fail(give_up(&app, &body).await)
}

/// Queue `recovery-plan-poison`: the recovery stays as it is and its step is tried again by the
/// watchdog's messages, since what kept it from being planned may pass.
pub(super) async fn fail_plan(body: Bytes) -> Response {
    never_fail(invocation::message(&body).map(|message| {
        tracing::error!(
            recovery = %message.recovery,
            "a recovery could not be planned or closed for long; see the log of PlanRecovery"
        );
    }))
}

async fn give_up(app: &App, body: &Bytes) -> Result<()> {
    let message = invocation::message(body)?;
    let Some(number) = message.item else { return Ok(()) };
    tracing::error!(recovery = %message.recovery, item = number, "a message was given up");
    let reason = "the Functions host gave its message up after too many attempts: see the log of \
                  DiffTable, then retry";
    app.store().await?.give_up(message.recovery, number, reason).await?;
    app.send_due(message.recovery).await
}

fn never_fail(outcome: Result<()>) -> Response {
    if let Err(error) = outcome {
        tracing::error!(%error, "a message that was given up could not be dealt with");
    }
    invocation::answer(Ok(()))
}
