//! Working on a recovery's items: any number at once, in any number of processes. A worker has one
//! item, or several small ones that it claimed together.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::batch::{AtWork, Batch};
use super::deadline::Deadline;
use super::engine::Engine;
use super::live_counts::LiveCounts;
use super::progress::Ended;
use super::store::{CompletedItem, NextItem};
use super::trace;
use super::worker::{Attempts, Compared, Connected, Whole, Worker};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;
use crate::telemetry::metrics::{self, Attempt, Retry};

/// So many failures in a row without a checkpoint fail an item. The waits between make it some ten
/// minutes, which a restart or a failover of a server does not take.
const MOST_FAILURES: i32 = 12;

/// The longest time for which an item is put off.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// How often a step that met transient trouble is tried again within one attempt.
const RETRIES: u32 = 4;

/// How long after the end of a lease its item is asked for: a queue counts in seconds.
const LAPSED: Duration = Duration::from_secs(1);

/// Time between two stores of what was compared of a batch: each costs a flush of every sink.
const STORE_EVERY: Duration = Duration::from_millis(250);

/// What came of a call of [`Engine::work`].
#[derive(Debug)]
pub enum Worked {
    /// No item could be claimed now, but some are open: look again after a moment, or when another
    /// call ends.
    NotNow,
    /// No item is open, or the recovery does not run.
    NoneOpen,
    /// Each item has ended, or another process has it now.
    Ended,
    /// Some of the items are open, or will be when another process has died of them, and go on at their
    /// last checkpoints.
    Open {
        /// They are put off for so long.
        after: Duration,
        /// What they were put off for.
        trouble: Option<Error>,
    },
}

/// How the work on a batch ended without an error.
#[derive(Debug)]
enum Attempted {
    /// All its items have ended or were put off.
    Through,
    /// The time for one call was over, or the process is to stop.
    Paused,
}

/// What keeps a worker from going on with its batch.
#[derive(Debug)]
struct Trouble {
    /// The place of the item that met it.
    place: usize,
    error: Error,
}

/// An item that was compared to its end, and is to be stored as completed.
struct Finished {
    place: usize,
    whole: Whole,
    took: Duration,
    live: Arc<LiveCounts>,
    span: Span,
}

impl Engine {
    /// Works on a batch of items, the one that is named or else the next that has open ones, until its
    /// items have ended, the time for one call is over, or `stop` becomes true.
    ///
    /// # Errors
    /// Trouble with the status store: repeat the call.
    pub async fn work(
        &self,
        id: Uuid,
        batch: Option<i32>,
        stop: watch::Receiver<bool>,
    ) -> Result<Worked> {
        let deadline = self.deadline();
        if let Some(batch) = batch {
            // A message that comes for nothing needs no worker.
            let Some(recovery) = self.store.recovery(id).await? else {
                return Ok(Worked::NoneOpen);
            };
            if !self.may_work_on(&recovery) {
                return Ok(Worked::NotNow);
            }
            if !self.store.is_open(id, batch).await? {
                return self.after_lease(id, batch).await;
            }
        }
        // Before the claim: nobody renews its lease until the worker is ready.
        let worker = self.worker(id).await;
        match self.store.claim(id, batch, self.limits.lease).await? {
            NextItem::NotNow => match batch {
                Some(batch) => self.after_lease(id, batch).await,
                None => Ok(Worked::NotNow),
            },
            NextItem::NoneOpen => Ok(Worked::NoneOpen),
            NextItem::Claimed(claims) => {
                self.work_on(Batch::new(id, claims), worker, deadline, stop).await
            }
        }
    }

    /// What comes of a call for a batch that cannot be claimed. One that another process has is asked for
    /// again when the lease of that process has run out: it may be dead.
    async fn after_lease(&self, id: Uuid, batch: i32) -> Result<Worked> {
        let left = self.store.leased_for(id, batch).await?;
        Ok(left.map_or(Worked::NotNow, |left| Worked::Open { after: left + LAPSED, trouble: None }))
    }

    async fn work_on(
        &self,
        batch: Batch,
        worker: Result<Arc<Worker>>,
        deadline: Option<Deadline>,
        stop: watch::Receiver<bool>,
    ) -> Result<Worked> {
        let batch = Arc::new(batch);
        let sinks_of = worker.as_ref().ok().map(Arc::clone);
        let attempted = match worker {
            Err(error) => Err(Trouble { place: 0, error }),
            Ok(worker) => self.attempt(&batch, worker, deadline, stop).await,
        };
        match attempted {
            Ok(Attempted::Through) => {}
            Ok(Attempted::Paused) => {
                batch.at_work().span.in_scope(|| tracing::info!("work item paused"));
                if let Some(worker) = sinks_of {
                    worker.tell_acknowledged(&batch).await;
                }
                self.give_back_rest(&batch, Duration::ZERO).await?;
            }
            Err(trouble) => self.stopped_by(&batch, trouble).await?,
        }
        Ok(match batch.take_put_off() {
            Some((after, trouble)) => Worked::Open { after, trouble },
            None => Worked::Ended,
        })
    }

    /// Ends what is left of a batch that cannot be gone on with now.
    async fn stopped_by(&self, batch: &Batch, Trouble { place, error }: Trouble) -> Result<()> {
        let recovery = batch.recovery();
        let after = match error.kind() {
            ErrorKind::LeaseLost => {
                tracing::warn!(%error, "work item abandoned");
                // If the store does not answer, the items merely keep a failure that was none.
                let left = batch.left();
                if self.store.outlived(recovery, &left).await.is_ok() {
                    let _ = self.store.give_back_untouched(recovery, &left, Duration::ZERO).await;
                }
                return Ok(());
            }
            ErrorKind::EventsLost => {
                self.events_lost(recovery, &error).await?;
                self.store.give_back_untouched(recovery, &batch.left(), Duration::ZERO).await?;
                return Ok(());
            }
            _ => {
                let at_work = batch.at_work();
                let (span, took) = if at_work.place == place && !at_work.span.is_none() {
                    (at_work.span, at_work.since.elapsed())
                } else {
                    (trace::span(&batch.claims()[place]), Duration::ZERO)
                };
                self.failed(batch, place, error, took).instrument(span).await?
            }
        };
        self.give_back_rest(batch, after).await
    }

    /// Gives back what is left of a batch, for another call.
    async fn give_back_rest(&self, batch: &Batch, after: Duration) -> Result<()> {
        let left = batch.left();
        if !left.is_empty()
            && self.store.give_back_untouched(batch.recovery(), &left, after).await?
        {
            batch.put_off(after, None);
        }
        Ok(())
    }

    /// Works on a batch in a task of its own: a panic in it ends this attempt and nothing else.
    async fn attempt(
        &self,
        batch: &Arc<Batch>,
        worker: Arc<Worker>,
        deadline: Option<Deadline>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Attempted, Trouble> {
        let began = Instant::now();
        let mut task = tokio::spawn({
            let (engine, batch) = (self.clone(), Arc::clone(batch));
            let pause_at = deadline.map(|deadline| deadline.pause_at);
            async move { engine.work_through(&batch, &worker, pause_at).await }.in_current_span()
        });
        let abort = AbortOnDrop(task.abort_handle());
        let ended = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.end_at.into()).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            attempted = &mut task => attempted.unwrap_or_else(|error| {
                Err(Trouble { place: batch.at_work().place, error: panicked(error) })
            }),
            () = ended => {
                let AtWork { place, since, live, .. } = batch.at_work();
                if since.elapsed() < began.elapsed() / 2 {
                    // The others had most of the time: it gets all of the next call's.
                    Ok(Attempted::Paused)
                } else {
                    Err(Trouble { place, error: self.took_too_long(&live) })
                }
            }
            _ = stop.wait_for(|stop| *stop) => Ok(Attempted::Paused),
        };
        drop(abort);
        outcome
    }

    /// Works on the items of a batch, one after the other, and renews their leases meanwhile.
    async fn work_through(
        &self,
        batch: &Arc<Batch>,
        worker: &Arc<Worker>,
        pause_at: Option<Instant>,
    ) -> Result<Attempted, Trouble> {
        // A task of its own: encoding a large step must not keep the leases from being renewed.
        let mut heartbeat = JoinSet::new();
        let (renews, renewed) = (Arc::clone(worker), Arc::clone(batch));
        heartbeat.spawn(async move { renews.keep_leases(&renewed).await }.in_current_span());
        tokio::select! {
            outcome = self.compare_all(batch, worker, pause_at) => outcome,
            Some(lost) = heartbeat.join_next() => {
                let error = lost.unwrap_or_else(|error| {
                    Error::recovery("the lease's keeper ended unexpectedly").because(error)
                });
                Err(Trouble { place: batch.at_work().place, error })
            }
        }
    }

    /// Compares the items of a batch, one after the other, and stores what became of them. An item
    /// that fails, or meets trouble that may be its own, does not keep the others from being compared.
    async fn compare_all(
        &self,
        batch: &Batch,
        worker: &Worker,
        pause_at: Option<Instant>,
    ) -> Result<Attempted, Trouble> {
        let last = batch.claims().len() - 1;
        let mut sessions: Option<Connected> = None;
        let mut finished = Vec::new();
        let mut stored = Instant::now();
        let mut attempted = Attempted::Through;
        // The item before met trouble that may pass: the next one shows whose it is.
        let mut troubled = false;
        for (place, claim) in batch.claims().iter().enumerate() {
            let time_is_over = pause_at.is_some_and(|pause_at| Instant::now() >= pause_at);
            if place > 0 && time_is_over {
                attempted = Attempted::Paused;
                break;
            }
            let AtWork { since, live, span, .. } = batch.begin(place);
            let shown = self.progress.begin(&claim.item, &live);
            let attempts = Attempts {
                retries: if troubled { 0 } else { RETRIES },
                pause_at,
                flush: last == 0,
            };
            let comparing = async {
                if claim.failures >= MOST_FAILURES {
                    return Err(Error::item("workers ended again and again while they were at it"));
                }
                let _watch = metrics::watch(metrics::Step::Compare);
                AssertUnwindSafe(worker.compare(claim, &live, &mut sessions, attempts))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Err(panicked("a panic")))
            };
            let compared = comparing.instrument(span.clone()).await;
            drop(shown);
            let took = since.elapsed();
            let error = match compared {
                Ok(Compared::Whole(whole)) => {
                    troubled = false;
                    finished.push(Finished { place, whole, took, live, span });
                    if stored.elapsed() >= STORE_EVERY {
                        self.store_finished(batch, worker, std::mem::take(&mut finished)).await?;
                        stored = Instant::now();
                    }
                    continue;
                }
                Ok(Compared::Part(warnings)) => {
                    metrics::attempted(Attempt::Paused);
                    self.give_back(batch, place, Duration::ZERO, &warnings, None)
                        .instrument(span)
                        .await
                        .map_err(|error| Trouble { place, error })?;
                    attempted = Attempted::Paused;
                    break;
                }
                Err(error) => error,
            };
            // What was compared before is not to wait for whatever comes now.
            self.store_finished(batch, worker, std::mem::take(&mut finished)).await?;
            if matches!(error.kind(), ErrorKind::Item | ErrorKind::Transient) {
                worker.tell_acknowledged(batch).await;
            }
            let its_own = match error.kind() {
                ErrorKind::Item => true,
                ErrorKind::Transient => place < last && !std::mem::replace(&mut troubled, true),
                _ => false,
            };
            if !its_own {
                return Err(Trouble { place, error });
            }
            self.failed(batch, place, error, took)
                .instrument(span)
                .await
                .map_err(|error| Trouble { place, error })?;
        }
        // Before the end is stored: whoever closes the recovery ends sessions that are left.
        if let Some(sessions) = sessions {
            sessions.close().await;
        }
        self.store_finished(batch, worker, finished).await?;
        Ok(attempted)
    }

    /// Stores that items were compared to their ends, once all their events are durable.
    async fn store_finished(
        &self,
        batch: &Batch,
        worker: &Worker,
        mut finished: Vec<Finished>,
    ) -> Result<(), Trouble> {
        let Some(place) = finished.first().map(|first| first.place) else { return Ok(()) };
        let troubled = |error| Trouble { place, error };
        if finished.iter().any(|finished| !finished.whole.durable) {
            let held = worker.make_durable(&batch.at_work().live).await.map_err(troubled)?;
            for finished in &mut finished {
                finished.whole.done.held.clone_from(&held);
            }
        }
        finished.iter().for_each(|finished| batch.ending(finished.place));
        let mut items: Vec<CompletedItem<'_>> = Vec::with_capacity(finished.len());
        for Finished { place, whole, took, .. } in &mut finished {
            items.push(CompletedItem {
                claim: &batch.claims()[*place],
                done: std::mem::take(&mut whole.done),
                warnings: std::mem::take(&mut whole.warnings),
                took: *took,
            });
        }
        let stored = self.store.complete(batch.recovery(), &items).await.map_err(troubled)?;
        let mut lost = None;
        for (item, Finished { place, live, span, took, .. }) in items.iter().zip(&finished) {
            if !stored.contains(&item.claim.item.number) {
                lost = Some(Trouble { place: *place, error: item.claim.lost() });
                continue;
            }
            batch.ended(*place);
            live.tell(item.claim.item.spec.strategy, item.done.counts);
            span.in_scope(|| trace::completed(item.claim, &item.done, *took));
            self.progress.end(&item.claim.item, Ended::Completed(item.done.counts), *took);
        }
        lost.map_or(Ok(()), Err)
    }

    fn took_too_long(&self, live: &LiveCounts) -> Error {
        let end = self.limits.call.map_or(0, |call| call.end.as_secs());
        if live.waits_for_sinks() {
            // Their slowness may pass; what they do not have is sent again.
            return Error::new(
                ErrorKind::Transient,
                format!(
                    "the time for one message ({end} s) was over while events waited for a sink: \
                     give the namespace more throughput units, or lower --parallel"
                ),
            );
        }
        Error::item(format!(
            "the time for one message ({end} s) was over before a checkpoint: raise \
             functionTimeout in host.json, then retry"
        ))
    }

    /// Puts an item off whose attempt failed, or fails the item if it failed too often or if the
    /// trouble cannot pass. Yields for how long it is put off.
    async fn failed(
        &self,
        batch: &Batch,
        place: usize,
        error: Error,
        took: Duration,
    ) -> Result<Duration> {
        let claim = &batch.claims()[place];
        // Those since its last checkpoint, which may be of this attempt.
        let failures = self.store.failures(claim).await?;
        telemetry::trace::failed();
        let (recovery, item) = (claim.recovery, claim.item.number);
        // infra/modules/alerts.bicep looks for these lines.
        if error.kind() != ErrorKind::Item && failures + 1 < MOST_FAILURES {
            tracing::warn!(%recovery, item, failures, %error, "trouble with a work item");
            metrics::attempted(Attempt::PutOff);
            metrics::retried(Retry::Item);
            let after = Duration::from_secs(1 << failures.clamp(0, 7)).min(LONGEST_DELAY);
            self.give_back(batch, place, after, &[], Some(error)).await?;
            return Ok(after);
        }
        tracing::warn!(%recovery, item, failures, %error, "work item failed");
        let reason = match error.kind() {
            ErrorKind::Item => error.to_string(),
            _ => format!("{error} (after {MOST_FAILURES} attempts); mend that and retry"),
        };
        metrics::attempted(Attempt::Failed);
        batch.ending(place);
        match self.store.fail(claim, &reason, took).await {
            Ok(()) => self.progress.end(&claim.item, Ended::Failed(&reason), took),
            Err(error) if error.kind() != ErrorKind::LeaseLost => return Err(error),
            Err(_) => {}
        }
        batch.ended(place);
        Ok(Duration::ZERO)
    }

    /// Gives an item back that was worked on.
    async fn give_back(
        &self,
        batch: &Batch,
        place: usize,
        after: Duration,
        warnings: &[String],
        trouble: Option<Error>,
    ) -> Result<()> {
        batch.ending(place);
        let claim = &batch.claims()[place];
        if self.store.give_back(claim, trouble.is_some(), after, warnings).await? {
            batch.put_off(after, trouble);
        }
        batch.ended(place);
        Ok(())
    }
}

fn panicked(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Transient, "the worker ended unexpectedly").because(error)
}

/// Ends a task when it is dropped.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
