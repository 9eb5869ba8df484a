//! A recovery in this one process, from request to report: `deltacompare run`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;
use uuid::Uuid;

use super::executor::{Executor, LiveCounts};
use super::presence::Presence;
use super::progress::Progress;
use super::proof::prove;
use super::report::Report;
use super::request::Request;
use super::set_up::{check_grants, remove_objects, same_restores, set_up_again, set_up_and_start};
use super::sinks;
use super::store::{NextItem, RecoveryState, Store, StoredRecovery};
use crate::error::{Error, ErrorKind, Result};
use crate::preflight::{self, Servers};
use crate::sink::EventHubAccess;

/// A new recovery or one that was interrupted.
#[derive(Clone, Debug)]
pub enum Start {
    /// Begin.
    New(Box<Request>),
    /// Go on where it stopped. What was asked for then still holds.
    Resume(Uuid),
}

/// What steers a run from outside.
#[derive(Debug)]
pub struct Control<'a> {
    /// Shows how far it is.
    pub progress: &'a Progress,
    /// How long a worker may be silent before another takes its table over.
    pub lease: Duration,
    /// Leave foreign tables, helper views and the role on base when the recovery has ended.
    pub keep_objects: bool,
    /// How event hubs are reached.
    pub event_hub: &'a EventHubAccess,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All tables have ended.
    Finished(Box<Report>),
    /// It was told to stop; resume it under this id.
    Interrupted(Uuid),
}

/// How long an interrupted run tidies up at most.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs a recovery until every table has ended or `interrupted` resolves.
///
/// Killing the process at any instant loses nothing: [`Start::Resume`] goes on, and events that
/// are sent again have the same ids.
///
/// # Errors
/// Refused, with nothing changed; or what keeps the recovery as a whole from going on. A table
/// that fails is part of the report instead.
pub async fn run(
    servers: &Servers,
    start: Start,
    control: &Control<'_>,
    interrupted: impl Future<Output = ()>,
) -> Result<Outcome> {
    let (store, recovery, mut presence) = match start {
        Start::New(request) => begin(servers, &request, control).await?,
        Start::Resume(id) => resume(servers, id, control).await?,
    };
    let id = recovery.id;
    let items = store.items(id).await?;
    control.progress.start(&items);
    if recovery.state == RecoveryState::Running {
        let opened =
            Executor::open(servers, &store, &recovery, control.lease, control.event_hub).await;
        let executor = match opened {
            Ok(executor) => executor,
            Err(error) => return Err(stopped_by(error, servers, &store, id, presence).await),
        };
        let mut interrupted = pin!(interrupted);
        let (stop, stopped) = watch::channel(false);
        let mut working = pin!(work(&executor, id, control.progress, &stopped));
        let worked = tokio::select! {
            worked = &mut working => Some(worked),
            () = &mut interrupted => None,
        };
        match worked {
            None => {
                stop.send_replace(true);
                // A claim that is being made is made to its end, so that it can be given back.
                let stopped = async {
                    let _ = working.await;
                };
                return Ok(interrupt(servers, &store, id, presence, control, stopped).await);
            }
            Some(Err(error)) => return Err(stopped_by(error, servers, &store, id, presence).await),
            Some(Ok(())) => {}
        }
        // Other processes that have nothing left to do wait here for the one that proves.
        let closing = async {
            presence.prove_alone().await?;
            if stored(&store, id).await?.state == RecoveryState::Running {
                prove(servers, &store, &recovery, control.progress, None).await?;
                store.finish(id).await?;
            }
            Ok(())
        };
        let closed = tokio::select! {
            closed = closing => Some(closed),
            () = interrupted => None,
        };
        match closed {
            None => return Ok(interrupt(servers, &store, id, presence, control, async {}).await),
            Some(Err(error)) => return Err(stopped_by(error, servers, &store, id, presence).await),
            Some(Ok(())) => {}
        }
    }
    let recovery = stored(&store, id).await?;
    // Whoever cancels wants nothing of it any more.
    if recovery.state == RecoveryState::Cancelled
        || (recovery.state.is_end() && !control.keep_objects)
    {
        remove_objects(servers, id).await?;
    }
    let report = Report::new(recovery, store.items(id).await?, &store.accounts(id).await?);
    presence.leave().await;
    store.close();
    control.progress.finish();
    Ok(Outcome::Finished(Box::new(report)))
}

/// Leaves a recovery that cannot go on for now, and says how it can later. It is there, so this is
/// no refusal.
async fn stopped_by(
    error: Error,
    servers: &Servers,
    store: &Store,
    id: Uuid,
    presence: Presence,
) -> Error {
    // The error is what matters; what cannot be given back comes back with its lease.
    let _ = tokio::time::timeout(STOP_WITHIN, leave(servers, store, id, presence)).await;
    let sentence = error.to_string();
    let next = if sentence.contains("--resume") {
        String::new()
    } else {
        format!("; once that is mended, go on with --resume {id}")
    };
    let kind = match error.kind() {
        ErrorKind::Refused => ErrorKind::Recovery,
        kind => kind,
    };
    Error::new(kind, format!("{sentence}{next}")).because(error)
}

/// Leaves a recovery that was told to stop, once `stopped` says that its workers have ended.
async fn interrupt(
    servers: &Servers,
    store: &Store,
    id: Uuid,
    presence: Presence,
    control: &Control<'_>,
    stopped: impl Future<Output = ()>,
) -> Outcome {
    control.progress.interrupt();
    let leaving = tokio::time::timeout(STOP_WITHIN, async {
        stopped.await;
        leave(servers, store, id, presence).await
    });
    if !matches!(leaving.await, Ok(Ok(()))) {
        tracing::warn!("not everything could be removed; resume, or run cleanup");
    }
    store.close();
    Outcome::Interrupted(id)
}

/// Preflight, then the first changes: the status schema, the link, the plan.
async fn begin(
    servers: &Servers,
    request: &Request,
    control: &Control<'_>,
) -> Result<(Store, StoredRecovery, Presence)> {
    // Nothing was changed yet, so trouble that may pass is a refusal too.
    let files = sinks::refuse_bad(request, control.event_hub)
        .await
        .map_err(|error| error.with_kind(ErrorKind::Refused))?;
    let id = Uuid::new_v4();
    control.progress.say("checking the two servers");
    let checked = preflight::check(servers, request)
        .await
        .map_err(|error| error.with_kind(ErrorKind::Refused))?;
    check_grants(servers, request, &checked).await?;
    for warning in &checked.warnings {
        control.progress.warn(warning);
    }
    tracing::info!(recovery = %id, gap = %checked.gap, "the restores are fit to be compared");
    let store = Store::open(&servers.head).await?;
    sinks::reserve_files(&files)?;
    store.create_recovery(id, request, servers, &checked).await?;
    control.progress.say(&format!("recovery {id}"));
    let presence = Presence::join(&servers.head, id).await?;
    let set_up = set_up_and_start(servers, &store, id, request, &checked, control.progress).await;
    match set_up {
        Ok(()) => Ok((store.clone(), stored(&store, id).await?, presence)),
        Err(error) => Err(stopped_by(error, servers, &store, id, presence).await),
    }
}

/// Finds the recovery, and plans it if that was not done, or sets the link up again.
async fn resume(
    servers: &Servers,
    id: Uuid,
    control: &Control<'_>,
) -> Result<(Store, StoredRecovery, Presence)> {
    let unknown = || {
        Error::refused(format!(
            "{} knows no recovery {id}: check the id and that this is the head it ran on",
            servers.head
        ))
    };
    let store = Store::open_existing(&servers.head).await?.ok_or_else(unknown)?;
    let mut recovery = store.recovery(id).await?.ok_or_else(unknown)?;
    if recovery.queued {
        return Err(Error::refused(format!(
            "recovery {id} is the app's: it goes on by itself; after a failure, POST \
             /api/recoveries/{id}/retry"
        )));
    }
    control.progress.say(&format!("resuming recovery {id} ({})", recovery.state.as_str()));
    let mut presence = Presence::join(&servers.head, id).await?;
    if recovery.state.is_end() {
        return Ok((store, recovery, presence));
    }
    recovery.request.recorded = store.recorded(id).await?;
    let checked = preflight::check(servers, &recovery.request).await?;
    same_restores(&recovery, &checked)?;
    sinks::check_delivered(&recovery, &store).await.map_err(|error| match error.kind() {
        // Nothing was changed yet.
        ErrorKind::EventsLost => error.with_kind(ErrorKind::Refused),
        _ => error,
    })?;
    let set_up = match recovery.state {
        RecoveryState::Planning => {
            let request = &recovery.request;
            set_up_and_start(servers, &store, id, request, &checked, control.progress).await
        }
        _ => set_up_again(servers, &store, &recovery, checked.target, &mut presence).await,
    };
    match set_up {
        Ok(()) => Ok((store.clone(), stored(&store, id).await?, presence)),
        Err(error) => Err(stopped_by(error, servers, &store, id, presence).await),
    }
}

/// Leaves an interrupted recovery so that it can be resumed at once: gives this process's items
/// back and, unless other processes work on, ends its sessions (they may be in the middle of a long
/// join) and leaves no role behind on base. Resuming sets everything up again.
async fn leave(servers: &Servers, store: &Store, id: Uuid, mut presence: Presence) -> Result<()> {
    store.release(id).await?;
    if presence.alone().await? {
        remove_objects(servers, id).await?;
    }
    presence.leave().await;
    Ok(())
}

async fn stored(store: &Store, id: Uuid) -> Result<StoredRecovery> {
    store
        .recovery(id)
        .await?
        .ok_or_else(|| Error::recovery(format!("recovery {id} has vanished from the status store")))
}

/// Works off items, several at once, until none is open or `stop` becomes true.
async fn work(
    executor: &Arc<Executor>,
    id: Uuid,
    progress: &Progress,
    stop: &watch::Receiver<bool>,
) -> Result<()> {
    let mut workers = JoinSet::new();
    for _ in 0..executor.request.parallel.max(1) {
        let executor = Arc::clone(executor);
        let progress = progress.clone();
        let stop = stop.clone();
        let working = async move { worker(&executor, id, &progress, stop).await };
        workers.spawn(working.in_current_span());
    }
    while let Some(worker) = workers.join_next().await {
        worker.map_err(|error| Error::recovery("a worker ended unexpectedly").because(error))??;
    }
    Ok(())
}

async fn worker(
    executor: &Arc<Executor>,
    id: Uuid,
    progress: &Progress,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    while !*stop.borrow() {
        match executor.store.claim_next(id, executor.lease).await? {
            NextItem::NoneOpen => return Ok(()),
            NextItem::AllLeased(wait) => tokio::time::sleep(wait).await,
            NextItem::Claimed(claim) => {
                let live = Arc::new(LiveCounts::default());
                let shown = progress.begin(&claim.item, Arc::clone(&live));
                let executed = tokio::select! {
                    executed = executor.execute(&claim, &live, None) => executed,
                    _ = stop.wait_for(|stop| *stop) => break,
                };
                match executed {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::LeaseLost => {
                        tracing::warn!(%error, "work item abandoned");
                    }
                    Err(error) => return Err(error),
                }
                progress.end(shown, &executor.store.item(id, claim.item.number).await?);
            }
        }
    }
    Ok(())
}
