//! Works on an item: diff → events → sinks → checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tokio::time::timeout;

use super::batch::{AtWork, Batch};
use super::live_counts::LiveCounts;
use super::store::{Claim, Store, StoredRecovery};
use super::work_item::ItemProgress;
use super::{diagnosis, sinks};
use crate::catalog::Key;
use crate::diff::{self, Change, DiffItem, RowChange, SeenKeys, Sessions, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Encoder, EncoderSettings, Event};
use crate::fdw;
use crate::model::Counts;
use crate::postgres::Session;
use crate::preflight::Servers;
use crate::sink::{EventHubAccess, Held, Sink};
use crate::telemetry::metrics::{self, Retry};

/// How an item is to be attempted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts {
    /// How often a step that met transient trouble is tried again.
    pub(super) retries: u32,
    /// From then on it ends at the next checkpoint.
    pub(super) pause_at: Option<Instant>,
    /// Whether its events are to be durable at the end.
    pub(super) flush: bool,
}

/// Time between two stored checkpoints: each costs a flush of every sink.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// How often a lease is renewed at least: a cancelled item stops when it cannot be.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Bytes of events that are handed to the sinks at once, if it is more than one event.
const MOST_EVENT_BYTES: usize = 8 << 20;

/// How long the sinks may take to acknowledge what an attempt sent that failed or was stopped.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// A warning about a table.
const KEY_IS_TWICE: &str = "a key is in the table more than once (its index is damaged, or stale \
    after a change of collations): the stream's rows would be ambiguous, too; reindex production \
    and compare downstream with it";

/// What the work items of one recovery share in one process. It opens the recovery's sinks once.
pub(super) struct Worker {
    store: Store,
    servers: Servers,
    settings: EncoderSettings,
    sinks: Vec<Arc<dyn Sink>>,
    /// `application_name` of the sessions that diff.
    session_name: String,
    lease: Duration,
}

/// How far an item was compared.
#[derive(Debug)]
pub(super) enum Compared {
    /// To its end.
    Whole(Whole),
    /// To a checkpoint, which is stored, since the time for one call was over: the claim still holds.
    /// With what an operator should know of this part.
    Part(Vec<String>),
}

/// An item that was compared to its end, which is not stored yet.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) done: ItemProgress,
    /// What an operator should know.
    pub(super) warnings: Vec<String>,
    /// Whether its events are durable in every sink, and [`ItemProgress::held`] is known.
    pub(super) durable: bool,
}

/// How far a diff came, with what an operator should know.
enum Diffed {
    /// To the item's end.
    All(Vec<String>),
    /// To a checkpoint, which is stored.
    Part(Vec<String>),
}

/// Sessions on both servers that a worker keeps from one item to the next.
#[derive(Debug)]
pub(super) struct Connected {
    base: Session,
    head: Session,
}

impl Connected {
    pub(super) async fn close(self) {
        tokio::join!(self.base.close(), self.head.close());
    }
}

impl Worker {
    /// Opens the recovery's sinks.
    ///
    /// # Errors
    /// A sink cannot be opened, or has lost events.
    pub(super) async fn open(
        servers: &Servers,
        store: &Store,
        recovery: &StoredRecovery,
        lease: Duration,
        event_hub: &EventHubAccess,
    ) -> Result<Arc<Self>> {
        let debezium = recovery.request.debezium.options();
        Ok(Arc::new(Self {
            sinks: sinks::open(recovery, store, event_hub).await?,
            settings: EncoderSettings {
                recovery_id: recovery.id,
                database: servers.head.database().to_owned(),
                server_name: debezium.topic_prefix.clone(),
                format: recovery.request.format,
                recovered_at: recovery.created_at,
                before: recovery.request.before,
                debezium,
                version: recovery.request.new_slot_restart_lsn.map(|lsn| lsn.0),
            },
            store: store.clone(),
            servers: servers.clone(),
            session_name: fdw::object_name(recovery.id),
            lease,
        }))
    }

    /// Stores how many changes of the item at work, whose attempt failed or was stopped, every sink has
    /// taken, and how many rows were compared until then. Another attempt sends those behind its
    /// checkpoint again.
    pub(super) async fn tell_acknowledged(&self, batch: &Batch) {
        let AtWork { place, live, .. } = batch.at_work();
        let number = batch.claims()[place].item.number;
        let held: Vec<(i32, i32)> =
            batch.held().into_iter().filter(|&(held, _)| held == number).collect();
        if held.is_empty() {
            return;
        }
        // What a sink has not taken may be taken later; nothing can be said of it.
        if let Ok(Ok(_)) = timeout(ACKNOWLEDGED_WITHIN, self.flush()).await {
            let at_work = (number, live.get());
            let _ = self.store.renew(batch.recovery(), &held, self.lease, at_work).await;
        }
    }

    /// Renews the leases of a batch's claims until one of them is lost. Trouble with the store is borne
    /// for as long as the leases last.
    pub(super) async fn keep_leases(&self, batch: &Batch) -> Error {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep((self.lease / 3).min(RENEW_EVERY)).await;
            let held = batch.held();
            if held.is_empty() {
                continue;
            }
            let AtWork { place, live, .. } = batch.at_work();
            let at_work = (batch.claims()[place].item.number, live.get());
            // A server that is gone without a word does not answer, and its leases run out.
            let renewing =
                timeout(self.lease, self.store.renew(batch.recovery(), &held, self.lease, at_work));
            let renewal = renewing.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Transient, "the control database does not answer"))
            });
            match renewal {
                Ok(numbers) => {
                    renewed = Instant::now();
                    // Those that end meanwhile are none of them.
                    let still_held = batch.held();
                    let lost = still_held
                        .iter()
                        .find(|&key| held.contains(key) && !numbers.contains(&key.0));
                    if let Some((number, _)) = lost {
                        return batch.lost(*number);
                    }
                }
                Err(error) if renewed.elapsed() >= self.lease => {
                    return error.with_kind(ErrorKind::LeaseLost);
                }
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
            }
        }
    }

    /// Compares a claimed item to its end, or to the first checkpoint after `pause_at`, and hands what
    /// it finds to the sinks. The sessions are kept for the next item unless something went wrong in
    /// them. With `flush`, the events are durable at the end; without, they may not be.
    ///
    /// # Errors
    /// The item is not compared. Transient trouble was met with as many `retries`.
    pub(super) async fn compare(
        &self,
        claim: &Claim,
        live: &LiveCounts,
        sessions: &mut Option<Connected>,
        Attempts { retries, pause_at, flush }: Attempts,
    ) -> Result<Compared> {
        let mut done = claim.item.done.clone();
        let mut wait = Duration::from_millis(500);
        let mut retried = 0;
        loop {
            let outcome =
                match self.diff_on(claim, live, sessions, &mut done, pause_at, flush).await {
                    Ok(diffed) => Ok(diffed),
                    Err(error) => Err(self.explained(claim, error).await),
                };
            match outcome {
                Err(error)
                    if error.kind() == ErrorKind::Transient
                        && retried < retries
                        && pause_at.is_none_or(|pause_at| Instant::now() < pause_at) =>
                {
                    tracing::warn!(%error, "trying again");
                    metrics::retried(Retry::Step);
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    retried += 1;
                }
                Err(error) => return Err(error),
                Ok(Diffed::Part(warnings)) => return Ok(Compared::Part(warnings)),
                Ok(Diffed::All(warnings)) => {
                    return Ok(Compared::Whole(Whole { done, warnings, durable: flush }));
                }
            }
        }
    }

    /// Makes what the sinks were given durable. Yields what they hold then.
    pub(super) async fn make_durable(&self, live: &LiveCounts) -> Result<Vec<Held>> {
        live.at_sinks(self.flush()).await
    }

    async fn explained(&self, claim: &Claim, error: Error) -> Error {
        let tables = &claim.item.spec.tables;
        diagnosis::explained(&self.servers, &self.session_name, tables, error).await
    }

    /// Diffs from where `done` says to the end of the item, moving `done` along, or to the first
    /// checkpoint after `pause_at`.
    async fn diff_on(
        &self,
        claim: &Claim,
        live: &LiveCounts,
        connected: &mut Option<Connected>,
        done: &mut ItemProgress,
        pause_at: Option<Instant>,
        flush: bool,
    ) -> Result<Diffed> {
        let spec = &claim.item.spec;
        let table = &spec.tables.table;
        let base_columns = spec.tables.base.as_ref().map_or(&table.columns, |base| &base.columns);
        let mut encoder = Encoder::new(&self.settings, table, base_columns);
        let Connected { mut base, mut head } = match connected.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let (mut on_base, mut on_head) =
            tokio::try_join!(diff::snapshot(&mut base), diff::snapshot(&mut head))?;
        let sessions = Sessions { base: &mut on_base, head: &mut on_head };
        let mut steps = diff::changes(sessions, &spec.tables, &spec.scope, done.checkpoint.clone());
        let mut now = done.clone();
        let mut stored = Instant::now();
        let mut paused = false;
        let mut notes = Vec::new();
        let mut seen = SeenKeys::of(&table.key);
        while let Some(step) = steps.try_next().await? {
            match step {
                DiffItem::Compared(rows) => now.counts.rows_compared += rows,
                DiffItem::Passed(rows) => now.account.pass(rows, now.checkpoint.is_some()),
                DiffItem::Note(note) => notes.push(note),
                DiffItem::Changes(changes) => {
                    let mut events = Vec::with_capacity(changes.len());
                    let mut bytes = 0;
                    for change in changes {
                        let repeated = seen.as_mut().and_then(|seen| seen.repeated(&change));
                        if let Some(key) = repeated {
                            notes.push(self.look_at_repeated(&spec.tables, &key).await?);
                            seen = None;
                        }
                        now.account.add(&change.row);
                        now.counts.count(&change);
                        now.digest.add(&change);
                        let event = encoder
                            .encode(change)
                            .map_err(|error| Error::item(error.to_string()).because(error))?;
                        now.events.add(&event);
                        bytes += event.body.len();
                        events.push(event);
                        if bytes > MOST_EVENT_BYTES {
                            live.at_sinks(self.write(&events)).await?;
                            events.clear();
                            bytes = 0;
                        }
                    }
                    if !events.is_empty() {
                        live.at_sinks(self.write(&events)).await?;
                    }
                }
                DiffItem::Checkpoint(checkpoint) => {
                    now.checkpoint = Some(checkpoint);
                    paused = pause_at.is_some_and(|pause_at| Instant::now() >= pause_at);
                    if paused || stored.elapsed() >= CHECKPOINT_EVERY {
                        now.held = live.at_sinks(self.flush()).await?;
                        self.store.checkpoint(claim, &now).await?;
                        *done = now.clone();
                        live.tell(spec.strategy, done.counts);
                        stored = Instant::now();
                    }
                }
            }
            live.set(now.counts);
            if paused {
                break;
            }
        }
        drop(steps);
        if flush && !paused {
            now.held = self.make_durable(live).await?;
        }
        *done = now;
        // Everything is read: the transactions roll back while what comes next is begun. A session
        // that breaks now must not have the item compared again: its counts and its digest would be
        // added a second time.
        drop((on_base, on_head));
        *connected = Some(Connected { base, head });
        let mut warnings = notes;
        warnings.extend(encoder.warnings().iter().cloned());
        if encoder.lost_values() > 0 {
            warnings.push(format!(
                "{} values have no form in this event format and were sent as null",
                encoder.lost_values()
            ));
        }
        Ok(if paused { Diffed::Part(warnings) } else { Diffed::All(warnings) })
    }

    async fn connect(&self) -> Result<Connected> {
        let (base, head) = tokio::try_join!(
            self.servers.base.connect(&self.session_name),
            self.servers.head.connect(&self.session_name),
        )?;
        Ok(Connected { base, head })
    }

    /// Looks whether a key that came out twice is twice in the table, which a damaged index allows.
    /// Yields what an operator should know then.
    ///
    /// # Errors
    /// It is not: the changes are wrong.
    async fn look_at_repeated(
        &self,
        tables: &Tables,
        printed: &[Option<String>],
    ) -> Result<String> {
        let Key::Columns(key) = &tables.table.key else { return Ok(String::new()) };
        let mut most = 0;
        for (server, source) in
            [(&self.servers.base, tables.base.as_ref()), (&self.servers.head, Some(&tables.head))]
        {
            let Some(source) = source else { continue };
            let session = server.connect(&self.session_name).await?;
            diff::use_no_index(&session).await?;
            most = most.max(diff::count_rows_with_key(&session, source, key, printed).await?);
            session.close().await;
        }
        if most > 1 {
            return Ok(KEY_IS_TWICE.to_owned());
        }
        Err(Error::item(
            "a key came out twice, and not as a delete that an insert follows: changes are wrong, \
             so do not use this table's events: recover it again with --strategy full, and report \
             this",
        ))
    }

    async fn write(&self, events: &[Event]) -> Result<()> {
        let _watch = metrics::watch(metrics::Step::Deliver);
        for sink in &self.sinks {
            sink.write(events).await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<Vec<Held>> {
        let _watch = metrics::watch(metrics::Step::Deliver);
        let mut held = Vec::with_capacity(self.sinks.len());
        for sink in &self.sinks {
            held.push(sink.flush().await?);
        }
        Ok(held)
    }
}

impl Counts {
    fn count(&mut self, change: &Change) {
        match change.row {
            RowChange::Insert(_) => self.inserts += 1,
            RowChange::Update { .. } => self.updates += 1,
            RowChange::Delete(_) => self.deletes += 1,
        }
    }
}
