//! What recoveries that are driven by queue messages need of the store. Messages are hints: every
//! decision is made here, and a message that is lost or comes twice changes nothing.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{Claim, Store};
use crate::error::Result;
use crate::postgres::Json;
use crate::preflight::Checked;
use crate::recovery::Request;
use crate::telemetry::metrics::Standing;

/// The messages that a recovery needs now. They are marked as sent: send them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// It is to be planned or closed.
    pub(crate) step: bool,
    /// These work items are to be done.
    pub(crate) items: Vec<i32>,
}

/// A claim, with how often workers had trouble with the item since it last made headway.
#[derive(Debug)]
pub(crate) struct CountedClaim {
    pub(crate) claim: Claim,
    pub(crate) failures: i32,
}

impl Store {
    /// Stores what the check of a recovery found out about its restores.
    pub(crate) async fn describe(&self, id: Uuid, checked: &Checked) -> Result<()> {
        self.pool
            .execute(
                r#"
                update deltacompare.recovery
                   set restores = $2, base_end_lsn = pg_lsn_in(textout($3)),
                       head_end_lsn = pg_lsn_in(textout($4)), gap = $5
                 where id = $1
                "#,
                &[
                    &id,
                    &checked.restores,
                    &checked.ends.map(|(base, _)| base.to_string()),
                    &checked.ends.map(|(_, head)| head.to_string()),
                    &Json(&checked.gap),
                ],
            )
            .await?;
        Ok(())
    }

    /// Ends a recovery that cannot be planned or gone on with, with the reason.
    pub(crate) async fn refuse(&self, id: Uuid, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
                update deltacompare.recovery
                   set state = 'failed', error = $2, finished_at = clock_timestamp()
                 where id = $1 and state in ('planning', 'running')
                "#,
                &[&id, &reason],
            )
            .await?;
        Ok(())
    }

    /// Stores why a live recovery's next step did not succeed, for those who watch.
    pub(crate) async fn note_trouble(&self, id: Uuid, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
                update deltacompare.recovery set error = $2
                 where id = $1 and state in ('planning', 'running')
                "#,
                &[&id, &reason],
            )
            .await?;
        Ok(())
    }

    /// Claims this item if it is open, nobody is at it, and fewer items than the recovery allows are
    /// at work, in all processes together. One that may not be worked on now waits for
    /// [`Store::due`].
    pub(crate) async fn claim(
        &self,
        recovery: Uuid,
        number: i32,
        lease: Duration,
    ) -> Result<Option<CountedClaim>> {
        let transaction = self.pool.begin().await?;
        let request: Option<Json<Request>> = transaction
            .query_opt(
                r#"
                select request from deltacompare.recovery
                 where id = $1 and state = 'running' and queued
                   for update
                "#,
                &[&recovery],
            )
            .await?;
        let Some(Json(request)) = request else { return Ok(None) };
        let at_work: i64 = transaction
            .query_one(
                r#"
                select count(*) from deltacompare.work_item
                 where recovery_id = $1 and number <> $2 and state = 'running'
                   and lease_until > clock_timestamp()
                "#,
                &[&recovery, &number],
            )
            .await?;
        if at_work >= i64::from(request.parallel) {
            transaction
                .execute(
                    r#"
                    update deltacompare.work_item set sent_at = null
                     where recovery_id = $1 and number = $2 and state = 'pending'
                    "#,
                    &[&recovery, &number],
                )
                .await?;
            transaction.commit().await?;
            return Ok(None);
        }
        let claimed: Option<(i32, i32)> = transaction
            .query_opt(
                r#"
            update deltacompare.work_item
               set failures = failures + case state when 'running' then 4 else 0 end,
                   state = 'running', attempt = attempt + 1, sent_at = null, worker = $4,
                   lease_until = clock_timestamp() + make_interval(secs => $3)
             where recovery_id = $1 and number = $2
               and (state = 'pending' or (state = 'running' and lease_until < clock_timestamp()))
            returning attempt, failures
            "#,
                &[&recovery, &number, &lease.as_secs_f64(), &self.worker],
            )
            .await?;
        transaction.commit().await?;
        let Some((attempt, failures)) = claimed else { return Ok(None) };
        let item = self.item(recovery, number).await?;
        Ok(Some(CountedClaim { claim: Claim { recovery, attempt, item }, failures }))
    }

    /// Gives a claimed item back, to be taken up again after `delay`; with `trouble` that is counted.
    /// Says whether the claim still held: then send its message.
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

    /// How often in a row an item had trouble without a checkpoint in between.
    pub(crate) async fn failures(&self, claim: &Claim) -> Result<i32> {
        self.pool.query_one("select failures from deltacompare.work_item where recovery_id = $1 and number = $2", &[&claim.recovery, &claim.item.number])
        .await
    }

    /// Fails an item whose message was given up, unless somebody is at it or it has ended.
    pub(crate) async fn give_up(&self, recovery: Uuid, number: i32, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item set state = 'failed', lease_until = null, error = $3
             where recovery_id = $1 and number = $2
               and (state = 'pending' or (state = 'running' and lease_until < clock_timestamp()))
               and exists (select from deltacompare.recovery
                            where id = $1 and state = 'running')
            "#,
                &[&recovery, &number, &reason],
            )
            .await?;
        Ok(())
    }

    /// Says that a recovery's step is not done yet: [`Store::due`] asks for another message.
    pub(crate) async fn step_again(&self, id: Uuid) -> Result<()> {
        self.pool
            .execute("update deltacompare.recovery set sent_at = null where id = $1", &[&id])
            .await?;
        Ok(())
    }

    /// Fails a recovery whose step was given up, unless items are open, which have messages of their
    /// own. The trouble that was noted last is the better reason.
    pub(crate) async fn give_up_step(&self, recovery: Uuid, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'failed', error = coalesce(error, $2), finished_at = clock_timestamp()
             where id = $1 and queued
               and (state = 'planning'
                    or (state = 'running'
                        and not exists (select from deltacompare.work_item
                                         where recovery_id = $1
                                           and state in ('pending', 'running'))))
            "#,
                &[&recovery, &reason],
            )
            .await?;
        Ok(())
    }

    /// Which messages a live recovery needs: as many items as it has free slots, those first whose
    /// worker or message was lost (no sign of either for `resend`). Marks them as sent, so two who
    /// ask at once do not both get them.
    pub(crate) async fn due(&self, recovery: Uuid, resend: Duration) -> Result<Due> {
        let transaction = self.pool.begin().await?;
        let state: Option<(String, Json<Request>, bool)> = transaction
            .query_opt(
                r#"
                select state, request,
                       coalesce(sent_at < clock_timestamp() - make_interval(secs => $2), true)
                  from deltacompare.recovery
                 where id = $1 and state in ('planning', 'running') and queued
                   for update
                "#,
                &[&recovery, &resend.as_secs_f64()],
            )
            .await?;
        let Some((state, Json(request), silent)) = state else { return Ok(Due::default()) };
        let open: bool = transaction
            .query_one(
                r#"
                select exists (select from deltacompare.work_item
                                where recovery_id = $1 and state in ('pending', 'running'))
                "#,
                &[&recovery],
            )
            .await?;
        let step = silent && (state == "planning" || !open);
        if step {
            transaction
                .execute(
                    "update deltacompare.recovery set sent_at = clock_timestamp() where id = $1",
                    &[&recovery],
                )
                .await?;
        }
        let mut items = Vec::new();
        if state == "running" {
            items = transaction.query(
                r#"
                with item as (
                  select number,
                         coalesce(lease_until > clock_timestamp(), false)
                           or coalesce(sent_at > clock_timestamp() - make_interval(secs => $2), false)
                           as in_hand
                    from deltacompare.work_item
                   where recovery_id = $1 and state in ('pending', 'running')
                )
                update deltacompare.work_item w set sent_at = clock_timestamp()
                 where w.recovery_id = $1
                   and w.number in (select number from item where not in_hand order by number
                                     limit greatest($3 - (select count(*) from item where in_hand), 0))
                returning w.number
                "#,
                &[&recovery, &resend.as_secs_f64(), &i64::from(request.parallel)],
            )
            .await?;
        }
        transaction.commit().await?;
        Ok(Due { step, items })
    }

    /// The recoveries that messages drive and that have not ended.
    pub(crate) async fn live(&self) -> Result<Vec<Uuid>> {
        self.pool
            .query(
                r#"
                select id from deltacompare.recovery
                 where queued and state in ('planning', 'running')
                 order by created_at
                "#,
                &[],
            )
            .await
    }

    /// How the items of [these](Store::live) stand.
    pub(crate) async fn standing(&self) -> Result<Standing> {
        let (pending, running, completed, failed): (i64, i64, i64, i64) = self
            .pool
            .query_one(
                r#"
                select count(*) filter (where i.state = 'pending'),
                       count(*) filter (where i.state = 'running'),
                       count(*) filter (where i.state = 'completed'),
                       count(*) filter (where i.state = 'failed')
                  from deltacompare.work_item i
                  join deltacompare.recovery r on r.id = i.recovery_id
                 where r.queued and r.state in ('planning', 'running')
                "#,
                &[],
            )
            .await?;
        let [pending, running, completed, failed] =
            [pending, running, completed, failed].map(i64::unsigned_abs);
        Ok(Standing { pending, running, completed, failed })
    }

    /// Those that have ended and may have left objects on the servers.
    pub(crate) async fn untidy(&self) -> Result<Vec<Uuid>> {
        self.pool
            .query(
                r#"
                select id from deltacompare.recovery
                 where cleaned_at is null
                   and (state = 'cancelled' or (queued and state in ('completed', 'failed')))
                 order by finished_at
                "#,
                &[],
            )
            .await
    }

    /// Stores that nothing of an ended recovery is left on the servers.
    pub(crate) async fn cleaned(&self, id: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
                update deltacompare.recovery set cleaned_at = clock_timestamp()
                 where id = $1 and state in ('completed', 'failed', 'cancelled')
                "#,
                &[&id],
            )
            .await?;
        Ok(())
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
                                               where id = $1 and state = 'running' and queued))
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
}
