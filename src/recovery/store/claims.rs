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

impl Claim {
    /// Its item's number and its attempt, which tell it from any other one of the recovery.
    pub(crate) fn key(&self) -> (i32, i32) {
        (self.item.number, self.attempt)
    }

    /// The error of a claim that does not hold any more.
    pub(crate) fn lost(&self) -> Error {
        Error::new(
            ErrorKind::LeaseLost,
            format!(
                "another worker took over {} (attempt {} is not the newest)",
                self.item.spec.tables.table.name, self.attempt
            ),
        )
    }
}

/// What a worker finds when it asks for work.
#[derive(Debug)]
pub(crate) enum NextItem {
    /// These are the worker's now: one item, or several of one batch in their order.
    Claimed(Vec<Claim>),
    /// No item may be claimed now: as many are at work as the recovery allows, or those that are open
    /// are leased or put off.
    NotNow,
    /// Every item has ended, or the recovery does not run.
    NoneOpen,
}

/// A claimed item that was compared to its end, and whose events are durable in every sink.
#[derive(Debug)]
pub(crate) struct CompletedItem<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) done: ItemProgress,
    /// What an operator should know.
    pub(crate) warnings: Vec<String>,
    /// Time spent in this attempt.
    pub(crate) took: Duration,
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

/// The open items of one batch: the batch that is asked for, or the next in which one may be claimed.
/// An item that is asked for by its batch is not put off any more.
///
/// Items that a process left when its lease ran out are claimed under higher attempts. That process
/// may have died of one of them, so the batch is dissolved: its items are claimed one at a time from
/// then on, and each stands for itself.
const CLAIM: &str = concat!(
    r#"
    with next as (
      select i.batch as claimed
        from deltacompare.work_item i
       where i.recovery_id = $1 and ($2::int4 is null or i.batch = $2)
         and i.state in ('pending', 'running')
         and ((i.state = 'pending'
               and ($2 is not null or i.sent_at is null or i.sent_at <= clock_timestamp()))
              or (i.state = 'running' and i.lease_until < clock_timestamp()))
         -- Somebody else may be at the rest of the batch.
         and not exists (select from deltacompare.work_item o
                          where o.recovery_id = $1 and o.batch = i.batch
                            and o.state = 'running' and o.lease_until > clock_timestamp())
         and (select count(distinct batch) from deltacompare.work_item
               where recovery_id = $1 and state = 'running' and lease_until > clock_timestamp())
             < (select (request -> 'parallel')::int4 from deltacompare.recovery
                 where id = $1 and state = 'running')
       order by i.batch, i.number
       limit 1),
    taken as (
      select i.number as taken,
             i.state = 'running' and i.worker is distinct from $4 as left_behind
      from next
        join deltacompare.work_item i on i.recovery_id = $1 and i.batch = next.claimed
       where (i.state = 'pending'
              and ($2 is not null or i.sent_at is null or i.sent_at <= clock_timestamp()))
          or (i.state = 'running' and i.lease_until < clock_timestamp())
       order by i.number
         for update of i skip locked),
    dissolved as (
      select bool_or(left_behind) as dissolved, min(taken) as first from taken),
    claim as (
      update deltacompare.work_item
         set failures = failures + case when left_behind then 4 else 0 end,
             batch = case when dissolved then number else batch end,
             state = case when dissolved and number > first then 'pending' else 'running' end,
             attempt = attempt + 1, sent_at = null, worker = $4,
             lease_until = case when dissolved and number > first then null
                                else clock_timestamp() + make_interval(secs => $3) end
        from taken, dissolved
       where recovery_id = $1 and number = taken
      returning work_item.*)
    select attempt, failures, "#,
    item_columns!(),
    " from claim where state = 'running' order by number"
);

impl Store {
    /// Claims open items for as long as `lease`: those of this batch, or of the next one that has some.
    /// Two callers never get the same item while its lease lasts, and no more batches are at work than
    /// the recovery allows items, in all processes together.
    pub(crate) async fn claim(
        &self,
        recovery: Uuid,
        batch: Option<i32>,
        lease: Duration,
    ) -> Result<NextItem> {
        let claimed: Vec<ClaimRow> = self
            .pool
            .lock_and_query(
                (LOCK_RECOVERY, &[&recovery]),
                (CLAIM, &[&recovery, &batch, &lease.as_secs_f64(), &self.worker]),
            )
            .await?;
        if !claimed.is_empty() {
            let claims = claimed.into_iter().map(|ClaimRow { item, attempt, failures }| {
                Ok(Claim { recovery, attempt, item: item.try_into()?, failures })
            });
            return claims.collect::<Result<_>>().map(NextItem::Claimed);
        }
        if let Some(batch) = batch {
            // Its message has come for nothing: another one may be sent.
            self.pool
                .execute(
                    r#"
                update deltacompare.work_item set sent_at = null
                 where recovery_id = $1 and batch = $2 and state = 'pending'
                "#,
                    &[&recovery, &batch],
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

    /// Whether [`Store::claim`] may find an open item in the batch. A message that comes for nothing is
    /// told so before anything else is made ready for it.
    pub(crate) async fn is_open(&self, recovery: Uuid, batch: i32) -> Result<bool> {
        self.pool
            .query_one(
                r#"
            select exists (select from deltacompare.work_item
                            where recovery_id = $1 and batch = $2
                              and state in ('pending', 'running')
                              and (state = 'pending'
                                   or (state = 'running' and lease_until < clock_timestamp()))
                              and exists (select from deltacompare.recovery
                                           where id = $1 and state = 'running'))
            "#,
                &[&recovery, &batch],
            )
            .await
    }

    /// Whether items of the recovery compare row versions.
    pub(crate) async fn compares_row_versions(&self, id: Uuid) -> Result<bool> {
        self.pool
            .query_one(
                r#"
            select exists (select from deltacompare.work_item
                            where recovery_id = $1 and strategy = 'row-versions')
            "#,
                &[&id],
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

    /// Extends the leases of claimed items, given by number and attempt, and stores how far one of them
    /// is. Yields the numbers of those whose claims still hold.
    pub(crate) async fn renew(
        &self,
        recovery: Uuid,
        claims: &[(i32, i32)],
        lease: Duration,
        (at_work, counts): (i32, Counts),
    ) -> Result<Vec<i32>> {
        let (numbers, attempts): (Vec<i32>, Vec<i32>) = claims.iter().copied().unzip();
        self.pool
            .query(
                r#"
            update deltacompare.work_item i
               set lease_until = clock_timestamp() + make_interval(secs => $4),
                   inserts = case i.number when $5 then $6 else i.inserts end,
                   updates = case i.number when $5 then $7 else i.updates end,
                   deletes = case i.number when $5 then $8 else i.deletes end,
                   rows_compared = case i.number when $5 then $9 else i.rows_compared end
              from unnest($2::int4[], $3::int4[]) as claim (number, attempt)
             where i.recovery_id = $1 and i.number = claim.number and i.attempt = claim.attempt
               and i.state = 'running'
            returning i.number
            "#,
                &[
                    &recovery,
                    &numbers,
                    &attempts,
                    &lease.as_secs_f64(),
                    &at_work,
                    &(counts.inserts as i64),
                    &(counts.updates as i64),
                    &(counts.deletes as i64),
                    &(counts.rows_compared as i64),
                ],
            )
            .await
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
               set checkpoint = $4, done = $5, digest = $6, account = $7, held = $8, failures = 0,
                   events_digest = $9::text::numeric
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
                    &done.events.to_string(),
                ],
            )
            .await?;
        if stored == 0 { Err(claim.lost()) } else { Ok(()) }
    }

    /// Stores that items of a recovery completed, and what the sinks hold. Yields the numbers of those
    /// whose claims still held; of the others nothing is stored.
    pub(crate) async fn complete(
        &self,
        recovery: Uuid,
        items: &[CompletedItem<'_>],
    ) -> Result<Vec<i32>> {
        fn each<'a, T>(
            items: &'a [CompletedItem<'_>],
            what: impl Fn(&'a CompletedItem<'_>) -> T,
        ) -> Vec<T> {
            items.iter().map(what).collect()
        }
        let (numbers, attempts): (Vec<i32>, Vec<i32>) =
            items.iter().map(|item| item.claim.key()).unzip();
        self.pool
            .query(
                r#"
            update deltacompare.work_item i
               set state = 'completed', seconds = it.seconds,
                   inserts = it.inserts, updates = it.updates, deletes = it.deletes,
                   rows_compared = it.rows_compared,
                   warnings = i.warnings || it.warnings, digest = it.digest,
                   account = it.account, held = it.held,
                   events_digest = it.events_digest::numeric
              from unnest($2::int4[], $3::int4[], $4::float8[], $5::int8[], $6::int8[], $7::int8[],
                          $8::int8[], $9::jsonb[], $10::text[], $11::jsonb[], $12::jsonb[], $13::text[])
                     as it (number, attempt, seconds, inserts, updates, deletes, rows_compared,
                            warnings, digest, account, held, events_digest)
             where i.recovery_id = $1 and i.number = it.number and i.attempt = it.attempt
               and i.state = 'running'
            returning i.number
            "#,
                &[
                    &recovery,
                    &numbers,
                    &attempts,
                    &each(items, |item| item.took.as_secs_f64()),
                    &each(items, |item| item.done.counts.inserts as i64),
                    &each(items, |item| item.done.counts.updates as i64),
                    &each(items, |item| item.done.counts.deletes as i64),
                    &each(items, |item| item.done.counts.rows_compared as i64),
                    &each(items, |item| json!(item.warnings)),
                    &each(items, |item| item.done.digest.to_string()),
                    &each(items, |item| Json(item.done.account)),
                    &each(items, |item| Json(&item.done.held)),
                    &each(items, |item| item.done.events.to_string()),
                ],
            )
            .await
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
        if failed == 0 { Err(claim.lost()) } else { Ok(()) }
    }

    /// Corrects the failures of items that another process took over: this one has not died of them,
    /// it was only slow.
    pub(crate) async fn outlived(&self, recovery: Uuid, claims: &[(i32, i32)]) -> Result<()> {
        let (numbers, attempts): (Vec<i32>, Vec<i32>) = claims.iter().copied().unzip();
        self.pool
            .execute(
                r#"
            update deltacompare.work_item i set failures = i.failures - 4
              from unnest($2::int4[], $3::int4[]) as claim (number, attempt)
             where i.recovery_id = $1 and i.number = claim.number and i.attempt > claim.attempt
               and i.state in ('pending', 'running') and i.failures >= 4
               and i.worker is distinct from $4
            "#,
                &[&recovery, &numbers, &attempts, &self.worker],
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

    /// Gives claimed items back that nobody has begun, to be worked on after `delay`. Those whose claims
    /// do not hold any more are left as they are. Says whether there were others.
    pub(crate) async fn give_back_untouched(
        &self,
        recovery: Uuid,
        claims: &[(i32, i32)],
        delay: Duration,
    ) -> Result<bool> {
        let (numbers, attempts): (Vec<i32>, Vec<i32>) = claims.iter().copied().unzip();
        let given = self
            .pool
            .execute(
                r#"
            update deltacompare.work_item i
               set state = 'pending', lease_until = null, attempt = i.attempt + 1,
                   sent_at = clock_timestamp() + make_interval(secs => $4)
              from unnest($2::int4[], $3::int4[]) as claim (number, attempt)
             where i.recovery_id = $1 and i.number = claim.number and i.attempt = claim.attempt
               and i.state = 'running'
            "#,
                &[&recovery, &numbers, &attempts, &delay.as_secs_f64()],
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
