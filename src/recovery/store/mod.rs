//! The status store: recoveries and their work items, in schema `deltacompare` of the control
//! database. Every change of state is one transaction; killing any process between any two calls
//! loses nothing.

mod accounts;
mod claims;
mod delivered;
mod leases;
mod messages;
mod plans;
mod registration;
mod rows;
mod status;
mod transitions;

refinery::embed_migrations!("migrations");

use uuid::Uuid;

use super::work_item::WorkItem;
use crate::error::{Error, Result};
use crate::model::{GapProof, Lsn, Record, RecoveryState, Request};
use crate::postgres::{Json, Pool, Server, Session};

pub(crate) use accounts::{Rows, TableAccount};
pub(crate) use claims::{Claim, CompletedItem, NextItem};
pub(crate) use delivered::DeltaRows;
pub(crate) use messages::PendingMessages;
pub(crate) use plans::RENEW_PLAN_EVERY;
pub(crate) use registration::{NewRecovery, Registration, Retried};
use rows::{ITEMS, ItemRow, RecoveryRow};
pub(crate) use status::Page;
pub use transitions::Due;

/// Serializes claims on a recovery's items, and its transitions: with `no key update`, rows that
/// refer to the recovery can be stored meanwhile.
const LOCK_RECOVERY: &str = "select from deltacompare.recovery where id = $1 for no key update";

/// The control database's side of a recovery. Cheap to clone; sessions are pooled.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: Pool,
    /// This process, as the holder of leases.
    worker: Uuid,
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
    /// Why it failed as a whole, or does not go on now.
    pub(crate) error: Option<String>,
    /// Whether its objects stay when it has ended.
    pub(crate) keep_objects: bool,
    /// Where the queues are by which an app drives it, if one does.
    pub(crate) queues: Option<String>,
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

    /// The same for a process that is known by this name.
    pub(crate) fn of_worker(self, worker: Uuid) -> Self {
        Self { worker, ..self }
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
                   database, error, keep_objects, queues,
                   cleaned_at is not null as cleaned
              from deltacompare.recovery
             where id = $1
            "#,
                &[&id],
            )
            .await?;
        row.map(|row| row.read(id)).transpose()
    }

    /// All items in order.
    pub(crate) async fn items(&self, recovery: Uuid) -> Result<Vec<WorkItem>> {
        let rows: Vec<ItemRow> = self.pool.query(ITEMS, &[&recovery]).await?;
        rows.into_iter().map(WorkItem::try_from).collect()
    }

    /// This process, as the holder of leases.
    pub(crate) fn worker(&self) -> Uuid {
        self.worker
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
