//! Errors of HTTP functions, as problem documents (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::words;
use crate::error::{Error, ErrorKind};
use crate::model::ProblemDocument;

/// A problem. Its detail names the next step, and no secret.
#[derive(Debug)]
pub(in crate::app) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(in crate::app) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// What is wrong and what to do, in words of the API.
    pub(in crate::app) fn detail(&self) -> &str {
        &self.detail
    }

    /// The status that it is told with.
    pub(in crate::app) fn status(&self) -> StatusCode {
        self.status
    }

    /// There is no recovery with this id.
    pub(in crate::app) fn unknown_recovery(id: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no recovery {id}: GET /api/recoveries lists those that there are"),
        )
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Transient => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, words::of_api(&error.to_string()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            r#type: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}
