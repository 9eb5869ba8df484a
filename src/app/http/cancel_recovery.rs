//! `POST /api/recoveries/{id}/cancel`: ends a live recovery within seconds.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::problem::Problem;
use super::recoveries;
use crate::app::state::App;
use crate::model::{ProblemDocument, RecoveryStatus};

/// Cancels a recovery: its items stop within seconds, and its objects on the servers are dropped.
/// Events that were delivered stay delivered. A repetition changes nothing.
#[utoipa::path(
    post,
    path = "/api/recoveries/{id}/cancel",
    operation_id = "CancelRecovery",
    params(("id" = uuid::Uuid, Path, description = "The recovery.")),
    responses(
        (status = 200, description = "It is cancelled.", body = RecoveryStatus),
        (status = 404, description = "There is no such recovery.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 409, description = "It has ended otherwise.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "A setting of the app is wrong.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn cancel(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let id = recoveries::recovery_id(&text)?;
    match app.engine().await?.cancel(id).await? {
        None => return Err(Problem::unknown_recovery(id)),
        Some(false) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("recovery {id} has ended: there is nothing to cancel"),
            ));
        }
        Some(true) => {}
    }
    recoveries::get(State(app), HeaderMap::new(), Path(text)).await
}
