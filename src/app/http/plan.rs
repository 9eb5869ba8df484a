//! `POST /api/plan`: what a recovery would do. Changes nothing that is compared.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use super::asked_plan;
use super::problem::Problem;
use super::request::{self, RecoveryRequest};
use crate::app::state::App;
use crate::model::{Plan, PlanPending, ProblemDocument};

/// Shows what a recovery would do: each table, how it would be compared and why, how big it is, and
/// every warning. Changes nothing. What takes longer than 20 s goes on in the background: ask its
/// `Location` for it. The same question meanwhile gives the same `Location`.
#[utoipa::path(
    post,
    path = "/api/plan",
    operation_id = "Plan",
    request_body = RecoveryRequest,
    responses(
        (status = 200, description = "The plan.", body = Plan),
        (status = 202, description = "It is being made.", body = PlanPending,
         headers(("Location" = String, description = "Where to ask for it."),
                 ("Retry-After" = u64, description = "After how many seconds."))),
        (status = 400, description = "The body is not such a request.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "The recovery would be refused; every reason found.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "A server does not answer, or too many other plans are being \
         made.", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (said, body) = request::read(&headers, body)?;
    asked_plan::of(&app, &said, body).await
}
