//! Claims on work items: who works on which, until when, and how far it is.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::rows::{ItemRow, item_columns};
use super::{LOCK_RECOVERY, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Counts;
use crate::postgres::{FromRow, Json, Row};
use crate::recovery::work_item::{ItemProgress, WorkItem};

/// A claim on a work item. Only the holder of the newest attempt may write its result.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) recovery: Uuid,
    pub(crate) attempt: i32,
    pub(crate) item: WorkItem,
    /// How often in a row attempts failed before this one, without a checkpoint in between.
    pub(crate) failures: i32,
}

/// What a worker finds when it asks for work.
#[derive(Debug)]
pub(crate) enum NextItem {
    /// This one is the worker's now.
    Claimed(Box<Claim>),
    /// No item may be claimed now: as many are at work as the recovery allows, or those that are open
    /// are leased or put off.
    NotNow,
    /// Every item has ended, or the recovery does not run.
    NoneOpen,
}

struct ClaimRow {
    item: ItemRow,
    attempt: i32,
    failures: i32,
}

impl FromRow for ClaimRow {
    fn from_row(row: Row) -> Result<Self> {
        let (attempt, failures) = (row.try_get("attempt")?, row.try_get("failures")?);
        Ok(Self { item: ItemRow::from_row(row)?, attempt, failures })
    }
}

/// One that a process left when its lease ran out is claimed under a higher attempt. An item that is
/// asked for by its number is not put off any more.
const CLAIM: &str = concat!(
    r#"
    with next as (
      select number as claimed
        from deltacompare.work_item
       where recovery_id = $1 and ($2::int4 is null or number = $2)
         and state in ('pending', 'running')
         and ((state = 'pending'
               and ($2 is not null or sent_at is null or sent_at <= clock_timestamp()))
              or (state = 'running' and lease_until < clock_timestamp()))
         and (select count(*) from deltacompare.work_item
               where recovery_id = $1 and state = 'running' and lease_until > clock_timestamp())
             < (select (request -> 'parallel')::int4 from deltacompare.recovery
                 where id = $1 and state = 'running')
       order by number
       limit 1
         for update skip locked)
    update deltacompare.work_item
       set failures = failures
                      + case when state = 'running' and worker is distinct from $4 then 4 else 0 end,
           state = 'running', attempt = attempt + 1, sent_at = null, worker = $4,
           lease_until = clock_timestamp() + make_interval(secs => $3)
      from next
     where recovery_id = $1 and number = claimed
    returning attempt, failures, "#,
    item_columns!()
);

impl Store {
    /// Claims an item for as long as `lease`: this one, or the next that is open. Two callers never
    /// get the same item while its lease lasts, and no more items are at work than the recovery
    /// allows, in all processes together.
    pub(crate) async fn claim(
        &self,
        recovery: Uuid,
        number: Option<i32>,
        lease: Duration,
    ) -> Result<NextItem> {
        let claimed: Option<ClaimRow> = self
            .pool
            .lock_and_query(
                (LOCK_RECOVERY, &[&recovery]),
                (CLAIM, &[&recovery, &number, &lease.as_secs_f64(), &self.worker]),
            )
            .await?;
        if let Some(ClaimRow { item, attempt, failures }) = claimed {
            let item = item.try_into()?;
            return Ok(NextItem::Claimed(Box::new(Claim { recovery, attempt, item, failures })));
        }
        if let Some(number) = number {
            // Its message has come for nothing: another one may be sent.
            self.pool
                .execute(
                    r#"
                update deltacompare.work_item set sent_at = null
                 where recovery_id = $1 and number = $2 and state = 'pending'
                "#,
                    &[&recovery, &number],
                )
                .await?;
        }
        let open: bool = self
            .pool
            .query_one(
                r#"
            select exists (select from deltacompare.work_item
                            where recovery_id = $1 and state in ('pending', 'running'))
                   and exists (select from deltacompare.recovery
                                where id = $1 and state = 'running')
            "#,
                &[&recovery],
            )
            .await?;
        Ok(if open { NextItem::NotNow } else { NextItem::NoneOpen })
    }

    /// Whether [`Store::claim`] may find the item open. A message that comes for nothing is told so
    /// before anything else is made ready for it.
    pub(crate) async fn is_open(&self, recovery: Uuid, number: i32) -> Result<bool> {
        self.pool
            .query_one(
                r#"
            select exists (select from deltacompare.work_item
                            where recovery_id = $1 and number = $2
                              and (state = 'pending'
                                   or (state = 'running' and lease_until < clock_timestamp()))
                              and exists (select from deltacompare.recovery
                                           where id = $1 and state = 'running'))
            "#,
                &[&recovery, &number],
            )
            .await
    }

    /// Whether the recovery has items, or open ones.
    pub(crate) async fn has_items(&self, id: Uuid, open: bool) -> Result<bool> {
        self.pool
            .query_one(
                r#"
            select exists (select from deltacompare.work_item
                            where recovery_id = $1
                              and (not $2 or state in ('pending', 'running')))
            "#,
                &[&id, &open],
            )
            .await
    }

    /// Extends the lease and stores how far the item is.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn renew(
        &self,
        claim: &Claim,
        lease: Duration,
        counts: &Counts,
    ) -> Result<()> {
        let renewed = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item
               set lease_until = clock_timestamp() + make_interval(secs => $4),
                   inserts = $5, updates = $6, deletes = $7, rows_compared = $8
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
                &[
                    &claim.recovery,
                    &claim.item.number,
                    &claim.attempt,
                    &lease.as_secs_f64(),
                    &(counts.inserts as i64),
                    &(counts.updates as i64),
                    &(counts.deletes as i64),
                    &(counts.rows_compared as i64),
                ],
            )
            .await?;
        if renewed == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Stores how far the item is, and what the sinks hold. What lies before must be durable in
    /// every sink.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn checkpoint(&self, claim: &Claim, done: &ItemProgress) -> Result<()> {
        let stored = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item
               set checkpoint = $4, done = $5, digest = $6, account = $7, held = $8, failures = 0
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
                &[
                    &claim.recovery,
                    &claim.item.number,
                    &claim.attempt,
                    &Json(&done.checkpoint),
                    &Json(done.counts),
                    &done.digest.to_string(),
                    &Json(done.account),
                    &Json(&done.held),
                ],
            )
            .await?;
        if stored == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Stores that the item completed, and what the sinks hold.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn complete(
        &self,
        claim: &Claim,
        done: &ItemProgress,
        warnings: &[String],
        took: Duration,
    ) -> Result<()> {
        let completed = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item
               set state = 'completed', seconds = $4,
                   inserts = $5, updates = $6, deletes = $7, rows_compared = $8,
                   warnings = warnings || $9, digest = $10, account = $11, held = $12
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
                &[
                    &claim.recovery,
                    &claim.item.number,
                    &claim.attempt,
                    &took.as_secs_f64(),
                    &(done.counts.inserts as i64),
                    &(done.counts.updates as i64),
                    &(done.counts.deletes as i64),
                    &(done.counts.rows_compared as i64),
                    &json!(warnings),
                    &done.digest.to_string(),
                    &Json(done.account),
                    &Json(&done.held),
                ],
            )
            .await?;
        if completed == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Stores that the item failed permanently.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn fail(&self, claim: &Claim, reason: &str, took: Duration) -> Result<()> {
        let failed = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item
               set state = 'failed', error = $4, seconds = $5
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
                &[
                    &claim.recovery,
                    &claim.item.number,
                    &claim.attempt,
                    &reason,
                    &took.as_secs_f64(),
                ],
            )
            .await?;
        if failed == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Corrects the failures of an item that another process took over: this one has not died of it,
    /// it was only slow.
    pub(crate) async fn outlived(&self, claim: &Claim) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item set failures = greatest(failures - 4, 0)
             where recovery_id = $1 and number = $2 and attempt > $3 and state = 'running'
               and worker is distinct from $4
            "#,
                &[&claim.recovery, &claim.item.number, &claim.attempt, &self.worker],
            )
            .await?;
        Ok(())
    }

    /// Gives a claimed item back, to be tried again after `delay`; with `trouble`, a failure is counted.
    /// Says whether the claim still held.
    pub(crate) async fn give_back(
        &self,
        claim: &Claim,
        trouble: bool,
        delay: Duration,
        warnings: &[String],
    ) -> Result<bool> {
        let given = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item
               set state = 'pending', lease_until = null, attempt = attempt + 1,
                   failures = case when $4 then failures + 1 else 0 end,
                   sent_at = clock_timestamp() + make_interval(secs => $5),
                   warnings = warnings || $6
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
                &[
                    &claim.recovery,
                    &claim.item.number,
                    &claim.attempt,
                    &trouble,
                    &delay.as_secs_f64(),
                    &json!(warnings),
                ],
            )
            .await?;
        Ok(given > 0)
    }

    /// How often in a row attempts at an item failed without a checkpoint in between.
    pub(crate) async fn failures(&self, claim: &Claim) -> Result<i32> {
        self.pool
            .query_one(
                "select failures from deltacompare.work_item where recovery_id = $1 and number = $2",
                &[&claim.recovery, &claim.item.number],
            )
            .await
    }

    /// Gives this process's items back, so that nobody need wait for their leases.
    pub(crate) async fn release(&self, recovery: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item
               set attempt = attempt + case state when 'running' then 1 else 0 end,
                   state = case state when 'running' then 'pending' else state end,
                   lease_until = null
             where recovery_id = $1 and worker = $2
               and (state = 'running' or lease_until > clock_timestamp())
            "#,
                &[&recovery, &self.worker],
            )
            .await?;
        Ok(())
    }
}

fn lease_lost(claim: &Claim) -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        format!(
            "another worker took over {} (attempt {} is not the newest)",
            claim.item.spec.tables.table.name, claim.attempt
        ),
    )
}
