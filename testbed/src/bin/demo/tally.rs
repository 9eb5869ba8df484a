//! How many rows of each table were inserted, updated and deleted.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, LineStyle, Table};

use crate::narrator::count;

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
}

/// Changes counted by table and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<(String, Op), u64>);

impl Tally {
    pub(crate) fn add(&mut self, table: &str, op: Op, rows: u64) {
        *self.0.entry((table.to_owned(), op)).or_default() += rows;
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn of(&self, table: Option<&str>, op: Op) -> u64 {
        self.0
            .iter()
            .filter(|((name, of), _)| *of == op && table.is_none_or(|table| table == name))
            .map(|(_, rows)| rows)
            .sum()
    }
}

/// Both tallies side by side, a line for each of these tables.
pub(crate) fn print(tables: impl Iterator<Item = &'static str>, lost: &Tally, recovered: &Tally) {
    let ops = [Op::Insert, Op::Update, Op::Delete];
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none())).set_header([
        "table",
        "lost: inserts",
        "updates",
        "deletes",
        "recovered: inserts",
        "updates",
        "deletes",
    ]);
    for name in tables.map(Some).chain([None]) {
        let mut cells = vec![Cell::new(name.unwrap_or("all tables"))];
        for tally in [lost, recovered] {
            for op in ops {
                let rows = count(tally.of(name, op));
                cells.push(Cell::new(rows).set_alignment(CellAlignment::Right));
            }
        }
        table.add_row(cells);
    }
    for line in table.to_string().lines() {
        println!("  {line}");
    }
}
