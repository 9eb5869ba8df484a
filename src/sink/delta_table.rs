//! `deltacompare.delta`: the events for SQL users.

use futures_util::future::BoxFuture;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::Sink;
use crate::error::Result;
use crate::event::Event;
use crate::telemetry::metrics::{self, SinkKind};

/// Writes events to the delta table of the control database. Each write is one statement and
/// durable when it returns; an event that is there already is left as it is.
pub(crate) struct DeltaTable {
    pool: PgPool,
    recovery: Uuid,
}

impl DeltaTable {
    pub(crate) fn new(pool: PgPool, recovery: Uuid) -> Self {
        Self { pool, recovery }
    }

    async fn insert(&self, events: &[Event]) -> Result<()> {
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
        let inserted = sqlx::query(
            r#"
            insert into deltacompare.delta
              (recovery_id, event_id, schema_name, table_name, op, key, event)
            select $1, e.id, e.schema, e.name, e.op, json_in(textout(e.key)), json_in(textout(e.body))
              from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
                     as e (id, schema, name, op, key, body)
            on conflict do nothing
            "#,
        )
        .bind(self.recovery)
        .bind(&ids)
        .bind(&schemas)
        .bind(&tables)
        .bind(&operations)
        .bind(&keys)
        .bind(&bodies)
        .execute(&self.pool)
        .await?
        .rows_affected();
        let events = events.len() as u64;
        metrics::acknowledged(SinkKind::DeltaTable, events);
        metrics::repeated(SinkKind::DeltaTable, events - inserted.min(events));
        Ok(())
    }
}

impl Sink for DeltaTable {
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.insert(events))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
