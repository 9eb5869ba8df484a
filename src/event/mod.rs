//! A change as bytes.
#![allow(missing_docs)]
use crate::{
    catalog::{Table, TableName},
    diff::{Change, RowChange},
    error::Result,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Debezium,
    Landing,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BeforeImage {
    #[default]
    ReplicaIdentity,
    Full,
}
#[derive(Clone, Debug, Default)]
pub struct EncoderSettings {
    pub recovery_id: Uuid,
    pub database: String,
    pub recovered_at: jiff::Timestamp,
    pub format: Format,
    pub before: BeforeImage,
}
#[derive(Clone, Copy)]
pub enum Op {
    I,
    U,
    D,
}
impl Op {
    pub fn letter(self) -> &'static str {
        match self {
            Op::I => "I",
            Op::U => "U",
            Op::D => "D",
        }
    }
}
pub struct Event {
    pub id: Uuid,
    pub op: Op,
    pub table: Arc<TableName>,
    pub body: Bytes,
}
impl Event {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
}
pub struct Encoder {
    table: Table,
    settings: EncoderSettings,
}
impl Encoder {
    pub fn new(settings: &EncoderSettings, table: &Table) -> Self {
        Self { table: table.clone(), settings: settings.clone() }
    }
    pub fn warnings(&self) -> Vec<String> {
        vec![]
    }
    pub fn encode(&mut self, change: &Change) -> Result<Event> {
        let (op, b, a) = match &change.row {
            RowChange::Insert(a) => (Op::I, None, Some(a)),
            RowChange::Update { before, after } => (Op::U, Some(before), Some(after)),
            RowChange::Delete(b) => (Op::D, Some(b), None),
        };
        let m = |i: Option<&crate::diff::Image>| {
            i.map(|i| {
                self.table
                    .columns
                    .iter()
                    .zip(i.iter())
                    .map(|(c, v)| (c.name.clone(), v.into()))
                    .collect::<serde_json::Map<String, serde_json::Value>>()
            })
        };
        let body = serde_json::json!({"op": op.letter(), "schema": self.table.name.schema, "table": self.table.name.name, "before": m(b), "after": m(a)}).to_string();
        Ok(Event {
            id: Uuid::new_v5(&self.settings.recovery_id, format!("{:?}", change).as_bytes()),
            op,
            table: Arc::new(self.table.name.clone()),
            body: body.into(),
        })
    }
}
