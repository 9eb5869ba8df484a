//! What is checked once every table has ended, before the recovery may be called completed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use uuid::Uuid;

use super::account;
use super::deadline::Deadline;
use super::progress::Progress;
use super::set_up::connect_both;
use super::store::{Store, StoredRecovery};
use super::work_item::{ItemState, WorkItem};
use super::{diagnosis, sinks};
use crate::diff::{self, DiffItem, Digest, Scope, Sessions, Tables};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Accept, GapProof, Strategy, Verify};
use crate::postgres::{Session, Side};
use crate::preflight::{self, Servers};
use crate::telemetry::metrics;

/// Statistics of writes lag behind by up to this time (PostgreSQL manual, "Monitoring Database
/// Activity"), so the last look for writes waits for it.
const STATISTICS_LAG: Duration = Duration::from_secs(2);

/// The same where sessions of others live on, which keep counts to themselves for ten seconds.
const HELD_BACK_COUNTS_LAG: Duration = Duration::from_secs(12);

/// How long sessions of others may hold counts of writes back when everything has been read.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(30);

/// What is left once every table has ended: tables that cannot be vouched for fail. Yields whether
/// all is done; without a deadline, it is.
///
/// # Errors
/// [`ErrorKind::EventsLost`] if a sink lost events; or a server cannot be reached.
pub(super) async fn prove(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
    progress: &Progress,
    deadline: Option<Deadline>,
) -> Result<bool> {
    let _watch = metrics::watch(metrics::Step::Prove);
    if recovery.request.verify == Verify::Full
        && !verify_tables(servers, store, recovery, progress, deadline).await?
    {
        return Ok(false);
    }
    if !account::take(servers, store, recovery, progress, deadline).await? {
        return Ok(false);
    }
    progress.say("looking for writes to the restores meanwhile");
    look_for_writes(servers, store, recovery).await?;
    // After the look: where somebody wrote, that is why a table does not balance.
    account::judge(store, recovery.id).await?;
    sinks::check_delivered(recovery, store).await?;
    Ok(true)
}

/// Proves each completed table by diffing it once more with `full`; one that does not agree fails.
/// What was proved before is not proved again. Yields whether all is done.
async fn verify_tables(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
    progress: &Progress,
    deadline: Option<Deadline>,
) -> Result<bool> {
    let mut sessions = None;
    for (name, items) in account::tables(store.items(recovery.id).await?) {
        if !account::all_completed(&items) || items.iter().all(|item| item.verified) {
            continue;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline.pause_at) {
            return Ok(false);
        }
        progress.say(&format!("verifying {name}"));
        let mut emitted = Digest::default();
        items.iter().for_each(|item| emitted += item.done.digest);
        let verdict = match deadline {
            None => verify(servers, &mut sessions, &items[0].spec.tables, &emitted).await,
            Some(deadline) => {
                let verified = verify(servers, &mut sessions, &items[0].spec.tables, &emitted);
                tokio::time::timeout_at(deadline.end_at.into(), verified).await.unwrap_or_else(|_| {
                    Err(Error::item(
                        "its verification took longer than one message may: raise functionTimeout \
                         in host.json and retry, or verify it with deltacompare run",
                    ))
                })
            }
        };
        if let Err(error) = verdict {
            if error.kind() != ErrorKind::Item {
                // It could not be looked at; that says nothing of the result.
                return Err(error.while_doing(format!("verifying {name}")));
            }
            let failed: Vec<(i32, String)> =
                items.iter().map(|item| (item.number, error.to_string())).collect();
            store.fail_verification(recovery.id, &failed).await?;
        } else {
            let proved: Vec<i32> = items.iter().map(|item| item.number).collect();
            store.verified(recovery.id, &proved).await?;
        }
    }
    if let Some((base, head)) = sessions {
        tokio::join!(base.close(), head.close());
    }
    Ok(true)
}

/// The last look: whoever wrote to a restore while it was read, or altered it, makes the result of
/// these tables worthless. Where the request accepts writes, only that of tables whose row versions were compared:
/// their writes were counted after the strategy had been chosen.
async fn look_for_writes(
    servers: &Servers,
    store: &Store,
    recovery: &StoredRecovery,
) -> Result<()> {
    let accepted = recovery.request.accepts(Accept::Written);
    let record = store.recorded(recovery.id).await?;
    let last_read = Instant::now();
    let completed: Vec<WorkItem> = store
        .items(recovery.id)
        .await?
        .into_iter()
        .filter(|item| item.state == ItemState::Completed)
        .collect();
    let (mut base, mut head) = connect_both(servers, "deltacompare last look").await?;
    let alone = preflight::other_sessions(&base).await?.is_empty()
        && preflight::other_sessions(&head).await?.is_empty();
    let lag = if alone { STATISTICS_LAG } else { HELD_BACK_COUNTS_LAG };
    tokio::time::sleep_until((last_read + lag).into()).await;
    let by_row_versions = |item: &WorkItem| item.spec.strategy == Strategy::RowVersions;
    for (side, connection) in [(Side::Base, &mut base), (Side::Head, &mut head)] {
        if !accepted || completed.iter().any(by_row_versions) {
            wait_for_counts(side, connection, recovery.id).await?;
        }
    }
    let mut failed = Vec::new();
    let mut any_written = false;
    type Oid = fn(&WorkItem) -> Option<u32>;
    let base_oid: Oid = |item| item.spec.base_oid;
    let head_oid: Oid = |item| Some(item.spec.head_oid);
    for (side, connection, oid) in [("base", &mut base, base_oid), ("head", &mut head, head_oid)] {
        let mut items_of = BTreeMap::<u32, Vec<&WorkItem>>::new();
        for item in &completed {
            if let Some(oid) = oid(item) {
                items_of.entry(oid).or_default().push(item);
            }
        }
        let oids: Vec<i64> = items_of.keys().map(|&oid| i64::from(oid)).collect();
        let written = preflight::written(connection, &oids).await?;
        any_written |= !written.is_empty();
        for (written_oid, rows) in written {
            let items = items_of.get(&(written_oid as u32)).into_iter().flatten();
            for item in items.filter(|item| !accepted || by_row_versions(item)) {
                failed.push((
                    item.number,
                    format!(
                        "{side} was written to while it was compared ({rows} rows of {}): keep \
                         applications away, restore again and recover the table anew",
                        item.spec.tables.table.name
                    ),
                ));
            }
        }
        let recorded = record.as_ref().map(|it| if side == "base" { &it.base } else { &it.head });
        if let Some(recorded) = recorded.filter(|_| !accepted) {
            for (line, what) in preflight::altered_relations(recorded, connection).await? {
                for item in line.iter().filter_map(|oid| items_of.get(oid)).flatten() {
                    failed.push((
                        item.number,
                        format!(
                            "{side} was altered while it was compared: {what}; keep everybody \
                             away, restore again and recover the table anew"
                        ),
                    ));
                }
            }
        }
        if preflight::counts_lost(connection).await? {
            for item in completed.iter().filter(|item| by_row_versions(item)) {
                failed.push((
                    item.number,
                    format!(
                        "{side} lost its counts of writes while it was compared (a crash or \
                         pg_stat_reset()), so nothing proves that row versions are comparable: \
                         begin a new recovery of the table, which compares contents"
                    ),
                ));
            }
        }
        let writers = preflight::writers(connection).await?;
        if !writers.is_empty() {
            tracing::warn!(side, ?writers, "sessions are writing to a restored server");
        }
    }
    store.fail_verification(recovery.id, &failed).await?;
    if any_written && matches!(recovery.gap, GapProof::Proven { .. }) {
        let why = preflight::WRITTEN_TO.to_owned();
        store.judge_gap(recovery.id, &GapProof::NotProvable { why }).await?;
    }
    tokio::join!(base.close(), head.close());
    Ok(())
}

/// Waits until no other session holds counts of writes back.
///
/// # Errors
/// One does for longer than [`SESSIONS_END_WITHIN`].
async fn wait_for_counts(side: Side, connection: &Session, recovery: Uuid) -> Result<()> {
    let since = Instant::now();
    loop {
        let silent: Vec<String> = preflight::other_sessions(connection)
            .await?
            .into_iter()
            .filter(|session| session.holds_counts_back)
            .map(|session| session.pid.to_string())
            .collect();
        if silent.is_empty() {
            return Ok(());
        }
        if since.elapsed() >= SESSIONS_END_WITHIN {
            return Err(Error::recovery(format!(
                "whether {side} was written to cannot be said while other sessions have \
                 transactions open there, or on PostgreSQL 14 are connected at all (pids {}): end \
                 them, then go on with --resume {recovery} (the app goes on by itself); nothing is \
                 read again",
                silent.join(", "),
            )));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Diffs a table once more with `full` and compares the result with what was emitted for it. Keeps the
/// sessions for the next table, unless something went wrong in them.
///
/// # Errors
/// Says how they differ.
async fn verify(
    servers: &Servers,
    kept: &mut Option<(Session, Session)>,
    tables: &Tables,
    emitted: &Digest,
) -> Result<()> {
    let (mut base, mut head) = match kept.take() {
        Some(sessions) => sessions,
        None => connect_both(servers, "deltacompare verify").await?,
    };
    let (mut on_base, mut on_head) =
        tokio::try_join!(diff::snapshot(&mut base), diff::snapshot(&mut head))?;
    let sessions = Sessions { base: &mut on_base, head: &mut on_head };
    let mut proof = Digest::default();
    let mut steps = diff::changes(sessions, tables, &Scope::Table, None);
    let read = async {
        while let Some(step) = steps.try_next().await? {
            if let DiffItem::Changes(changes) = step {
                changes.iter().for_each(|change| proof.add(change));
            }
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = read.await {
        return Err(diagnosis::explained(servers, "deltacompare verify", tables, error).await);
    }
    drop(steps);
    if let (Ok(()), Ok(())) = tokio::join!(on_base.rollback(), on_head.rollback()) {
        *kept = Some((base, head));
    }
    if proof == *emitted {
        return Ok(());
    }
    Err(Error::item(format!(
        "verification failed: {} changes were emitted, strategy full finds {}{}; the events of \
         this table are not proved: recover it with --strategy full and report this",
        emitted.changes,
        proof.changes,
        if proof.changes == emitted.changes { " other ones" } else { "" }
    )))
}
