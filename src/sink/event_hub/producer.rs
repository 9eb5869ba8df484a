//! One producer a process and hub, shared by all that send there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::batch::QueuedEvent;
use super::claim_check::MessageEncoder;
use super::connection::{Connector, HubDescription, OpenConnection, SharedConnection};
use super::health::{PartitionHealth, StallTimeout};
use super::hub_error::{Cause, HubError};
use super::hub_incarnation::HubIncarnation;
use super::partition_sender::{Entry, PartitionSender};
use super::rate_limiter::RateLimiter;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::model::{EventHubOptions, HubAddress};

/// Events that are not accepted yet, in bytes, over all partitions. An event counts as a thousand
/// at least: the service counts a thousand events as a megabyte. Each may be in memory three times:
/// as it is, encoded, and in the library until it is settled.
const BACKLOG_BYTES: usize = 16 << 20;

/// Connections, over which the partitions are spread.
const CONNECTIONS: usize = 2;

/// How long a partition may accept nothing if it is not a matter of time: no such hub, no right.
const SHORT_STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that anybody waits, whatever progress there is, in times of the stall timeout.
const AT_MOST: u32 = 5;

pub(super) struct Producer {
    address: HubAddress,
    senders: Vec<SenderHandle>,
    created_at: Option<i64>,
    backlog: Arc<Semaphore>,
    backlog_bytes: usize,
    stall_timeout: Duration,
    /// Ended with the producer.
    _tasks: JoinSet<()>,
}

struct SenderHandle {
    partition: String,
    queue: mpsc::UnboundedSender<Entry>,
    health: Arc<PartitionHealth>,
}

/// What makes two sinks share a producer.
type Shared = (String, EventHubOptions);

/// The producer of a hub, once one is open. Whoever opens it holds this lock, and no other: a hub that
/// does not answer holds nobody up who sends to another one.
type Opened = Arc<Mutex<Weak<Producer>>>;

static PRODUCERS: LazyLock<std::sync::Mutex<HashMap<Shared, Opened>>> =
    LazyLock::new(Default::default);

fn opened(shared: Shared) -> Opened {
    let mut producers = PRODUCERS.lock().unwrap_or_else(PoisonError::into_inner);
    // Those that nobody opens, and whose producer has ended.
    producers.retain(|_, opened| {
        Arc::strong_count(opened) > 1
            || opened.try_lock().is_ok_and(|producer| producer.strong_count() > 0)
    });
    Arc::clone(producers.entry(shared).or_default())
}

impl Producer {
    /// The process's producer for a hub under these options, opened if there is none that knows so
    /// many partitions: a hub may have grown since. Bounded.
    ///
    /// # Errors
    /// Transient, with what the service says and what to do.
    pub(super) async fn shared(
        connector: Connector,
        options: &EventHubOptions,
        stall_timeout: Duration,
        partitions: usize,
    ) -> Result<Arc<Self>> {
        let opened =
            opened((format!("{} {}", connector.address, connector.endpoint), options.clone()));
        let mut opened = opened.lock().await;
        if let Some(producer) = opened.upgrade()
            && producer.senders.len() >= partitions
        {
            return Ok(producer);
        }
        let address = connector.address.clone();
        let producer = Self::open(connector, options, stall_timeout)
            .await
            .map_err(|failure| unavailable(&address, &failure))?;
        let producer = Arc::new(producer);
        *opened = Arc::downgrade(&producer);
        Ok(producer)
    }

    async fn open(
        connector: Connector,
        options: &EventHubOptions,
        stall_timeout: Duration,
    ) -> Result<Self, HubError> {
        let mut open = connector.open().await?;
        let HubDescription { partitions, created_at } = connector.describe(&mut open).await?;
        let connector = Arc::new(connector);
        let rate_limiter = Arc::new(RateLimiter::new(options));
        let mut tasks = JoinSet::new();
        let mut first: Option<OpenConnection> = Some(open);
        let connections: Vec<SharedConnection> = (0..CONNECTIONS.min(partitions.len()))
            .map(|_| {
                let (connection, keep) =
                    SharedConnection::new(Arc::clone(&connector), first.take());
                tasks.spawn(keep);
                connection
            })
            .collect();
        let mut senders = Vec::with_capacity(partitions.len());
        for (partition, connection) in partitions.into_iter().zip(connections.iter().cycle()) {
            let (queue, entries) = mpsc::unbounded_channel();
            let health = Arc::new(PartitionHealth::new());
            let sender = PartitionSender {
                name: format!("{}, partition {partition}", connector.address),
                target: connector.address.partition(&partition),
                connection: connection.clone(),
                rate_limiter: Arc::clone(&rate_limiter),
                health: Arc::clone(&health),
                queue: entries,
            };
            tasks.spawn(sender.run());
            senders.push(SenderHandle { partition, queue, health });
        }
        if senders.is_empty() {
            return Err(HubError::transient("the hub says that it has no partitions"));
        }
        let backlog_bytes = rate_limiter.backlog(BACKLOG_BYTES);
        Ok(Self {
            address: connector.address.clone(),
            senders,
            created_at,
            backlog: Arc::new(Semaphore::new(backlog_bytes)),
            backlog_bytes,
            stall_timeout,
            _tasks: tasks,
        })
    }

    /// What the hub was when this producer was opened.
    pub(super) fn hub(&self) -> HubIncarnation {
        HubIncarnation { partitions: self.senders.len(), created_at: self.created_at }
    }

    /// Takes an event over for a partition, once there is room. Bounded.
    ///
    /// # Errors
    /// Transient: a partition accepts nothing.
    pub(super) async fn put(
        &self,
        partition: usize,
        event: Event,
        encoder: &Arc<MessageEncoder>,
    ) -> Result<()> {
        let bytes = (event.body.len() + 512).max(1000);
        let fills_it = bytes > self.backlog_bytes;
        let permit = self.room(bytes).await?;
        let sender = &self.senders[partition];
        sender.health.took();
        let entry =
            QueuedEvent { event, encoder: Arc::clone(encoder), claim_check: None, _permit: permit };
        sender
            .queue
            .send(Entry::Event(entry))
            .map_err(|_| Error::recovery("a partition's task has ended unexpectedly"))?;
        if fills_it {
            // More than the backlog may hold: nothing else is read before it is out of memory.
            drop(self.room(bytes).await?);
        }
        Ok(())
    }

    /// Waits until so much of the backlog is free, or all of it. Bounded.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let bytes = bytes.min(self.backlog_bytes) as u32;
        let backlog = &self.backlog;
        match Arc::clone(backlog).try_acquire_many_owned(bytes) {
            Ok(permit) => Ok(permit),
            Err(_) => self
                .unless_stalled(self.senders.iter(), Arc::clone(backlog).acquire_many_owned(bytes))
                .await?
                .map_err(|_| Error::recovery("the producer was closed")),
        }
    }

    /// Returns once all that was put before is accepted. Bounded.
    ///
    /// # Errors
    /// Transient: a partition accepts nothing. What was put is kept and tried on; putting it again
    /// repeats it, with the same ids.
    pub(super) async fn flush(&self) -> Result<()> {
        let mut busy = Vec::new();
        let mut done = Vec::new();
        for sender in self.senders.iter().filter(|sender| !sender.health.is_idle()) {
            let (tell, told) = oneshot::channel();
            if sender.queue.send(Entry::Flush(tell)).is_ok() {
                busy.push(sender);
            }
            done.push(told);
        }
        let all = self.unless_stalled(busy.iter().copied(), join_all(done)).await?;
        if all.iter().any(Result::is_err) {
            return Err(Error::recovery("a partition's task has ended unexpectedly"));
        }
        Ok(())
    }

    /// Waits as long as the partitions accept events.
    async fn unless_stalled<'a, T>(
        &'a self,
        senders: impl Iterator<Item = &'a SenderHandle> + Clone,
        what: impl Future<Output = T>,
    ) -> Result<T> {
        let since = Instant::now();
        let mut look = interval(Duration::from_millis(500));
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return Ok(done),
                _ = look.tick() => {}
            }
            for sender in senders.clone() {
                if let Some(error) = self.stalled_for(sender) {
                    return Err(error);
                }
            }
            if since.elapsed() > self.stall_timeout * AT_MOST {
                return Err(Error::recovery(format!(
                    "event hub {}: events are accepted, but too slowly ({} s for the last); {}",
                    self.address,
                    since.elapsed().as_secs(),
                    HubError { cause: Cause::Busy, sentence: String::new() }.next_step()
                )));
            }
        }
    }

    fn stalled_for(&self, sender: &SenderHandle) -> Option<Error> {
        let stall_timeout = StallTimeout {
            usual: self.stall_timeout,
            hopeless: SHORT_STALL_TIMEOUT.min(self.stall_timeout),
        };
        let (stalled, failure) = sender.health.stalled_for(stall_timeout)?;
        Some(Error::recovery(format!(
            "event hub {}: partition {} has accepted nothing for {} s: {}; {}",
            self.address,
            sender.partition,
            stalled.as_secs(),
            failure.sentence,
            failure.next_step()
        )))
    }
}

/// What keeps a hub from being used at all.
fn unavailable(address: &HubAddress, failure: &HubError) -> Error {
    Error::new(
        ErrorKind::Transient,
        format!(
            "event hub {address} cannot be used: {}; {}",
            failure.sentence,
            failure.next_step()
        ),
    )
}
