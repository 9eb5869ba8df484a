//! What the Functions host posts for a queue message or a timer tick, and what it wants to hear.

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::Span;
use uuid::Uuid;

use super::bindings::MESSAGE;
use crate::error::{Error, Result};
use crate::telemetry;
use crate::telemetry::trace::ParentTrace;

/// Reads the message of an invocation. `Data` has it as an object, as a string that holds JSON, or
/// as such a string encoded once more: hosts differ. `Metadata` is not looked at, since fields of a
/// message may overwrite its entries.
///
/// # Errors
/// Refused, if it is none of these.
pub(in crate::app) fn message<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    let unreadable = || {
        Error::refused(format!(
            "this is no invocation with a message of ours: Data.{MESSAGE} must be an object with \
             recovery and item, or a string that holds one"
        ))
    };
    let mut invocation: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let mut message = invocation
        .get_mut("Data")
        .and_then(|data| data.get_mut(MESSAGE))
        .map(Value::take)
        .ok_or_else(unreadable)?;
    for _ in 0..2 {
        if let Value::String(text) = &message {
            message = serde_json::from_str(text).map_err(|_| unreadable())?;
        }
    }
    serde_json::from_value(message).map_err(|_| unreadable())
}

/// The span of a message's invocation. It continues the trace that the message carries, and is linked
/// with the host's. The host's is not continued: with Application Insights connected it says of each
/// that it is not sampled, which would hold for this span and all below it.
pub(in crate::app) fn of_message(
    function: &str,
    headers: &HeaderMap,
    carried: Option<&str>,
) -> Span {
    let span = tracing::debug_span!("invocation", otel.name = function, otel.kind = "consumer");
    if let Some(carried) = ParentTrace::read(carried, None) {
        carried.adopt(&span);
    }
    if let Some(host) = sent(headers) {
        host.link(&span);
    }
    span
}

/// The span of a request. It continues the caller's trace if that is sampled, and is linked with it
/// otherwise.
pub(in crate::app) fn of_request(name: &str, headers: &HeaderMap) -> Span {
    let span = tracing::debug_span!("invocation", otel.name = name, otel.kind = "server");
    match sent(headers) {
        Some(caller) if caller.is_sampled() => caller.adopt(&span),
        Some(caller) => caller.link(&span),
        None => {}
    }
    span
}

/// The trace that a request comes with.
fn sent(headers: &HeaderMap) -> Option<ParentTrace> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    ParentTrace::read(header("traceparent"), header("tracestate"))
}

/// The span of whatever the host calls: each line of the log that is written within it has the
/// invocation's id.
pub(in crate::app) fn logged(headers: &HeaderMap) -> Span {
    let id = headers.get("x-azure-functions-invocationid").and_then(|id| id.to_str().ok());
    match id.and_then(|id| id.parse::<Uuid>().ok()) {
        Some(id) => telemetry::invocation(&id.to_string()),
        None => Span::none(),
    }
}

/// Tells of a message that nobody can do anything about, and answers that it is dealt with: the host
/// would bring it again and again.
pub(in crate::app) fn drop_message(error: &Error) -> Response {
    tracing::error!(%error, "a message that is not one of this app's was dropped");
    answer(Ok(()))
}

/// The answer to an invocation: always an object, without which the host waits for its time-out.
pub(in crate::app) fn answer(outcome: Result<()>) -> Response {
    let (status, logs) = match outcome {
        Ok(()) => (StatusCode::OK, vec![]),
        Err(error) => {
            tracing::warn!(%error, "the invocation failed; the host repeats it");
            (StatusCode::INTERNAL_SERVER_ERROR, vec![error.to_string()])
        }
    };
    (status, Json(json!({"Outputs": {}, "Logs": logs, "ReturnValue": null}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::queues::Message;

    #[test]
    fn a_message_is_read_in_all_its_encodings() {
        let plain = json!({"recovery": "3b5c972e-e2ae-415b-b15a-b3ddf4a338ff", "item": 7});
        let once = Value::String(plain.to_string());
        let twice = Value::String(once.to_string());
        for data in [plain, once, twice] {
            // Fields of the message are merged into the metadata by the host.
            let body = json!({"Data": {"message": data}, "Metadata": {"item": "8", "Id": "\"x\""}});
            let read: Message = message(&Bytes::from(body.to_string())).unwrap();
            assert_eq!(read.item, Some(7));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"Data":{}}"#,
            r#"{"Data":{"message":7}}"#,
            r#"{"Data":{"message":"seven"}}"#,
            r#"{"Data":{"message":{"recovery":"x"}}}"#,
        ] {
            message::<Message>(&Bytes::from(body)).unwrap_err();
        }
    }
}
