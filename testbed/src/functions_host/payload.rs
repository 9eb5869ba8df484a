//! What the host posts to the handler for an invocation that is not HTTP.

use azure_storage_queue::models::ReceivedMessage;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How a message's text stands in `Data`: hosts and documentation differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataEncoding {
    /// As the JSON value that it is: what the documentation shows.
    Object,
    /// As a string that holds it.
    Text,
    /// As a string that holds a JSON string that holds it: what the host's source does.
    #[default]
    EncodedText,
}

/// A queue message as an invocation's body.
///
/// Top-level fields of a JSON message are merged into `Metadata` and overwrite what is there, as in
/// the host.
pub(super) fn of_message(
    function: &str,
    binding: &str,
    text: &str,
    message: &ReceivedMessage,
    encoding: DataEncoding,
) -> Value {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let data = match encoding {
        DataEncoding::Object => parsed.clone().unwrap_or_else(|| Value::from(text)),
        DataEncoding::Text => Value::from(text),
        DataEncoding::EncodedText => encoded(&Value::from(text)),
    };
    let id = |text: &Option<String>| encoded(&Value::from(text.as_deref().unwrap_or_default()));
    let time = |at: Option<azure_core::time::OffsetDateTime>| {
        Value::from(at.map(|at| instant(at.unix_timestamp())))
    };
    let mut metadata = Map::from_iter([
        ("DequeueCount".to_owned(), encoded(&json!(message.dequeue_count))),
        ("Id".to_owned(), id(&message.message_id)),
        ("PopReceipt".to_owned(), id(&message.pop_receipt)),
        ("InsertionTime".to_owned(), time(message.insertion_time)),
        ("ExpirationTime".to_owned(), time(message.expiration_time)),
        ("NextVisibleTime".to_owned(), time(message.time_next_visible)),
        ("QueueTrigger".to_owned(), Value::from(text)),
        ("sys".to_owned(), sys(function)),
    ]);
    if let Some(Value::Object(fields)) = parsed {
        metadata.extend(fields.iter().map(|(name, value)| (name.clone(), encoded(value))));
    }
    json!({ "Data": { binding: data }, "Metadata": metadata })
}

/// A tick of the clock as an invocation's body. A schedule of less than a minute has no status.
pub(super) fn of_tick(function: &str, binding: &str) -> Value {
    json!({
        "Data": { binding: {
            "Schedule": { "AdjustForDST": true },
            "ScheduleStatus": null,
            "IsPastDue": false,
        }},
        "Metadata": { "sys": sys(function) },
    })
}

fn sys(function: &str) -> Value {
    json!({
        "MethodName": function,
        "UtcNow": Timestamp::now().to_string(),
        "RandGuid": Uuid::new_v4().to_string(),
    })
}

/// A value as a string that holds its JSON.
fn encoded(value: &Value) -> Value {
    Value::from(value.to_string())
}

fn instant(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
