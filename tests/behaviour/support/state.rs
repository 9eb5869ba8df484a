//! The state of a table, and events applied to it: the judge of every recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use deltacompare_testbed::Server;
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::Executor;

/// A row: each column's text, as COPY prints it.
type Row = BTreeMap<String, Option<String>>;

/// A table's rows, by the text of their key columns; without a key, by the whole row, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    key: Vec<String>,
    rows: BTreeMap<Vec<Option<String>>, (Row, usize)>,
}

impl State {
    /// Reads a table. `table` is a name in SQL. Generated columns are left out.
    pub(crate) async fn read(server: &Server, table: &str) -> Self {
        let exists: bool =
            server.value(format!("select to_regclass($t${table}$t$) is not null")).await.unwrap();
        if !exists {
            return Self { key: Vec::new(), rows: BTreeMap::new() };
        }
        let key = Self::key(server, table).await;
        let columns: Vec<(String,)> = server
            .rows(format!(
                "select attname::text from pg_attribute where attrelid = $t${table}$t$::regclass \
                 and attnum > 0 and not attisdropped and attgenerated = '' order by attnum"
            ))
            .await
            .unwrap();
        let columns: Vec<String> = columns.into_iter().map(|(name,)| name).collect();
        let list: Vec<String> =
            columns.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let mut connection = server.connect().await.unwrap();
        connection
            .execute(
                "set extra_float_digits = 3; set datestyle = 'ISO, MDY'; set timezone = 'UTC'; \
                 set intervalstyle = postgres; set bytea_output = hex; set lc_monetary = 'C'; \
                 set search_path = pg_catalog",
            )
            .await
            .unwrap();
        let table = if table.contains('.') { table.to_owned() } else { format!("public.{table}") };
        let text = connection
            .copy_out_raw(&format!("copy (select {} from {table}) to stdout", list.join(", ")))
            .await
            .unwrap()
            .try_fold(Vec::new(), |mut all, part| async move {
                all.extend_from_slice(&part);
                Ok(all)
            })
            .await
            .unwrap();
        let mut state = Self { key, rows: BTreeMap::new() };
        for line in String::from_utf8(text).unwrap().lines() {
            let values: Vec<_> = line.split('\t').map(unescape).collect();
            state.insert(columns.iter().cloned().zip(values).collect());
        }
        state
    }

    async fn key(server: &Server, table: &str) -> Vec<String> {
        let key: Vec<(String,)> = server
            .rows(format!(
                "select a.attname::text from pg_index i \
                   join pg_class c on c.oid = i.indrelid \
                   join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) \
                  where i.indrelid = $t${table}$t$::regclass \
                    and case when c.relreplident = 'i' then i.indisreplident \
                             else i.indisprimary end \
                  order by 1"
            ))
            .await
            .unwrap();
        key.into_iter().map(|(name,)| name).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.values().map(|(_, copies)| copies).sum()
    }

    fn key_of(&self, row: &Row) -> Vec<Option<String>> {
        if self.key.is_empty() {
            row.values().cloned().collect()
        } else {
            self.key.iter().map(|column| row[column].clone()).collect()
        }
    }

    fn insert(&mut self, row: Row) {
        let key = self.key_of(&row);
        let keyed = !self.key.is_empty();
        let entry = self.rows.entry(key).or_insert_with(|| (row.clone(), 0));
        entry.1 += 1;
        assert!(!keyed || entry.1 == 1, "inserted where a row is: {row:?}");
    }

    fn delete(&mut self, row: &Row) {
        let key = self.key_of(row);
        let entry = self.rows.get_mut(&key).unwrap_or_else(|| panic!("no row to delete: {row:?}"));
        entry.1 -= 1;
        if entry.1 == 0 {
            self.rows.remove(&key);
        }
    }

    /// Applies events in their order, as a consumer does that keeps the last of each id.
    pub(crate) fn apply<'a>(&mut self, events: impl IntoIterator<Item = &'a LandingEvent>) {
        for event in events {
            match event.op.as_str() {
                "I" => self.insert(event.row(&event.after)),
                "U" => {
                    let after = event.row(&event.after);
                    let key = self.key_of(&after);
                    let row = self.rows.get_mut(&key).unwrap_or_else(|| {
                        panic!("no row to update: {after:?}");
                    });
                    assert_ne!(row.0, after, "an update that changes nothing");
                    row.0 = after;
                }
                "D" => self.delete(&event.row(&event.before)),
                op => panic!("unknown op {op}"),
            }
        }
    }
}

/// Undoes COPY's escapes.
fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next().unwrap() {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                c => c,
            },
            c => c,
        });
    }
    Some(text)
}

/// An event in the `landing` format, each value as its JSON text.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LandingEvent {
    pub(crate) op: String,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) before: Option<BTreeMap<String, Box<RawValue>>>,
    pub(crate) after: Option<BTreeMap<String, Box<RawValue>>>,
    pub(crate) event_id: String,
}

impl LandingEvent {
    /// The values as PostgreSQL would print them.
    fn row(&self, values: &Option<BTreeMap<String, Box<RawValue>>>) -> Row {
        let values = values.as_ref().unwrap_or_else(|| panic!("no row in {self:?}"));
        values.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }
}

fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        "true" => Some("t".into()),
        "false" => Some("f".into()),
        json if json.starts_with('"') => Some(serde_json::from_str(json).unwrap()),
        number => Some(number.to_owned()),
    }
}

/// What a sink got, in order, repeats included.
#[derive(Clone, Debug)]
pub(crate) struct Events(pub(crate) Vec<LandingEvent>);

impl Events {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self::parse(text.lines())
    }

    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        Self(lines.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// A table's events in their order, each id once.
    pub(crate) fn of(&self, table: &str) -> Vec<&LandingEvent> {
        let table = table.replace('"', "");
        let mut seen = BTreeSet::new();
        self.0
            .iter()
            .filter(|event| {
                event.table == table || format!("{}.{}", event.schema, event.table) == table
            })
            .filter(|event| seen.insert(&event.event_id))
            .collect()
    }
}
