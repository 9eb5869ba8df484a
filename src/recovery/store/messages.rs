//! What the app's queue messages need of the store. Messages are hints: every decision is made in
//! [`claims`](super::claims) and [`transitions`](super::transitions), and a message that is lost or
//! comes twice changes nothing.

use std::time::Duration;

use uuid::Uuid;

use super::Store;
use super::transitions::lock_recovery;
use crate::error::Result;
use crate::telemetry::metrics::Standing;

/// The messages that a recovery needs now. They are marked as sent: send them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingMessages {
    /// It is to be planned or closed.
    pub(crate) advance: bool,
    /// These batches of work items are to be worked on.
    pub(crate) batches: Vec<i32>,
}

impl Store {
    /// Which messages a live recovery needs in the queues at this address: as many batches as it has
    /// free slots, those first whose worker or message was lost (no sign of either for `resend`). Marks
    /// them as sent, so two who ask at once do not both get them. A recovery that no app has taken up is
    /// driven by these queues from then on, and one of other queues needs none.
    pub(crate) async fn pending_messages(
        &self,
        recovery: Uuid,
        queues: &str,
        resend: Duration,
    ) -> Result<PendingMessages> {
        let transaction = self.pool.begin().await?;
        lock_recovery(&transaction, recovery).await?;
        let found: Option<(String, i32, bool, bool, bool)> = transaction
            .query_opt(
                r#"
            select state, (request -> 'parallel')::int4,
                   coalesce(sent_at < clock_timestamp() - make_interval(secs => $2), true),
                   exists (select from deltacompare.work_item
                            where recovery_id = $1 and state in ('pending', 'running')),
                   queues is null
              from deltacompare.recovery
             where id = $1 and state in ('planning', 'running')
               and (queues is null or queues = $3)
            "#,
                &[&recovery, &resend.as_secs_f64(), &queues],
            )
            .await?;
        let Some((state, parallel, silent, open, free)) = found else {
            return Ok(PendingMessages::default());
        };
        if free {
            transaction
                .execute(
                    "update deltacompare.recovery set queues = $2 where id = $1",
                    &[&recovery, &queues],
                )
                .await?;
        }
        let advance = silent && (state == "planning" || !open);
        if advance {
            transaction
                .execute(
                    "update deltacompare.recovery set sent_at = clock_timestamp() where id = $1",
                    &[&recovery],
                )
                .await?;
        }
        let mut batches = Vec::new();
        if state == "running" && open {
            // A message is noted with the first open item of its batch.
            batches = transaction
                .query(
                    r#"
                with open as (
                  select batch, min(number) as first,
                         bool_or(coalesce(lease_until > clock_timestamp() and state = 'running',
                                          false)
                                 or coalesce(sent_at > clock_timestamp()
                                                       - make_interval(secs => $2), false))
                           as in_hand
                    from deltacompare.work_item
                   where recovery_id = $1 and state in ('pending', 'running')
                   group by batch
                )
                update deltacompare.work_item w set sent_at = clock_timestamp()
                 where w.recovery_id = $1
                   and w.number in (select first from open where not in_hand order by batch
                                     limit greatest($3 - (select count(*) from open where in_hand), 0))
                returning w.batch
                "#,
                    &[&recovery, &resend.as_secs_f64(), &i64::from(parallel)],
                )
                .await?;
        }
        transaction.commit().await?;
        Ok(PendingMessages { advance, batches })
    }

    /// Has another message sent for the recovery's next step, which is not done yet.
    pub(crate) async fn reschedule(&self, id: Uuid) -> Result<()> {
        self.pool
            .execute("update deltacompare.recovery set sent_at = null where id = $1", &[&id])
            .await?;
        Ok(())
    }

    /// Fails an item whose message was given up, unless somebody is at it or it has ended. Of a batch
    /// nobody knows which of its items is to blame: they get messages of their own.
    pub(crate) async fn fail_batch(&self, recovery: Uuid, batch: i32, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
            with given_up as (
              select number as given_up, count(*) over () = 1 as alone
                from deltacompare.work_item
               where recovery_id = $1 and batch = $2 and state in ('pending', 'running')
                 and (state = 'pending' or lease_until < clock_timestamp())
                 and exists (select from deltacompare.recovery
                              where id = $1 and state = 'running'))
            update deltacompare.work_item
               set state = case when alone then 'failed' else state end,
                   error = case when alone then $3 end,
                   batch = number, sent_at = null
              from given_up
             where recovery_id = $1 and number = given_up
               and (state = 'pending' or (state = 'running' and lease_until < clock_timestamp()))
            "#,
                &[&recovery, &batch, &reason],
            )
            .await?;
        Ok(())
    }

    /// Fails a recovery whose message was given up, unless items are open, which have messages of
    /// their own. The trouble that was noted last is the better reason.
    pub(crate) async fn fail_stalled(&self, recovery: Uuid, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'failed', error = coalesce(error, $2), finished_at = clock_timestamp()
             where id = $1
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

    /// The recoveries that have not ended.
    pub(crate) async fn live(&self) -> Result<Vec<Uuid>> {
        self.pool
            .query(
                r#"
            select id from deltacompare.recovery
             where state in ('planning', 'running')
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
            select count(*) filter (where i.standing = 'pending'),
                   count(*) filter (where i.standing = 'running'),
                   count(*) filter (where i.standing = 'completed'),
                   count(*) filter (where i.standing = 'failed')
              from deltacompare.item_standing i
              join deltacompare.recovery r on r.id = i.recovery_id
             where r.state in ('planning', 'running')
            "#,
                &[],
            )
            .await?;
        let [pending, running, completed, failed] =
            [pending, running, completed, failed].map(i64::unsigned_abs);
        Ok(Standing { pending, running, completed, failed })
    }
}
