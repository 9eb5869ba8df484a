//! How a recovery goes from one state to the next. Each change is one statement or one transaction;
//! a repetition changes nothing.

use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::model::GapProof;
use crate::postgres::{Json, Session};
use crate::preflight::PreflightReport;
use crate::recovery::work_item::PlannedItem;

/// What is to be done about a recovery now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is to be planned, verified and closed, or cleaned up: [`Engine::advance`](super::super::Engine::advance).
    Advance,
    /// Items are open: [`Engine::work`](super::super::Engine::work).
    Work,
    /// Nothing: it has ended, and nothing of it is left on the servers.
    Nothing,
}

/// Items stored by one statement: some megabytes at most.
const ITEMS_PER_STATEMENT: usize = 500;

impl Store {
    /// What is to be done about a recovery now.
    pub(crate) async fn due(&self, id: Uuid) -> Result<Due> {
        let found: Option<(String, bool, bool)> = self
            .pool
            .query_opt(
                r#"
            select state, cleaned_at is not null,
                   exists (select from deltacompare.work_item
                            where recovery_id = $1 and state in ('pending', 'running'))
              from deltacompare.recovery
             where id = $1
            "#,
                &[&id],
            )
            .await?;
        Ok(match found.as_ref().map(|(state, cleaned, open)| (state.as_str(), *cleaned, *open)) {
            None | Some(("completed" | "failed" | "cancelled", true, _)) => Due::Nothing,
            Some(("running", _, true)) => Due::Work,
            Some(_) => Due::Advance,
        })
    }

    /// Stores what the check of a recovery found out about its restores.
    pub(crate) async fn describe(&self, id: Uuid, checked: &PreflightReport) -> Result<()> {
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

    /// Stores the plan and lets the recovery run. If it is not being planned any more, nothing
    /// happens.
    ///
    /// In the session of the [coordinator's lock](super::super::coordinator_lock), so that a process
    /// that lost the lock stores nothing.
    pub(crate) async fn start(
        coordinator: &mut Session,
        id: Uuid,
        warnings: &[String],
        tables: &[PlannedItem],
    ) -> Result<()> {
        let transaction = coordinator.begin().await?;
        let planning = transaction
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'running', warnings = $2, sent_at = null, error = null
             where id = $1 and state = 'planning'
            "#,
                &[&id, &Json(warnings)],
            )
            .await?;
        if planning == 0 {
            return Ok(());
        }
        for (batch, first) in
            tables.chunks(ITEMS_PER_STATEMENT).zip((0i32..).step_by(ITEMS_PER_STATEMENT))
        {
            let names = batch.iter().map(|item| &item.spec.tables.table.name);
            let (schemas, tables): (Vec<&str>, Vec<&str>) =
                names.map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
            transaction
                .execute(
                    r#"
                insert into deltacompare.work_item
                  (recovery_id, number, batch, schema_name, table_name, strategy, strategy_reason,
                   spec, bytes, rows, warnings)
                select $1, $2 + ordinality - 1, batch, schema_name, table_name, strategy,
                       strategy_reason, spec, bytes, rows, warnings
                  from unnest($3::int4[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::jsonb[], $9::int8[], $10::int8[], $11::jsonb[]) with ordinality
                    as item (batch, schema_name, table_name, strategy, strategy_reason, spec, bytes,
                             rows, warnings, ordinality)
                "#,
                    &[
                        &id,
                        &first,
                        &each(batch, |item| item.batch),
                        &schemas,
                        &tables,
                        &each(batch, |item| item.spec.strategy.as_str()),
                        &each(batch, |item| item.strategy_reason.as_str()),
                        &each(batch, |item| Json(&item.spec)),
                        &each(batch, |item| item.bytes as i64),
                        &each(batch, |item| item.rows.map(|rows| rows as i64)),
                        &each(batch, |item| Json(&item.warnings)),
                    ],
                )
                .await?;
        }
        transaction.commit().await
    }

    /// Lets a recovery run whose plan is stored and whose link is set up again; see [`Store::start`].
    pub(crate) async fn go_on(coordinator: &Session, id: Uuid) -> Result<()> {
        coordinator
            .execute(
                r#"
            update deltacompare.recovery set state = 'running', sent_at = null, error = null
             where id = $1 and state = 'planning'
            "#,
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// Takes a live recovery back to `planning`, unless a process other than `worker` works on it:
    /// nobody can claim an item until the link is set up again. Attempts of processes that died are
    /// over. Says whether it did; see [`Store::start`].
    pub(crate) async fn suspend(
        coordinator: &mut Session,
        id: Uuid,
        worker: Option<Uuid>,
    ) -> Result<bool> {
        let transaction = coordinator.begin().await?;
        // First the lock, which every claim takes: claims after it are seen by the next statement.
        lock_recovery(&transaction, id).await?;
        let suspended = transaction
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'planning', sent_at = null
             where id = $1 and state in ('planning', 'running')
               and not exists (select from deltacompare.work_item
                                where recovery_id = $1 and worker is distinct from $2
                                  and lease_until > clock_timestamp())
            "#,
                &[&id, &worker],
            )
            .await?;
        if suspended == 0 {
            return Ok(false);
        }
        transaction
            .execute(
                r#"
            update deltacompare.work_item
               set attempt = attempt + case state when 'running' then 1 else 0 end,
                   state = 'pending', lease_until = null, sent_at = null
             where recovery_id = $1 and state in ('pending', 'running')
               and (state = 'running' or sent_at is not null)
            "#,
                &[&id],
            )
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Forgets failures of open items, and that they were put off: somebody asks for them now.
    pub(crate) async fn forget_failures(&self, id: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item set failures = 0, sent_at = null
             where recovery_id = $1 and state in ('pending', 'running')
               and (failures > 0 or sent_at > clock_timestamp())
            "#,
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// Ends a live recovery that cannot be planned or go on, with the reason.
    pub(crate) async fn fail_recovery(&self, id: Uuid, reason: &str) -> Result<()> {
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

    /// Stores why a live recovery does not go on now, for those who watch.
    pub(crate) async fn note_trouble(&self, id: Uuid, reason: &str) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.recovery set error = $2
             where id = $1 and state in ('planning', 'running')
               and error is distinct from $2
            "#,
                &[&id, &reason],
            )
            .await?;
        Ok(())
    }

    /// Fails completed items of which the verification has shown that they are wrong, each with the
    /// first reason that is given for it.
    pub(crate) async fn fail_verification(
        &self,
        recovery: Uuid,
        items: &[(i32, String)],
    ) -> Result<()> {
        let (numbers, reasons): (Vec<i32>, Vec<&str>) =
            items.iter().map(|(number, reason)| (*number, reason.as_str())).unzip();
        self.pool
            .execute(
                r#"
            update deltacompare.work_item i set state = 'failed', error = wrong.reason
              from (select distinct on (w.number) w.number, w.reason
                      from unnest($2::int4[], $3::text[]) with ordinality
                             as w (number, reason, place)
                     order by w.number, w.place) wrong
             where i.recovery_id = $1 and i.number = wrong.number and i.state = 'completed'
                   and exists (select from deltacompare.recovery
                                where id = $1 and state = 'running')
                "#,
                &[&recovery, &numbers, &reasons],
            )
            .await?;
        Ok(())
    }

    /// Stores that what these items found is proved.
    pub(crate) async fn verified(&self, recovery: Uuid, items: &[i32]) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item set verified = true
             where recovery_id = $1 and number = any($2) and state = 'completed'
            "#,
                &[&recovery, &items],
            )
            .await?;
        Ok(())
    }

    /// Stores another verdict on whether the restores cover the gap.
    pub(crate) async fn judge_gap(&self, recovery: Uuid, gap: &GapProof) -> Result<()> {
        self.pool
            .execute(
                "update deltacompare.recovery set gap = $2 where id = $1 and state = 'running'",
                &[&recovery, &Json(gap)],
            )
            .await?;
        Ok(())
    }

    /// Closes the recovery if all its items have ended: completed if none failed.
    pub(crate) async fn finish(&self, recovery: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.recovery r
               set finished_at = clock_timestamp(), error = null,
                   state = case when exists (select from deltacompare.work_item i
                                              where i.recovery_id = r.id and i.state = 'failed')
                                then 'failed' else 'completed' end
             where r.id = $1 and r.state = 'running'
               and not exists (select from deltacompare.work_item i
                                where i.recovery_id = r.id and i.state in ('pending', 'running'))
            "#,
                &[&recovery],
            )
            .await?;
        Ok(())
    }

    /// Ended recoveries that may have left objects on the servers.
    pub(crate) async fn needs_cleanup(&self) -> Result<Vec<Uuid>> {
        self.pool
            .query(
                r#"
            select id from deltacompare.recovery
             where cleaned_at is null and state in ('completed', 'failed', 'cancelled')
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
}

/// Nobody else claims an item of the recovery, or takes it to another state, until the end of the
/// transaction. Rows that refer to the recovery can be stored meanwhile.
pub(super) async fn lock_recovery(transaction: &Session, id: Uuid) -> Result<()> {
    transaction.execute(super::LOCK_RECOVERY, &[&id]).await?;
    Ok(())
}

/// What there is of each planned item.
fn each<'a, T>(items: &'a [PlannedItem], what: impl FnMut(&'a PlannedItem) -> T) -> Vec<T> {
    items.iter().map(what).collect()
}
