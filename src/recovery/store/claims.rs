//! Claims on work items: who works on which, until when, and how far it is.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::Json;
use crate::recovery::work_item::{Counts, Done, WorkItem};

/// A claim on a work item. Only the holder of the newest attempt may write its result.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) recovery: Uuid,
    pub(crate) attempt: i32,
    pub(crate) item: WorkItem,
}

/// What a worker finds when it asks for work.
#[derive(Debug)]
pub(crate) enum NextItem {
    /// This one is the worker's now.
    Claimed(Box<Claim>),
    /// All open items are leased to others, who may finish or die; ask again after this time.
    AllLeased(Duration),
    /// Every item has ended.
    NoneOpen,
}

impl Store {
    /// Claims the next open item for as long as `lease`. Two callers never get the same item while
    /// its lease lasts; one whose lease has run out is claimed anew under a higher attempt.
    pub(crate) async fn claim_next(&self, recovery: Uuid, lease: Duration) -> Result<NextItem> {
        let claimed: Option<(i32, i32)> = self
            .pool
            .query_opt(
                r#"
                update deltacompare.work_item i
                   set state = 'running', attempt = i.attempt + 1,
                       lease_until = clock_timestamp() + make_interval(secs => $2), worker = $3
                  from (select recovery_id, number
                          from deltacompare.work_item
                         where recovery_id = $1
                           and (state = 'pending'
                                or (state = 'running' and lease_until < clock_timestamp()))
                           and exists (select from deltacompare.recovery
                                        where id = $1 and state = 'running')
                         order by number
                         limit 1
                           for update skip locked) next
                 where i.recovery_id = next.recovery_id and i.number = next.number
                returning i.number, i.attempt
                "#,
                &[&recovery, &lease.as_secs_f64(), &self.worker],
            )
            .await?;
        if let Some((number, attempt)) = claimed {
            let item = self.item(recovery, number).await?;
            return Ok(NextItem::Claimed(Box::new(Claim { recovery, attempt, item })));
        }
        let wait: Option<f64> = self
            .pool
            .query_one(
                r#"
            select extract(epoch from min(coalesce(lease_until, clock_timestamp()))
                                      - clock_timestamp())::float8
              from deltacompare.work_item
             where recovery_id = $1
               -- One that is pending is being claimed by somebody else at this moment.
               and state in ('pending', 'running')
               and exists (select from deltacompare.recovery where id = $1 and state = 'running')
            "#,
                &[&recovery],
            )
            .await?;
        Ok(match wait {
            Some(seconds) => {
                NextItem::AllLeased(Duration::from_secs_f64(seconds.clamp(0.05, 0.25)))
            }
            None => NextItem::NoneOpen,
        })
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
    pub(crate) async fn checkpoint(&self, claim: &Claim, done: &Done) -> Result<()> {
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
        done: &Done,
        warnings: &[String],
        took: Duration,
    ) -> Result<()> {
        let completed = self
            .pool
            .execute(
                r#"
                update deltacompare.work_item
                   set state = 'completed', lease_until = null, seconds = $4,
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

    /// Stores that the item failed for good.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn fail(&self, claim: &Claim, reason: &str, took: Duration) -> Result<()> {
        let failed = self
            .pool
            .execute(
                r#"
                update deltacompare.work_item
                   set state = 'failed', lease_until = null, error = $4, seconds = $5
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

    /// Gives this process's running items back, so that others need not wait for their leases.
    pub(crate) async fn release(&self, recovery: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
                update deltacompare.work_item
                   set state = 'pending', lease_until = null, attempt = attempt + 1
                 where recovery_id = $1 and worker = $2 and state = 'running'
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
