//! A recovery in steps, each of which any process can take at any time: what queue messages drive.
//! It plans, works and closes with the same code as [`run`](super::run()).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::executor::{Execution, Executor, LiveCounts};
use super::progress::Progress;
use super::proof::prove;
use super::run::{
    Control, check_grants, executor, remove_objects, same_restores, set_up_again, set_up_and_start,
};
use super::store::{Claim, CountedClaim, Due, RecoveryState, Store, StoredRecovery};
use crate::error::{Error, ErrorKind, Result};
use crate::preflight::{self, Servers};

/// So often workers may have trouble with an item in a row, without any headway, before it fails.
const MOST_FAILURES: i32 = 5;

/// The longest time that an item with trouble is put off.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What the steps of one process share.
pub(crate) struct Steps {
    pub(crate) store: Store,
    servers: Servers,
    limits: Limits,
    /// One a recovery, so that its sinks are shared. Made once base and head are known to be its.
    executors: Mutex<HashMap<Uuid, Arc<Executor>>>,
}

/// Times within which messages are worked off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a worker may be silent before another takes its item over.
    pub lease: Duration,
    /// How long one message may be worked on; before that the item stores how far it is.
    pub work: Duration,
    /// How long a message may be without effect before it is sent again.
    pub resend: Duration,
}

impl Steps {
    pub(crate) fn new(store: Store, servers: Servers, limits: Limits) -> Self {
        Self { store, servers, limits, executors: Mutex::default() }
    }

    /// The messages that a recovery needs now; see [`Store::due`].
    pub(crate) async fn due(&self, id: Uuid) -> Result<Due> {
        self.store.due(id, self.limits.resend).await
    }

    /// Plans a recovery, or closes it if all its items have ended. A repetition does nothing. What
    /// makes planning impossible ends the recovery and is not an error here.
    ///
    /// # Errors
    /// Trouble that may pass: repeat the step.
    pub(crate) async fn advance(&self, id: Uuid) -> Result<()> {
        let Some(recovery) = self.store.recovery(id).await? else { return Ok(()) };
        match recovery.state {
            RecoveryState::Planning => match self.plan(&recovery).await {
                Err(error) if error.kind() != ErrorKind::Transient => {
                    tracing::warn!(recovery = %id, %error, "the recovery cannot be planned");
                    self.store.refuse(id, &error.to_string()).await?;
                    self.tidy(id).await
                }
                outcome => outcome,
            },
            RecoveryState::Running if !self.store.has_items(id, true).await? => {
                prove(&self.servers, &self.store, &recovery, &Progress::new(true)).await?;
                self.store.finish(id).await?;
                self.tidy(id).await
            }
            RecoveryState::Running => Ok(()),
            RecoveryState::Completed | RecoveryState::Failed | RecoveryState::Cancelled => {
                self.tidy(id).await
            }
        }
    }

    async fn plan(&self, recovery: &StoredRecovery) -> Result<()> {
        let (id, request) = (recovery.id, &recovery.request);
        let checked = preflight::check(&self.servers, request).await?;
        if self.store.has_items(id, false).await? {
            same_restores(recovery, &checked)?;
            set_up_again(&self.servers, &self.store, id, checked.target).await?;
        } else {
            check_grants(&self.servers, request, &checked).await?;
            self.store.describe(id, &checked).await?;
            let progress = Progress::new(true);
            let control =
                Control { progress: &progress, lease: self.limits.lease, keep_objects: false };
            set_up_and_start(&self.servers, &self.store, id, request, &checked, &control).await?;
        }
        self.store.run_on(id).await
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
        let claimed = self.store.claim(id, number, self.limits.lease).await?;
        let Some(CountedClaim { claim, failures }) = claimed else { return Ok(None) };
        let executor = match self.executor(id).await {
            Ok(executor) => executor,
            Err(error) => return self.trouble(&claim, failures, error).await,
        };
        if failures >= MOST_FAILURES {
            let error = Error::item("workers ended again and again while they were at it");
            return self.trouble(&claim, failures, error).await;
        }
        // A task of its own: a panic in it ends this item's attempt and nothing else.
        let pause_at = started + self.limits.work * 4 / 5;
        let mut task = tokio::spawn({
            let (executor, claim) = (Arc::clone(&executor), claim.clone());
            async move {
                let live = Arc::new(LiveCounts::default());
                executor.execute(&claim, &live, Some(pause_at)).await
            }
        });
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = tokio::time::sleep_until((started + self.limits.work).into()) => {
                task.abort();
                let error = Error::new(
                    ErrorKind::Transient,
                    format!(
                        "the time for one message ({} s) was over before a checkpoint: raise \
                         DELTACOMPARE_WORK_SECONDS and functionTimeout in host.json, then retry",
                        self.limits.work.as_secs()
                    ),
                );
                return self.trouble(&claim, failures, error).await;
            }
            _ = stop.wait_for(|stop| *stop) => {
                task.abort();
                return self.again(&claim, false, Duration::ZERO).await;
            }
        };
        match ended {
            Ok(Ok(Execution::Ended)) => Ok(None),
            Ok(Ok(Execution::Paused)) => self.again(&claim, false, Duration::ZERO).await,
            Ok(Err(error)) if error.kind() == ErrorKind::LeaseLost => {
                tracing::warn!(recovery = %id, item = number, %error, "work item abandoned");
                Ok(None)
            }
            Ok(Err(error)) => self.trouble(&claim, failures, error).await,
            Err(error) => {
                let error = Error::recovery("the worker ended unexpectedly").because(error);
                self.trouble(&claim, failures, error).await
            }
        }
    }

    /// Puts an item off that had trouble, or fails it if it had too much of it.
    async fn trouble(
        &self,
        claim: &Claim,
        failures: i32,
        error: Error,
    ) -> Result<Option<Duration>> {
        let (recovery, item) = (claim.recovery, claim.item.number);
        tracing::warn!(%recovery, item, failures, %error, "trouble with a work item");
        if failures + 1 >= MOST_FAILURES {
            let reason = format!("{error} ({MOST_FAILURES} attempts); mend that and retry");
            return match self.store.fail(claim, &reason, Duration::ZERO).await {
                Err(error) if error.kind() != ErrorKind::LeaseLost => Err(error),
                _ => Ok(None),
            };
        }
        let delay = Duration::from_secs(1 << failures.clamp(0, 6)).min(LONGEST_DELAY);
        self.again(claim, true, delay).await
    }

    async fn again(
        &self,
        claim: &Claim,
        trouble: bool,
        delay: Duration,
    ) -> Result<Option<Duration>> {
        Ok(self.store.give_back(claim, trouble, delay).await?.then_some(delay))
    }

    /// The recovery's executor, once base and head are known to be those that it was planned with.
    async fn executor(&self, id: Uuid) -> Result<Arc<Executor>> {
        let mut executors = self.executors.lock().await;
        if let Some(executor) = executors.get(&id) {
            return Ok(Arc::clone(executor));
        }
        let recovery = self
            .store
            .recovery(id)
            .await?
            .ok_or_else(|| Error::recovery(format!("recovery {id} has vanished")))?;
        if preflight::restores_of(&self.servers).await? != recovery.restores {
            return Err(Error::recovery(
                "base and head are not the restores that the recovery was planned with: set \
                 DELTACOMPARE_BASE and DELTACOMPARE_HEAD as they were, or begin a new recovery",
            ));
        }
        let made = executor(&self.servers, &self.store, &recovery, self.limits.lease)?;
        // Those of recoveries that have ended are of no use any more.
        executors.retain(|_, executor| Arc::strong_count(executor) > 1);
        executors.insert(id, Arc::clone(&made));
        Ok(made)
    }

    /// Removes what an ended recovery left on the servers, and ends its sessions there.
    pub(crate) async fn tidy(&self, id: Uuid) -> Result<()> {
        remove_objects(&self.servers, id).await?;
        self.store.cleaned(id).await
    }
}
