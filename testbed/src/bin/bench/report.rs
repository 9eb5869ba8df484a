//! Medians, ratios and targets of a data set.

use std::collections::BTreeMap;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::contender::Contender;
use crate::data::DataSet;
use crate::measured::{Measured, Moved, Traffic};

/// The most resident memory that the program may take.
const PEAK_MB: f64 = 150.0;
/// Changes that one core must find, pair, encode and write in a second.
const CHANGES_A_SECOND: f64 = 150_000.0;
/// Changes that must come from the servers into a hub in a second.
const CHANGES_A_SECOND_INTO_A_HUB: f64 = 60_000.0;

pub(crate) struct Report {
    set: DataSet,
    bytes: u64,
    runs: BTreeMap<Contender, Vec<Measured>>,
    moved: BTreeMap<Contender, Moved>,
}

/// A figure that must be reached.
struct Target {
    what: String,
    reached: f64,
    bound: Bound,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.reached <= bound,
            Bound::AtLeast(bound) => self.reached >= bound,
        }
    }
}

impl Report {
    pub(crate) fn new(set: DataSet, bytes: u64) -> Self {
        Self { set, bytes, runs: BTreeMap::new(), moved: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, contender: Contender, measured: Measured) {
        self.runs.entry(contender).or_default().push(measured);
    }

    pub(crate) fn add_moved(&mut self, contender: Contender, moved: Moved) {
        self.moved.insert(contender, moved);
    }

    /// The table, and the targets.
    pub(crate) fn print(&self) {
        println!("\n{}, a table of {} MB on head, medians:\n", self.set.name(), self.bytes >> 20);
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header([
            "way",
            "s",
            "least to most",
            "changes",
            "CPU s: own, base, head",
            "peak MB: own, base, head",
            "sessions: base, head",
            "temporary files MB",
            "from base: rows, MB",
            "from head: rows, MB",
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for (contender, runs) in &self.runs {
            let of = |value: fn(&Measured) -> f64| median(runs.iter().map(value).collect());
            let seconds = sorted(runs.iter().map(|run| run.seconds).collect());
            let servers: fn(&Measured) -> f64 =
                |run| (run.servers.base.temp_bytes + run.servers.head.temp_bytes) as f64;
            let moved = self.moved.get(contender).copied().unwrap_or_default();
            let traffic = |Traffic { rows, bytes }| format!("{rows}, {:.1}", bytes as f64 / 1e6);
            table.add_row([
                contender.name().to_owned(),
                format!("{:.2}", of(|run| run.seconds)),
                format!("{:.2} – {:.2}", seconds[0], seconds[seconds.len() - 1]),
                runs[0].changes.map_or_else(String::new, |changes| changes.to_string()),
                format!(
                    "{:.1}, {:.1}, {:.1}",
                    of(|run| run.cpu_seconds),
                    of(|run| run.servers.base.cpu_seconds),
                    of(|run| run.servers.head.cpu_seconds)
                ),
                format!(
                    "{:.0}, {:.0}, {:.0}",
                    of(|run| run.peak_mb),
                    of(|run| run.servers.base.peak_mb),
                    of(|run| run.servers.head.peak_mb)
                ),
                format!(
                    "{}, {}",
                    of(|run| run.servers.base.sessions as f64),
                    of(|run| run.servers.head.sessions as f64)
                ),
                format!("{:.0}", of(servers) / 1e6),
                traffic(moved.base),
                traffic(moved.head),
            ]);
        }
        println!("{table}\n");
        for target in self.targets() {
            let (word, bound) = match target.bound {
                Bound::AtMost(bound) => ("at most", bound),
                Bound::AtLeast(bound) => ("at least", bound),
            };
            let verdict = if target.is_met() { "met" } else { "MISSED" };
            println!("{verdict}: {} {:.2} ({word} {bound})", target.what, target.reached);
        }
        println!();
    }

    /// How many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.targets().iter().filter(|target| !target.is_met()).count()
    }

    fn targets(&self) -> Vec<Target> {
        use Contender::*;
        let mut targets = Vec::new();
        let mut versus = |ours, other: Contender, bound| {
            let (Some(a), Some(b)) = (self.seconds(ours), self.seconds(other)) else { return };
            let (what, reached) = match bound {
                Bound::AtMost(_) => ("time as a multiple of", a / b),
                Bound::AtLeast(_) => ("times as fast as", b / a),
            };
            let what = format!("{}, {what} {}:", ours.name(), other.name());
            targets.push(Target { what, reached, bound });
        };
        versus(Auto, Earlier, Bound::AtMost(1.1));
        match self.set {
            DataSet::Same | DataSet::Clustered => versus(RowVersions, Floor, Bound::AtMost(1.5)),
            DataSet::Scattered => {
                versus(RowVersions, Floor, Bound::AtMost(2.5));
                versus(RowVersions, Seed, Bound::AtLeast(12.0));
                versus(RowVersions, Reladiff, Bound::AtLeast(35.0));
            }
            DataSet::Tenth => versus(Auto, Seed, Bound::AtLeast(4.0)),
            DataSet::Half => versus(Auto, Seed, Bound::AtLeast(2.0)),
            DataSet::Rewritten => {
                versus(Content, Seed, Bound::AtLeast(4.0));
                versus(Content, Reladiff, Bound::AtLeast(12.0));
            }
            DataSet::Wide | DataSet::Toasted | DataSet::TextKey | DataSet::Tables => {}
        }
        for (contender, runs) in &self.runs {
            if *contender == Hub {
                let rate = |run: &Measured| run.changes.unwrap_or(0) as f64 / run.seconds;
                targets.push(Target {
                    what: format!("{}, changes a second:", contender.name()),
                    reached: median(runs.iter().map(rate).collect()),
                    bound: Bound::AtLeast(CHANGES_A_SECOND_INTO_A_HUB),
                });
            }
            if matches!(contender, Auto | Hub | RowVersions | Content | Full) {
                let most = runs.iter().map(|run| run.peak_mb).fold(0.0, f64::max);
                targets.push(Target {
                    what: format!("{}, peak MB of the program:", contender.name()),
                    reached: most,
                    bound: Bound::AtMost(PEAK_MB),
                });
                if self.set == DataSet::Half && *contender != Hub {
                    let rate = median(
                        runs.iter()
                            .map(|run| run.changes.unwrap_or(0) as f64 / run.cpu_seconds)
                            .collect(),
                    );
                    targets.push(Target {
                        what: format!("{}, changes a CPU second of the program:", contender.name()),
                        reached: rate,
                        bound: Bound::AtLeast(CHANGES_A_SECOND),
                    });
                }
            }
        }
        targets
    }

    fn seconds(&self, contender: Contender) -> Option<f64> {
        let runs = self.runs.get(&contender)?;
        Some(median(runs.iter().map(|run| run.seconds).collect()))
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: Vec<f64>) -> f64 {
    let values = sorted(values);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        values[..=middle].iter().rev().take(2).sum::<f64>() / 2.0
    }
}
