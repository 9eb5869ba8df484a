//! What operators ask for: to begin a recovery, to cancel it, to try it again.

use serde_json::Value;
use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::model::{GapProof, Request};
use crate::postgres::{Json, Session, Side};
use crate::preflight::{PreflightReport, Servers};

/// A recovery to be registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecovery<'a> {
    pub(crate) request: &'a Request,
    /// Where base and head are, with the database that is compared.
    pub(crate) servers: &'a Servers,
    /// What a check of its restores has found out, if there was one.
    pub(crate) checked: Option<&'a PreflightReport>,
    /// Register it although another recovery of the same database is live.
    pub(crate) allow_concurrent: bool,
    /// Where the queues are by which an app is to drive it.
    pub(crate) queues: Option<&'a str>,
    /// A key and what came with it, to know a repetition by.
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<&'a Value>,
}

/// What became of a request to register a recovery.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It is registered, now or by an earlier request with the same key and body.
    Registered(Uuid),
    /// The key was used with another body.
    KeyUsed,
    /// This one is live.
    Live(Uuid),
    /// This one, of whatever database, is live, and an app with other queues drives it.
    OfOtherQueues {
        /// Which one.
        live: Uuid,
        /// Where that app's queues are.
        queues: String,
    },
}

/// What became of a request to try a recovery again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// What had failed of it is open again.
    Opened,
    /// It has not failed.
    NotFailed,
    /// It would fail again: tables were compared by row versions, and this server has lost its counts of
    /// writes since.
    CountsLost(Side),
    /// This other one of the same database is live.
    Live(Uuid),
}

impl Store {
    /// Registers a recovery in the state `planning`, unless one of its database is live.
    pub(crate) async fn register(&self, new: NewRecovery<'_>) -> Result<Registration> {
        let NewRecovery { request, servers, checked, allow_concurrent, queues, key, body } = new;
        let transaction = self.pool.begin().await?;
        lock_registration(&transaction).await?;
        if let Some(key) = key {
            let earlier: Option<(Uuid, Option<Json<Value>>)> = transaction
                .query_opt(
                    "select id, body from deltacompare.recovery where idempotency_key = $1",
                    &[&key],
                )
                .await?;
            if let Some((id, earlier)) = earlier {
                let same = earlier.is_some_and(|earlier| Some(&earlier.0) == body);
                return Ok(if same { Registration::Registered(id) } else { Registration::KeyUsed });
            }
        }
        let of_others: Option<(Uuid, String)> = transaction
            .query_opt(
                r#"
            select id, queues from deltacompare.recovery
             where state in ('planning', 'running') and queues <> $1
             order by created_at limit 1
            "#,
                &[&queues],
            )
            .await?;
        if let Some((live, queues)) = of_others {
            return Ok(Registration::OfOtherQueues { live, queues });
        }
        let live: Option<Uuid> = transaction
            .query_opt(
                r#"
            select id from deltacompare.recovery
             where state in ('planning', 'running') and database = $1
             order by created_at limit 1
            "#,
                &[&servers.head.database()],
            )
            .await?;
        if let Some(live) = live.filter(|_| !allow_concurrent) {
            return Ok(Registration::Live(live));
        }
        let id = Uuid::new_v4();
        let unplanned =
            GapProof::NotProvable { why: "the recovery was not planned yet".to_owned() };
        let (gap, restores) = match checked {
            Some(checked) => (&checked.gap, checked.restores.as_str()),
            None => (&unplanned, ""),
        };
        let ends = checked.and_then(|checked| checked.ends);
        transaction
            .execute(
                r#"
            insert into deltacompare.recovery
              (id, state, request, base, head, database, restores, base_end_lsn, head_end_lsn, gap,
               idempotency_key, body, keep_objects, recorded, queues)
            values ($1, 'planning', $2, $3, $4, $5, $6, pg_lsn_in(textout($7)),
                    pg_lsn_in(textout($8)), $9, $10, $11, $12, $13, $14)
            "#,
                &[
                    &id,
                    &Json(request.without_record()),
                    &servers.base.to_string(),
                    &servers.head.to_string(),
                    &servers.head.database(),
                    &restores,
                    &ends.map(|(base, _)| base.to_string()),
                    &ends.map(|(_, head)| head.to_string()),
                    &Json(gap),
                    &key,
                    &body.map(Json),
                    &request.keep_objects,
                    &request.recorded.as_ref().map(Json),
                    &queues,
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok(Registration::Registered(id))
    }

    /// Keeps a recovery's objects on the servers when it has ended.
    pub(crate) async fn keep_objects(&self, id: Uuid) -> Result<()> {
        self.pool
            .execute("update deltacompare.recovery set keep_objects = true where id = $1", &[&id])
            .await?;
        Ok(())
    }

    /// Cancels a live recovery: from now on no worker may write a result of it. Says whether it was
    /// live.
    pub(crate) async fn cancel(&self, id: Uuid) -> Result<bool> {
        let transaction = self.pool.begin().await?;
        let cancelled = transaction
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'cancelled', finished_at = clock_timestamp()
             where id = $1 and state in ('planning', 'running')
            "#,
                &[&id],
            )
            .await?;
        transaction
            .execute(
                r#"
            update deltacompare.work_item
               set state = 'pending', lease_until = null, attempt = attempt + 1
             where recovery_id = $1 and state = 'running'
               and exists (select from deltacompare.recovery
                            where id = $1 and state = 'cancelled')
            "#,
                &[&id],
            )
            .await?;
        transaction.commit().await?;
        Ok(cancelled > 0)
    }

    /// Opens a failed recovery's failed items again, from their beginning, and has it set up again,
    /// unless another recovery of its database is live and neither now nor then it was asked for
    /// beside others. An app that asks for it drives it by its `queues` from then on.
    pub(crate) async fn retry(
        &self,
        id: Uuid,
        queues: Option<&str>,
        allow_concurrent: bool,
    ) -> Result<Retried> {
        let transaction = self.pool.begin().await?;
        lock_registration(&transaction).await?;
        let live: Option<Uuid> = transaction
            .query_opt(
                r#"
            select live.id from deltacompare.recovery r
              join deltacompare.recovery live
                on live.database = r.database and live.id <> r.id
               and live.state in ('planning', 'running')
             where r.id = $1 and r.state = 'failed'
               and r.body @> '{"allow_concurrent": true}' is not true
             order by live.created_at limit 1
            "#,
                &[&id],
            )
            .await?;
        if let Some(live) = live.filter(|_| !allow_concurrent) {
            return Ok(Retried::Live(live));
        }
        let retried = transaction
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'planning', finished_at = null, error = null, cleaned_at = null,
                   sent_at = null, queues = coalesce($2, queues)
             where id = $1 and state = 'failed'
            "#,
                &[&id, &queues],
            )
            .await?;
        if retried == 0 {
            return Ok(Retried::NotFailed);
        }
        transaction
            .execute(
                r#"
            delete from deltacompare.account a
             where recovery_id = $1
               and exists (select from deltacompare.work_item i
                            where i.recovery_id = a.recovery_id and i.state = 'failed'
                              and i.schema_name = a.schema_name and i.table_name = a.table_name)
            "#,
                &[&id],
            )
            .await?;
        transaction
            .execute(
                r#"
            update deltacompare.work_item
               set state = 'pending', error = null, failures = 0, sent_at = null, lease_until = null,
                   checkpoint = null, done = null, digest = null, events_digest = null, account = null, verified = false,
                   inserts = 0, updates = 0, deletes = 0, rows_compared = 0
             where recovery_id = $1 and state = 'failed'
            "#,
                &[&id],
            )
            .await?;
        transaction.commit().await?;
        Ok(Retried::Opened)
    }
}

/// Whether another recovery is live stays true until the transaction's end.
async fn lock_registration(transaction: &Session) -> Result<()> {
    transaction
        .execute("select pg_advisory_xact_lock(hashtextextended('deltacompare ask', 0))", &[])
        .await?;
    Ok(())
}
