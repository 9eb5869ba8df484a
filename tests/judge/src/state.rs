//! The state of a table, and changes applied to it: the judge of every recovery.

use std::collections::{BTreeMap, BTreeSet};

use deltacompare_testbed::Server;

use crate::image::{Printer, Row};
use crate::table::TableName;

/// The text of the key columns that identify a row; without a key, of the whole row.
pub type KeyImage = Vec<Option<String>>;

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetChange {
    Insert(Row),
    Update { key: KeyImage, after: Row },
    Delete(KeyImage),
}

/// A table's rows, by the text of their key columns; without a key, by the whole row, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    key: Vec<String>,
    rows: BTreeMap<KeyImage, (Row, usize)>,
}

impl State {
    /// Reads a table, generated columns left out; empty if there is no such table.
    pub async fn of(server: &Server, table: &TableName) -> Self {
        let printer = Printer::of(server).await;
        let state = Self::read(&printer, table).await;
        printer.close().await;
        state
    }

    /// The same by a connection that is there.
    pub async fn read(printer: &Printer, table: &TableName) -> Self {
        if !printer.has(table).await {
            return Self::default();
        }
        let mut state = Self::keyed(printer.key(table).await);
        for row in printer.rows(table).await {
            state.insert(row);
        }
        state
    }

    /// What a publication covers of a table, as the test says it: by columns (`name`, or
    /// `expression as name`), from a from item, where a condition holds.
    pub async fn covered(
        printer: &Printer,
        key: &[&str],
        columns: &[&str],
        from: &str,
        filter: &str,
    ) -> Self {
        let mut state = Self::keyed(key.iter().map(|&name| name.to_owned()).collect());
        for row in printer.covered_rows(columns, from, filter).await {
            state.insert(row);
        }
        state
    }

    /// No rows, with this key.
    pub fn keyed(key: Vec<String>) -> Self {
        Self { key, rows: BTreeMap::new() }
    }

    pub fn key(&self) -> &[String] {
        &self.key
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn get(&self, key: &KeyImage) -> Option<&Row> {
        self.rows.get(key).map(|(row, _)| row)
    }

    pub fn keys(&self) -> impl Iterator<Item = &KeyImage> {
        self.rows.keys()
    }

    pub fn key_of(&self, row: &Row) -> KeyImage {
        if self.key.is_empty() {
            row.values().cloned().collect()
        } else {
            self.key.iter().map(|column| row[column].clone()).collect()
        }
    }

    pub fn insert(&mut self, row: Row) {
        let key = self.key_of(&row);
        let keyed = !self.key.is_empty();
        let entry = self.rows.entry(key).or_insert_with(|| (row.clone(), 0));
        entry.1 += 1;
        assert!(!keyed || entry.1 == 1, "inserted where a row is: {row:?}");
    }

    pub fn delete_key(&mut self, key: &KeyImage) {
        let entry = self.rows.get_mut(key).unwrap_or_else(|| panic!("no row to delete: {key:?}"));
        entry.1 -= 1;
        if entry.1 == 0 {
            self.rows.remove(key);
        }
    }

    pub fn update(&mut self, after: Row) {
        let key = self.key_of(&after);
        let entry =
            self.rows.get_mut(&key).unwrap_or_else(|| panic!("no row to update: {after:?}"));
        assert_ne!(entry.0, after, "an update that changes nothing");
        entry.0 = after;
    }

    /// The columns of its rows; none without rows.
    pub fn columns(&self) -> BTreeSet<String> {
        self.rows.values().next().map(|(row, _)| row.keys().cloned().collect()).unwrap_or_default()
    }

    /// Leaves only these columns in its rows.
    pub fn keep(&mut self, columns: &BTreeSet<String>) {
        for (mut row, copies) in std::mem::take(&mut self.rows).into_values() {
            row.retain(|column, _| columns.contains(column));
            (0..copies).for_each(|_| self.insert(row.clone()));
        }
    }

    /// Applies changes in their order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = NetChange>) {
        for change in changes {
            match change {
                NetChange::Insert(row) => self.insert(row),
                NetChange::Update { after, .. } => self.update(after),
                NetChange::Delete(key) => self.delete_key(&key),
            }
        }
    }

    /// All that has to happen to turn this state into that one, sorted.
    pub fn changes_to(&self, head: &Self) -> Vec<NetChange> {
        let mut changes = Vec::new();
        let keys: BTreeSet<&KeyImage> = self.keys().chain(head.keys()).collect();
        for key in keys {
            match (self.rows.get(key), head.rows.get(key)) {
                (Some((before, _)), Some((after, _))) if before != after => {
                    changes.push(NetChange::Update { key: key.clone(), after: after.clone() });
                }
                (before, after) => {
                    let copies = |row: Option<&(Row, usize)>| row.map_or(0, |(_, copies)| *copies);
                    for _ in copies(before)..copies(after) {
                        changes.push(NetChange::Insert(after.unwrap().0.clone()));
                    }
                    for _ in copies(after)..copies(before) {
                        changes.push(NetChange::Delete(key.clone()));
                    }
                }
            }
        }
        changes.sort();
        changes
    }
}
