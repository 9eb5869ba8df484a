//! One producer a process and hub, shared by all that send there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::address::HubAddress;
use super::batch::Outgoing;
use super::claim_check::Dispatch;
use super::connection::{Connector, HubDescription, Live, Uplink};
use super::health::{Health, Patience};
use super::identity::HubIdentity;
use super::lane::{Entry, Lane};
use super::pace::Pace;
use super::settings::EventHubOptions;
use super::trouble::{Cause, Trouble};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;

/// Events that are not accepted yet, in bytes, over all partitions. An event counts as a thousand
/// at least: the service counts a thousand events as a megabyte. Each may be in memory three times:
/// as it is, encoded, and in the library until it is settled.
const BACKLOG_BYTES: usize = 16 << 20;

/// Connections, over which the partitions are spread.
const CONNECTIONS: usize = 2;

/// How long a partition may accept nothing if it is not a matter of time: no such hub, no right.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);

/// The longest that anybody waits, whatever progress there is, in times of the patience.
const AT_MOST: u32 = 5;

pub(super) struct Producer {
    address: HubAddress,
    lanes: Vec<LaneHandle>,
    created_at: Option<i64>,
    backlog: Arc<Semaphore>,
    backlog_bytes: usize,
    patience: Duration,
    /// Ended with the producer.
    _tasks: JoinSet<()>,
}

struct LaneHandle {
    partition: String,
    queue: mpsc::UnboundedSender<Entry>,
    health: Arc<Health>,
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
        patience: Duration,
        partitions: usize,
    ) -> Result<Arc<Self>> {
        let opened =
            opened((format!("{} {}", connector.address, connector.endpoint), options.clone()));
        let mut opened = opened.lock().await;
        if let Some(producer) = opened.upgrade()
            && producer.lanes.len() >= partitions
        {
            return Ok(producer);
        }
        let address = connector.address.clone();
        let producer = Self::open(connector, options, patience)
            .await
            .map_err(|trouble| unavailable(&address, &trouble))?;
        let producer = Arc::new(producer);
        *opened = Arc::downgrade(&producer);
        Ok(producer)
    }

    async fn open(
        connector: Connector,
        options: &EventHubOptions,
        patience: Duration,
    ) -> Result<Self, Trouble> {
        let mut live = connector.open().await?;
        let HubDescription { partitions, created_at } = connector.describe(&mut live).await?;
        let connector = Arc::new(connector);
        let pace = Arc::new(Pace::new(options));
        let mut tasks = JoinSet::new();
        let mut first: Option<Live> = Some(live);
        let uplinks: Vec<Uplink> = (0..CONNECTIONS.min(partitions.len()))
            .map(|_| {
                let (uplink, keep) = Uplink::new(Arc::clone(&connector), first.take());
                tasks.spawn(keep);
                uplink
            })
            .collect();
        let mut lanes = Vec::with_capacity(partitions.len());
        for (partition, uplink) in partitions.into_iter().zip(uplinks.iter().cycle()) {
            let (queue, entries) = mpsc::unbounded_channel();
            let health = Arc::new(Health::new());
            let lane = Lane {
                name: format!("{}, partition {partition}", connector.address),
                target: connector.address.partition(&partition),
                uplink: uplink.clone(),
                pace: Arc::clone(&pace),
                health: Arc::clone(&health),
                queue: entries,
            };
            tasks.spawn(lane.run());
            lanes.push(LaneHandle { partition, queue, health });
        }
        if lanes.is_empty() {
            return Err(Trouble::passing("the hub says that it has no partitions"));
        }
        let backlog_bytes = pace.backlog(BACKLOG_BYTES);
        Ok(Self {
            address: connector.address.clone(),
            lanes,
            created_at,
            backlog: Arc::new(Semaphore::new(backlog_bytes)),
            backlog_bytes,
            patience,
            _tasks: tasks,
        })
    }

    /// What the hub was when this producer was opened.
    pub(super) fn hub(&self) -> HubIdentity {
        HubIdentity { partitions: self.lanes.len(), created_at: self.created_at }
    }

    /// Takes an event over for a partition, once there is room. Bounded.
    ///
    /// # Errors
    /// Transient: a partition accepts nothing.
    pub(super) async fn put(
        &self,
        partition: usize,
        event: Event,
        dispatch: &Arc<Dispatch>,
    ) -> Result<()> {
        let bytes = (event.body.len() + 512).max(1000).min(self.backlog_bytes) as u32;
        let backlog = &self.backlog;
        let permit = match Arc::clone(backlog).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => self
                .patiently(self.lanes.iter(), Arc::clone(backlog).acquire_many_owned(bytes))
                .await?
                .map_err(|_| Error::recovery("the producer was closed"))?,
        };
        let lane = &self.lanes[partition];
        lane.health.took();
        let entry = Outgoing { event, dispatch: Arc::clone(dispatch), _permit: permit };
        lane.queue
            .send(Entry::Event(entry))
            .map_err(|_| Error::recovery("a partition's task has ended unexpectedly"))
    }

    /// Returns once all that was put before is accepted. Bounded.
    ///
    /// # Errors
    /// Transient: a partition accepts nothing. What was put is kept and tried on; putting it again
    /// repeats it, with the same ids.
    pub(super) async fn flush(&self) -> Result<()> {
        let mut busy = Vec::new();
        let mut done = Vec::new();
        for lane in self.lanes.iter().filter(|lane| !lane.health.is_idle()) {
            let (tell, told) = oneshot::channel();
            if lane.queue.send(Entry::Flush(tell)).is_ok() {
                busy.push(lane);
            }
            done.push(told);
        }
        let all = self.patiently(busy.iter().copied(), join_all(done)).await?;
        if all.iter().any(Result::is_err) {
            return Err(Error::recovery("a partition's task has ended unexpectedly"));
        }
        Ok(())
    }

    /// Waits as long as the lanes get on.
    async fn patiently<'a, T>(
        &'a self,
        lanes: impl Iterator<Item = &'a LaneHandle> + Clone,
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
            for lane in lanes.clone() {
                if let Some(error) = self.given_up(lane) {
                    return Err(error);
                }
            }
            if since.elapsed() > self.patience * AT_MOST {
                return Err(Error::recovery(format!(
                    "event hub {}: events are accepted, but too slowly ({} s for the last); {}",
                    self.address,
                    since.elapsed().as_secs(),
                    Trouble { cause: Cause::Busy, sentence: String::new() }.next_step()
                )));
            }
        }
    }

    fn given_up(&self, lane: &LaneHandle) -> Option<Error> {
        let patience =
            Patience { usual: self.patience, hopeless: SHORT_PATIENCE.min(self.patience) };
        let (stalled, trouble) = lane.health.given_up(patience)?;
        Some(Error::recovery(format!(
            "event hub {}: partition {} has accepted nothing for {} s: {}; {}",
            self.address,
            lane.partition,
            stalled.as_secs(),
            trouble.sentence,
            trouble.next_step()
        )))
    }
}

/// What keeps a hub from being used at all.
fn unavailable(address: &HubAddress, trouble: &Trouble) -> Error {
    Error::new(
        ErrorKind::Transient,
        format!(
            "event hub {address} cannot be used: {}; {}",
            trouble.sentence,
            trouble.next_step()
        ),
    )
}
