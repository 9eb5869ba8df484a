//! Events in the `landing` format, as a consumer reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use deltacompare_testbed::Server;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::image::{Printer, Row};
use crate::state::{NetChange, State};
use crate::table::TableName;

/// One event, each value as its JSON text.
#[derive(Clone, Debug, Deserialize)]
pub struct LandingEvent {
    pub op: String,
    pub schema: String,
    pub table: String,
    pub key: Option<Values>,
    pub before: Option<Values>,
    pub after: Option<Values>,
    pub recovery_id: String,
    pub event_id: String,
    /// The line that it was.
    #[serde(skip)]
    pub line: String,
}

type Values = BTreeMap<String, Box<RawValue>>;

impl LandingEvent {
    pub fn parse(line: &str) -> Self {
        let event: Self =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { line: line.to_owned(), ..event }
    }

    /// What it says of the old row, each value as text.
    pub fn before_row(&self) -> Option<Row> {
        self.before.as_ref().map(texts)
    }

    /// The new row.
    pub fn after_row(&self) -> Option<Row> {
        self.after.as_ref().map(texts)
    }
}

/// The texts to cast to the columns' types.
fn texts(values: &Values) -> Row {
    values.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        json if json.starts_with('"') => Some(serde_json::from_str(json).unwrap()),
        plain => Some(plain.to_owned()),
    }
}

/// What a sink got, in order, repeats included.
#[derive(Clone, Debug)]
pub struct Events(pub Vec<LandingEvent>);

impl Events {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "half a line at the end");
        Self::parse(text.lines())
    }

    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().map(LandingEvent::parse).collect())
    }

    /// What the delta table on head has.
    pub async fn delta(head: &Server) -> Self {
        let lines: Vec<(String,)> = head
            .rows("select pg_catalog.format('%s', event) from deltacompare.delta order by ctid")
            .await
            .unwrap();
        Self::parse(lines.iter().map(|(line,)| line.as_str()))
    }

    /// The same of one recovery.
    pub async fn delta_of(head: &Server, recovery: &str) -> Self {
        let Self(mut events) = Self::delta(head).await;
        events.retain(|event| event.recovery_id == recovery);
        Self(events)
    }

    /// A table's events in their order, each id once. `table` is a name in SQL.
    pub fn of(&self, table: &str) -> Vec<&LandingEvent> {
        self.of_table(&TableName::of(table))
    }

    pub fn of_table(&self, table: &TableName) -> Vec<&LandingEvent> {
        let mut seen = BTreeSet::new();
        self.0
            .iter()
            .filter(|event| event.schema == table.schema && event.table == table.name)
            .filter(|event| seen.insert(&event.event_id))
            .collect()
    }

    /// The line of each id. Fails if two events with one id differ.
    pub fn by_id(&self) -> BTreeMap<&str, &str> {
        let mut lines = BTreeMap::new();
        for event in &self.0 {
            let earlier = lines.insert(event.event_id.as_str(), event.line.as_str());
            assert!(
                earlier.is_none_or(|earlier| earlier == event.line),
                "{earlier:?} was sent again as {}",
                event.line
            );
        }
        lines
    }

    /// A table's events as changes of images, in their order; head's types decide what a value
    /// means. Besides what every consumer may expect: a key has one event, `key` and the rows
    /// agree, and `before`, where it is whole, is not the same as `after`.
    pub async fn changes(&self, head: &Printer, table: &TableName) -> Vec<NetChange> {
        let empty = State::keyed(head.key(table).await);
        let events = self.of_table(table);
        let mut changes = Vec::new();
        let mut keys = BTreeSet::new();
        let mut inserted = BTreeSet::new();
        let mut deleted = BTreeSet::new();
        let images = |values: fn(&LandingEvent) -> Option<&Values>| {
            let given: Vec<bool> = events.iter().map(|event| values(event).is_some()).collect();
            let mut rows: Vec<Row> = events.iter().filter_map(|e| values(e)).map(texts).collect();
            async move {
                head.cast(table, &mut rows).await;
                let mut rows = rows.into_iter();
                given.into_iter().map(|given| given.then(|| rows.next().unwrap())).collect()
            }
        };
        let key_rows: Vec<Option<Row>> = images(|event| event.key.as_ref()).await;
        let befores: Vec<Option<Row>> = images(|event| event.before.as_ref()).await;
        let afters: Vec<Option<Row>> = images(|event| event.after.as_ref()).await;
        for (((event, key), before), after) in events.iter().zip(key_rows).zip(befores).zip(afters)
        {
            assert_eq!(key.is_some(), !empty.key().is_empty(), "{event:?}");
            let row = match event.op.as_str() {
                "I" | "U" => after.as_ref().unwrap(),
                "D" => before.as_ref().unwrap(),
                op => panic!("unknown op {op}"),
            };
            let key_image = empty.key_of(row);
            if let Some(key) = &key {
                assert_eq!(empty.key_of(key), key_image, "{event:?}");
                assert_eq!(key.len(), empty.key().len(), "{event:?}");
                assert!(keys.insert(key_image.clone()), "a second event of one key: {event:?}");
            } else if event.op == "I" {
                inserted.insert(key_image.clone());
            } else {
                deleted.insert(key_image.clone());
            }
            changes.push(match event.op.as_str() {
                "I" => {
                    assert!(event.before.is_none());
                    NetChange::Insert(after.unwrap())
                }
                "U" => {
                    assert_ne!(before, after, "an update that changes nothing");
                    NetChange::Update { key: key_image, after: after.unwrap() }
                }
                _ => {
                    assert!(event.after.is_none());
                    NetChange::Delete(key_image)
                }
            });
        }
        assert!(inserted.is_disjoint(&deleted), "an unchanged row came and went");
        changes
    }
}
