//! `POST /api/recoveries/{id}/retry`: opens what failed again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::problem::Problem;
use super::recoveries;
use crate::app::state::App;
use crate::model::{ProblemDocument, RecoveryStatus};
use crate::recovery::{self, Retried};
use crate::telemetry::trace;

/// Works once more on what failed of a recovery, and only on that.
#[utoipa::path(
    post,
    path = "/api/recoveries/{id}/retry",
    operation_id = "RetryRecovery",
    params(("id" = uuid::Uuid, Path, description = "The recovery.")),
    responses(
        (status = 200, description = "It goes on.", body = RecoveryStatus),
        (status = 404, description = "There is no such recovery.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 409, description = "It has not failed, writes a file, would fail again, or another
         one of its database is live.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "A setting of the app is wrong.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn retry(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let id = recoveries::recovery_id(&text)?;
    app.queues().await?;
    let engine = app.engine().await?;
    let stored = engine.store().recovery(id).await?.ok_or_else(|| Problem::unknown_recovery(id))?;
    let conflict = |why: String| Problem::new(StatusCode::CONFLICT, why);
    if !engine.writes_its_sinks(&stored) {
        return Err(conflict(format!(
            "recovery {id} writes a file, which the app cannot: go on with deltacompare run \
             --resume {id}"
        )));
    }
    match engine.retry(&stored).await? {
        Retried::Opened => {}
        Retried::CountsLost(side) => return Err(conflict(recovery::counts_lost(side))),
        Retried::NotFailed => {
            return Err(conflict(format!(
                "recovery {id} has not failed: only what has failed is tried again"
            )));
        }
        Retried::Live(live) => {
            return Err(conflict(format!(
                "recovery {live} of the same database is live: wait for it, or cancel it with POST \
                 /api/recoveries/{live}/cancel"
            )));
        }
    }
    if let Err(error) = app.send_due(id, trace::current()).await {
        // It is open again; the watchdog sends the message.
        tracing::warn!(recovery = %id, %error, "the message was not sent");
    }
    recoveries::get(State(app), HeaderMap::new(), Path(text)).await
}
