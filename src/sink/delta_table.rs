//! `deltacompare.delta`: the events for SQL users.

mod copied;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Held, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::postgres::{Pool, from_row};
use crate::telemetry::metrics::{self, SinkKind};

/// Writes events to the delta table of the control database. What a write took is durable when it
/// returns; an event that is there already is left as it is.
pub(crate) struct DeltaTable {
    pool: Pool,
    recovery: Uuid,
    /// The table that was there when this was opened, if it was.
    opened: Option<DeltaRelation>,
}

/// The delta table and its file: TRUNCATE gives it another file, DROP and CREATE another oid too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DeltaRelation {
    oid: u32,
    file: u32,
}

from_row!(DeltaRelation { oid, file });

impl DeltaRelation {
    async fn find(pool: &Pool) -> Result<Self> {
        pool.query_opt(
            r#"
            select c.oid, pg_catalog.pg_relation_filenode(c.oid) as file
              from pg_catalog.pg_class c
             where c.oid = pg_catalog.to_regclass('deltacompare.delta')
            "#,
            &[],
        )
        .await?
        .ok_or_else(delta_table_gone)
    }
}

/// The delta table is not there.
pub(crate) fn delta_table_gone() -> Error {
    Error::new(
        ErrorKind::EventsLost,
        "the delta table is gone, and with it events that count as delivered: begin a new recovery \
         after deltacompare cleanup, or, if you renamed the table, name it deltacompare.delta again \
         and go on with --resume (app: retry)",
    )
}

impl DeltaTable {
    /// Takes events over without ever being asked what it holds.
    pub(crate) fn new(pool: Pool, recovery: Uuid) -> Self {
        Self { pool, recovery, opened: None }
    }

    /// Opens the table as a recovery's sink. Whether it has what earlier attempts wrote must be
    /// asked from then on: afterwards each flush finds out if it was emptied or exchanged.
    ///
    /// # Errors
    /// [`ErrorKind::EventsLost`] if there is none.
    pub(crate) async fn open(pool: Pool, recovery: Uuid) -> Result<Self> {
        let opened = Some(DeltaRelation::find(&pool).await?);
        Ok(Self { opened, ..Self::new(pool, recovery) })
    }

    async fn check(&self) -> Result<()> {
        if self.opened.is_some() && self.opened != Some(DeltaRelation::find(&self.pool).await?) {
            return Err(Error::new(
                ErrorKind::EventsLost,
                "the delta table was truncated, rewritten or made anew while events were written: \
                 go on with --resume (app: retry), which counts what is left in it",
            ));
        }
        Ok(())
    }

    async fn insert(&self, events: &[Event]) -> Result<u64> {
        let mut ids = Vec::with_capacity(events.len());
        let mut schemas = Vec::with_capacity(events.len());
        let mut tables = Vec::with_capacity(events.len());
        let mut keys = Vec::with_capacity(events.len());
        let mut operations = Vec::with_capacity(events.len());
        let mut bodies = Vec::with_capacity(events.len());
        for event in events {
            ids.push(event.id);
            schemas.push(event.table.schema.as_str());
            tables.push(event.table.name.as_str());
            keys.push(event.key.as_deref().map(String::from_utf8_lossy));
            operations.push(event.op.letter());
            bodies.push(String::from_utf8_lossy(&event.body));
        }
        self.pool
            .execute(
                r#"
            insert into deltacompare.delta
              (recovery_id, event_id, schema_name, table_name, op, key, event)
            select $1, e.id, e.schema, e.name, e.op, json_in(textout(e.key)), json_in(textout(e.body))
              from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
                     as e (id, schema, name, op, key, body)
            on conflict do nothing
            "#,
                &[&self.recovery, &ids, &schemas, &tables, &operations, &keys, &bodies],
            )
            .await
    }

    /// Writes a large event in pieces. As a parameter it would be in memory three times: as it is, in
    /// the message to the server, and in what the connection has to send.
    async fn copy(&self, event: &Event) -> Result<u64> {
        let pieces = copied::pieces(self.recovery, event);
        match self.pool.copy_in(copied::SQL, pieces).await {
            // unique_violation: it is there already. Another session's row is committed by then.
            Err(error) if error.sqlstate() == Some("23505") => Ok(0),
            copied => copied,
        }
    }

    async fn take(&self, events: &[Event]) -> Result<()> {
        let is_large = |event: &Event| event.body.len() > copied::LARGE_EVENT_BYTES;
        for events in events.chunk_by(|a, b| !is_large(a) && !is_large(b)) {
            let taken = match events {
                [event] if is_large(event) => self.copy(event).await,
                events => self.insert(events).await,
            };
            let inserted = taken.map_err(|error| match error.sqlstate() {
                // undefined_table, invalid_schema_name
                Some("42P01" | "3F000") => delta_table_gone(),
                _ => error,
            })?;
            let events = events.len() as u64;
            metrics::acknowledged(SinkKind::DeltaTable, events);
            metrics::repeated(SinkKind::DeltaTable, events - inserted.min(events));
        }
        Ok(())
    }
}

impl Sink for DeltaTable {
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.take(events))
    }

    fn flush(&self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async {
            self.check().await?;
            Ok(Held::Unknown)
        })
    }
}
