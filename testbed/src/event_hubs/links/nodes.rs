//! The nodes of a connection that answer: `$cbs`, which takes tokens, and `$management`.

use std::sync::atomic::Ordering;

use fe2o3_amqp::Sender;
use fe2o3_amqp::types::messaging::{ApplicationProperties, Body, IntoBody, Message, Properties};
use fe2o3_amqp::types::primitives::{Array, OrderedMap, SimpleValue, Timestamp, Value};
use tokio::sync::mpsc;

use super::{Connected, End};
use crate::event_hubs::{Hub, lock};

impl Connected {
    /// The answers of a node to who is at the other end; `None` if the node gives none.
    pub(super) fn answers_to(
        &self,
        node: &str,
        other: &str,
    ) -> Option<mpsc::UnboundedReceiver<Message<Value>>> {
        let node = match node {
            "$cbs" => "$cbs",
            node if node.ends_with("$management") => "$management",
            _ => return None,
        };
        let (answers, queue) = mpsc::unbounded_channel();
        let mut waiting = lock(&self.answers);
        waiting.insert(other.to_owned(), answers.clone());
        waiting.insert(node.to_owned(), answers);
        Some(queue)
    }
}

/// Answers a request for a token or to management.
pub(super) fn answer(request: Message<Body<Value>>, tokens: bool, connected: &Connected) {
    if tokens && lock(&connected.hub.faults).cuts_token() {
        connected.finish(End::Cut);
        return;
    }
    let properties = request.properties.unwrap_or_default();
    let asked = request.application_properties.unwrap_or_default();
    let text = |name: &str| match asked.0.get(name) {
        Some(SimpleValue::String(text)) => text.clone(),
        Some(SimpleValue::Symbol(text)) => text.0.clone(),
        _ => String::new(),
    };
    let (code, description, body) = if tokens {
        let token = match request.body {
            Body::Value(value) => match value.0 {
                Value::String(token) => token,
                Value::Binary(token) => String::from_utf8_lossy(&token).into_owned(),
                _ => String::new(),
            },
            _ => String::new(),
        };
        let says = match asked.0.get("expiration") {
            Some(SimpleValue::Timestamp(until)) => until.milliseconds() as u64 / 1000,
            _ => 0,
        };
        match connected.hub.grant(&text("name"), &text("type"), &token, says) {
            Ok(grant) => {
                connected.hub.tokens.fetch_add(1, Ordering::Relaxed);
                lock(&connected.grants).push(grant);
                connected.granted.notify_waiters();
                (202, "Accepted".to_owned(), Value::Null)
            }
            Err(why) => (401, why, Value::Null),
        }
    } else {
        match describe(&connected.hub, &text("type"), &text("partition")) {
            Some(map) => (200, "OK".to_owned(), Value::Map(map)),
            None => (404, "amqp:not-found".to_owned(), Value::Null),
        }
    };
    let response = Message::builder()
        .properties(Properties { correlation_id: properties.message_id, ..Properties::default() })
        .application_properties(
            ApplicationProperties::builder()
                .insert("status-code", code)
                .insert("status-description", description)
                .build(),
        )
        .value(body)
        .build();
    let answers = lock(&connected.answers);
    let reply_to = properties.reply_to.unwrap_or_default();
    let node = if tokens { "$cbs" } else { "$management" };
    if let Some(link) = answers.get(&reply_to).or_else(|| answers.get(node)) {
        let _ = link.send(response.map_body(|body| body.0));
    }
}

/// What management says of the hub or of a partition.
fn describe(hub: &Hub, kind: &str, partition: &str) -> Option<OrderedMap<Value, Value>> {
    let mut map = OrderedMap::new();
    let mut put = |name: &str, value: Value| {
        map.insert(Value::String(name.to_owned()), value);
    };
    put("name", Value::String(hub.options.name.clone()));
    put("type", Value::String(kind.to_owned()));
    match kind {
        "com.microsoft:eventhub" => {
            let ids = (0..hub.logs().len()).map(|id| Value::String(id.to_string()));
            let created = hub.created_at.load(Ordering::Relaxed);
            put("created_at", Value::Timestamp(Timestamp::from_milliseconds(created)));
            put("partition_count", Value::Int(hub.logs().len() as i32));
            put("partition_ids", Value::Array(Array(ids.collect())));
        }
        "com.microsoft:partition" => {
            let (length, millis) = hub.logs().get(partition.parse::<usize>().ok()?)?.end();
            put("partition", Value::String(partition.to_owned()));
            put("begin_sequence_number", Value::Long(0));
            put("last_enqueued_sequence_number", Value::Long(length as i64 - 1));
            put("last_enqueued_offset", Value::String((length as i64 - 1).to_string()));
            put("last_enqueued_time_utc", Value::Timestamp(Timestamp::from_milliseconds(millis)));
            put("is_partition_empty", Value::Bool(length == 0));
        }
        _ => return None,
    }
    Some(map)
}

/// Sends a client the answers to what it asked.
pub(super) async fn send_answers(
    mut link: Sender,
    mut answers: mpsc::UnboundedReceiver<Message<Value>>,
) {
    while let Some(answer) = answers.recv().await {
        if link.send(answer.map_body(IntoBody::into_body)).await.is_err() {
            return;
        }
    }
}
