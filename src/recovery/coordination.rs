//! What one process at a time does for a recovery: planning, closing, cleaning up.

use std::time::Duration;

use uuid::Uuid;

use super::coordinator_lock::CoordinatorLock;
use super::engine::{Approved, Engine};
use super::plan::planned_items;
use super::proof::prove;
use super::set_up::{foreign_tables_left, remove_objects, set_up_link};
use super::store::{Store, StoredRecovery};
use crate::error::{Error, ErrorKind, Result};
use crate::fdw::{ForeignTable, Link};
use crate::model::RecoveryState;
use crate::telemetry;
use crate::telemetry::metrics;

/// How often a coordinator looks whether its recovery was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Engine {
    /// Takes a recovery to its next state: plans it, closes it if all its items have ended, or removes
    /// what it left once it has ended. A repetition does nothing. What makes planning impossible ends
    /// the recovery and is not an error here. `approved`: a check that this process has just made need
    /// not be made again.
    ///
    /// Yields false, and does nothing, while another process is at it.
    ///
    /// # Errors
    /// Trouble that may pass: repeat the call.
    pub async fn advance(&self, id: Uuid, approved: Option<Approved>) -> Result<bool> {
        let Some(mut lock) = CoordinatorLock::try_take(&self.servers.head, id).await? else {
            return Ok(false);
        };
        let advanced = self.advance_alone(id, approved, &mut lock).await;
        lock.release().await;
        advanced
    }

    async fn advance_alone(
        &self,
        id: Uuid,
        approved: Option<Approved>,
        lock: &mut CoordinatorLock,
    ) -> Result<bool> {
        let Some(recovery) = self.store.recovery(id).await? else { return Ok(true) };
        if !recovery.state.is_end() && !self.may_work_on(&recovery) {
            return Ok(false);
        }
        let working = async {
            match recovery.state {
                RecoveryState::Planning => match self.plan(&recovery, approved, lock).await {
                    Err(error) if error.kind() != ErrorKind::Transient => {
                        tracing::warn!(recovery = %id, %error, "the recovery cannot be planned");
                        self.store.fail_recovery(id, &error.to_string()).await
                    }
                    planned => planned,
                },
                RecoveryState::Running if !self.store.has_items(id, true).await? => {
                    match self.close_recovery(&recovery).await {
                        Err(error) if error.kind() == ErrorKind::EventsLost => {
                            self.events_lost(id, &error).await
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
            // For those who watch; it is forgotten when the next call succeeds.
            if let Err(error) = self.store.note_trouble(id, &error.to_string()).await {
                tracing::warn!(recovery = %id, %error, "trouble could not be noted");
            }
        }
        let cleaned = self.clean_up(id).await;
        worked.and(cleaned).map(|()| true)
    }

    /// Stores the plan, unless there is one, and sets the link up if tables are read through it.
    async fn plan(
        &self,
        recovery: &StoredRecovery,
        approved: Option<Approved>,
        lock: &mut CoordinatorLock,
    ) -> Result<()> {
        let id = recovery.id;
        let approved = match approved {
            Some(approved) => approved,
            None => self.check_again(recovery).await?,
        };
        let checked = approved.checked;
        let _watch = metrics::watch(metrics::Step::Plan);
        let servers = self.servers_of(recovery);
        let link = Link::new(id, checked.target.clone());
        let planned = match self.store.has_items(id, false).await? {
            true => None,
            false => {
                self.store.describe(id, &checked).await?;
                Some(planned_items(&servers, &checked, &recovery.request, &link).await?)
            }
        };
        let foreign: Vec<ForeignTable> = match &planned {
            Some(items) => items.iter().filter_map(|item| item.spec.foreign.clone()).collect(),
            None => foreign_tables_left(&self.store, recovery).await?,
        };
        lock.assert_held().await?;
        if planned.is_none() || !foreign.is_empty() {
            // What an earlier process made, and its sessions.
            remove_objects(&servers, id).await?;
        }
        if !foreign.is_empty() {
            let tables = if foreign.len() == 1 { "table" } else { "tables" };
            self.progress.say(&format!("setting up {} foreign {tables}", foreign.len()));
            set_up_link(&servers, &link, &foreign).await?;
        }
        match planned {
            Some(items) => Store::start(lock.session(), id, &checked.warnings, &items).await,
            None => Store::go_on(lock.session(), id).await,
        }
    }

    async fn close_recovery(&self, recovery: &StoredRecovery) -> Result<()> {
        let servers = self.servers_of(recovery);
        let deadline = self.deadline();
        if prove(&servers, &self.store, recovery, &self.progress, deadline).await? {
            self.store.finish(recovery.id).await
        } else {
            self.store.reschedule(recovery.id).await
        }
    }

    /// Fails a recovery of which a sink has lost events. Whoever tries it again opens the sinks anew.
    pub(super) async fn events_lost(&self, id: Uuid, error: &Error) -> Result<()> {
        tracing::warn!(recovery = %id, %error, "a sink has lost events");
        telemetry::trace::failed();
        self.forget_worker(id);
        self.store.fail_recovery(id, &error.to_string()).await
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

    /// Removes what a recovery left on the servers, if it has ended, and ends its sessions there. The
    /// caller has the coordinator's lock.
    pub(super) async fn clean_up(&self, id: Uuid) -> Result<()> {
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
}
