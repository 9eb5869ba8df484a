//! Runs one work item: diff → events → sinks → status.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection};

use super::request::{Request, Verify};
use super::store::{Claim, Store};
use super::work_item::{Counts, WorkItemSpec};
use crate::diff::{self, Change, RowChange, Step, Strategy};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Encoder, EncoderSettings};
use crate::preflight::Servers;
use crate::sink::Sink;

/// How often a step that met transient trouble is tried again within one attempt.
const RETRIES: u32 = 4;

/// What all work items of a recovery share in one process.
pub(crate) struct Executor {
    pub(crate) store: Store,
    pub(crate) servers: Servers,
    pub(crate) request: Request,
    pub(crate) settings: EncoderSettings,
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    /// `application_name` of the sessions that diff.
    pub(crate) session_name: String,
    pub(crate) lease: Duration,
}

/// The counts of an item while it runs, for the heartbeat and the display.
#[derive(Debug, Default)]
pub(crate) struct LiveCounts {
    inserts: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    rows_compared: AtomicU64,
}

impl LiveCounts {
    pub(crate) fn get(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            inserts: read(&self.inserts),
            updates: read(&self.updates),
            deletes: read(&self.deletes),
            rows_compared: read(&self.rows_compared),
        }
    }

    fn set(&self, counts: Counts) {
        self.inserts.store(counts.inserts, Ordering::Relaxed);
        self.updates.store(counts.updates, Ordering::Relaxed);
        self.deletes.store(counts.deletes, Ordering::Relaxed);
        self.rows_compared.store(counts.rows_compared, Ordering::Relaxed);
    }
}

impl Executor {
    /// Runs a claimed item to its end and stores it. A failure of the item is stored too and is
    /// not an error here.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`], or trouble with the status store.
    pub(crate) async fn execute(&self, claim: &Claim, live: &LiveCounts) -> Result<()> {
        let started = Instant::now();
        let outcome = tokio::select! {
            outcome = self.diff_with_retries(claim, live) => outcome,
            error = self.keep_lease(claim, live) => Err(error),
        };
        match outcome {
            Ok((counts, warnings)) => {
                self.store.complete(claim, &counts, &warnings, started.elapsed()).await
            }
            Err(error) if error.kind() == ErrorKind::LeaseLost => Err(error),
            Err(error) => {
                tracing::warn!(
                    table = %claim.item.spec.tables.table.name,
                    attempt = claim.attempt,
                    %error,
                    "work item failed"
                );
                self.store.fail(claim, &error.to_string(), started.elapsed()).await
            }
        }
    }

    /// Renews the lease until it is lost. Trouble with the store is borne for as long as the lease
    /// lasts.
    async fn keep_lease(&self, claim: &Claim, live: &LiveCounts) -> Error {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.lease / 3).await;
            match self.store.renew(claim, self.lease, &live.get()).await {
                Ok(()) => renewed = Instant::now(),
                Err(error) if error.kind() == ErrorKind::LeaseLost => return error,
                Err(error) if renewed.elapsed() >= self.lease => {
                    return error.with_kind(ErrorKind::LeaseLost);
                }
                Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
            }
        }
    }

    async fn diff_with_retries(
        &self,
        claim: &Claim,
        live: &LiveCounts,
    ) -> Result<(Counts, Vec<String>)> {
        let mut wait = Duration::from_millis(500);
        for _ in 0..RETRIES {
            match self.diff_once(claim, live).await {
                Err(error) if error.kind() == ErrorKind::Transient => {
                    tracing::warn!(
                        table = %claim.item.spec.tables.table.name,
                        %error,
                        "trying again"
                    );
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        self.diff_once(claim, live).await
    }

    async fn diff_once(&self, claim: &Claim, live: &LiveCounts) -> Result<(Counts, Vec<String>)> {
        let spec = &claim.item.spec;
        let mut encoder = Encoder::new(&self.settings, &spec.tables.table);
        let mut counts = Counts::default();
        let mut digest = Digest::default();
        let mut head = self.servers.head.connect(&self.session_name).await?;
        let diffed =
            async {
                let mut transaction = snapshot(&mut head).await?;
                let mut steps = diff::changes(&mut transaction, spec.strategy, &spec.tables);
                while let Some(step) = steps.try_next().await? {
                    match step {
                        Step::Compared(rows) => counts.rows_compared += rows,
                        Step::Changes(changes) => {
                            let mut events = Vec::with_capacity(changes.len());
                            for change in &changes {
                                counts.count(change);
                                digest.add(change);
                                events.push(encoder.encode(change).map_err(|error| {
                                    Error::item(error.to_string()).because(error)
                                })?);
                            }
                            for sink in &self.sinks {
                                sink.write(&events).await?;
                            }
                        }
                    }
                    live.set(counts);
                }
                drop(steps);
                transaction.rollback().await?;
                for sink in &self.sinks {
                    sink.flush().await?;
                }
                if self.request.verify == Verify::Full {
                    verify(&mut head, spec, &digest).await?;
                }
                Ok::<(), Error>(())
            };
        diffed.await?;
        let _ = head.close().await;
        let mut warnings = encoder.warnings().to_vec();
        if encoder.lost_values() > 0 {
            warnings.push(format!(
                "{} values have no form in this event format and were sent as null",
                encoder.lost_values()
            ));
        }
        Ok((counts, warnings))
    }
}

impl Counts {
    fn count(&mut self, change: &Change) {
        match change.row {
            RowChange::Insert(_) => self.inserts += 1,
            RowChange::Update { .. } => self.updates += 1,
            RowChange::Delete(_) => self.deletes += 1,
        }
    }
}

/// Opens the transaction in which an item reads: one snapshot of both sides.
async fn snapshot(head: &mut PgConnection) -> Result<sqlx::PgTransaction<'_>> {
    Ok(head.begin_with("begin transaction isolation level repeatable read, read only").await?)
}

/// Diffs the table once more with `full` and compares the results.
async fn verify(head: &mut PgConnection, spec: &WorkItemSpec, emitted: &Digest) -> Result<()> {
    let mut transaction = snapshot(head).await?;
    let mut proof = Digest::default();
    let mut steps = diff::changes(&mut transaction, Strategy::Full, &spec.tables);
    while let Some(step) = steps.try_next().await? {
        if let Step::Changes(changes) = step {
            changes.iter().for_each(|change| proof.add(change));
        }
    }
    if proof == *emitted {
        return Ok(());
    }
    Err(Error::item(format!(
        "verification failed: strategy {} found {} changes, full finds {}{}; the events of this \
         table are not proved: recover it with --strategy full and report this",
        spec.strategy.as_str(),
        emitted.changes,
        proof.changes,
        if proof.changes == emitted.changes { " other ones" } else { "" }
    )))
}

/// A fingerprint of a set of changes, whatever their order: their number and the sum of their
/// 128-bit hashes. A sum, not an xor, so that equal changes do not cancel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest {
    changes: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, change: &Change) {
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            change.hash(&mut hasher);
            u128::from(hasher.finish())
        };
        self.changes += 1;
        self.sum = self.sum.wrapping_add(half(0) << 64 | half(1));
    }
}
