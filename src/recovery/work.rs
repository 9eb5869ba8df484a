//! Working on a recovery's items: any number at once, in any number of processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Instrument;
use uuid::Uuid;

use super::engine::{Deadline, Engine};
use super::live_counts::LiveCounts;
use super::store::{Claim, NextItem};
use super::trace;
use super::worker::{Attempted, Worker};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry;
use crate::telemetry::metrics::{self, Attempt, Retry};

/// So many failures in a row without a checkpoint fail an item. The waits between make it some ten
/// minutes, which a restart or a failover of a server does not take.
const MOST_FAILURES: i32 = 12;

/// The longest time for which an item is put off.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// What came of a call of [`Engine::work`].
#[derive(Debug)]
pub enum Worked {
    /// No item could be claimed now, but some are open: look again after a moment, or when another
    /// call ends.
    NotNow,
    /// No item is open, or the recovery does not run.
    NoneOpen,
    /// The item has ended, or another process has it now.
    Ended,
    /// The item is open and goes on at its last checkpoint.
    Open {
        /// It is put off for so long.
        after: Duration,
        /// What it was put off for.
        trouble: Option<Error>,
    },
}

impl Engine {
    /// Works on an item, the one that is named or else the next that is open, until it ends, the time
    /// for one call is over, or `stop` becomes true.
    ///
    /// # Errors
    /// Trouble with the status store: repeat the call.
    pub async fn work(
        &self,
        id: Uuid,
        number: Option<i32>,
        stop: watch::Receiver<bool>,
    ) -> Result<Worked> {
        let deadline = self.deadline();
        if let Some(number) = number {
            // A message that comes for nothing needs no worker.
            let Some(recovery) = self.store.recovery(id).await? else {
                return Ok(Worked::NoneOpen);
            };
            if !self.writes_its_sinks(&recovery) || !self.store.is_open(id, number).await? {
                return Ok(Worked::NotNow);
            }
        }
        // Before the claim: nobody renews its lease until the worker is ready.
        let worker = self.worker(id).await;
        match self.store.claim(id, number, self.limits.lease).await? {
            NextItem::NotNow => Ok(Worked::NotNow),
            NextItem::NoneOpen => Ok(Worked::NoneOpen),
            NextItem::Claimed(claim) => {
                let span = trace::span(&claim);
                self.work_on(&claim, worker, deadline, stop).instrument(span).await
            }
        }
    }

    async fn work_on(
        &self,
        claim: &Claim,
        worker: Result<Arc<Worker>>,
        deadline: Option<Deadline>,
        stop: watch::Receiver<bool>,
    ) -> Result<Worked> {
        let started = Instant::now();
        let live = Arc::new(LiveCounts::default());
        let shown = self.progress.begin(&claim.item, Arc::clone(&live));
        let sinks_of = worker.as_ref().ok().map(Arc::clone);
        let attempted = match worker {
            Err(error) => Err(error),
            Ok(_) if claim.failures >= MOST_FAILURES => {
                Err(Error::item("workers ended again and again while they were at it"))
            }
            Ok(worker) => self.attempt(claim, worker, &live, deadline, stop).await,
        };
        let worked = match attempted {
            Ok(Attempted::Completed) => Worked::Ended,
            Ok(Attempted::Paused(warnings)) => {
                tracing::info!("work item paused");
                if let Some(worker) = sinks_of {
                    worker.tell_acknowledged(claim, &live).await;
                }
                self.give_back(claim, Duration::ZERO, &warnings, None).await?
            }
            Err(error) => self.failed(claim, error, started.elapsed()).await?,
        };
        if let Some(shown) = shown {
            let item = self.store.item(claim.recovery, claim.item.number).await?;
            self.progress.end(shown, &item);
        }
        Ok(worked)
    }

    /// Attempts an item in a task of its own: a panic in it ends this attempt and nothing else.
    async fn attempt(
        &self,
        claim: &Claim,
        worker: Arc<Worker>,
        live: &Arc<LiveCounts>,
        deadline: Option<Deadline>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Attempted> {
        let mut task = tokio::spawn({
            let (claim, live) = (claim.clone(), Arc::clone(live));
            let pause_at = deadline.map(|deadline| deadline.pause_at);
            async move { worker.work(&claim, &live, pause_at).await }.in_current_span()
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
                Err(Error::new(ErrorKind::Transient, "the worker ended unexpectedly").because(error))
            }),
            () = ended => Err(self.took_too_long(live)),
            _ = stop.wait_for(|stop| *stop) => Ok(Attempted::Paused(Vec::new())),
        };
        drop(abort);
        outcome
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
    /// trouble cannot pass.
    async fn failed(&self, claim: &Claim, error: Error, took: Duration) -> Result<Worked> {
        match error.kind() {
            ErrorKind::LeaseLost => {
                tracing::warn!(%error, "work item abandoned");
                // If the store does not answer, the item merely keeps a failure that was none.
                let _ = self.store.outlived(claim).await;
                return Ok(Worked::Ended);
            }
            ErrorKind::EventsLost => {
                self.events_lost(claim.recovery, &error).await?;
                self.give_back(claim, Duration::ZERO, &[], None).await?;
                return Ok(Worked::Ended);
            }
            _ => {}
        }
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
            return self.give_back(claim, after, &[], Some(error)).await;
        }
        tracing::warn!(%recovery, item, failures, %error, "work item failed");
        let reason = match error.kind() {
            ErrorKind::Item => error.to_string(),
            _ => format!("{error} (after {MOST_FAILURES} attempts); mend that and retry"),
        };
        metrics::attempted(Attempt::Failed);
        match self.store.fail(claim, &reason, took).await {
            Err(error) if error.kind() != ErrorKind::LeaseLost => Err(error),
            _ => Ok(Worked::Ended),
        }
    }

    async fn give_back(
        &self,
        claim: &Claim,
        after: Duration,
        warnings: &[String],
        trouble: Option<Error>,
    ) -> Result<Worked> {
        let given = self.store.give_back(claim, trouble.is_some(), after, warnings).await?;
        Ok(if given { Worked::Open { after, trouble } } else { Worked::Ended })
    }
}

/// Ends a task when it is dropped.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
