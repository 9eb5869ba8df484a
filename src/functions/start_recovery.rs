//! `POST /api/recoveries`: begins a recovery.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::app::App;
use super::problem::Problem;
use super::request;
use crate::recovery::Asked;

/// 202 with the recovery's address. With an `Idempotency-Key` a repetition gives the same answer,
/// and the same key with another body 422; 409 if another recovery is live.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let body = request::read(&headers, &bytes)?;
    let allow_concurrent = body.allow_concurrent;
    let request = body.request(app.defaults()?)?;
    if request.sinks.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "sinks is missing: say where events go, for example [\"delta-table\"]",
        ));
    }
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(key) => Some(key.to_str().ok().filter(|key| (1..=255).contains(&key.len())).ok_or_else(
            || {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "Idempotency-Key must have 1 to 255 ASCII characters",
                )
            },
        )?),
    };
    let asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // What can be known to be missing is said now, before anything is stored.
    app.queues().await?;
    let servers = app.servers().await?;
    let store = app.store().await?;
    let id = match store
        .ask(Uuid::new_v4(), &request, servers, key, &asked, allow_concurrent)
        .await?
    {
        Asked::Registered(id) => id,
        Asked::KeyUsed => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key came with another body before: use a new key",
            ));
        }
        Asked::Live(live) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "recovery {live} is live: wait for it, cancel it with POST \
                     /api/recoveries/{live}/cancel, or say \"allow_concurrent\": true"
                ),
            ));
        }
    };
    if let Err(error) = app.send_start(id).await {
        // It is registered: the watchdog sends the message.
        tracing::warn!(recovery = %id, %error, "the first message was not sent");
    }
    let location = format!("/api/recoveries/{id}");
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(json!({"id": id})))
        .into_response())
}
