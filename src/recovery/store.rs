//! The status store: recoveries and their work items, in schema `deltacompare` of the control
//! database. Every change of state is one transaction; killing any process between any two calls
//! loses nothing.

mod accounts;
mod claims;
mod delivered;
mod messages;
mod operator;
mod rows;
mod status;

refinery::embed_migrations!("migrations");

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::plan::PlannedItem;
use super::request::Request;
use super::work_item::WorkItem;
use crate::error::{Error, Result};
use crate::gap_proof::GapProof;
use crate::lineage::Lsn;
use crate::postgres::{Json, Pool, Pooled, Server, Session, Transaction};
use crate::preflight::{Checked, Servers};
use crate::record::Record;

pub(crate) use claims::{Claim, NextItem};
pub(crate) use delivered::DeltaRows;
pub(crate) use messages::{CountedClaim, Due};
pub(crate) use operator::{AskOptions, Asked, Retried};
use rows::{ITEMS, ItemRow, RecoveryRow};
pub(crate) use status::Page;

/// The control database's side of a recovery. Cheap to clone; sessions are pooled.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: Pool,
    /// This process, as the holder of leases.
    worker: Uuid,
}

/// How a recovery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecoveryState {
    /// It is about to be planned.
    Planning,
    /// Its items are worked on, or what they found is being proved.
    Running,
    /// Every table completed.
    Completed,
    /// It could not be planned, or a table failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RecoveryState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    fn read(text: &str) -> Result<Self> {
        [Self::Planning, Self::Running, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                Error::recovery(format!("the status store has the unknown state {text:?}"))
            })
    }
}

/// A recovery as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredRecovery {
    pub(crate) id: Uuid,
    pub(crate) state: RecoveryState,
    pub(crate) request: Request,
    pub(crate) warnings: Vec<String>,
    pub(crate) created_at: jiff::Timestamp,
    pub(crate) finished_at: Option<jiff::Timestamp>,
    /// What tells the two restores from any others.
    pub(crate) restores: String,
    /// Where base's and head's recovery ended, if known.
    pub(crate) ends: Option<(Lsn, Lsn)>,
    /// Whether they cover the gap.
    pub(crate) gap: GapProof,
    /// The database that is compared.
    pub(crate) database: String,
    /// Whether queue messages drive it.
    pub(crate) queued: bool,
    /// Whether its objects stay when it has ended.
    pub(crate) keep_objects: bool,
    /// Whether nothing of it is left on the servers.
    pub(crate) cleaned: bool,
}

impl Store {
    /// Opens the store, creating or migrating its schema.
    ///
    /// # Errors
    /// Transient if the database cannot be reached, refused if the role may not create a schema.
    pub(crate) async fn open(control: &Server) -> Result<Self> {
        migrate_apart(control).await?;
        Self::connect(control).await
    }

    /// Makes the schema again if it is gone: `cleanup` may have removed it under a running app.
    ///
    /// # Errors
    /// As [`Store::open`]; or some of its tables are gone, and others are not.
    pub(crate) async fn make_again(&self, control: &Server) -> Result<()> {
        if self.is_whole().await? {
            return Ok(());
        }
        tracing::warn!("the status schema is gone and is made again, without any recoveries");
        migrate_apart(control).await?;
        if self.is_whole().await? {
            return Ok(());
        }
        Err(Error::recovery(
            "tables of the status schema `deltacompare` are gone: restore them, or remove the rest \
             with deltacompare cleanup --yes, and the app makes it anew",
        ))
    }

    /// Whether all tables are there.
    pub(crate) async fn is_whole(&self) -> Result<bool> {
        self.pool
            .query_one(
                r#"
                select to_regclass('deltacompare.recovery') is not null
                       and to_regclass('deltacompare.work_item') is not null
                       and to_regclass('deltacompare.delta') is not null
                "#,
                &[],
            )
            .await
    }

    /// Opens the store if there is one; creates none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) async fn open_existing(control: &Server) -> Result<Option<Self>> {
        let mut connection = control.connect("deltacompare status").await?;
        let exists = exists(&connection).await?;
        if exists {
            migrate(&mut connection).await?;
        }
        connection.close().await;
        Ok(if exists { Some(Self::connect(control).await?) } else { None })
    }

    async fn connect(control: &Server) -> Result<Self> {
        let pool = control.pool("deltacompare status", 4).await?;
        Ok(Self { pool, worker: Uuid::new_v4() })
    }

    /// Registers a recovery. Its id is the caller's, so that a repetition does nothing.
    pub(crate) async fn create_recovery(
        &self,
        id: Uuid,
        request: &Request,
        servers: &Servers,
        checked: &Checked,
    ) -> Result<()> {
        self.pool
            .execute(
                r#"
            insert into deltacompare.recovery
              (id, state, request, base, head, restores, base_end_lsn, head_end_lsn, gap, database,
               recorded)
            values ($1, 'planning', $2, $3, $4, $5, pg_lsn_in(textout($6)), pg_lsn_in(textout($7)),
                    $8, $9, $10)
            on conflict (id) do nothing
            "#,
                &[
                    &id,
                    &Json(request.without_record()),
                    &servers.base.to_string(),
                    &servers.head.to_string(),
                    &checked.restores,
                    &checked.ends.map(|(base, _)| base.to_string()),
                    &checked.ends.map(|(_, head)| head.to_string()),
                    &Json(&checked.gap),
                    &servers.head.database(),
                    &request.recorded.as_ref().map(Json),
                ],
            )
            .await?;
        Ok(())
    }

    /// What was recorded of a recovery's restores, if it was asked for with a record. Its request does
    /// not have it: with thousands of tables it is large, and few need it.
    pub(crate) async fn recorded(&self, id: Uuid) -> Result<Option<Record>> {
        let recorded: Option<Json<Record>> = self
            .pool
            .query_opt(
                "select recorded from deltacompare.recovery where id = $1 and recorded is not null",
                &[&id],
            )
            .await?;
        Ok(recorded.map(|recorded| recorded.0))
    }

    /// The recovery, if there is one with this id; its request without the record.
    pub(crate) async fn recovery(&self, id: Uuid) -> Result<Option<StoredRecovery>> {
        let row: Option<RecoveryRow> = self
            .pool
            .query_opt(
                r#"
                select state, request, warnings, restores, gap,
                       (extract(epoch from created_at) * 1000)::int8 as created_at,
                       (extract(epoch from finished_at) * 1000)::int8 as finished_at,
                       textin(pg_lsn_out(base_end_lsn)) as base_end_lsn,
                       textin(pg_lsn_out(head_end_lsn)) as head_end_lsn,
                       database, queued, keep_objects,
                       cleaned_at is not null as cleaned
                  from deltacompare.recovery
                 where id = $1
                "#,
                &[&id],
            )
            .await?;
        row.map(|row| row.read(id)).transpose()
    }

    /// Stores the plan and lets the recovery run, in the transaction of [`Store::set_up_turn`].
    /// Planning twice plans once: if the recovery is not being planned any more, nothing happens.
    pub(crate) async fn start(
        &self,
        transaction: Transaction<Pooled>,
        id: Uuid,
        warnings: &[String],
        tables: &[PlannedItem],
    ) -> Result<()> {
        let planning = transaction
            .execute(
                r#"
                update deltacompare.recovery
                   set state = 'running', warnings = $2, set_up_at = clock_timestamp(),
                       sent_at = null, error = null
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
                  (recovery_id, number, schema_name, table_name, strategy, strategy_reason,
                   spec, bytes, rows, warnings)
                select $1, $2 + ordinality - 1, schema_name, table_name, strategy, strategy_reason,
                       spec, bytes, rows, warnings
                  from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[],
                              $8::int8[], $9::int8[], $10::jsonb[]) with ordinality
                    as item (schema_name, table_name, strategy, strategy_reason, spec, bytes, rows,
                             warnings, ordinality)
                "#,
                    &[
                        &id,
                        &first,
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
        transaction.commit().await?;
        Ok(())
    }

    /// Lets one process at a time set the recovery up, for as long as the returned transaction is
    /// open: end it with [`Store::start`] or [`Store::go_on`]. The recovery itself is not locked, so
    /// that it can be cancelled meanwhile. Yields no transaction if the recovery has ended, or if
    /// another process has set it up since `asked` (by the database's clock, see [`Store::now`]).
    pub(crate) async fn set_up_turn(
        &self,
        recovery: Uuid,
        asked: f64,
    ) -> Result<Option<Transaction<Pooled>>> {
        let transaction = self.pool.begin().await?;
        transaction
            .execute(
                "select pg_advisory_xact_lock(hashtextextended($1, 0))",
                &[&format!("deltacompare setting up {recovery}")],
            )
            .await?;
        let set_up: Option<Option<f64>> = transaction
            .query_opt(
                r#"
                select extract(epoch from set_up_at)::float8 from deltacompare.recovery
                 where id = $1 and state in ('planning', 'running')
                "#,
                &[&recovery],
            )
            .await?;
        Ok(set_up.is_some_and(|set_up| set_up.is_none_or(|at| at <= asked)).then_some(transaction))
    }

    /// Stores that the recovery is set up again, and lets it run.
    pub(crate) async fn go_on(
        &self,
        transaction: Transaction<Pooled>,
        recovery: Uuid,
    ) -> Result<()> {
        transaction
            .execute(
                r#"
            update deltacompare.recovery
               set state = 'running', set_up_at = clock_timestamp(), sent_at = null, error = null
             where id = $1 and state in ('planning', 'running')
            "#,
                &[&recovery],
            )
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The database's clock, in seconds since 1970.
    pub(crate) async fn now(&self) -> Result<f64> {
        self.pool.query_one("select extract(epoch from clock_timestamp())::float8", &[]).await
    }

    /// Fails completed items after the fact, each with its reason.
    pub(crate) async fn disprove(&self, recovery: Uuid, items: &[(i32, String)]) -> Result<()> {
        for (number, reason) in items {
            self.pool
                .execute(
                    r#"
                    update deltacompare.work_item set state = 'failed', error = $3
                     where recovery_id = $1 and number = $2 and state = 'completed'
                       and exists (select from deltacompare.recovery
                                    where id = $1 and state = 'running')
                    "#,
                    &[&recovery, &number, &reason],
                )
                .await?;
        }
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

    /// Closes the recovery if all its items have ended: completed if none failed. Decided and
    /// stored in one statement; a repetition changes nothing.
    pub(crate) async fn finish(&self, recovery: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.recovery r
               set finished_at = clock_timestamp(),
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

    /// All items in order.
    pub(crate) async fn items(&self, recovery: Uuid) -> Result<Vec<WorkItem>> {
        let rows: Vec<ItemRow> = self.pool.query(ITEMS, &[&recovery, &None::<i32>]).await?;
        rows.into_iter().map(WorkItem::try_from).collect()
    }

    /// One item.
    pub(crate) async fn item(&self, recovery: Uuid, number: i32) -> Result<WorkItem> {
        let row: ItemRow = self.pool.query_one(ITEMS, &[&recovery, &number]).await?;
        row.try_into()
    }

    /// Ends the store's sessions.
    pub(crate) fn close(&self) {
        self.pool.close();
    }

    /// The pool, for sinks that live in the same database.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// Items stored by one statement: some megabytes at most.
const ITEMS_PER_STATEMENT: usize = 500;

/// What there is of each planned item.
fn each<'a, T>(items: &'a [PlannedItem], what: impl FnMut(&'a PlannedItem) -> T) -> Vec<T> {
    items.iter().map(what).collect()
}

async fn exists(connection: &Session) -> Result<bool> {
    connection
        .query_one("select exists (select from pg_namespace where nspname = 'deltacompare')", &[])
        .await
}

/// [`migrate`] on a session of its own.
async fn migrate_apart(control: &Server) -> Result<()> {
    let mut session = control.connect("deltacompare status").await?;
    migrate(&mut session).await?;
    session.close().await;
    Ok(())
}

/// Creates or updates the schema, one process at a time: the lock ends with the session. Which
/// migrations were run is kept in the schema itself.
async fn migrate(session: &mut Session) -> Result<()> {
    session.execute("select pg_advisory_lock(hashtextextended('deltacompare', 0))", &[]).await?;
    if !exists(session).await? {
        session.batch_execute("create schema deltacompare").await?;
    }
    session.batch_execute("set search_path = deltacompare, pg_catalog").await?;
    session.migrate(&migrations::runner()).await
}
