//! What the client prints: tables for people, the app's own documents for scripts.
#![allow(clippy::print_stdout, reason = "this is the program's output")]

use std::time::Duration;

use comfy_table::Cell;
use deltacompare::error::Result;
use deltacompare::model::{ByState, RecoveryState, RecoveryStatus, RecoverySummary, TableStatus};
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use serde_json::{Value, json};
use uuid::Uuid;

use super::read;
use crate::cli::output::{counted, right, table};

/// One line on how far a recovery is.
pub(super) fn line(status: &RecoveryStatus) -> String {
    let ByState { pending, running, completed, failed } = status.tables;
    let mut line = format!(
        "{} of {} tables, {} changes",
        HumanCount(completed),
        HumanCount(pending + running + completed + failed),
        HumanCount(status.totals.inserts + status.totals.updates + status.totals.deletes),
    );
    if failed > 0 {
        line.push_str(&format!(", {} failed", HumanCount(failed)));
    }
    let state = status.summary.state;
    if state == RecoveryState::Running && pending + running == 0 {
        line.push_str(", the last look for writes");
    } else if let Some(seconds) = status.seconds_left.filter(|_| !state.is_end()) {
        let left = Duration::from_secs_f64(seconds.clamp(0.0, 1e9).round());
        line.push_str(&format!(", about {} left", HumanDuration(left)));
    }
    line
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
    let status: RecoveryStatus = read(document)?;
    println!("recovery {} {}", status.summary.id, status.summary.state.as_str());
    println!("{:.0} %: {}", (status.progress * 100.0).floor(), line(&status));
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
    if let Some(error) = &status.summary.error {
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
        let found: RecoverySummary = read(found)?;
        shown.add_row([
            found.id.to_string(),
            found.state.as_str().to_owned(),
            found.database,
            found.started_at.to_string(),
            found.finished_at.map_or(String::new(), |at| at.to_string()),
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
    let found: Vec<TableStatus> = found.into_iter().map(read).collect::<Result<_>>()?;
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
            Cell::new(found.state.as_str()),
            Cell::new(found.strategy.as_str()),
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
