//! Links of a connection: senders, consumers, and those of [`nodes`].

mod nodes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp::acceptor::{LinkAcceptor, LinkEndpoint, ListenerSessionHandle};
use fe2o3_amqp::types::definitions::{self, AmqpError, LinkError, ReceiverSettleMode, Role};
use fe2o3_amqp::types::messaging::annotations::AnnotationKey;
use fe2o3_amqp::types::messaging::{Body, Message, Modified};
use fe2o3_amqp::types::performatives::Attach;
use fe2o3_amqp::types::primitives::{Symbol, Value};
use fe2o3_amqp::{Delivery, Receiver, Sender};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::nodes::{answer, send_answers};
use super::faults::Fault;
use super::tokens::{Grant, path};
use super::{Hub, lock};

/// How a connection is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Cut,
    Forced,
}

pub(super) struct Connected {
    hub: Arc<Hub>,
    grants: Mutex<Vec<Grant>>,
    granted: Notify,
    /// Who waits for answers of a node, by reply-to.
    answers: Mutex<HashMap<String, mpsc::UnboundedSender<Message<Value>>>>,
    end: Mutex<Option<End>>,
    ending: Notify,
    turn: AtomicUsize,
}

impl Connected {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            grants: Mutex::default(),
            granted: Notify::new(),
            answers: Mutex::default(),
            end: Mutex::default(),
            ending: Notify::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Resolves when a fault ends the connection.
    pub(super) async fn ended(&self) -> End {
        loop {
            let ending = self.ending.notified();
            if let Some(end) = *lock(&self.end) {
                return end;
            }
            ending.await;
        }
    }

    fn finish(&self, end: End) {
        lock(&self.end).get_or_insert(end);
        self.ending.notify_waiters();
        self.ending.notify_one();
    }

    /// Until when an entity may be used.
    fn granted_until(&self, entity: &str) -> Option<Instant> {
        let grants = lock(&self.grants);
        // Python writes `consumergroups` in one place and `ConsumerGroups` in the other.
        let entity = entity.to_ascii_lowercase();
        let good =
            grants.iter().filter(|grant| entity.starts_with(&grant.path.to_ascii_lowercase()));
        good.map(|grant| grant.until).max().filter(|until| *until > Instant::now())
    }

    /// Resolves when an entity may not be used any more.
    async fn revoked(&self, entity: &str) {
        while let Some(until) = self.granted_until(entity) {
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.granted.notified() => {}
            }
        }
    }
}

/// Serves a session to its end.
pub(super) async fn session(mut session: ListenerSessionHandle, connected: Arc<Connected>) {
    let mut links = JoinSet::new();
    let acceptor =
        LinkAcceptor::builder().max_message_size(connected.hub.options.largest_message).build();
    while let Some(mut attach) = session.next_incoming_attach().await {
        // Python asks to settle second; the service settles with its outcome all the same, and the
        // client waits for no less.
        attach.rcv_settle_mode = ReceiverSettleMode::First;
        let (mut node, other) = ends(&attach);
        if node == "$management" {
            // Python's name for it.
            node = format!("{}/{node}", connected.hub.options.name);
        }
        // Before the client learns of its link, since it may ask at once.
        let answers = match attach.role {
            Role::Receiver => connected.answers_to(&node, &other),
            Role::Sender => None,
        };
        if let Ok(endpoint) = acceptor.accept_incoming_attach(attach.clone(), &mut session).await {
            let connected = Arc::clone(&connected);
            match endpoint {
                LinkEndpoint::Receiver(link) => {
                    links.spawn(async move { receive(link, &node, &connected).await });
                }
                LinkEndpoint::Sender(link) => {
                    links.spawn(async move {
                        match answers {
                            Some(answers) => send_answers(link, answers).await,
                            None => send(link, &node, &attach, &connected).await,
                        }
                    });
                }
            }
        }
    }
}

/// Our end of a link, and the client's.
fn ends(attach: &Attach) -> (String, String) {
    let source = attach.source.as_ref().and_then(|it| it.address.clone()).unwrap_or_default();
    let target = match attach.target.as_deref() {
        Some(fe2o3_amqp::types::messaging::TargetArchetype::Target(target)) => {
            target.address.clone().unwrap_or_default()
        }
        _ => String::new(),
    };
    match attach.role {
        Role::Sender => (path(&target).to_owned(), source),
        Role::Receiver => (path(&source).to_owned(), target),
    }
}

fn error(condition: impl Into<definitions::ErrorCondition>, text: &str) -> definitions::Error {
    definitions::Error::new(condition, text.to_owned(), None)
}

/// Whether an entity is there and may be used.
fn refusal(node: &str, connected: &Connected) -> Option<definitions::Error> {
    let hub = &connected.hub;
    let mut parts = node.split('/');
    let known = parts.next() == Some(&hub.options.name) && *hub.exists.borrow();
    if !known {
        return Some(error(AmqpError::NotFound, "The messaging entity could not be found."));
    }
    if connected.granted_until(node).is_none() {
        return Some(error(AmqpError::UnauthorizedAccess, "Unauthorized access. 'Send' claim(s)"));
    }
    None
}

/// The partition that a node names; `None` for the hub.
fn partition(node: &str) -> Option<usize> {
    node.split_once("/Partitions/").and_then(|(_, id)| id.parse().ok())
}

/// What clients send us.
async fn receive(mut link: Receiver, node: &str, connected: &Connected) {
    let tokens = node == "$cbs";
    if !tokens && let Some(refusal) = refusal(node, connected) {
        let _ = link.close_with_error(refusal).await;
        return;
    }
    let management = tokens || node.ends_with("$management");
    loop {
        let delivery: Delivery<Body<Value>> = tokio::select! {
            delivery = link.recv() => match delivery {
                Ok(delivery) => delivery,
                Err(_) => return,
            },
            () = connected.revoked(node), if !tokens => {
                let ended = error(AmqpError::UnauthorizedAccess, "ExpiredToken: The token is expired.");
                let _ = link.close_with_error(ended).await;
                return;
            }
            () = deleted(&connected.hub), if !tokens => {
                let gone = error(AmqpError::NotFound, "The messaging entity could not be found.");
                let _ = link.close_with_error(gone).await;
                return;
            }
        };
        if management {
            let _ = link.accept(&delivery).await;
            answer(delivery.into_message(), tokens, connected);
        } else if let Some(ended) = store(&link, delivery, node, connected).await {
            let _ = link.close_with_error(ended).await;
            return;
        }
    }
}

/// Resolves when the hub is deleted.
async fn deleted(hub: &Hub) {
    let mut exists = hub.exists.subscribe();
    let _ = exists.wait_for(|exists| !exists).await;
}

/// Resolves when a partition is not stalled.
async fn answers_again(hub: &Hub, partition: Option<usize>) {
    let mut stalled = hub.stalled.subscribe();
    let _ = stalled.wait_for(|stalled| stalled.is_none() || *stalled != partition).await;
}

/// Stores a batch, unless a fault says otherwise. Yields what the link ends with.
async fn store(
    link: &Receiver,
    delivery: Delivery<Body<Value>>,
    node: &str,
    connected: &Connected,
) -> Option<definitions::Error> {
    let hub = &connected.hub;
    hub.batches.fetch_add(1, Ordering::Relaxed);
    let fault = lock(&hub.faults).next();
    let named = partition(node);
    answers_again(hub, named).await;
    match fault {
        Some(Fault::ServerBusy) => {
            let busy = error(
                definitions::ErrorCondition::Custom(Symbol::from("com.microsoft:server-busy")),
                "The request was terminated because the entity is being throttled.",
            );
            let _ = link.reject(&delivery, busy).await;
            return None;
        }
        Some(Fault::TooLarge) => {
            let large = error(LinkError::MessageSizeExceeded, "The received message is too large.");
            let _ = link.reject(&delivery, large).await;
            return None;
        }
        Some(Fault::Modified) => {
            let modified = Modified {
                delivery_failed: Some(true),
                undeliverable_here: None,
                message_annotations: None,
            };
            let _ = link.modify(&delivery, modified).await;
            return None;
        }
        Some(Fault::Released) => {
            let _ = link.release(&delivery).await;
            return None;
        }
        Some(Fault::Detach) => {
            return Some(error(LinkError::DetachForced, "The link is force detached."));
        }
        Some(Fault::Unauthorized) => {
            lock(&connected.grants).clear();
            connected.granted.notify_waiters();
            return Some(error(
                AmqpError::UnauthorizedAccess,
                "ExpiredToken: The token is expired.",
            ));
        }
        Some(Fault::ConnectionForced) => {
            connected.finish(End::Forced);
            return None;
        }
        Some(Fault::Cut) => {
            connected.finish(End::Cut);
            return None;
        }
        Some(Fault::Slow(wait)) => sleep(wait).await,
        Some(Fault::CutAfterStoring) | None => {}
    }
    let info = fe2o3_amqp::link::delivery::DeliveryInfo::from(&delivery);
    let batch = *delivery.message_format() == Some(0x8001_3700);
    let message = delivery.into_message();
    let key = message.message_annotations.as_ref().and_then(|annotations| {
        match annotations.0.get(&"x-opt-partition-key" as &dyn AnnotationKey) {
            Some(Value::String(key)) => Some(key.clone()),
            _ => None,
        }
    });
    let at = named.unwrap_or_else(|| match &key {
        Some(key) => of_key(key, hub.logs().len()),
        None => connected.turn.fetch_add(1, Ordering::Relaxed) % hub.logs().len(),
    });
    let messages = match (batch, message.body) {
        (true, Body::Data(sections)) => {
            sections.into_iter().map(|section| section.0.into_vec()).collect()
        }
        (_, body) => {
            let whole = Message { body, ..message };
            let serializable =
                fe2o3_amqp::types::messaging::message::__private::Serializable(whole);
            serde_amqp::to_vec(&serializable).into_iter().collect()
        }
    };
    hub.logs()[at].append(messages, key.as_deref());
    if fault == Some(Fault::CutAfterStoring) {
        connected.finish(End::Cut);
    } else {
        let _ = link.accept(info).await;
    }
    None
}

/// The partition of a key, by the service's hash: Jenkins' lookup3.
fn of_key(key: &str, partitions: usize) -> usize {
    let key = key.as_bytes();
    let mut state = [0xdead_beef_u32.wrapping_add(key.len() as u32); 3];
    let blocks = key.len().saturating_sub(1) / 12;
    let add = |state: &mut [u32; 3], bytes: &[u8]| {
        for (at, byte) in bytes.iter().enumerate() {
            let part = &mut state[at / 4];
            *part = part.wrapping_add(u32::from(*byte) << (8 * (at % 4)));
        }
    };
    for block in 0..blocks {
        add(&mut state, &key[12 * block..12 * (block + 1)]);
        for (turn, bits) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let [x, y, z] = [turn % 3, (turn + 1) % 3, (turn + 2) % 3];
            state[x] = state[x].wrapping_sub(state[z]) ^ state[z].rotate_left(bits);
            state[z] = state[z].wrapping_add(state[y]);
        }
    }
    if !key.is_empty() {
        add(&mut state, &key[12 * blocks..]);
        for (turn, bits) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
            let [x, y] = [[2, 1], [0, 2], [1, 0]][turn % 3];
            state[x] = (state[x] ^ state[y]).wrapping_sub(state[y].rotate_left(bits));
        }
    }
    let hash = i32::from((state[1] ^ state[2]) as i16);
    (hash % partitions as i32).unsigned_abs() as usize
}

/// Sends a consumer what is stored.
async fn send(mut link: Sender, node: &str, attach: &Attach, connected: &Connected) {
    if let Some(refusal) = refusal(node, connected) {
        let _ = link.close_with_error(refusal).await;
        return;
    }
    let Some(log) = partition(node).and_then(|at| connected.hub.logs().get(at)) else { return };
    let mut next = start(attach, log);
    loop {
        let grown = log.grown.notified();
        while let Some(message) = log.get(next).and_then(|stored| stored.delivered(next)) {
            // Consumers of the service do not settle.
            match link.send_batchable(message).await {
                Ok(outcome) => drop(outcome),
                Err(_) => return,
            }
            next += 1;
        }
        tokio::select! {
            () = grown => {}
            () = sleep(Duration::from_millis(100)) => {}
        }
    }
}

/// The sequence number that a consumer begins at: after its filter, which compares the offset, the
/// sequence number (here the same) or the time of storing with a literal.
fn start(attach: &Attach, log: &super::Log) -> usize {
    let filters = attach.source.as_ref().and_then(|source| source.filter.clone());
    let selector = filters.and_then(|filters| {
        filters.into_iter().find_map(|(_, filter)| match filter {
            Value::Described(described) => match described.value {
                Value::String(text) => Some(text),
                _ => None,
            },
            _ => None,
        })
    });
    let Some(selector) = selector else { return 0 };
    let literal = selector.split('\'').nth(1).unwrap_or_default();
    let (end, _) = log.end();
    if literal == "@latest" {
        return end;
    }
    let Ok(number) = literal.parse::<i64>() else { return 0 };
    let after = i64::from(!selector.contains(">="));
    if selector.contains("enqueued-time") {
        return (0..end)
            .find(|&at| log.get(at).is_some_and(|stored| stored.millis >= number + after))
            .unwrap_or(end);
    }
    usize::try_from(number + after).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::of_key;

    /// From the same vectors as the product's, by code of its own.
    #[test]
    fn keys_go_where_the_official_sdk_says() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../src/sink/event_hub/vectors.json"))
                .unwrap_or_default();
        let partitions = vectors["partitions"].as_array().into_iter().flatten();
        let partitions: Vec<usize> =
            partitions.filter_map(|count| count.as_u64().map(|count| count as usize)).collect();
        let mut seen = 0;
        for row in vectors["keys"].as_array().into_iter().flatten() {
            for (at, count) in partitions.iter().enumerate() {
                let key = row[0].as_str().unwrap_or_default();
                assert_eq!(row[1][at].as_u64(), Some(of_key(key, *count) as u64), "{key:?}");
                seen += 1;
            }
        }
        assert!(seen > 30_000, "{seen}");
    }
}
