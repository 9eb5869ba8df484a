//! `POST /api/plan`: what a recovery would do. Changes nothing.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::request::{self, RecoveryRequest};
use super::words;
use crate::app::state::App;
use crate::model::{Plan, ProblemDocument};
use crate::recovery;

/// Shows what a recovery would do: each table, how it would be compared and why, how big it is, and
/// every warning. Changes nothing. Takes as long as it takes to look at all tables; for thousands of
/// them begin the recovery instead, which is planned without a caller that waits.
#[utoipa::path(
    post,
    path = "/api/plan",
    operation_id = "Plan",
    request_body = RecoveryRequest,
    responses(
        (status = 200, description = "The plan.", body = Plan),
        (status = 400, description = "The body is not such a request.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "The recovery would be refused; every reason found.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "A server does not answer.", body = ProblemDocument,
         content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (_, body) = request::read(&headers, body)?;
    let servers = body.servers(app.servers().await?);
    let request = body.request(&app.defaults()?.request)?;
    let plan = recovery::plan(&servers, &request).await?;
    Ok(words::answer(&plan)?.into_response())
}
