//! A recovery in this one process, from request to report: `deltacompare run`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::executor::{Executor, LiveCounts, verify};
use super::plan::planned_items;
use super::progress::Progress;
use super::report::Report;
use super::request::{Request, SinkTarget, Verify};
use super::store::{NextItem, RecoveryState, Store, StoredRecovery};
use super::work_item::{ItemState, WorkItem};
use crate::catalog::TableName;
use crate::diff::{Digest, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EncoderSettings;
use crate::fdw::{self, FdwTarget, ForeignTable, Link};
use crate::preflight::{self, Servers};
use crate::sink::{DeltaTable, Ndjson, Sink};
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

/// Statistics of writes lag behind by up to this time (PostgreSQL manual, "Monitoring Database
/// Activity"), so the last look for writes waits for it.
const STATISTICS_LAG: Duration = Duration::from_secs(2);

/// The same where sessions of others live on, which keep counts to themselves for ten seconds.
const HELD_BACK_COUNTS_LAG: Duration = Duration::from_secs(12);

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
    let (store, recovery) = match start {
        Start::New(request) => begin(servers, &request, control).await?,
        Start::Resume(id) => resume(servers, id, control).await?,
    };
    let id = recovery.id;
    let name = fdw::object_name(id);
    let items = store.items(id).await?;
    control.progress.start(&items);
    if recovery.state == RecoveryState::Running {
        let executor = Arc::new(Executor {
            sinks: open_sinks(&recovery, &store)?,
            settings: EncoderSettings {
                recovery_id: id,
                database: servers.head.database().to_owned(),
                server_name: recovery.request.topic_prefix.clone(),
                format: recovery.request.format,
                recovered_at: recovery.created_at,
                before: recovery.request.before,
                debezium: recovery.request.debezium,
                version: None,
            },
            store: store.clone(),
            servers: servers.clone(),
            request: recovery.request.clone(),
            session_name: name.clone(),
            lease: control.lease,
        });
        let worked = tokio::select! {
            worked = work(&executor, id, control.progress) => Some(worked),
            () = interrupted => None,
        };
        match worked {
            None => {
                control.progress.interrupt();
                let leaving = tokio::time::timeout(STOP_WITHIN, leave(servers, &store, id));
                if !matches!(leaving.await, Ok(Ok(()))) {
                    tracing::warn!("not everything could be removed; resume, or run cleanup");
                }
                // Workers that were dropped in the middle of a statement may hold a session.
                let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
                return Ok(Outcome::Interrupted(id));
            }
            Some(worked) => worked?,
        }
        if recovery.request.verify == Verify::Full {
            verify_tables(servers, &store, &recovery, control.progress).await?;
        }
        control.progress.say("looking for writes to the restores meanwhile");
        look_for_writes(servers, &store, &recovery).await?;
        store.finish(id).await?;
    }
    let recovery = stored(&store, id).await?;
    if !control.keep_objects
        && matches!(recovery.state, RecoveryState::Completed | RecoveryState::Failed)
    {
        remove_objects(servers, id).await?;
    }
    let report = Report::new(recovery, store.items(id).await?);
    store.close().await;
    control.progress.finish();
    Ok(Outcome::Finished(Box::new(report)))
}

/// Preflight, then the first changes: the status schema, the link, the plan.
async fn begin(
    servers: &Servers,
    request: &Request,
    control: &Control<'_>,
) -> Result<(Store, StoredRecovery)> {
    refuse_bad_sinks(request)?;
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
    let store = Store::open(&servers.head).await?;
    store.create_recovery(id, request, &servers.base, &servers.head, checked.ends).await?;
    control.progress.say(&format!("recovery {id}"));
    set_up_and_start(servers, &store, id, request, &checked, control).await?;
    Ok((store.clone(), stored(&store, id).await?))
}

/// Whether head can be let read the tables that it must read. Changes nothing.
pub(super) async fn check_grants(
    servers: &Servers,
    request: &Request,
    checked: &preflight::Checked,
) -> Result<()> {
    let link = Link::new(Uuid::nil(), checked.target.clone());
    let foreign: Vec<ForeignTable> = planned_items(checked, request, &link)
        .into_iter()
        .filter_map(|item| item.spec.foreign)
        .collect();
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
) -> Result<(Store, StoredRecovery)> {
    let unknown = || {
        Error::refused(format!(
            "{} knows no recovery {id}: check the id and that this is the head it ran on",
            servers.head
        ))
    };
    let store = Store::open_existing(&servers.head).await?.ok_or_else(unknown)?;
    let recovery = store.recovery(id).await?.ok_or_else(unknown)?;
    control.progress.say(&format!("resuming recovery {id} ({})", recovery.state.as_str()));
    match recovery.state {
        RecoveryState::Planning => {
            let checked = preflight::check(servers, &recovery.request).await?;
            set_up_and_start(servers, &store, id, &recovery.request, &checked, control).await?;
        }
        RecoveryState::Running => {
            let checked = preflight::check(servers, &recovery.request).await?;
            set_up_again(servers, &store, id, checked.target).await?;
        }
        RecoveryState::Completed | RecoveryState::Failed | RecoveryState::Cancelled => {}
    }
    Ok((store.clone(), stored(&store, id).await?))
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
    let planned = planned_items(checked, request, &link);
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
async fn set_up_again(servers: &Servers, store: &Store, id: Uuid, target: FdwTarget) -> Result<()> {
    let asked = store.now().await?;
    let Some(turn) = store.set_up_turn(id, asked).await? else { return Ok(()) };
    if store.others_at_work(id).await? {
        return Ok(());
    }
    let foreign: Vec<ForeignTable> = store
        .items(id)
        .await?
        .into_iter()
        .filter(|item| matches!(item.state, ItemState::Pending | ItemState::Running))
        .filter_map(|item| item.spec.foreign)
        .collect();
    remove_objects(servers, id).await?;
    set_up_link(servers, &Link::new(id, target), &foreign).await?;
    turn.commit().await?;
    Ok(())
}

async fn set_up_link(servers: &Servers, link: &Link, foreign: &[ForeignTable]) -> Result<()> {
    let (mut base, mut head) = connect_both(servers, "deltacompare set-up").await?;
    link.establish(&mut base, &mut head).await?;
    fdw::create_foreign_tables(link, &mut base, &mut head, foreign).await?;
    let _ = tokio::join!(base.close(), head.close());
    Ok(())
}

async fn connect_both(servers: &Servers, name: &str) -> Result<(PgConnection, PgConnection)> {
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
async fn leave(servers: &Servers, store: &Store, id: Uuid) -> Result<()> {
    store.release(id).await?;
    if !store.others_at_work(id).await? {
        remove_objects(servers, id).await?;
    }
    Ok(())
}

async fn stored(store: &Store, id: Uuid) -> Result<StoredRecovery> {
    store
        .recovery(id)
        .await?
        .ok_or_else(|| Error::recovery(format!("recovery {id} has vanished from the status store")))
}

/// Sinks that cannot work are refused before anything is changed.
fn refuse_bad_sinks(request: &Request) -> Result<()> {
    for sink in &request.sinks {
        if let SinkTarget::Ndjson(path) = sink {
            Ndjson::check(path)?;
        }
    }
    Ok(())
}

fn open_sinks(recovery: &StoredRecovery, store: &Store) -> Result<Vec<Arc<dyn Sink>>> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for sink in &recovery.request.sinks {
        sinks.push(match sink {
            SinkTarget::Ndjson(path) => Arc::new(Ndjson::open(path)?),
            SinkTarget::DeltaTable => Arc::new(DeltaTable::new(store.pool().clone(), recovery.id)),
        });
    }
    Ok(sinks)
}

/// Works off items, several at once, until none is open.
async fn work(executor: &Arc<Executor>, id: Uuid, progress: &Progress) -> Result<()> {
    let mut workers = JoinSet::new();
    for _ in 0..executor.request.parallel.max(1) {
        let executor = Arc::clone(executor);
        let progress = progress.clone();
        workers.spawn(async move { worker(&executor, id, &progress).await });
    }
    while let Some(worker) = workers.join_next().await {
        worker.map_err(|error| Error::recovery("a worker ended unexpectedly").because(error))??;
    }
    Ok(())
}

async fn worker(executor: &Executor, id: Uuid, progress: &Progress) -> Result<()> {
    loop {
        match executor.store.claim_next(id, executor.lease).await? {
            NextItem::NoneOpen => return Ok(()),
            NextItem::AllLeased(wait) => tokio::time::sleep(wait).await,
            NextItem::Claimed(claim) => {
                let live = Arc::new(LiveCounts::default());
                let shown = progress.begin(&claim.item, Arc::clone(&live));
                match executor.execute(&claim, &live).await {
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
}

/// Proves each completed table by diffing it once more with `full`; one that does not agree fails.
async fn verify_tables(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
    progress: &Progress,
) -> Result<()> {
    let mut tables = BTreeMap::<TableName, Vec<WorkItem>>::new();
    for item in store.items(recovery.id).await? {
        tables.entry(item.spec.tables.table.name.clone()).or_default().push(item);
    }
    for (name, items) in tables {
        if items.iter().any(|item| item.state != ItemState::Completed) {
            continue;
        }
        progress.say(&format!("verifying {name}"));
        let mut emitted = Digest::default();
        items.iter().for_each(|item| emitted += item.done.digest);
        if let Err(error) = verify(servers, &items[0].spec.tables, &emitted).await {
            let disproved: Vec<(i32, String)> =
                items.iter().map(|item| (item.number, error.to_string())).collect();
            store.disprove(recovery.id, &disproved).await?;
        }
    }
    Ok(())
}

/// The last look: whoever wrote to a restore while it was read makes the result of these tables
/// worthless.
async fn look_for_writes(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
) -> Result<()> {
    if recovery.request.accept_written {
        return Ok(());
    }
    let last_read = Instant::now();
    let completed: Vec<WorkItem> = store
        .items(recovery.id)
        .await?
        .into_iter()
        .filter(|item| item.state == ItemState::Completed)
        .collect();
    let (mut base, mut head) = connect_both(servers, "deltacompare last look").await?;
    let alone = preflight::other_sessions(&mut base).await?.is_empty()
        && preflight::other_sessions(&mut head).await?.is_empty();
    let lag = if alone { STATISTICS_LAG } else { HELD_BACK_COUNTS_LAG };
    tokio::time::sleep_until((last_read + lag).into()).await;
    for (side, connection) in [("base", &mut base), ("head", &mut head)] {
        let silent: Vec<String> = preflight::other_sessions(connection)
            .await?
            .into_iter()
            .filter(|session| session.holds_counts_back)
            .map(|session| session.pid.to_string())
            .collect();
        if !silent.is_empty() {
            return Err(Error::recovery(format!(
                "whether {side} was written to cannot be said while other sessions are at work \
                 there (pids {}): end them, then go on with --resume {}; nothing is read again",
                silent.join(", "),
                recovery.id
            )));
        }
    }
    let mut disproved = Vec::new();
    type Oid = fn(&WorkItem) -> Option<u32>;
    let base_oid: Oid = |item| item.spec.base_oid;
    let head_oid: Oid = |item| Some(item.spec.head_oid);
    for (side, connection, oid) in [("base", &mut base, base_oid), ("head", &mut head, head_oid)] {
        let oids: BTreeSet<i64> = completed.iter().filter_map(oid).map(i64::from).collect();
        let oids: Vec<i64> = oids.into_iter().collect();
        let written = preflight::written(connection, &oids).await?;
        for (written_oid, rows) in written {
            for item in
                completed.iter().filter(|item| oid(item).map(i64::from) == Some(written_oid))
            {
                disproved.push((
                    item.number,
                    format!(
                        "{side} was written to while it was compared ({rows} rows of {}): keep \
                         applications away, restore again and recover the table anew",
                        item.spec.tables.table.name
                    ),
                ));
            }
        }
        if preflight::counts_lost(connection).await? {
            for item in completed.iter().filter(|item| item.spec.strategy == Strategy::Identity) {
                disproved.push((
                    item.number,
                    format!(
                        "{side} lost its counts of writes while it was compared (a crash or \
                         pg_stat_reset()), so nothing proves that row versions are comparable: \
                         recover the table anew"
                    ),
                ));
            }
        }
        let writers = preflight::writers(connection).await?;
        if !writers.is_empty() {
            tracing::warn!(side, ?writers, "sessions are writing to a restored server");
        }
    }
    store.disprove(recovery.id, &disproved).await?;
    let _ = tokio::join!(base.close(), head.close());
    Ok(())
}
