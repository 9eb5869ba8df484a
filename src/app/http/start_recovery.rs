//! `POST /api/recoveries`: begins a recovery.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::request::{self, RecoveryRequest};
use crate::app::state::App;
use crate::model::{Begun, ProblemDocument};
use crate::recovery::{NewRecovery, Registration};
use crate::telemetry::trace;

/// Begins a recovery. It is planned and worked on in the background: ask its `Location` how it
/// stands.
#[utoipa::path(
    post,
    path = "/api/recoveries",
    operation_id = "StartRecovery",
    request_body = RecoveryRequest,
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "Makes a repetition of this request with the same body give the same answer.",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$"
    )),
    responses(
        (status = 202, description = "It is begun, or was by a request with the same key.",
         body = Begun, headers(("Location" = String, description = "Where its status is."))),
        (status = 400, description = "The body or the key is not such a one.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "Another recovery of the database, or one of another app, is live.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "It is refused, or the key came with another body before.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn start(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (said, body) = request::read(&headers, body)?;
    let key = idempotency_key(&headers)?;
    // What can be known to be missing is said now, before anything is stored.
    app.queues().await?;
    let servers = body.servers(app.servers().await?);
    let request = body.request(&app.defaults()?.request)?;
    if request.sinks.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`sinks` is missing: say where events go, for example [\"delta-table\"]",
        ));
    }
    let new = NewRecovery {
        request: &request,
        servers: &servers,
        checked: None,
        allow_concurrent: body.start.allow_concurrent,
        queues: None,
        key,
        body: Some(&said),
    };
    let id = match app.engine().await?.register(new).await? {
        Registration::Registered(id) => id,
        Registration::KeyUsed => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key came with another body before: use a new key",
            ));
        }
        Registration::OfOtherQueues { live, queues } => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "another app, with queues at {queues}, drives recovery {live} on this head: two \
                     apps must not share copies; wait for it, cancel it with POST \
                     /api/recoveries/{live}/cancel, or give this app copies of its own"
                ),
            ));
        }
        Registration::Live(live) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "recovery {live} is live: wait for it, cancel it with POST \
                     /api/recoveries/{live}/cancel, or say \"allow_concurrent\": true"
                ),
            ));
        }
    };
    if let Err(error) = app.send_due(id, trace::current()).await {
        // It is registered: the watchdog sends the message.
        tracing::warn!(recovery = %id, %error, "the first message was not sent");
    }
    let location = format!("/api/recoveries/{id}");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Begun { id })).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let usable = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| b > b' ');
    key.to_str().ok().filter(usable).map(Some).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "Idempotency-Key must have 1 to 255 visible ASCII characters",
        )
    })
}
