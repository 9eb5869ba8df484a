//! A recovery in this one process, from request to report: `deltacompare run`.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::executor::{Executor, LiveCounts};
use super::plan::{foreign_tables, planned_items};
use super::presence::Presence;
use super::progress::Progress;
use super::proof::prove;
use super::report::Report;
use super::request::{Request, SinkTarget, Verify};
use super::store::{NextItem, RecoveryState, Store, StoredRecovery};
use super::work_item::ItemState;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EncoderSettings;
use crate::fdw::{self, FdwTarget, ForeignTable, Link};
use crate::preflight::{self, Servers};
use crate::sink::{DeltaTable, EventHub, EventHubAccess, Lines, Ndjson, Sink};
use crate::sql::Ident;

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
    let name = fdw::object_name(id);
    let items = store.items(id).await?;
    control.progress.start(&items);
    if recovery.state == RecoveryState::Running {
        let executor = Arc::new(Executor {
            sinks: open_sinks(&recovery, &store, control.event_hub).await?,
            settings: EncoderSettings {
                recovery_id: id,
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
            request: recovery.request.clone(),
            session_name: name.clone(),
            lease: control.lease,
        });
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
                prove(servers, &store, &recovery, control.progress).await?;
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
    if !control.keep_objects
        && matches!(recovery.state, RecoveryState::Completed | RecoveryState::Failed)
    {
        remove_objects(servers, id).await?;
    }
    let report = Report::new(recovery, store.items(id).await?);
    presence.leave().await;
    store.close().await;
    control.progress.finish();
    Ok(Outcome::Finished(Box::new(report)))
}

/// Leaves a recovery that cannot go on for now, and says how it can later.
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
    Error::new(error.kind(), format!("{sentence}{next}")).because(error)
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
    // Workers that were dropped in the middle of a statement may hold a session.
    let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
    Outcome::Interrupted(id)
}

/// Preflight, then the first changes: the status schema, the link, the plan.
async fn begin(
    servers: &Servers,
    request: &Request,
    control: &Control<'_>,
) -> Result<(Store, StoredRecovery, Presence)> {
    let files = refuse_bad_sinks(request, control.event_hub).await?;
    let id = Uuid::new_v4();
    control.progress.say("checking the two servers");
    // Nothing was changed yet, so trouble that may pass is a refusal too.
    let checked = preflight::check(servers, request)
        .await
        .map_err(|error| error.with_kind(ErrorKind::Refused))?;
    check_grants(servers, request, &checked).await?;
    for warning in &checked.warnings {
        control.progress.warn(warning);
    }
    tracing::info!(recovery = %id, gap = %checked.gap, "the restores are fit to be compared");
    let store = Store::open(&servers.head).await?;
    reserve_files(&files)?;
    store.create_recovery(id, request, servers, &checked).await?;
    control.progress.say(&format!("recovery {id}"));
    let presence = Presence::join(&servers.head, id).await?;
    set_up_and_start(servers, &store, id, request, &checked, control).await?;
    Ok((store.clone(), stored(&store, id).await?, presence))
}

/// Whether head can be let read the tables that it must read. Changes nothing.
pub(super) async fn check_grants(
    servers: &Servers,
    request: &Request,
    checked: &preflight::Checked,
) -> Result<()> {
    let link = Link::new(Uuid::nil(), checked.target.clone());
    let foreign = foreign_tables(checked, request, &link);
    let mut base = servers.base.connect("deltacompare preflight").await?;
    fdw::check_grants(&mut base, &foreign).await?;
    let _ = base.close().await;
    Ok(())
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
    let recovery = store.recovery(id).await?.ok_or_else(unknown)?;
    control.progress.say(&format!("resuming recovery {id} ({})", recovery.state.as_str()));
    let mut presence = Presence::join(&servers.head, id).await?;
    match recovery.state {
        RecoveryState::Planning => {
            let checked = preflight::check(servers, &recovery.request).await?;
            same_restores(&recovery, &checked)?;
            set_up_and_start(servers, &store, id, &recovery.request, &checked, control).await?;
        }
        RecoveryState::Running => {
            let checked = preflight::check(servers, &recovery.request).await?;
            same_restores(&recovery, &checked)?;
            set_up_again(servers, &store, &recovery, checked.target, &mut presence).await?;
        }
        RecoveryState::Completed | RecoveryState::Failed | RecoveryState::Cancelled => {}
    }
    Ok((store.clone(), stored(&store, id).await?, presence))
}

/// A recovery goes on with the two restores that it began with, and with no others.
fn same_restores(recovery: &StoredRecovery, checked: &preflight::Checked) -> Result<()> {
    // Where they ended counts only if the histories could be read both times.
    let same_ends = match (recovery.ends, checked.ends) {
        (Some(then), Some(now)) => then == now,
        _ => true,
    };
    let same_restores = recovery
        .restores
        .split(' ')
        .zip(checked.restores.split(' '))
        .all(|(then, now)| preflight::same_restore(then, now));
    if same_restores && same_ends {
        return Ok(());
    }
    Err(Error::refused(format!(
        "recovery {} began with other restores than these: name the same --base and --head as \
         then, or begin a new recovery",
        recovery.id
    )))
}

/// Sets the link up and stores the plan. If another process is at it, waits and leaves it to that.
async fn set_up_and_start(
    servers: &Servers,
    store: &Store,
    id: Uuid,
    request: &Request,
    checked: &preflight::Checked,
    control: &Control<'_>,
) -> Result<()> {
    let Some(turn) = store.set_up_turn(id, store.now().await?).await? else { return Ok(()) };
    let link = Link::new(id, checked.target.clone());
    let planned = planned_items(servers, checked, request, &link).await?;
    let foreign: Vec<ForeignTable> =
        planned.iter().filter_map(|item| item.spec.foreign.clone()).collect();
    if !foreign.is_empty() {
        let tables = if foreign.len() == 1 { "table" } else { "tables" };
        control.progress.say(&format!("setting up {} foreign {tables}", foreign.len()));
    }
    remove_objects(servers, id).await?;
    set_up_link(servers, &link, &foreign).await?;
    store.start(turn, id, &checked.warnings, &planned).await
}

/// Sets the link up for what is left of a recovery, with a new password, unless other processes
/// are using the one that is there.
async fn set_up_again(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
    target: FdwTarget,
    presence: &mut Presence,
) -> Result<()> {
    let id = recovery.id;
    let alone = presence.alone().await?;
    let turn = store.set_up_turn(id, store.now().await?).await?;
    let verified = recovery.request.verify == Verify::Full;
    let foreign: Vec<ForeignTable> = store
        .items(id)
        .await?
        .into_iter()
        .filter(|item| verified || matches!(item.state, ItemState::Pending | ItemState::Running))
        .filter_map(|item| item.spec.foreign)
        .collect();
    if let Some(turn) = turn
        && (alone || !is_linked(servers, id, &foreign).await?)
    {
        remove_objects(servers, id).await?;
        set_up_link(servers, &Link::new(id, target), &foreign).await?;
        turn.commit().await?;
    }
    if alone { presence.share().await } else { Ok(()) }
}

/// Whether head has the whole link that other processes use: one that was interrupted may be gone
/// with it, or may not have finished it.
async fn is_linked(servers: &Servers, id: Uuid, foreign: &[ForeignTable]) -> Result<bool> {
    let mut head = servers.head.connect("deltacompare set-up").await?;
    let linked = fdw::is_linked(&mut head, &Ident::new(fdw::object_name(id)), foreign).await?;
    let _ = head.close().await;
    Ok(linked)
}

async fn set_up_link(servers: &Servers, link: &Link, foreign: &[ForeignTable]) -> Result<()> {
    let (mut base, mut head) = connect_both(servers, "deltacompare set-up").await?;
    link.establish(&mut base, &mut head).await?;
    fdw::create_foreign_tables(link, &mut base, &mut head, foreign).await?;
    let _ = tokio::join!(base.close(), head.close());
    Ok(())
}

pub(super) async fn connect_both(
    servers: &Servers,
    name: &str,
) -> Result<(PgConnection, PgConnection)> {
    tokio::try_join!(servers.base.connect(name), servers.head.connect(name))
}

/// Drops what the recovery created on the servers, and ends its sessions.
async fn remove_objects(servers: &Servers, id: Uuid) -> Result<()> {
    let (mut base, mut head) = connect_both(servers, "deltacompare clean-up").await?;
    fdw::remove(&mut base, &mut head, &Ident::new(fdw::object_name(id))).await?;
    let _ = tokio::join!(base.close(), head.close());
    Ok(())
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

/// Sinks that cannot work are refused before anything is changed. Yields the files to be created.
async fn refuse_bad_sinks<'a>(
    request: &'a Request,
    access: &EventHubAccess,
) -> Result<Vec<&'a Path>> {
    let mut files = Vec::new();
    let has_file = request.sinks.iter().any(|sink| matches!(sink, SinkTarget::Ndjson(_)));
    if request.tombstones && has_file && !request.ndjson_keys {
        return Err(Error::refused(
            "a tombstone is a key without an event, and lines of an NDJSON file have no key: add \
             --ndjson-keys, or leave --tombstones out",
        ));
    }
    for sink in &request.sinks {
        match sink {
            SinkTarget::Ndjson(path) if Ndjson::check(path)? => files.push(path.as_path()),
            SinkTarget::EventHub(_) if request.tombstones => {
                return Err(Error::refused(
                    "an event hub takes no tombstones: leave --tombstones out, or use another sink",
                ));
            }
            SinkTarget::EventHub(address) => {
                // Nothing was changed yet, so trouble that may pass is a refusal too.
                EventHub::check(access, address, &request.event_hub)
                    .await
                    .map_err(|error| error.with_kind(ErrorKind::Refused))?;
            }
            SinkTarget::Ndjson(_) | SinkTarget::DeltaTable => {}
        }
    }
    Ok(files)
}

/// Creates the files, so that no other recovery that begins now takes them too.
fn reserve_files(files: &[&Path]) -> Result<()> {
    files.iter().try_for_each(|path| Ndjson::reserve(path))
}

async fn open_sinks(
    recovery: &StoredRecovery,
    store: &Store,
    access: &EventHubAccess,
) -> Result<Vec<Arc<dyn Sink>>> {
    let lines = if recovery.request.ndjson_keys {
        Lines::Keyed { tombstones: recovery.request.tombstones }
    } else {
        Lines::Events
    };
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for sink in &recovery.request.sinks {
        sinks.push(match sink {
            SinkTarget::Ndjson(path) => Arc::new(Ndjson::open(path, lines)?),
            SinkTarget::DeltaTable => Arc::new(DeltaTable::new(store.pool().clone(), recovery.id)),
            SinkTarget::EventHub(address) => Arc::new(
                EventHub::open(
                    access,
                    address,
                    &recovery.request.event_hub,
                    recovery.id,
                    recovery.created_at,
                    store.pool().clone(),
                )
                .await?,
            ),
        });
    }
    Ok(sinks)
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
        workers.spawn(async move { worker(&executor, id, &progress, stop).await });
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
                    executed = executor.execute(&claim, &live) => executed,
                    _ = stop.wait_for(|stop| *stop) => break,
                };
                match executed {
                    Ok(()) => {}
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
