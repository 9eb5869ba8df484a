//! Claims on work items: who works on which, until when, and how far it is.

use std::time::Duration;

use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
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
        let claimed: Option<(i32, i32)> = sqlx::query_as(
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
        )
        .bind(recovery)
        .bind(lease.as_secs_f64())
        .bind(self.worker)
        .fetch_optional(&self.pool)
        .await?;
        if let Some((number, attempt)) = claimed {
            let item = self.item(recovery, number).await?;
            return Ok(NextItem::Claimed(Box::new(Claim { recovery, attempt, item })));
        }
        let wait: Option<f64> = sqlx::query_scalar(
            r#"
            select extract(epoch from min(coalesce(lease_until, clock_timestamp()))
                                      - clock_timestamp())::float8
              from deltacompare.work_item
             where recovery_id = $1
               -- One that is pending is being claimed by somebody else at this moment.
               and state in ('pending', 'running')
               and exists (select from deltacompare.recovery where id = $1 and state = 'running')
            "#,
        )
        .bind(recovery)
        .fetch_one(&self.pool)
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
        let renewed = sqlx::query(
            r#"
            update deltacompare.work_item
               set lease_until = clock_timestamp() + make_interval(secs => $4),
                   inserts = $5, updates = $6, deletes = $7, rows_compared = $8
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
        )
        .bind(claim.recovery)
        .bind(claim.item.number)
        .bind(claim.attempt)
        .bind(lease.as_secs_f64())
        .bind(counts.inserts as i64)
        .bind(counts.updates as i64)
        .bind(counts.deletes as i64)
        .bind(counts.rows_compared as i64)
        .execute(&self.pool)
        .await?;
        if renewed.rows_affected() == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Stores how far the item is, and what the sinks hold. What lies before must be durable in
    /// every sink.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn checkpoint(&self, claim: &Claim, done: &Done) -> Result<()> {
        let stored = sqlx::query(
            r#"
            update deltacompare.work_item
               set checkpoint = $4, done = $5, digest = $6, account = $7, held = $8, failures = 0
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
        )
        .bind(claim.recovery)
        .bind(claim.item.number)
        .bind(claim.attempt)
        .bind(Json(&done.checkpoint))
        .bind(Json(done.counts))
        .bind(done.digest.to_string())
        .bind(Json(done.account))
        .bind(Json(&done.held))
        .execute(&self.pool)
        .await?;
        if stored.rows_affected() == 0 { Err(lease_lost(claim)) } else { Ok(()) }
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
        let completed = sqlx::query(
            r#"
            update deltacompare.work_item
               set state = 'completed', lease_until = null, seconds = $4,
                   inserts = $5, updates = $6, deletes = $7, rows_compared = $8,
                   warnings = warnings || $9, digest = $10, account = $11, held = $12
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
        )
        .bind(claim.recovery)
        .bind(claim.item.number)
        .bind(claim.attempt)
        .bind(took.as_secs_f64())
        .bind(done.counts.inserts as i64)
        .bind(done.counts.updates as i64)
        .bind(done.counts.deletes as i64)
        .bind(done.counts.rows_compared as i64)
        .bind(json!(warnings))
        .bind(done.digest.to_string())
        .bind(Json(done.account))
        .bind(Json(&done.held))
        .execute(&self.pool)
        .await?;
        if completed.rows_affected() == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Stores that the item failed for good.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] if another worker has it by now.
    pub(crate) async fn fail(&self, claim: &Claim, reason: &str, took: Duration) -> Result<()> {
        let failed = sqlx::query(
            r#"
            update deltacompare.work_item
               set state = 'failed', lease_until = null, error = $4, seconds = $5
             where recovery_id = $1 and number = $2 and attempt = $3 and state = 'running'
            "#,
        )
        .bind(claim.recovery)
        .bind(claim.item.number)
        .bind(claim.attempt)
        .bind(reason)
        .bind(took.as_secs_f64())
        .execute(&self.pool)
        .await?;
        if failed.rows_affected() == 0 { Err(lease_lost(claim)) } else { Ok(()) }
    }

    /// Gives this process's running items back, so that others need not wait for their leases.
    pub(crate) async fn release(&self, recovery: Uuid) -> Result<()> {
        sqlx::query(
            r#"
            update deltacompare.work_item
               set state = 'pending', lease_until = null, attempt = attempt + 1
             where recovery_id = $1 and worker = $2 and state = 'running'
            "#,
        )
        .bind(recovery)
        .bind(self.worker)
        .execute(&self.pool)
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
