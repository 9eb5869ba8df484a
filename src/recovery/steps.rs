//! A recovery in steps, each of which any process can take at any time: what queue messages drive.
//! It plans, works and closes with the same code as [`run`](super::run()).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tracing::Instrument;
use uuid::Uuid;

use super::executor::{Execution, Executor, LiveCounts};
use super::presence::Turn;
use super::progress::Progress;
use super::proof::{Time, prove};
use super::request::Request;
use super::set_up::{
    are_restores, check_grants, foreign_tables_left, remove_objects, same_restores,
    set_up_and_start, set_up_link,
};
use super::sinks;
use super::store::{Claim, CountedClaim, Due, RecoveryState, Store, StoredRecovery};
use crate::error::{Error, ErrorKind, Result};
use crate::fdw::Link;
use crate::preflight::{self, Servers};
use crate::sink::EventHubAccess;
use crate::telemetry;
use crate::telemetry::metrics::{self, Attempt, Retry};

/// So much trouble in a row, without any headway, fails an item. The waits between make it some ten
/// minutes, which a restart or a failover of a server does not take.
const MOST_FAILURES: i32 = 12;

/// The longest time that an item with trouble is put off.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// How often a step looks whether its recovery was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the steps of one process share.
pub(crate) struct Steps {
    pub(crate) store: Store,
    /// With the database that the app's settings name, which is also the control database.
    servers: Servers,
    limits: Limits,
    event_hub: EventHubAccess,
    /// One a recovery, so that its sinks are shared. Made once base and head are known to be its.
    executors: Mutex<HashMap<Uuid, Arc<Executor>>>,
}

/// Times within which messages are worked off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a worker may be silent before another takes its item over.
    pub(crate) lease: Duration,
    /// After this time, an item's message ends at the next checkpoint and another goes on.
    pub(crate) pause: Duration,
    /// How long one message may be worked on, with or without a checkpoint.
    pub(crate) end: Duration,
    /// How long a message may be without effect before it is sent again.
    pub(crate) resend: Duration,
}

impl Steps {
    pub(crate) fn new(
        store: Store,
        servers: Servers,
        limits: Limits,
        event_hub: EventHubAccess,
    ) -> Self {
        Self { store, servers, limits, event_hub, executors: Mutex::default() }
    }

    /// The messages that a recovery needs now; see [`Store::due`].
    pub(crate) async fn due(&self, id: Uuid) -> Result<Due> {
        self.store.due(id, self.limits.resend).await
    }

    /// Takes a recovery's next step: plans it, closes it if all its items have ended, or removes
    /// what it left once it has ended. A repetition does nothing, and neither does a process that
    /// comes while another is at it. What makes planning impossible ends the recovery and is not an
    /// error here.
    ///
    /// # Errors
    /// Trouble that may pass: repeat the step.
    pub(crate) async fn advance(&self, id: Uuid) -> Result<()> {
        let Some(turn) = Turn::take(&self.servers.head, id).await? else { return Ok(()) };
        let taken = self.step(id).await;
        turn.end().await;
        taken
    }

    async fn step(&self, id: Uuid) -> Result<()> {
        let Some(recovery) = self.store.recovery(id).await? else { return Ok(()) };
        if !recovery.queued {
            // The command line's, which goes on by itself unless it was cancelled here.
            return match recovery.state {
                RecoveryState::Cancelled => self.tidy(id).await,
                _ => Ok(()),
            };
        }
        let working = async {
            match recovery.state {
                RecoveryState::Planning => match self.plan(&recovery).await {
                    Err(error) if error.kind() != ErrorKind::Transient => {
                        tracing::warn!(recovery = %id, %error, "the recovery cannot be planned");
                        self.store.refuse(id, &error.to_string()).await
                    }
                    planned => planned,
                },
                RecoveryState::Running if !self.store.has_items(id, true).await? => {
                    match self.close(&recovery).await {
                        Err(error) if error.kind() == ErrorKind::EventsLost => {
                            self.stop(id, &error).await
                        }
                        closed => closed,
                    }
                }
                _ => Ok(()),
            }
        };
        let worked = tokio::select! {
            worked = working => worked,
            () = self.cancelled(id) => Ok(()),
        };
        if let Err(error) = &worked {
            // For those who watch; it is forgotten when the step succeeds.
            self.store.note_trouble(id, &error.to_string()).await?;
        }
        self.tidy(id).await?;
        worked
    }

    async fn plan(&self, recovery: &StoredRecovery) -> Result<()> {
        let id = recovery.id;
        let recorded = self.store.recorded(id).await?;
        let request = &Request { recorded, ..recovery.request.clone() };
        let servers = self.servers_of(recovery);
        let checked = preflight::check(&servers, request).await?;
        if !self.store.has_items(id, false).await? {
            check_grants(&servers, request, &checked).await?;
            sinks::refuse_bad(request, &self.event_hub).await?;
            self.store.describe(id, &checked).await?;
            let progress = Progress::silent();
            return set_up_and_start(&servers, &self.store, id, request, &checked, &progress).await;
        }
        // It was planned before and is tried again.
        same_restores(recovery, &checked)?;
        sinks::check_delivered(recovery, &self.store).await?;
        let Some(turn) = self.store.set_up_turn(id, self.store.now().await?).await? else {
            return Ok(());
        };
        let foreign = foreign_tables_left(&self.store, recovery).await?;
        remove_objects(&servers, id).await?;
        set_up_link(&servers, &Link::new(id, checked.target), &foreign).await?;
        self.store.go_on(turn, id).await
    }

    async fn close(&self, recovery: &StoredRecovery) -> Result<()> {
        let servers = self.servers_of(recovery);
        let now = Instant::now();
        let time = Time { pause_at: now + self.limits.pause, end_at: now + self.limits.end };
        let progress = Progress::silent();
        if prove(&servers, &self.store, recovery, &progress, Some(time)).await? {
            self.store.finish(recovery.id).await
        } else {
            self.store.step_again(recovery.id).await
        }
    }

    /// Resolves when the recovery is cancelled.
    async fn cancelled(&self, id: Uuid) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = self.store.recovery(id).await;
            if matches!(found, Ok(Some(found)) if found.state == RecoveryState::Cancelled) {
                return;
            }
        }
    }

    /// Removes what a recovery left on the servers, if it has ended, and ends its sessions there.
    async fn tidy(&self, id: Uuid) -> Result<()> {
        let Some(recovery) = self.store.recovery(id).await? else { return Ok(()) };
        if recovery.cleaned || !recovery.state.is_end() {
            return Ok(());
        }
        match recovery.state {
            RecoveryState::Failed => tracing::warn!(recovery = %id, "recovery failed"),
            state => tracing::info!(recovery = %id, ?state, "recovery ended"),
        }
        // Whoever cancels wants nothing of it any more.
        if !recovery.keep_objects || recovery.state == RecoveryState::Cancelled {
            remove_objects(&self.servers_of(&recovery), id).await?;
        }
        self.store.cleaned(id).await
    }

    /// Base and head as a recovery compares them.
    fn servers_of(&self, recovery: &StoredRecovery) -> Servers {
        self.servers.with_database(&recovery.database)
    }

    /// Works on an item until it ends, the time for one message is over, or `stop` becomes true.
    /// Yields after which time its message is to be sent again, if it is.
    ///
    /// # Errors
    /// Trouble with the status store: repeat the step.
    pub(crate) async fn work_on(
        &self,
        id: Uuid,
        number: i32,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Option<Duration>> {
        let started = Instant::now();
        if !self.store.is_open(id, number).await? {
            return Ok(None);
        }
        // Before the claim: nobody renews its lease until the executor is at work.
        let executor = self.executor(id).await;
        let claimed = self.store.claim(id, number, self.limits.lease).await?;
        let Some(CountedClaim { claim, failures }) = claimed else { return Ok(None) };
        let executor = match executor {
            Ok(executor) => executor,
            Err(error) => return self.trouble(&claim, error).await,
        };
        if failures >= MOST_FAILURES {
            let error = Error::item("workers ended again and again while they were at it");
            return self.trouble(&claim, error).await;
        }
        // A task of its own: a panic in it ends this item's attempt and nothing else.
        let pause_at = started + self.limits.pause;
        let live = Arc::new(LiveCounts::default());
        let mut task = tokio::spawn({
            let (executor, claim, live) = (Arc::clone(&executor), claim.clone(), Arc::clone(&live));
            async move { executor.execute(&claim, &live, Some(pause_at)).await }.in_current_span()
        });
        let stopping = async {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = tokio::time::sleep_until((started + self.limits.end).into()) => {
                task.abort();
                let end = self.limits.end.as_secs();
                let error = if live.waits_for_sinks() {
                    // Their slowness may pass; what they do not have is sent again.
                    Error::new(
                        ErrorKind::Transient,
                        format!(
                            "the time for one message ({end} s) was over while events waited for \
                             a sink: give the namespace more throughput units, or lower --parallel"
                        ),
                    )
                } else {
                    Error::item(format!(
                        "the time for one message ({end} s) was over before a checkpoint: raise \
                         functionTimeout in host.json, then retry"
                    ))
                };
                return self.trouble(&claim, error).await;
            }
            () = stopping => {
                task.abort();
                return self.give_back(&claim, false, Duration::ZERO, &[]).await;
            }
        };
        match ended {
            Ok(Ok(Execution::Ended)) => Ok(None),
            Ok(Ok(Execution::Paused(warnings))) => {
                tracing::info!(recovery = %id, item = number, "work item paused");
                self.give_back(&claim, false, Duration::ZERO, &warnings).await
            }
            Ok(Err(error)) if error.kind() == ErrorKind::LeaseLost => {
                tracing::warn!(recovery = %id, item = number, %error, "work item abandoned");
                Ok(None)
            }
            Ok(Err(error)) => self.trouble(&claim, error).await,
            Err(error) => {
                let error = Error::recovery("the worker ended unexpectedly").because(error);
                self.trouble(&claim, error).await
            }
        }
    }

    /// Puts an item off that had trouble, or fails it if it had too much of it, or trouble that
    /// cannot pass.
    async fn trouble(&self, claim: &Claim, error: Error) -> Result<Option<Duration>> {
        let (recovery, item) = (claim.recovery, claim.item.number);
        if error.kind() == ErrorKind::EventsLost {
            self.stop(recovery, &error).await?;
            self.give_back(claim, false, Duration::ZERO, &[]).await?;
            return Ok(None);
        }
        // Those since its last checkpoint, which may be of this attempt.
        let failures = self.store.failures(claim).await?;
        telemetry::trace::failed();
        // infra/modules/alerts.bicep looks for these lines.
        if error.kind() != ErrorKind::Item && failures + 1 < MOST_FAILURES {
            tracing::warn!(%recovery, item, failures, %error, "trouble with a work item");
        } else {
            tracing::warn!(%recovery, item, failures, %error, "work item failed");
            let reason = match error.kind() {
                ErrorKind::Item => error.to_string(),
                _ => format!("{error} (after {MOST_FAILURES} attempts); mend that and retry"),
            };
            metrics::attempted(Attempt::Failed);
            return match self.store.fail(claim, &reason, Duration::ZERO).await {
                Err(error) if error.kind() != ErrorKind::LeaseLost => Err(error),
                _ => Ok(None),
            };
        }
        metrics::attempted(Attempt::PutOff);
        metrics::retried(Retry::Item);
        let delay = Duration::from_secs(1 << failures.clamp(0, 7)).min(LONGEST_DELAY);
        self.give_back(claim, true, delay, &[]).await
    }

    /// Fails a recovery of which a sink has lost events. A retry opens the sinks anew.
    async fn stop(&self, id: Uuid, error: &Error) -> Result<()> {
        tracing::warn!(recovery = %id, %error, "a sink has lost events");
        telemetry::trace::failed();
        self.executors.lock().await.remove(&id);
        self.store.refuse(id, &error.to_string()).await
    }

    async fn give_back(
        &self,
        claim: &Claim,
        trouble: bool,
        delay: Duration,
        warnings: &[String],
    ) -> Result<Option<Duration>> {
        let given = self.store.give_back(claim, trouble, delay, warnings).await?;
        Ok(given.then_some(delay))
    }

    /// The recovery's executor, once base and head are known to be those that it was planned with.
    async fn executor(&self, id: Uuid) -> Result<Arc<Executor>> {
        let mut executors = self.executors.lock().await;
        if let Some(executor) = executors.get(&id) {
            return Ok(Arc::clone(executor));
        }
        let recovery = self.store.recovery(id).await?.ok_or_else(|| {
            Error::recovery(format!("recovery {id} has vanished from the status store"))
        })?;
        let servers = self.servers_of(&recovery);
        if !are_restores(&recovery.restores, &preflight::restores_of(&servers).await?) {
            return Err(Error::recovery(
                "base and head are not the restores that the recovery was planned with: set \
                 DELTACOMPARE_BASE and DELTACOMPARE_HEAD as they were, or begin a new recovery",
            ));
        }
        let made =
            Executor::open(&servers, &self.store, &recovery, self.limits.lease, &self.event_hub)
                .await?;
        // Those of recoveries that have ended are of no use any more.
        executors.retain(|_, executor| Arc::strong_count(executor) > 1);
        executors.insert(id, Arc::clone(&made));
        Ok(made)
    }
}
