//! What operators ask of the app: to begin a recovery, to cancel it, to try it again.

use serde_json::Value;
use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::gap_proof::GapProof;
use crate::postgres::{Json, Session};
use crate::preflight::Servers;
use crate::recovery::Request;

/// What became of a wish to begin a recovery.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was registered, now or by an earlier request with the same key and body.
    Registered(Uuid),
    /// The key was used with another body.
    KeyUsed,
    /// This one is live.
    Live(Uuid),
}

/// What became of a wish to try a recovery again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// What had failed of it is open again.
    Opened,
    /// It has not failed.
    NotFailed,
    /// This other one of the same database is live.
    Live(Uuid),
}

/// What is asked for beside the request itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskOptions {
    /// Begin although another recovery of the same database is live.
    pub(crate) allow_concurrent: bool,
    /// Leave the recovery's objects on the servers when it has ended.
    pub(crate) keep_objects: bool,
}

impl Store {
    /// Registers a recovery of the servers' database that messages will drive, unless one is live.
    pub(crate) async fn ask(
        &self,
        id: Uuid,
        request: &Request,
        servers: &Servers,
        key: Option<&str>,
        body: &Value,
        options: AskOptions,
    ) -> Result<Asked> {
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
                let same = earlier.is_some_and(|earlier| earlier.0 == *body);
                return Ok(if same { Asked::Registered(id) } else { Asked::KeyUsed });
            }
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
        if let Some(live) = live.filter(|_| !options.allow_concurrent) {
            return Ok(Asked::Live(live));
        }
        let gap = GapProof::NotProvable { why: "the recovery was not planned yet".to_owned() };
        transaction.execute(
            r#"
            insert into deltacompare.recovery
              (id, state, request, base, head, database, restores, gap, queued, idempotency_key, body,
               keep_objects, recorded, sent_at)
            values ($1, 'planning', $2, $3, $4, $5, '', $6, true, $7, $8, $9, $10, clock_timestamp())
            "#,
            &[&id, &Json(request.without_record()), &servers.base.to_string(), &servers.head.to_string(), &servers.head.database(), &Json(&gap), &key, &Json(body), &options.keep_objects, &request.recorded.as_ref().map(Json)],
        )
        .await?;
        transaction.commit().await?;
        Ok(Asked::Registered(id))
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
    /// unless another recovery of its database is live and it was not asked for beside others.
    pub(crate) async fn retry(&self, id: Uuid) -> Result<Retried> {
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
        if let Some(live) = live {
            return Ok(Retried::Live(live));
        }
        let retried = transaction
            .execute(
                r#"
                update deltacompare.recovery
                   set state = 'planning', finished_at = null, error = null, cleaned_at = null,
                       sent_at = null
                 where id = $1 and state = 'failed' and queued
                "#,
                &[&id],
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
               set state = 'pending', error = null, failures = 0, sent_at = null,
                   checkpoint = null, done = null, digest = null, account = null, verified = false,
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
