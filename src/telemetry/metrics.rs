//! What is counted and measured. `docs/operations.md` describes each metric; a test holds the two
//! together.
//!
//! No attribute names a table, a recovery or a partition: their number has no bound. Those are in the
//! spans, the log and the status store.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::model::{Counts, Strategy};

/// A metric: its name and its unit.
#[derive(Clone, Copy)]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

const ROWS: Metric = Metric { name: "deltacompare.rows_compared", unit: "{row}" };
const BYTES: Metric = Metric { name: "deltacompare.bytes_compared", unit: "By" };
const CHANGES: Metric = Metric { name: "deltacompare.changes", unit: "{change}" };
const ACKNOWLEDGED: Metric = Metric { name: "deltacompare.events.acknowledged", unit: "{event}" };
const REPEATED: Metric = Metric { name: "deltacompare.events.repeated", unit: "{event}" };
const THROTTLES: Metric = Metric { name: "deltacompare.throttles", unit: "{throttle}" };
const RETRIES: Metric = Metric { name: "deltacompare.retries", unit: "{retry}" };
const ATTEMPTS: Metric = Metric { name: "deltacompare.attempts", unit: "{attempt}" };
const ITEMS: Metric = Metric { name: "deltacompare.items", unit: "{item}" };
const SECONDS: Metric = Metric { name: "deltacompare.step.duration", unit: "s" };

/// How long a count of items is worth telling. The watchdog, which counts them, runs in one process
/// at a time, not always the same.
const COUNTED_WITHIN: Duration = Duration::from_secs(90);

/// In seconds: from a flush to an hour of a large table.
const BOUNDARIES: [f64; 12] =
    [0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 180.0, 480.0, 900.0, 1800.0, 3600.0];

/// What confirms events.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SinkKind {
    EventHub,
    DeltaTable,
    Ndjson,
}

/// What is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retry {
    /// A step of an item, by the worker that has it.
    Step,
    /// An item, later and by whoever gets it.
    Item,
    /// A partition's batches.
    Send,
}

/// How an attempt at an item ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt {
    Completed,
    Failed,
    /// At a checkpoint; it goes on.
    Paused,
    /// For trouble that may pass.
    PutOff,
}

/// What a recovery's time goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// From the request to the first work item.
    Plan,
    /// An attempt at an item, with what it delivers.
    Compare,
    /// Handing events to a sink, and waiting until they are durable.
    Deliver,
    /// The accounts of the tables, `--verify full`, and the last look for writes.
    Prove,
    /// Removing what was set up.
    CleanUp,
}

/// How many work items of live recoveries are in which state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) pending: u64,
    pub(crate) running: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

struct Instruments {
    rows: Counter<u64>,
    bytes: Counter<u64>,
    changes: Counter<u64>,
    acknowledged: Counter<u64>,
    repeated: Counter<u64>,
    throttles: Counter<u64>,
    retries: Counter<u64>,
    attempts: Counter<u64>,
    seconds: Histogram<f64>,
}

/// Without a collector they do nothing.
static INSTRUMENTS: LazyLock<Instruments> =
    LazyLock::new(|| Instruments::of(&opentelemetry::global::meter("deltacompare")));

static STANDING: Mutex<Option<(Instant, Standing)>> = Mutex::new(None);

impl Instruments {
    fn of(meter: &Meter) -> Self {
        let counter = |it: Metric| meter.u64_counter(it.name).with_unit(it.unit).build();
        meter
            .u64_observable_gauge(ITEMS.name)
            .with_unit(ITEMS.unit)
            .with_callback(|gauge| {
                let standing = *STANDING.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((at, standing)) = standing else { return };
                if at.elapsed() > COUNTED_WITHIN {
                    return;
                }
                let Standing { pending, running, completed, failed } = standing;
                for (state, items) in [
                    ("pending", pending),
                    ("running", running),
                    ("completed", completed),
                    ("failed", failed),
                ] {
                    gauge.observe(items, &[KeyValue::new("state", state)]);
                }
            })
            .build();
        Self {
            rows: counter(ROWS),
            bytes: counter(BYTES),
            changes: counter(CHANGES),
            acknowledged: counter(ACKNOWLEDGED),
            repeated: counter(REPEATED),
            throttles: counter(THROTTLES),
            retries: counter(RETRIES),
            attempts: counter(ATTEMPTS),
            seconds: meter
                .f64_histogram(SECONDS.name)
                .with_unit(SECONDS.unit)
                .with_boundaries(BOUNDARIES.to_vec())
                .build(),
        }
    }
}

/// So much more was compared and found, is delivered, and is stored as done.
pub(crate) fn progressed(strategy: Strategy, more: Counts) {
    let strategy = KeyValue::new("strategy", strategy.as_str());
    let them = &*INSTRUMENTS;
    them.rows.add(more.rows_compared, std::slice::from_ref(&strategy));
    for (op, changes) in
        [("insert", more.inserts), ("update", more.updates), ("delete", more.deletes)]
    {
        if changes > 0 {
            them.changes.add(changes, &[KeyValue::new("op", op), strategy.clone()]);
        }
    }
}

/// An item of this size is compared to its end.
pub(crate) fn compared(strategy: Strategy, bytes: u64) {
    INSTRUMENTS.bytes.add(bytes, &[KeyValue::new("strategy", strategy.as_str())]);
}

/// A sink has so many more events for good.
pub(crate) fn acknowledged(sink: SinkKind, events: u64) {
    if events > 0 {
        INSTRUMENTS.acknowledged.add(events, &[sink.attribute()]);
    }
}

/// So many events were sent again, or were found to be there already.
pub(crate) fn repeated(sink: SinkKind, events: u64) {
    if events > 0 {
        INSTRUMENTS.repeated.add(events, &[sink.attribute()]);
    }
}

/// The service asked to be spared for a while.
pub(crate) fn throttled() {
    INSTRUMENTS.throttles.add(1, &[]);
}

pub(crate) fn retried(what: Retry) {
    let of = match what {
        Retry::Step => "step",
        Retry::Item => "item",
        Retry::Send => "send",
    };
    INSTRUMENTS.retries.add(1, &[KeyValue::new("of", of)]);
}

pub(crate) fn attempted(outcome: Attempt) {
    let outcome = match outcome {
        Attempt::Completed => "completed",
        Attempt::Failed => "failed",
        Attempt::Paused => "paused",
        Attempt::PutOff => "put_off",
    };
    INSTRUMENTS.attempts.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// How the items of all live recoveries stand now.
pub(crate) fn standing(standing: Standing) {
    LazyLock::force(&INSTRUMENTS);
    *STANDING.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), standing));
}

/// Measures a step until it is dropped, however it ends.
#[must_use]
#[derive(Debug)]
pub(crate) struct Watch {
    step: Step,
    since: Instant,
}

pub(crate) fn watch(step: Step) -> Watch {
    Watch { step, since: Instant::now() }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let step = match self.step {
            Step::Plan => "plan",
            Step::Compare => "compare",
            Step::Deliver => "deliver",
            Step::Prove => "prove",
            Step::CleanUp => "clean_up",
        };
        let seconds = self.since.elapsed().as_secs_f64();
        INSTRUMENTS.seconds.record(seconds, &[KeyValue::new("step", step)]);
    }
}

impl SinkKind {
    fn attribute(self) -> KeyValue {
        let name = match self {
            Self::EventHub => "event-hub",
            Self::DeltaTable => "delta-table",
            Self::Ndjson => "ndjson",
        };
        KeyValue::new("sink", name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All there are, and what each is told apart by.
    const ALL: [(Metric, &[&str]); 10] = [
        (ROWS, &["strategy"]),
        (BYTES, &["strategy"]),
        (CHANGES, &["op", "strategy"]),
        (ACKNOWLEDGED, &["sink"]),
        (REPEATED, &["sink"]),
        (THROTTLES, &[]),
        (RETRIES, &["of"]),
        (ATTEMPTS, &["outcome"]),
        (ITEMS, &["state"]),
        (SECONDS, &["step"]),
    ];

    const OPERATIONS: &str = include_str!("../../docs/operations.md");

    /// The cells of the page's table of metrics.
    fn documented() -> Vec<Vec<String>> {
        OPERATIONS
            .lines()
            .filter(|line| line.starts_with("| `deltacompare."))
            .map(|line| line.split('|').skip(1).map(|it| it.trim().to_owned()).collect())
            .collect()
    }

    #[test]
    fn the_page_describes_each_metric_and_no_other() {
        let documented: BTreeSet<(String, String, String)> = documented()
            .into_iter()
            .map(|cells| (cells[0].clone(), cells[1].clone(), cells[2].clone()))
            .collect();
        let all: BTreeSet<(String, String, String)> = ALL
            .iter()
            .map(|(it, by)| {
                let by: Vec<String> = by.iter().map(|by| format!("`{by}`")).collect();
                (format!("`{}`", it.name), format!("`{}`", it.unit), by.join(", "))
            })
            .collect();
        assert_eq!(documented, all);
    }

    #[test]
    fn queries_name_metrics_and_attributes_that_there_are() {
        let mut asked = 0;
        for query in OPERATIONS.split("```kusto").skip(1) {
            let query = query.split("```").next().unwrap();
            for name in query.split('"').filter(|word| word.starts_with("deltacompare.")) {
                assert!(ALL.iter().any(|(it, _)| it.name == name), "{name}");
                asked += 1;
            }
            for attribute in query.split("Properties.").skip(1) {
                let attribute: String =
                    attribute.chars().take_while(|it| it.is_alphanumeric()).collect();
                assert!(ALL.iter().any(|(_, by)| by.contains(&attribute.as_str())), "{attribute}");
            }
        }
        assert!(asked >= 5, "only {asked} of the queries ask for a metric");
    }
}
