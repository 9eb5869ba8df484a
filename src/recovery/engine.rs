//! The one state machine of a recovery. It does not know who drives it:
//!
//! ```text
//! create ─► advance: preflight → link → plan; when all items have ended: verify → finish → clean up
//!           work:    claim → diff → encode → sinks → checkpoint → completed, paused, put off or failed
//!           due:     what is to be done now
//! ```
//!
//! One process at a time advances a recovery ([`CoordinatorLock`]); any number work on its items.
//! The queue driver is in `functions`, the one of the command line in `cli::local`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::coordinator_lock::CoordinatorLock;
use super::deadline::Deadline;
use super::plan::check_link;
use super::progress::Progress;
use super::report::Report;
use super::set_up::{are_restores, connect_both, remove_objects, same_restores};
use super::sinks;
use super::store::{
    Due, NewRecovery, PendingMessages, Registration, Retried, Store, StoredRecovery,
};
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::model::{RecoveryState, Request, SinkTarget};
use crate::postgres::Side;
use crate::preflight::{self, PreflightReport, Servers};
use crate::sink::EventHubAccess;

/// How long a process that leaves waits for the coordinator's lock.
const LOCK_WITHIN: Duration = Duration::from_secs(3);

/// Advances recoveries and works on their items. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) store: Store,
    /// Head has the status store too, in the database that is named here.
    pub(super) servers: Servers,
    pub(super) event_hub: EventHubAccess,
    pub(super) limits: Limits,
    pub(super) progress: Progress,
    /// Where the queues are by which this process drives recoveries; `None` on the command line.
    pub(super) queues: Option<String>,
    /// One a recovery, so that its sinks are shared.
    workers: Arc<Mutex<HashMap<Uuid, WorkerCell>>>,
}

/// Filled by the first call that needs it; other recoveries do not wait meanwhile.
type WorkerCell = Arc<OnceCell<Arc<Worker>>>;

/// What a driver says of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a worker may be silent before another takes its item over.
    pub lease: Duration,
    /// How long one call may take; without it, as long as it takes.
    pub call: Option<CallLimit>,
    /// Whether this process may write files that outlive it.
    pub files: bool,
}

/// How long one call may take.
#[derive(Clone, Copy, Debug)]
pub struct CallLimit {
    /// After this time it ends at the next checkpoint, or between two tables.
    pub pause: Duration,
    /// What takes longer without a checkpoint is given up.
    pub end: Duration,
}

/// A request that may go ahead.
#[derive(Debug)]
pub struct Approved {
    pub(super) checked: PreflightReport,
    /// Files of its sinks, which do not exist yet.
    files: Vec<PathBuf>,
}

impl Approved {
    /// What an operator should know about the recovery as a whole.
    pub fn warnings(&self) -> &[String] {
        &self.checked.warnings
    }
}

/// Checks a request before anything is changed, the status store included.
///
/// # Errors
/// Refused, with every reason found, one a line; or transient, if a server cannot be reached.
pub async fn check(
    servers: &Servers,
    request: &Request,
    event_hub: &EventHubAccess,
) -> Result<Approved> {
    let files = sinks::refuse_bad(request, event_hub).await?;
    let checked = preflight::check(servers, request).await?;
    check_link(servers, request, &checked).await?;
    tracing::info!(gap = %checked.gap, "the restores are fit to be compared");
    Ok(Approved { checked, files })
}

impl Engine {
    /// An engine on head's status store, which is created unless it is there.
    ///
    /// # Errors
    /// The control database cannot be reached, or the role may not create a schema.
    pub async fn open(
        servers: Servers,
        event_hub: EventHubAccess,
        limits: Limits,
        progress: Progress,
    ) -> Result<Self> {
        let store = Store::open(&servers.head).await?;
        Ok(Self::on(store, servers, event_hub, limits, progress))
    }

    /// The same if there is a status store; creates none.
    ///
    /// # Errors
    /// The control database cannot be reached.
    pub async fn open_existing(
        servers: Servers,
        event_hub: EventHubAccess,
        limits: Limits,
        progress: Progress,
    ) -> Result<Option<Self>> {
        let Some(store) = Store::open_existing(&servers.head).await? else { return Ok(None) };
        Ok(Some(Self::on(store, servers, event_hub, limits, progress)))
    }

    fn on(
        store: Store,
        servers: Servers,
        event_hub: EventHubAccess,
        limits: Limits,
        progress: Progress,
    ) -> Self {
        let workers = Arc::default();
        Self { store, servers, event_hub, limits, progress, queues: None, workers }
    }

    /// The same for a process of an app, which is known by this name and drives recoveries by the queues
    /// at this address. What an app with other queues drives, it leaves alone.
    pub(crate) fn of_app(self, worker: Uuid, queues: Option<String>) -> Self {
        Self { store: self.store.of_worker(worker), queues, ..self }
    }

    /// The status store, for those who only look.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the status store again if somebody has removed it.
    pub(crate) async fn make_store_again(&self) -> Result<()> {
        self.store.make_again(&self.servers.head).await
    }

    /// Registers a recovery whose request was [checked](check); its id.
    ///
    /// # Errors
    /// One of its files was taken meanwhile, or the store cannot be reached.
    pub async fn create(&self, request: &Request, approved: &Approved) -> Result<Uuid> {
        sinks::reserve_files(&approved.files)?;
        let new = NewRecovery {
            request,
            servers: &self.servers,
            checked: Some(&approved.checked),
            allow_concurrent: true,
            queues: None,
            key: None,
            body: None,
        };
        match self.store.register(new).await? {
            Registration::Registered(id) => Ok(id),
            Registration::KeyUsed | Registration::Live(_) | Registration::OfOtherQueues { .. } => {
                Err(Error::recovery("the recovery could not be registered"))
            }
        }
    }

    /// Registers a recovery that this app drives, unless one of its database, or one that another app
    /// drives, is live; it is checked when it is planned.
    pub(crate) async fn register(&self, new: NewRecovery<'_>) -> Result<Registration> {
        self.store.register(NewRecovery { queues: self.queues.as_deref(), ..new }).await
    }

    /// Goes on with a recovery that nobody may be working on: it is checked once more, failures of
    /// its items are forgotten, and unless other processes work on it, its link is set up again. Of
    /// one that failed, what had failed is tried again, as by [`Engine::retry`]. Yields the result of
    /// the check for [`Engine::advance`]; `None` if it has completed or was cancelled.
    ///
    /// # Errors
    /// Refused, and nothing was changed; or the store cannot be reached.
    pub async fn resume(&self, id: Uuid, keep_objects: bool) -> Result<Option<Approved>> {
        let recovery = self.stored(id).await?;
        if keep_objects {
            self.store.keep_objects(id).await?;
        }
        self.progress.say(&format!("resuming recovery {id} ({})", recovery.state.as_str()));
        let failed = recovery.state == RecoveryState::Failed;
        if recovery.state.is_end() && !failed {
            return Ok(None);
        }
        let approved = self.check_again(&recovery).await?;
        if failed {
            if let Some(side) = self.lost_counts(&recovery).await? {
                return Err(Error::refused(counts_lost(side)));
            }
            self.store.retry(id, None, true).await?;
            return Ok(Some(approved));
        }
        self.store.forget_failures(id).await?;
        if let Some(mut lock) = CoordinatorLock::try_take(&self.servers.head, id).await? {
            Store::suspend(lock.session(), id, None).await?;
            lock.release().await;
        }
        Ok(Some(approved))
    }

    /// What is to be done about a recovery now.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn due(&self, id: Uuid) -> Result<Due> {
        self.store.due(id).await
    }

    /// The queue messages that a recovery needs now, see [`Store::pending_messages`]: those for what
    /// is due, unless this process cannot go on with it.
    pub(crate) async fn pending_messages(
        &self,
        id: Uuid,
        queues: &str,
        resend: Duration,
    ) -> Result<PendingMessages> {
        let known = self.worker_cell(id).is_some_and(|worker| worker.initialized());
        if !known {
            let Some(recovery) = self.store.recovery(id).await? else {
                return Ok(PendingMessages::default());
            };
            // Of servers that cannot be reached nothing is known: whoever gets the message puts it off.
            if !recovery.state.is_end() && matches!(self.carries_on(&recovery).await, Ok(false)) {
                return Ok(PendingMessages::default());
            }
        }
        self.store.pending_messages(id, queues, resend).await
    }

    /// Whether this process can go on with a recovery that another one may have begun.
    async fn carries_on(&self, recovery: &StoredRecovery) -> Result<bool> {
        if !self.writes_its_sinks(recovery) {
            return Ok(false);
        }
        if let Some((ours, theirs)) = self.other_queues(recovery) {
            let why = format!(
                "two apps are set to this head, with queues at {theirs} and at {ours}: only the first \
                 one drives this recovery; stop one of them, or give each copies of its own"
            );
            tracing::error!(recovery = %recovery.id, "{why}");
            self.store.note_trouble(recovery.id, &why).await?;
            return Ok(false);
        }
        if recovery.restores.is_empty() {
            return Ok(true);
        }
        let restores = preflight::restores_of(&self.servers_of(recovery)).await?;
        if are_restores(&recovery.restores, &restores) {
            return Ok(true);
        }
        tracing::warn!(recovery = %recovery.id, "{OTHER_RESTORES}");
        self.store.note_trouble(recovery.id, OTHER_RESTORES).await?;
        Ok(false)
    }

    /// Whether this process can write to the recovery's sinks.
    pub(crate) fn writes_its_sinks(&self, recovery: &StoredRecovery) -> bool {
        let is_file = |sink: &SinkTarget| matches!(sink, SinkTarget::Ndjson(_));
        self.limits.files || !recovery.request.sinks.iter().any(is_file)
    }

    /// The queues of this app and those of another one, by which that one drives the recovery.
    fn other_queues<'a>(&'a self, recovery: &'a StoredRecovery) -> Option<(&'a str, &'a str)> {
        let (ours, theirs) = (self.queues.as_deref()?, recovery.queues.as_deref()?);
        (ours != theirs).then_some((ours, theirs))
    }

    /// Whether this process may work on the recovery: it can write to its sinks, and no other app drives
    /// it.
    pub(super) fn may_work_on(&self, recovery: &StoredRecovery) -> bool {
        self.writes_its_sinks(recovery) && self.other_queues(recovery).is_none()
    }

    /// Cancels a live recovery: its items are taken from their workers, and what it left on the
    /// servers is removed. Says whether it is cancelled; `None` if there is no such recovery.
    pub(crate) async fn cancel(&self, id: Uuid) -> Result<Option<bool>> {
        self.store.cancel(id).await?;
        let Some(recovery) = self.store.recovery(id).await? else { return Ok(None) };
        if recovery.state != RecoveryState::Cancelled {
            return Ok(Some(false));
        }
        if let Err(error) = self.advance(id, None).await {
            // It is cancelled; whoever looks for ended recoveries cleans up.
            tracing::warn!(recovery = %id, %error, "not everything could be removed yet");
        }
        Ok(Some(true))
    }

    /// Tries again what failed of a recovery, unless it is known that it would fail again.
    pub(crate) async fn retry(&self, recovery: &StoredRecovery) -> Result<Retried> {
        if recovery.state == RecoveryState::Failed
            && let Some(side) = self.lost_counts(recovery).await?
        {
            return Ok(Retried::CountsLost(side));
        }
        self.store.retry(recovery.id, self.queues.as_deref(), false).await
    }

    /// The server that has lost its counts of writes since tables of the recovery were planned to be
    /// compared by row versions: nothing will prove any more that these may be compared.
    async fn lost_counts(&self, recovery: &StoredRecovery) -> Result<Option<Side>> {
        if !self.store.compares_row_versions(recovery.id).await? {
            return Ok(None);
        }
        let (base, head) =
            connect_both(&self.servers_of(recovery), "deltacompare last look").await?;
        let mut lost = None;
        for (side, session) in [(Side::Base, &base), (Side::Head, &head)] {
            if preflight::counts_lost(session).await? {
                lost = Some(side);
                break;
            }
        }
        tokio::join!(base.close(), head.close());
        Ok(lost)
    }

    /// Leaves a recovery so that it can be resumed at once: gives this process's items back and,
    /// unless other processes work on it, ends its sessions (they may be in the middle of a long join)
    /// and leaves no role behind on base. Whoever goes on sets everything up again.
    ///
    /// # Errors
    /// A server cannot be reached.
    pub async fn leave(&self, id: Uuid) -> Result<()> {
        self.store.release(id).await?;
        let since = Instant::now();
        let mut lock = loop {
            match CoordinatorLock::try_take(&self.servers.head, id).await? {
                Some(lock) => break lock,
                // Another process is at work; or this one was, a moment ago.
                None if since.elapsed() > LOCK_WITHIN => return Ok(()),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let suspended = Store::suspend(lock.session(), id, Some(self.store.worker())).await?;
        if suspended {
            remove_objects(&self.servers_of(&self.stored(id).await?), id).await?;
        } else {
            self.clean_up(id).await?;
        }
        lock.release().await;
        Ok(())
    }

    /// How the recovery came out, or how far it is.
    ///
    /// # Errors
    /// The recovery failed as a whole; or the store cannot be reached.
    pub async fn report(&self, id: Uuid) -> Result<Report> {
        let recovery = self.stored(id).await?;
        if let (RecoveryState::Failed, Some(error)) = (recovery.state, &recovery.error) {
            return Err(Error::recovery(error.clone()));
        }
        Ok(Report::new(recovery, self.store.items(id).await?, &self.store.accounts(id).await?))
    }

    /// Shows how far the recovery is.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn show_progress(&self, id: Uuid) -> Result<()> {
        self.progress.start(&self.store.items(id).await?);
        Ok(())
    }

    /// How many of its items may be at work at once, in all processes together.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn parallel(&self, id: Uuid) -> Result<usize> {
        Ok(usize::from(self.stored(id).await?.request.parallel.max(1)))
    }

    /// Ends the sessions on the status store.
    pub fn close(&self) {
        self.store.close();
    }

    pub(super) async fn stored(&self, id: Uuid) -> Result<StoredRecovery> {
        self.store.recovery(id).await?.ok_or_else(|| unknown(&self.servers, id))
    }

    /// Base and head as a recovery compares them.
    pub(super) fn servers_of(&self, recovery: &StoredRecovery) -> Servers {
        self.servers.with_database(&recovery.database)
    }

    /// Checks a registered recovery, before it is planned or goes on.
    ///
    /// # Errors
    /// As [`check`]; or the restores are others than those that it began with; or a sink has lost
    /// events.
    pub(super) async fn check_again(&self, recovery: &StoredRecovery) -> Result<Approved> {
        let recorded = self.store.recorded(recovery.id).await?;
        let request = Request { recorded, ..recovery.request.clone() };
        let servers = self.servers_of(recovery);
        if !self.store.has_items(recovery.id, false).await? {
            let approved = check(&servers, &request, &self.event_hub).await?;
            same_restores(recovery, &approved.checked)?;
            return Ok(approved);
        }
        let checked = preflight::check(&servers, &request).await?;
        same_restores(recovery, &checked)?;
        sinks::check_delivered(recovery, &self.store).await?;
        Ok(Approved { checked, files: Vec::new() })
    }

    /// What works on the recovery's items in this process. Opened once it is known that base and head
    /// are those that the recovery was planned with.
    pub(super) async fn worker(&self, id: Uuid) -> Result<Arc<Worker>> {
        let cell = {
            let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
            if !workers.contains_key(&id) {
                // Those that nobody uses are of recoveries that have ended.
                workers.retain(|_, cell| {
                    Arc::strong_count(cell) > 1
                        || cell.get().is_some_and(|worker| Arc::strong_count(worker) > 1)
                });
            }
            Arc::clone(workers.entry(id).or_default())
        };
        let worker = cell
            .get_or_try_init(async || {
                let recovery = self.stored(id).await?;
                let servers = self.servers_of(&recovery);
                let restores = preflight::restores_of(&servers).await?;
                if !are_restores(&recovery.restores, &restores) {
                    return Err(Error::recovery(OTHER_RESTORES));
                }
                let (lease, event_hub) = (self.limits.lease, &self.event_hub);
                Worker::open(&servers, &self.store, &recovery, lease, event_hub).await
            })
            .await?;
        Ok(Arc::clone(worker))
    }

    /// Has the recovery's sinks opened again by whoever works on it next.
    pub(super) fn forget_worker(&self, id: Uuid) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn worker_cell(&self, id: Uuid) -> Option<WorkerCell> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    /// When a call that begins now is to end.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let now = Instant::now();
        self.limits.call.map(|call| Deadline { pause_at: now + call.pause, end_at: now + call.end })
    }
}

const OTHER_RESTORES: &str = "base and head are not the restores that the recovery was planned \
    with: set DELTACOMPARE_BASE and DELTACOMPARE_HEAD as they were, or begin a new recovery";

/// Why a recovery is not tried again whose tables were compared by row versions.
pub(crate) fn counts_lost(side: Side) -> String {
    format!(
        "{side} lost its counts of writes since the recovery was planned (a crash or \
         pg_stat_reset()), so nothing proves any more that row versions are comparable, and a retry \
         would fail as well: begin a new recovery of the tables that failed, which compares contents"
    )
}

/// There is no such recovery.
pub fn unknown(servers: &Servers, id: Uuid) -> Error {
    Error::refused(format!(
        "{} knows no recovery {id}: check the id and that this is the head it ran on",
        servers.head
    ))
}
