//! `POST /api/plan`: what a recovery would do. Changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::problem::Problem;
use super::request;
use crate::recovery;

/// 200 with the plan; 422 with every reason if the recovery would be refused.
pub(super) async fn preview(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let request = request::read(&headers, &bytes)?.request(app.defaults()?)?;
    let plan = recovery::plan(app.servers().await?, &request).await?;
    Ok(Json(plan).into_response())
}
