//! Events in the `landing` format, read by code of the demo's own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use deltacompare_testbed::Server;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::copy::{self, Row, Shape};
use crate::shop::Table;
use crate::tally::{Op, Tally};

/// Values by column, each as its JSON text.
type Values = BTreeMap<String, Box<RawValue>>;

/// One event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    op: String,
    schema: String,
    table: String,
    #[serde(default)]
    key: Option<Values>,
    before: Option<Values>,
    after: Option<Values>,
}

/// All events of a recovery.
pub(crate) struct Events {
    lines: Vec<String>,
    by_table: HashMap<String, Vec<Event>>,
}

impl Events {
    /// Takes a recovery's events out of the delta table, and writes them to a file for those who
    /// want to look at them.
    pub(crate) async fn take(head: &Server, recovery: &str, file: &Path) -> Result<Self> {
        let connection = copy::session(head).await?;
        let query = "select event::text from deltacompare.delta where recovery_id = $1::text::uuid
                      order by schema_name, table_name, event_id";
        let lines: Vec<String> = connection.values(query, &[&recovery]).await?;
        std::fs::write(file, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .with_context(|| file.display().to_string())?;
        let mut by_table = HashMap::<String, Vec<Event>>::new();
        for line in &lines {
            let event: Event = serde_json::from_str(line).with_context(|| line.clone())?;
            by_table.entry(format!("{}.{}", event.schema, event.table)).or_default().push(event);
        }
        Ok(Self { lines, by_table })
    }

    pub(crate) fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    /// A table's events.
    pub(crate) fn of(&self, table: &Table) -> &[Event] {
        self.by_table.get(table.name).map_or(&[], Vec::as_slice)
    }

    /// The shortest event with this operation.
    pub(crate) fn sample(&self, op: &str) -> Option<&str> {
        let start = format!("{{\"op\":\"{op}\"");
        let with_op = self.lines.iter().filter(|line| line.starts_with(&start));
        with_op.min_by_key(|line| line.len()).map(String::as_str)
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (table, events) in &self.by_table {
            for event in events {
                tally.add(table, event.op(), 1);
            }
        }
        tally
    }
}

impl Event {
    pub(crate) fn op(&self) -> Op {
        match self.op.as_str() {
            "I" => Op::Insert,
            "U" => Op::Update,
            _ => Op::Delete,
        }
    }

    /// The key of the row that the event is about.
    pub(crate) fn key(&self, shape: &Shape) -> Result<Vec<u8>> {
        let values = [&self.key, &self.after, &self.before].into_iter().flatten().next();
        let values = values.context("an event that names no row")?;
        let text = |column: &String| values.get(column).map(|value| text(value)).transpose();
        let values: Vec<_> = shape.columns.iter().map(text).collect::<Result<_>>()?;
        Ok(shape.row_of(values.into_iter().map(Option::flatten)).key)
    }

    /// The row as it is after the change.
    pub(crate) fn after(&self, shape: &Shape) -> Result<Row> {
        row(self.after.as_ref().context("an event without the new row")?, shape)
    }

    /// The row as it was before, if the event tells all of it.
    pub(crate) fn before(&self, shape: &Shape) -> Option<Result<Row>> {
        self.before.as_ref().map(|values| row(values, shape))
    }
}

fn row(values: &Values, shape: &Shape) -> Result<Row> {
    if values.len() != shape.columns.len() {
        bail!("{} values for {} columns", values.len(), shape.columns.len());
    }
    let value = |column: &String| text(values.get(column).context("a row without a column")?);
    let values: Vec<_> = shape.columns.iter().map(value).collect::<Result<_>>()?;
    Ok(shape.row_of(values))
}

/// The PostgreSQL text of a value: strings are exactly it, numbers are written as it.
fn text(value: &RawValue) -> Result<Option<String>> {
    Ok(match value.get() {
        "null" => None,
        "true" => Some("t".to_owned()),
        "false" => Some("f".to_owned()),
        json if json.starts_with('"') => Some(serde_json::from_str(json)?),
        number => Some(number.to_owned()),
    })
}
