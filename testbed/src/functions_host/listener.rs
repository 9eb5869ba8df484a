//! Queue functions: messages are polled for, run, and given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use azure_core::http::StatusCode;
use azure_storage_queue::QueueClient;
use azure_storage_queue::models::{
    QueueClientReceiveMessagesOptions, QueueMessage, ReceivedMessage,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::task::{JoinHandle, JoinSet};

use super::app::Trigger;
use super::instance::Instance;
use super::log::Level;
use super::storage::QueueService;
use super::{Shared, payload};

/// The category under which the host tells of a message that it cannot decode.
const UNDECODABLE: &str = "Azure.Storage.Queues.QueueServiceClient";

/// The shortest pause after an empty answer; it doubles up to `maxPollingInterval`.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// One queue function of one instance.
struct Listener {
    host: Arc<Shared>,
    instance: Arc<Instance>,
    function: String,
    binding: String,
    queue: QueueClient,
    poison: QueueClient,
    /// Whether it reads a poison queue, which has none of its own.
    is_poison: bool,
}

/// Starts the queue functions of an instance.
pub(super) fn start(instance: &Arc<Instance>, host: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for function in &host.app.functions {
        let Trigger::Queue { binding, queue, connection } = &function.trigger else { continue };
        let connect = || {
            let setting = host
                .settings
                .get(connection)
                .with_context(|| format!("the setting {connection} is missing"))?;
            let service = QueueService::connect(setting)?;
            let poison = service.queue(&format!("{queue}-poison"))?;
            anyhow::Ok(Arc::new(Listener {
                host: Arc::clone(host),
                instance: Arc::clone(instance),
                function: function.name.clone(),
                binding: binding.clone(),
                queue: service.queue(queue)?,
                is_poison: queue.ends_with("-poison"),
                poison,
            }))
        };
        match connect() {
            Ok(listener) => tasks.push(tokio::spawn(listener.listen())),
            Err(error) => instance.say(
                Level::Error,
                format!("the listener of '{}' could not start: {error:#}", function.name),
            ),
        }
    }
    tasks
}

impl Listener {
    async fn listen(self: Arc<Self>) {
        let queues = &self.host.app.queues;
        let mut running = JoinSet::new();
        let mut pause = SHORTEST_PAUSE;
        // Functions are called once the handler answers.
        while self.instance.ready().await.is_ok() && self.instance.is_open() {
            while running.try_join_next().is_some() {}
            if running.len() > queues.threshold() {
                running.join_next().await;
                continue;
            }
            let messages = match self.receive().await {
                Ok(messages) => messages,
                Err(error) => {
                    self.say(Level::Error, format!("cannot receive: {error:#}"));
                    Vec::new()
                }
            };
            if messages.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(queues.max_polling_interval).max(SHORTEST_PAUSE);
                continue;
            }
            pause = SHORTEST_PAUSE;
            for message in messages {
                running.spawn(Arc::clone(&self).run(message));
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn receive(&self) -> Result<Vec<ReceivedMessage>> {
        self.host.counters.polls.fetch_add(1, Ordering::Relaxed);
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(i32::try_from(self.host.app.queues.batch_size)?),
            visibility_timeout: Some(self.lease()),
            ..Default::default()
        };
        match self.queue.receive_messages(Some(options)).await {
            Ok(answer) => {
                let messages = answer.into_model()?.items.unwrap_or_default();
                self.host.counters.received.fetch_add(messages.len() as u64, Ordering::Relaxed);
                Ok(messages)
            }
            // Nobody has sent anything yet.
            Err(error) if error.http_status() == Some(StatusCode::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn run(self: Arc<Self>, message: ReceivedMessage) {
        let id = message.message_id.clone().unwrap_or_default();
        let mut receipt = message.pop_receipt.clone().unwrap_or_default();
        let text = message.message_text.clone().unwrap_or_default();
        let most = self.host.app.queues.max_dequeue_count;
        let dequeued = message.dequeue_count.unwrap_or_default();
        let done = match self.decode(&text) {
            _ if dequeued > most => false,
            None => {
                self.say(
                    Level::Warning,
                    format!("{UNDECODABLE}: message {id} is not base64 of UTF-8"),
                );
                // In a poison queue it stays, and is met again when its lease is over.
                if !self.is_poison {
                    self.set_aside(&text, &id, &receipt).await;
                }
                return;
            }
            Some(text) => {
                let body = payload::of_message(
                    &self.function,
                    &self.binding,
                    &text,
                    &message,
                    self.host.data,
                );
                let invocation = self.instance.invoke(&self.function, &body);
                self.keeping(&id, &mut receipt, invocation).await
            }
        };
        if done {
            self.host.counters.deleted.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.queue.delete_message(&id, &receipt, None).await {
                self.say(Level::Error, format!("cannot delete message {id}: {error}"));
            }
        } else if dequeued >= most && !self.is_poison {
            self.set_aside(&text, &id, &receipt).await;
        } else {
            self.host.counters.returned.fetch_add(1, Ordering::Relaxed);
            let visible = self.host.app.queues.visibility_timeout.as_secs();
            let visible = i32::try_from(visible).unwrap_or(i32::MAX);
            if let Err(error) = self.queue.update_message(&id, &receipt, visible, None).await {
                self.say(Level::Error, format!("cannot give message {id} back: {error}"));
            }
        }
    }

    /// Renews the lease of a message at half its time until the invocation has ended.
    async fn keeping(
        &self,
        id: &str,
        receipt: &mut String,
        invocation: impl Future<Output = bool>,
    ) -> bool {
        tokio::pin!(invocation);
        loop {
            tokio::select! {
                done = &mut invocation => return done,
                () = tokio::time::sleep(self.host.lease / 2) => {}
            }
            self.host.counters.renewed.fetch_add(1, Ordering::Relaxed);
            match self.queue.update_message(id, receipt, self.lease(), None).await {
                Ok(answer) => {
                    if let Ok(new) = answer.headers().get_str(&"x-ms-popreceipt".into()) {
                        *receipt = new.to_owned();
                    }
                }
                Err(error) => {
                    self.say(Level::Error, format!("cannot renew message {id}: {error}"));
                }
            }
        }
    }

    /// Moves a message to the poison queue.
    async fn set_aside(&self, text: &str, id: &str, receipt: &str) {
        let aside = async {
            let message = QueueMessage { message_text: Some(text.to_owned()) };
            self.poison.create(None).await?;
            self.poison.send_message(message.try_into()?, None).await?;
            self.queue.delete_message(id, receipt, None).await
        };
        self.host.counters.poisoned.fetch_add(1, Ordering::Relaxed);
        match aside.await {
            Ok(_) => self.say(Level::Error, format!("message {id} is poison")),
            Err(error) => self.say(Level::Error, format!("cannot set {id} aside: {error}")),
        }
    }

    fn decode(&self, text: &str) -> Option<String> {
        if self.host.app.queues.base64() {
            String::from_utf8(STANDARD.decode(text).ok()?).ok()
        } else {
            Some(text.to_owned())
        }
    }

    /// The lease in seconds.
    fn lease(&self) -> i32 {
        i32::try_from(self.host.lease.as_secs()).unwrap_or(i32::MAX)
    }

    fn say(&self, level: Level, text: String) {
        self.instance.say(level, format!("{}: {text}", self.function));
    }
}
