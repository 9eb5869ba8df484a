//! Works on an item: diff → events → sinks → checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument;

use super::live_counts::LiveCounts;
use super::store::{Claim, Store, StoredRecovery};
use super::trace;
use super::work_item::{Counts, ItemProgress};
use super::{diagnosis, sinks};
use crate::catalog::Key;
use crate::diff::{self, Change, RowChange, SeenKeys, Sessions, Step, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Encoder, EncoderSettings, Event};
use crate::fdw;
use crate::preflight::Servers;
use crate::sink::{EventHubAccess, Held, Sink};
use crate::telemetry::metrics::{self, Attempt, Retry};

/// How often a step that met transient trouble is tried again within one attempt.
const RETRIES: u32 = 4;

/// Time between two stored checkpoints: each costs a flush of every sink.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

/// How often a lease is renewed at least: a cancelled item stops when it cannot be.
const RENEW_EVERY: Duration = Duration::from_secs(3);

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

/// How an attempt at an item ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempted {
    /// The item is completed, and that is stored.
    Completed,
    /// The time for one call was over: how far the item is is stored, and the claim still holds. With
    /// what an operator should know of this part.
    Paused(Vec<String>),
}

/// How far a diff came.
enum Diffed {
    /// To the item's end, with what an operator should know.
    All(Vec<String>),
    /// To a checkpoint, which is stored.
    Part(Vec<String>),
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
        Ok(Arc::new(Self {
            sinks: sinks::open(recovery, store, event_hub).await?,
            settings: EncoderSettings {
                recovery_id: recovery.id,
                database: servers.head.database().to_owned(),
                server_name: recovery.request.topic_prefix.clone(),
                format: recovery.request.format,
                recovered_at: recovery.created_at,
                before: recovery.request.before,
                debezium: recovery.request.debezium,
                version: recovery.request.new_slot_restart_lsn.map(|lsn| lsn.0),
            },
            store: store.clone(),
            servers: servers.clone(),
            session_name: fdw::object_name(recovery.id),
            lease,
        }))
    }

    /// Works on a claimed item until it is completed, or until the first checkpoint after `pause_at`.
    ///
    /// # Errors
    /// The item is not completed, and the claim is the caller's to end.
    pub(super) async fn work(
        self: &Arc<Self>,
        claim: &Claim,
        live: &Arc<LiveCounts>,
        pause_at: Option<Instant>,
    ) -> Result<Attempted> {
        let started = Instant::now();
        let _watch = metrics::watch(metrics::Step::Compare);
        live.begin(claim.item.done.counts);
        // A task of its own: encoding a large step must not keep the lease from being renewed.
        let (worker, claimed, counts) = (Arc::clone(self), claim.clone(), Arc::clone(live));
        let mut heartbeat = JoinSet::new();
        let renewing = async move { worker.keep_lease(&claimed, &counts).await };
        heartbeat.spawn(renewing.in_current_span());
        let outcome = tokio::select! {
            outcome = self.diff_with_retries(claim, live, pause_at) => outcome,
            Some(lost) = heartbeat.join_next() => Err(lost.unwrap_or_else(|error| {
                Error::recovery("the lease's keeper ended unexpectedly").because(error)
            })),
        };
        drop(heartbeat);
        match outcome? {
            (_, Diffed::Part(warnings)) => {
                metrics::attempted(Attempt::Paused);
                Ok(Attempted::Paused(warnings))
            }
            (done, Diffed::All(warnings)) => {
                self.store.complete(claim, &done, &warnings, started.elapsed()).await?;
                live.tell(claim.item.spec.strategy, done.counts);
                trace::completed(claim, &done, started.elapsed());
                Ok(Attempted::Completed)
            }
        }
    }

    /// Stores how many changes of an attempt that failed or was stopped every sink has taken, and how
    /// many rows were compared until then. Another attempt sends those behind its checkpoint again.
    pub(super) async fn tell_acknowledged(&self, claim: &Claim, live: &LiveCounts) {
        // What a sink has not taken may be taken later; nothing can be said of it.
        if let Ok(Ok(_)) = timeout(ACKNOWLEDGED_WITHIN, self.flush()).await {
            let _ = self.store.renew(claim, self.lease, &live.get()).await;
        }
    }

    /// Renews the lease until it is lost. Trouble with the store is borne for as long as the lease
    /// lasts.
    async fn keep_lease(&self, claim: &Claim, live: &LiveCounts) -> Error {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep((self.lease / 3).min(RENEW_EVERY)).await;
            let counts = live.get();
            // A server that is gone without a word does not answer, and its lease runs out.
            let renewing = timeout(self.lease, self.store.renew(claim, self.lease, &counts));
            let renewal = renewing.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Transient, "the control database does not answer"))
            });
            match renewal {
                Ok(()) => renewed = Instant::now(),
                Err(error) if error.kind() == ErrorKind::LeaseLost => return error,
                Err(error) if renewed.elapsed() >= self.lease => {
                    return error.with_kind(ErrorKind::LeaseLost);
                }
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
            }
        }
    }

    async fn diff_with_retries(
        &self,
        claim: &Claim,
        live: &LiveCounts,
        pause_at: Option<Instant>,
    ) -> Result<(ItemProgress, Diffed)> {
        let mut done = claim.item.done.clone();
        let mut wait = Duration::from_millis(500);
        let mut retries = 0;
        let time_is_over = || pause_at.is_some_and(|pause_at| Instant::now() >= pause_at);
        loop {
            let outcome = match self.diff_on(claim, live, &mut done, pause_at).await {
                Ok(diffed) => Ok(diffed),
                Err(error) => Err(self.explained(claim, error).await),
            };
            match outcome {
                Err(error)
                    if error.kind() == ErrorKind::Transient
                        && retries < RETRIES
                        && !time_is_over() =>
                {
                    tracing::warn!(%error, "trying again");
                    metrics::retried(Retry::Step);
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    retries += 1;
                }
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Item | ErrorKind::Transient) {
                        self.tell_acknowledged(claim, live).await;
                    }
                    return Err(error);
                }
                Ok(diffed) => return Ok((done, diffed)),
            }
        }
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
        done: &mut ItemProgress,
        pause_at: Option<Instant>,
    ) -> Result<Diffed> {
        let spec = &claim.item.spec;
        let table = &spec.tables.table;
        let base_columns = spec.tables.base.as_ref().map_or(&table.columns, |base| &base.columns);
        let mut encoder = Encoder::new(&self.settings, table, base_columns);
        let (mut base, mut head) = tokio::try_join!(
            self.servers.base.connect(&self.session_name),
            self.servers.head.connect(&self.session_name),
        )?;
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
                Step::Compared(rows) => now.counts.rows_compared += rows,
                Step::Passed(rows) => now.account.pass(rows, now.checkpoint.is_some()),
                Step::Note(note) => notes.push(note),
                Step::Changes(changes) => {
                    let mut events = Vec::with_capacity(changes.len());
                    for change in &changes {
                        let repeated = seen.as_mut().and_then(|seen| seen.repeated(change));
                        if let Some(key) = repeated {
                            notes.push(self.look_at_repeated(&spec.tables, &key).await?);
                            seen = None;
                        }
                        now.account.add(&change.row);
                        now.counts.count(change);
                        now.digest.add(change);
                        events.push(
                            encoder
                                .encode(change)
                                .map_err(|error| Error::item(error.to_string()).because(error))?,
                        );
                    }
                    live.at_sinks(self.write(&events)).await?;
                }
                Step::Checkpoint(checkpoint) => {
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
        now.held = live.at_sinks(self.flush()).await?;
        *done = now;
        // Everything is read and durable. A session that breaks now must not have the item compared
        // again: its counts and its digest would be added a second time.
        let _ = tokio::join!(on_base.rollback(), on_head.rollback());
        tokio::join!(base.close(), head.close());
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
