//! What goes to standard output: tables for people, JSON for scripts.
#![allow(clippy::print_stdout, reason = "this is the program's output")]

use std::path::Path;
use std::time::Duration;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table};
use deltacompare::error::{Error, ErrorKind, Result};
use deltacompare::fdw::Remains;
use deltacompare::model::{Plan, Record};
use deltacompare::recovery::Report;
use indicatif::{HumanBytes, HumanCount, HumanDuration};

use super::report_failed;

pub(super) fn plan(plan: &Plan, json: bool) -> Result<()> {
    if json {
        println!("{}", to_json(plan)?);
        return Ok(());
    }
    let mut table = table(&["table", "strategy", "key", "rows", "size"]);
    for planned in &plan.tables {
        table.add_row([
            Cell::new(&planned.name),
            Cell::new(format!("{} ({})", planned.strategy.as_str(), planned.strategy_reason)),
            Cell::new(if planned.key.is_empty() { "-".into() } else { planned.key.join(", ") }),
            right(planned.rows.map_or("?".into(), |rows| HumanCount(rows).to_string())),
            right(HumanBytes(planned.bytes).to_string()),
        ]);
    }
    println!("{table}");
    let bytes = plan.tables.iter().map(|table| table.bytes).sum();
    println!("{} tables, {}", plan.tables.len(), HumanBytes(bytes));
    if let Some((base, head)) = plan.ends {
        let when = |commit: Option<jiff::Timestamp>| {
            commit.map_or(String::new(), |at| format!(" (last commit {at})"))
        };
        println!(
            "base ends at {base}{}, head at {head}{}, on one history",
            when(plan.base_last_commit),
            when(plan.head_last_commit)
        );
    }
    println!("gap: {}", plan.gap);
    forecast(plan);
    for warning in &plan.warnings {
        println!("warning: {warning}");
    }
    for planned in &plan.tables {
        for warning in &planned.warnings {
            println!("warning: {}: {warning}", planned.name);
        }
    }
    Ok(())
}

/// How long, how many events, what the hub must take and what the slot will keep. All of it is rough.
fn forecast(plan: &Plan) {
    println!(
        "expected: {} with {} at once",
        HumanDuration(Duration::from_secs(plan.expected_seconds)),
        plan.parallel,
    );
    let events = &plan.events;
    println!(
        "events: {}at most {}, of about {} each{}",
        events
            .as_a_rule
            .map_or(String::new(), |some| format!("as a rule about {}, ", HumanCount(some))),
        HumanCount(events.most),
        HumanBytes(events.bytes),
        plan.gap_wal_bytes.map_or(String::new(), |bytes| format!(
            "; production wrote {} of WAL in the gap",
            HumanBytes(bytes)
        )),
    );
    if let Some(hub) = &plan.event_hub {
        println!(
            "event hub: {} throughput units {}",
            hub.units,
            if hub.capped {
                "at the most that was set, for each process"
            } else {
                "if events go as fast as they are found (with fewer the service throttles and it \
                 takes longer; --max-events-per-second leaves the live stream its share)"
            },
        );
    }
    match plan.slot_wal {
        Some(slot) => println!(
            "new slot: keeps about {} of WAL while its consumer is held so long ({}/s as in the \
             gap): production's disk must have room for it",
            HumanBytes(slot.bytes),
            HumanBytes(slot.bytes_a_second),
        ),
        None => println!(
            "new slot: how fast production writes WAL is not known here; while the consumer is \
             held, watch on production: select slot_name, pg_size_pretty(pg_wal_lsn_diff(\
             pg_current_wal_lsn(), restart_lsn)) from pg_replication_slots"
        ),
    }
}

pub(super) fn report(report: &Report) {
    let mut table = table(&[
        "table",
        "state",
        "inserts",
        "updates",
        "deletes",
        "rows compared",
        "rows base",
        "rows head",
        "balance",
        "seconds",
    ]);
    for found in &report.tables {
        table.add_row([
            Cell::new(&found.name),
            Cell::new(found.state),
            right(HumanCount(found.counts.inserts).to_string()),
            right(HumanCount(found.counts.updates).to_string()),
            right(HumanCount(found.counts.deletes).to_string()),
            right(HumanCount(found.counts.rows_compared).to_string()),
            counted(found.rows_base),
            counted(found.rows_head),
            right(found.balance.map_or(String::new(), |balance| balance.to_string())),
            right(found.seconds.map_or(String::new(), |seconds| format!("{seconds:.1}"))),
        ]);
    }
    table.add_row([
        Cell::new("all"),
        Cell::new(report.state),
        right(HumanCount(report.totals.inserts).to_string()),
        right(HumanCount(report.totals.updates).to_string()),
        right(HumanCount(report.totals.deletes).to_string()),
        right(HumanCount(report.totals.rows_compared).to_string()),
    ]);
    println!("{table}");
    println!("gap: {}", report.gap);
    for found in &report.tables {
        for warning in &found.warnings {
            println!("warning: {}: {warning}", found.name);
        }
    }
    for found in &report.tables {
        if let Some(error) = &found.error {
            println!("failed: {}: {error}", found.name);
        }
    }
    println!("recovery {} {}", report.recovery_id, report.state);
}

pub(super) fn recorded(record: &Record, file: &Path) {
    for (side, recorded) in [("base", &record.base), ("head", &record.head)] {
        match (&recorded.recovery_end, &recorded.history_error) {
            (Some(end), _) => println!("{side} ended at {end}"),
            (None, Some(error)) => println!("warning: {error}; record again once it can be"),
            (None, None) => println!("warning: {side} was never restored"),
        }
        let relations = recorded.relations.as_deref().unwrap_or_default();
        println!("{side} has {} relations, recorded {}", relations.len(), recorded.when());
        for relation in relations.iter().filter(|relation| relation.altered) {
            println!(
                "warning: {} on {side} was altered, or rights on it were changed, after its \
                 recovery had ended: restore {side} again if that was not you",
                relation.name
            );
        }
    }
    println!("recorded in {}", file.display());
}

/// What a clean-up finds, before anything of it is removed.
pub(super) fn remains(remains: &Remains) {
    for line in remains.recoveries.iter().chain(&remains.objects) {
        println!("found {line}");
    }
}

pub(super) fn removed(removed: &[String]) {
    for object in removed {
        println!("dropped {object}");
    }
    if removed.is_empty() {
        println!("nothing to remove");
    }
}

/// Whether a report can be written there, before there is one.
///
/// # Errors
/// Refused: there is no such folder, or something is there that is no report.
pub(super) fn check_report(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() && !path.is_dir() {
        return refuse_to_replace(path);
    }
    Err(Error::refused(format!(
        "{} cannot be a report: its folder does not exist, or it is a folder itself; name another \
         file with --report",
        path.display()
    )))
}

/// A report replaces an earlier report or an empty file, and nothing else: events may be in it.
fn refuse_to_replace(path: &Path) -> Result<()> {
    let Ok(file) = std::fs::File::open(path) else { return Ok(()) };
    let empty = file.metadata().is_ok_and(|it| it.is_file() && it.len() == 0);
    let is_report = |value: serde_json::Value| {
        value.get("recovery_id").is_some() && value.get("tables").is_some()
    };
    // Such as a terminal, or /dev/null.
    let device = file.metadata().is_ok_and(|it| !it.is_file());
    if empty
        || device
        || serde_json::from_reader(std::io::BufReader::new(file)).is_ok_and(is_report)
    {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} is there and is no report, so a report does not replace it: name another file with \
         --report",
        path.display()
    )))
}

/// # Errors
/// The file cannot be written, or holds something else by now.
pub(super) fn write_report(report: &Report, path: &Path) -> Result<()> {
    refuse_to_replace(path).map_err(|error| error.with_kind(ErrorKind::Recovery))?;
    std::fs::write(path, to_json(report)? + "\n")
        .map_err(|error| report_failed(&report.recovery_id.to_string(), path, error))
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|error| Error::recovery("the result could not be written as JSON").because(error))
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// Rows, if they were counted.
pub(super) fn counted(rows: Option<u64>) -> Cell {
    right(rows.map_or(String::new(), |rows| HumanCount(rows).to_string()))
}

pub(super) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
