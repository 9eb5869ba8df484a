//! What the client prints: tables for people, the app's own documents for scripts.
#![allow(clippy::print_stdout, reason = "this is the program's output")]

use std::time::Duration;

use comfy_table::Cell;
use deltacompare::error::Result;
use deltacompare::gap_proof::GapProof;
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::read;
use crate::cli::output::{counted, right, table};

/// What this program shows of a recovery. A newer app may say more.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) error: Option<String>,
    pub(super) progress: f64,
    pub(super) seconds_left: Option<f64>,
    pub(super) totals: Totals,
    pub(super) tables: ByState,
    rows_compared: u64,
    bytes_expected: u64,
    gap: GapProof,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Totals {
    inserts: u64,
    updates: u64,
    deletes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ByState {
    pending: u64,
    running: u64,
    completed: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Deserialize)]
struct TableOf {
    schema: String,
    table: String,
    state: String,
    strategy: String,
    ranges_done: u64,
    ranges: u64,
    inserts: u64,
    updates: u64,
    deletes: u64,
    rows_compared: u64,
    rows_base: Option<u64>,
    rows_head: Option<u64>,
    balance: Option<i64>,
    seconds: Option<f64>,
    warnings: Vec<String>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    id: Uuid,
    state: String,
    database: String,
    started_at: String,
    finished_at: Option<String>,
}

impl Status {
    /// Whether it still goes on.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "planning" | "running")
    }

    /// One line on how far it is.
    pub(super) fn line(&self) -> String {
        let ByState { pending, running, completed, failed } = self.tables;
        let mut line = format!(
            "{} of {} tables, {} changes",
            HumanCount(completed),
            HumanCount(pending + running + completed + failed),
            HumanCount(self.totals.inserts + self.totals.updates + self.totals.deletes),
        );
        if failed > 0 {
            line.push_str(&format!(", {} failed", HumanCount(failed)));
        }
        if self.state == "running" && pending + running == 0 {
            line.push_str(", the last look for writes");
        } else if let Some(seconds) = self.seconds_left.filter(|_| self.is_live()) {
            let left = Duration::from_secs_f64(seconds.clamp(0.0, 1e9).round());
            line.push_str(&format!(", about {} left", HumanDuration(left)));
        }
        line
    }
}

/// The document as it came, on one line.
pub(super) fn json(document: &Value) {
    println!("{document}");
}

pub(super) fn begun(id: Uuid, dashboard: &str) {
    println!("recovery {id} has begun\nwatch it with deltacompare watch {id}, or at {dashboard}");
}

pub(super) fn status(document: Value, as_json: bool) -> Result<()> {
    if as_json {
        json(&document);
        return Ok(());
    }
    let status: Status = read(document)?;
    println!("recovery {} {}", status.id, status.state);
    println!("{:.0} %: {}", (status.progress * 100.0).floor(), status.line());
    println!(
        "{} inserts, {} updates, {} deletes in {} rows, of {}",
        HumanCount(status.totals.inserts),
        HumanCount(status.totals.updates),
        HumanCount(status.totals.deletes),
        HumanCount(status.rows_compared),
        HumanBytes(status.bytes_expected),
    );
    println!("gap: {}", status.gap);
    for warning in &status.warnings {
        println!("warning: {warning}");
    }
    if let Some(error) = &status.error {
        println!("error: {error}");
    }
    Ok(())
}

pub(super) fn recoveries(found: Vec<Value>, as_json: bool) -> Result<()> {
    if as_json {
        json(&json!({ "recoveries": found }));
        return Ok(());
    }
    let mut shown = table(&["recovery", "state", "database", "started", "ended"]);
    for found in found {
        let found: Summary = read(found)?;
        shown.add_row([
            found.id.to_string(),
            found.state,
            found.database,
            found.started_at,
            found.finished_at.unwrap_or_default(),
        ]);
    }
    println!("{shown}");
    Ok(())
}

pub(super) fn tables(found: Vec<Value>, as_json: bool) -> Result<()> {
    if as_json {
        json(&json!({ "tables": found }));
        return Ok(());
    }
    let found: Vec<TableOf> = found.into_iter().map(read).collect::<Result<_>>()?;
    let mut shown = table(&[
        "table",
        "state",
        "strategy",
        "parts",
        "inserts",
        "updates",
        "deletes",
        "rows compared",
        "rows base",
        "rows head",
        "balance",
        "seconds",
    ]);
    for found in &found {
        shown.add_row([
            Cell::new(format!("{}.{}", found.schema, found.table)),
            Cell::new(&found.state),
            Cell::new(&found.strategy),
            right(format!("{}/{}", HumanCount(found.ranges_done), HumanCount(found.ranges))),
            right(HumanCount(found.inserts).to_string()),
            right(HumanCount(found.updates).to_string()),
            right(HumanCount(found.deletes).to_string()),
            right(HumanCount(found.rows_compared).to_string()),
            counted(found.rows_base),
            counted(found.rows_head),
            right(found.balance.map_or(String::new(), |balance| balance.to_string())),
            right(found.seconds.map_or(String::new(), |seconds| format!("{seconds:.1}"))),
        ]);
    }
    println!("{shown}");
    for found in &found {
        for warning in &found.warnings {
            println!("warning: {}.{}: {warning}", found.schema, found.table);
        }
    }
    for found in &found {
        if let Some(error) = &found.error {
            println!("failed: {}.{}: {error}", found.schema, found.table);
        }
    }
    Ok(())
}
