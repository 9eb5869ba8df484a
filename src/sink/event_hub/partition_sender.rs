//! Sends events into one partition.
//!
//! No event is ever given up: it is sent again, under the same id, until the service has said
//! *accepted*. Who waits for it decides how long to wait ([`PartitionHealth`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::Outcome;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::batch::{Batch, BatchBuilder, BatchLimits, QueuedEvent};
use super::connection::{LinkSession, SharedConnection};
use super::health::PartitionHealth;
use super::hub_error::{Cause, HubError};
use super::in_flight::{BatchSequence, InFlight};
use super::rate_limiter::RateLimiter;
use crate::telemetry::metrics::{self, Retry, SinkKind};

/// For an outcome; the service itself gives up after a minute.
const OUTCOME_WITHIN: Duration = Duration::from_secs(60);

/// For leave to send (credit), and for a link.
const LINK_WITHIN: Duration = Duration::from_secs(30);

/// For more events to come, before a batch goes that is not full.
const LINGER: Duration = Duration::from_millis(20);

/// The service asks to stay away for so long when it is busy.
const BUSY: Duration = Duration::from_secs(4);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// If the link names none, which the service always does: what its smallest tier takes.
const SMALLEST_TIER_BYTES: u64 = 256 << 10;

/// A claim check fits, and nobody refuses less.
const SMALLEST_BATCH_BYTES: usize = 16 << 10;

/// What a sender is told.
pub(super) enum Entry {
    Event(QueuedEvent),
    /// Tell when everything before has been accepted.
    Flush(oneshot::Sender<()>),
}

type Pending = BoxFuture<'static, (BatchSequence, Result<Outcome, SendError>)>;

/// A task that sends what is queued for one partition.
pub(super) struct PartitionSender {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) connection: SharedConnection,
    pub(super) rate_limiter: Arc<RateLimiter>,
    pub(super) health: Arc<PartitionHealth>,
    pub(super) queue: mpsc::UnboundedReceiver<Entry>,
}

/// What a sender works with.
struct SenderState {
    partition: PartitionSender,
    /// An entry that could not be added yet.
    held: Option<Entry>,
    builder: BatchBuilder,
    /// When it goes although it is not full.
    close_at: Option<Instant>,
    in_flight: InFlight,
    outcomes: FuturesUnordered<Pending>,
    /// The largest message of the link, or what it turned out to be.
    largest: usize,
    not_before: Instant,
    pauses: u32,
    /// What is held needs the delta table, which does not answer.
    delayed: bool,
    /// The token was refused, and no link was attached since.
    renew: bool,
}

struct AttachedLink {
    sender: Sender,
    over: watch::Receiver<()>,
    _session: SessionHandle<()>,
}

impl PartitionSender {
    /// Runs until nobody can send to it any more.
    pub(super) async fn run(self) {
        let mut state = SenderState {
            partition: self,
            held: None,
            builder: BatchBuilder::default(),
            close_at: None,
            in_flight: InFlight::default(),
            outcomes: FuturesUnordered::new(),
            largest: usize::MAX,
            not_before: Instant::now(),
            pauses: 0,
            delayed: false,
            renew: false,
        };
        let mut link: Option<AttachedLink> = None;
        loop {
            if state.is_empty() {
                match state.partition.queue.recv().await {
                    Some(entry) => state.held = Some(entry),
                    None => return,
                }
            }
            match &mut link {
                None => {
                    sleep_until(state.not_before).await;
                    match state.attach().await {
                        Ok(attached) => link = Some(attached),
                        Err(failure) => {
                            state.renew |= failure.cause == Cause::Unauthorized;
                            state.record_failure(&failure);
                        }
                    }
                }
                Some(open) => match state.work(open).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(failure) => {
                        link = None;
                        state.lost(&failure);
                    }
                },
            }
        }
    }
}

impl SenderState {
    fn is_empty(&self) -> bool {
        self.held.is_none() && self.builder.is_empty() && self.in_flight.is_empty()
    }

    async fn attach(&mut self) -> Result<AttachedLink, HubError> {
        let LinkSession { mut session, mut over } =
            self.partition.connection.session(self.renew).await?;
        let attach = Sender::builder()
            .name(format!("deltacompare-{}", Uuid::new_v4().simple()))
            .target(self.partition.target.as_str())
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .attach(&mut session);
        let sender = tokio::select! {
            attached = timeout(LINK_WITHIN, attach) => attached
                .map_err(|_| HubError::transient("the link was not attached in time"))??,
            _ = over.changed() => return Err(HubError::transient("the connection ended")),
        };
        let most = sender.max_message_size().filter(|&most| most > 0);
        let most = usize::try_from(most.unwrap_or(SMALLEST_TIER_BYTES)).unwrap_or(usize::MAX);
        self.largest = self.largest.min(most);
        self.renew = false;
        Ok(AttachedLink { sender, over, _session: session })
    }

    /// Does what can be done, then waits for the next thing to happen. `false` if nobody can send
    /// any more.
    async fn work(&mut self, link: &mut AttachedLink) -> Result<bool, HubError> {
        self.fill().await;
        self.send(link).await?;
        let oldest = self.in_flight.oldest().map(|since| since + OUTCOME_WITHIN);
        let may_take = self.may_take();
        let waits = self.held.is_some() || self.in_flight.could_send();
        let lingers = self.close_at.is_some() && self.in_flight.is_empty();
        tokio::select! {
            biased;
            _ = link.over.changed() => Err(HubError::transient("the connection ended")),
            Some((place, outcome)) = self.outcomes.next(), if !self.outcomes.is_empty() => {
                self.settle(place, outcome).map(|()| true)
            }
            () = sleep_until(oldest.unwrap_or_else(Instant::now)), if oldest.is_some() => {
                Err(HubError::transient(format!(
                    "no answer to a batch within {} s",
                    OUTCOME_WITHIN.as_secs()
                )))
            }
            () = sleep_until(self.not_before), if waits => Ok(true),
            () = sleep_until(self.close_at.unwrap_or_else(Instant::now)), if lingers => Ok(true),
            entry = self.partition.queue.recv(), if may_take => match entry {
                Some(entry) => {
                    self.held = Some(entry);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }

    fn may_take(&self) -> bool {
        self.held.is_none() && self.in_flight.has_room()
    }

    /// Takes what is there into batches. With nothing under way, a batch goes as full as it is
    /// after a moment: while one is under way the next fills.
    async fn fill(&mut self) {
        loop {
            if self.may_take() {
                self.held = self.partition.queue.try_recv().ok();
            }
            match self.held.take() {
                // It has to wait for the delta table.
                Some(held) if self.delayed && self.not_before > Instant::now() => {
                    self.held = Some(held);
                    break;
                }
                Some(Entry::Event(entry)) => match self.builder.add(entry, self.limits()).await {
                    Ok(batch) => {
                        self.delayed = false;
                        self.keep(batch);
                        self.close_at.get_or_insert_with(|| Instant::now() + LINGER);
                    }
                    Err(kept) => {
                        let (entry, failure) = *kept;
                        self.held = Some(Entry::Event(entry));
                        self.delayed = true;
                        self.record_failure(&failure);
                        break;
                    }
                },
                Some(Entry::Flush(done)) => {
                    self.close();
                    self.in_flight.tell_when_accepted(done);
                }
                None => break,
            }
        }
        let waited = self.close_at.is_some_and(|at| at <= Instant::now());
        if waited && self.in_flight.is_empty() {
            self.close();
        }
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            message: self.largest,
            bytes: self.partition.rate_limiter.batch_bytes(),
            events: self.partition.rate_limiter.batch_events(),
        }
    }

    fn close(&mut self) {
        self.close_at = None;
        let batch = self.builder.close();
        self.keep(batch);
    }

    fn keep(&mut self, batch: Option<Batch>) {
        if let Some(batch) = batch {
            self.in_flight.add(batch);
        }
    }

    /// Sends what is ready, as far as the window, the rate limit and pauses allow.
    async fn send(&mut self, link: &mut AttachedLink) -> Result<(), HubError> {
        while self.not_before <= Instant::now() {
            let Some((place, mut batch)) = self.in_flight.take() else { break };
            if batch.bytes > self.largest {
                self.cut(place, batch).await;
                continue;
            }
            let events = batch.entries.len();
            let at = *batch
                .admitted
                .get_or_insert_with(|| self.partition.rate_limiter.reserve(events, batch.bytes));
            if at > Instant::now() {
                self.in_flight.put_back(place, batch);
                self.not_before = at;
                // It waits because it was told to.
                self.partition.health.moves();
                break;
            }
            // Counted now: if the connection ends meanwhile, it may have arrived.
            batch.tries += 1;
            let sent = tokio::select! {
                sent = timeout(LINK_WITHIN, link.sender.send_batchable_ref(&batch.sendable)) => {
                    sent.unwrap_or(Err(SendError::IllegalDeliveryState))
                }
                _ = link.over.changed() => Err(SendError::IllegalDeliveryState),
            };
            match sent {
                Ok(outcome) => {
                    self.in_flight.sent(place, batch);
                    self.outcomes.push(outcome.map(move |outcome| (place, outcome)).boxed());
                }
                Err(SendError::MessageSizeExceeded(_)) => {
                    self.shrink(batch.bytes);
                    self.in_flight.put_back(place, batch);
                }
                Err(error) => {
                    self.in_flight.put_back(place, batch);
                    return Err(match error {
                        SendError::IllegalDeliveryState => {
                            HubError::transient("the partition gives no leave to send")
                        }
                        error => error.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Only *accepted* counts.
    fn settle(
        &mut self,
        place: BatchSequence,
        outcome: Result<Outcome, SendError>,
    ) -> Result<(), HubError> {
        let Some(batch) = self.in_flight.settle(place) else { return Ok(()) };
        let failure = match outcome {
            Ok(Outcome::Accepted(_)) => {
                self.pauses = 0;
                self.accepted(&batch);
                self.in_flight.tell();
                return Ok(());
            }
            Ok(Outcome::Rejected(rejected)) => match &rejected.error {
                Some(error) => HubError::from(error),
                None => HubError::transient("a batch was rejected without a reason"),
            },
            Ok(Outcome::Released(_)) => HubError::transient("a batch was released, not stored"),
            Ok(Outcome::Modified(_)) => HubError::transient("a batch was given back, not stored"),
            Err(error) => {
                self.in_flight.put_back(place, batch);
                return Err(error.into());
            }
        };
        let bytes = batch.bytes;
        self.in_flight.put_back(place, batch);
        if failure.cause == Cause::TooLarge && self.shrink(bytes) {
            return Ok(());
        }
        self.record_failure(&failure);
        Ok(())
    }

    fn accepted(&self, batch: &Batch) {
        self.partition.health.accepted(batch.entries.len());
        metrics::acknowledged(SinkKind::EventHub, batch.entries.len() as u64);
        if batch.tries > 1 {
            metrics::repeated(SinkKind::EventHub, batch.entries.len() as u64);
        }
    }

    /// Makes batches smaller than one that was too large. `false` if they are as small as they get.
    fn shrink(&mut self, too_large: usize) -> bool {
        let shrunk = self.largest.min((too_large / 2).max(SMALLEST_BATCH_BYTES));
        let smaller = shrunk < self.largest.min(too_large);
        self.largest = shrunk;
        smaller
    }

    /// Cuts a batch that is larger than the largest message. An event that is so by itself becomes
    /// a claim check.
    async fn cut(&mut self, place: BatchSequence, batch: Batch) {
        let mut limits = self.limits();
        let mut builder = BatchBuilder::default();
        let mut pieces = Vec::new();
        let mut entries: VecDeque<QueuedEvent> = batch.entries.into();
        while let Some(entry) = entries.pop_front() {
            match builder.add(entry, limits).await {
                Ok(piece) => pieces.extend(piece),
                Err(kept) => {
                    let (entry, failure) = *kept;
                    self.record_failure(&failure);
                    // The rest is cut another time.
                    pieces.extend(builder.close());
                    entries.push_front(entry);
                    limits.message = usize::MAX;
                    limits.bytes = usize::MAX;
                }
            }
        }
        pieces.extend(builder.close());
        self.in_flight.put_pieces(place, pieces);
    }

    /// The link is gone: what has no outcome yet is sent again on the next one.
    fn lost(&mut self, failure: &HubError) {
        // Outcomes that have come already count.
        while let Some(Some((place, outcome))) = self.outcomes.next().now_or_never() {
            if matches!(outcome, Ok(Outcome::Accepted(_)))
                && let Some(batch) = self.in_flight.settle(place)
            {
                self.accepted(&batch);
            }
        }
        self.outcomes = FuturesUnordered::new();
        let largest = self.in_flight.take_back();
        if failure.cause == Cause::TooLarge {
            // The service ends the link without saying which one it was.
            self.shrink(largest.unwrap_or(usize::MAX));
        }
        self.renew = failure.cause == Cause::Unauthorized;
        self.record_failure(failure);
        self.in_flight.tell();
    }

    /// Records a failure, and how long to wait before the next attempt.
    fn record_failure(&mut self, failure: &HubError) {
        tracing::info!(partition = self.partition.name, error = failure.sentence, "not accepted");
        self.partition.health.record_failure(failure);
        metrics::retried(Retry::Send);
        if failure.cause == Cause::Busy {
            metrics::throttled();
        }
        let first = match failure.cause {
            Cause::Busy => BUSY,
            Cause::Gone => Duration::from_secs(1),
            _ => Duration::from_millis(50),
        };
        let pause = (first * 2_u32.saturating_pow(self.pauses.min(10))).min(LONGEST_PAUSE);
        self.pauses += 1;
        // Not all partitions at once.
        self.not_before = Instant::now() + pause.mul_f64(rand::random_range(1.0..1.25));
    }
}
