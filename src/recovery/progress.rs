//! How far a recovery is: bars on a terminal, plain lines elsewhere. Writes to standard error.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget,
    ProgressStyle,
};

use super::live_counts::LiveCounts;
use super::work_item::{ItemState, WorkItem};
use crate::model::Counts;

/// Shows a recovery while it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
    /// All tables together, in bytes.
    total: ProgressBar,
    terminal: bool,
    lines: Lines,
}

/// What is written to standard error where that is no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    All,
    Warnings,
    None,
}

/// What is shown of one running table.
#[derive(Debug)]
pub(crate) struct Shown {
    bars: MultiProgress,
    bar: ProgressBar,
    refresher: tokio::task::JoinHandle<()>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.refresher.abort();
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
    }
}

/// How an item ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended<'a> {
    /// With what was found.
    Completed(Counts),
    /// With the reason.
    Failed(&'a str),
}

impl Progress {
    /// Bars if standard error is a terminal, plain lines otherwise; warnings alone if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        Self::with(terminal, if quiet { Lines::Warnings } else { Lines::All })
    }

    /// Nothing at all: for a process whose log tells.
    pub(crate) fn silent() -> Self {
        Self::with(false, Lines::None)
    }

    fn with(terminal: bool, lines: Lines) -> Self {
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { total: ProgressBar::hidden(), bars, terminal, lines }
    }

    /// One line for the operator.
    pub fn say(&self, line: &str) {
        if self.terminal {
            // Above the bars; a terminal that is gone is no reason to fail.
            let _ = self.bars.println(line);
        } else if self.lines == Lines::All {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// One line that should not be missed.
    pub fn warn(&self, line: &str) {
        let line = format!("warning: {line}");
        if self.lines == Lines::Warnings {
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            self.say(&line);
        }
    }

    pub(crate) fn start(&self, items: &[WorkItem]) {
        let done: u64 = items
            .iter()
            .filter(|item| matches!(item.state, ItemState::Completed | ItemState::Failed(_)))
            .map(|item| item.bytes.max(1))
            .sum();
        let all: u64 = items.iter().map(|item| item.bytes.max(1)).sum();
        self.total.set_draw_target(ProgressDrawTarget::hidden());
        let total = self.bars.add(self.total.clone());
        total.set_style(style(
            "{prefix:>24} [{bar:30}] {percent:>3} %  {elapsed} elapsed, {eta} left",
        ));
        total.set_prefix("all tables");
        total.set_length(all);
        total.set_position(done);
        total.reset_eta();
        if self.terminal {
            total.enable_steady_tick(Duration::from_millis(500));
        }
        let tables: BTreeSet<_> = items.iter().map(|item| &item.spec.tables.table.name).collect();
        let plural = if tables.len() == 1 { "table" } else { "tables" };
        self.say(&format!("{} {plural}, {}", tables.len(), HumanBytes(all)));
    }

    /// `None` if nothing is shown.
    pub(crate) fn begin(&self, item: &WorkItem, live: &Arc<LiveCounts>) -> Option<Shown> {
        if !self.terminal {
            return None;
        }
        let live = Arc::clone(live);
        let bar = self.bars.insert_before(&self.total, ProgressBar::new_spinner());
        if let Some(rows) = item.rows.filter(|&rows| rows > 0) {
            bar.set_length(rows);
            bar.set_style(style(
                "{prefix:>24} [{bar:30}] {percent:>3} %  {eta:>4} left  {wide_msg}",
            ));
        } else {
            bar.set_style(style("{prefix:>24} {spinner} {elapsed:>4} {wide_msg}"));
        }
        bar.set_prefix(item.spec.tables.table.name.to_string());
        let started = Instant::now();
        let refreshed = bar.clone();
        let refresher = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let counts = live.get();
                let rate = counts.rows_compared as f64 / started.elapsed().as_secs_f64().max(0.001);
                refreshed.set_message(format!(
                    "{} rows, {} rows/s, {} changes",
                    HumanCount(counts.rows_compared),
                    HumanCount(rate as u64),
                    HumanCount(counts.changes()),
                ));
                match refreshed.length() {
                    Some(length) => refreshed.set_position(counts.rows_compared.min(length)),
                    None => refreshed.tick(),
                }
            }
        });
        Some(Shown { bars: self.bars.clone(), bar, refresher })
    }

    /// Says how an item ended, after so much time.
    pub(crate) fn end(&self, item: &WorkItem, ended: Ended<'_>, took: Duration) {
        let name = &item.spec.tables.table.name;
        match ended {
            Ended::Completed(counts) => self.say(&format!(
                "{name}: {} inserts, {} updates, {} deletes in {} rows, {}",
                HumanCount(counts.inserts),
                HumanCount(counts.updates),
                HumanCount(counts.deletes),
                HumanCount(counts.rows_compared),
                seconds(took),
            )),
            Ended::Failed(error) => self.say(&format!("{name}: failed: {error}")),
        }
        self.total.inc(item.bytes.max(1));
    }

    /// Says that the run stops.
    pub fn interrupt(&self) {
        self.total.finish_and_clear();
        self.say("stopping");
    }

    /// Removes the bars.
    pub fn finish(&self) {
        self.total.finish_and_clear();
    }
}

/// A duration as the report has it while it is short.
fn seconds(duration: Duration) -> String {
    if duration.as_secs() < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        HumanDuration(duration).to_string()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
