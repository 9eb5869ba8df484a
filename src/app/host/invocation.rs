//! What the Functions host posts for a queue message or a timer tick, and what it wants to hear.

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::Span;

use super::bindings::MESSAGE;
use crate::error::{Error, Result};
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

/// The span of an invocation. It continues the host's trace, if the host sends one, and else the one
/// that a message carries.
pub(in crate::app) fn span(function: &str, headers: &HeaderMap, carried: Option<&str>) -> Span {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = if carried.is_some() { "consumer" } else { "server" };
    let span = tracing::debug_span!("invocation", otel.name = function, otel.kind = kind);
    let host = ParentTrace::read(header("traceparent"), header("tracestate"));
    match (host, ParentTrace::read(carried, None)) {
        (Some(host), carried) => {
            host.adopt(&span);
            if let Some(carried) = carried {
                carried.link(&span);
            }
        }
        (None, Some(carried)) => carried.adopt(&span),
        (None, None) => {}
    }
    span
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
