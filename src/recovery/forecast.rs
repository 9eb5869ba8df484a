//! What a run with a request would take: time, events, throughput units, WAL that a slot keeps.

use std::num::NonZeroU64;

use jiff::Timestamp;

use super::ranges::bytes_a_second;
use crate::model::{
    EventHubOptions, ExpectedEvents, PlanTable, Request, SinkTarget, SlotWal, Strategy, Throughput,
    Verify,
};

/// What one throughput unit takes in a second, whichever comes first.
/// <https://learn.microsoft.com/azure/event-hubs/event-hubs-scalability>
const UNIT_BYTES: f64 = 1_000_000.0;
const UNIT_EVENTS: f64 = 1_000.0;

/// The least WAL that a changed row leaves: a small update's record, without its commit.
const WAL_BYTES_A_CHANGE: u64 = 60;

/// As a rule it leaves more: its indexes' records, full pages after checkpoints, commits; and what
/// changed twice is one event. `scripts/demo`: 85 MB of WAL, 55,547 events.
const WAL_BYTES_AN_EVENT_AS_A_RULE: u64 = 1_500;

/// An event without its rows: Debezium's source block, the properties, the message.
const EVENT_BYTES: u64 = 600;

/// What one process finds and encodes at most, about: `half` in docs/benchmarks.md.
const EVENTS_A_SECOND: f64 = 100_000.0;

/// Whether a table is cut into parts that workers share, by its place in the plan.
pub(super) struct Timed<'a> {
    pub(super) table: &'a PlanTable,
    pub(super) is_cut: bool,
}

/// How long a run takes, in seconds: rough, by strategy and size. Workers share what is cut; the
/// largest table that is not takes one of them all of its time. Proofs follow one after the other.
/// A hub's caps make it longer.
pub(super) fn seconds(tables: &[Timed<'_>], request: &Request, events: &ExpectedEvents) -> f64 {
    let compared = |table: &PlanTable| table.bytes as f64 / bytes_a_second(table.strategy);
    let all: f64 = tables.iter().map(|timed| compared(timed.table)).sum();
    let whole = tables.iter().filter(|timed| !timed.is_cut).map(|timed| compared(timed.table));
    let comparison = whole.fold(all / f64::from(request.parallel.max(1)), f64::max);
    let bytes: u64 = tables.iter().map(|timed| timed.table.bytes).sum();
    let read_at = |strategy| bytes as f64 / bytes_a_second(strategy);
    let proof = match request.verify {
        Verify::Full => read_at(Strategy::Full) + read_at(Strategy::RowVersions),
        // Counting reads what comparing row versions reads.
        Verify::Count => read_at(Strategy::RowVersions),
        Verify::None | Verify::Sample => 0.0,
    };
    let sent = match (sends_to_hub(request), events.as_a_rule) {
        (true, Some(as_a_rule)) => as_a_rule as f64 / cap(&request.event_hub, events.bytes),
        _ => 0.0,
    };
    comparison.max(sent) + proof
}

fn sends_to_hub(request: &Request) -> bool {
    request.sinks.iter().any(|sink| matches!(sink, SinkTarget::EventHub(_)))
}

/// The most events that one process sends into a hub in a second.
fn cap(options: &EventHubOptions, event_bytes: u64) -> f64 {
    let cap = |cap: Option<NonZeroU64>| cap.map_or(f64::INFINITY, |cap| cap.get() as f64);
    cap(options.max_events_per_second).min(cap(options.max_bytes_per_second) / event_bytes as f64)
}

impl ExpectedEvents {
    /// By the tables' rows and the WAL of the gap.
    pub(super) fn of(tables: &[PlanTable], gap_wal_bytes: Option<u64>) -> Self {
        let rows: u64 = tables.iter().map(rows).sum();
        let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
        // Each row may have gone from base and another have come to head.
        let by_wal = gap_wal_bytes.map_or(u64::MAX, |bytes| bytes / WAL_BYTES_A_CHANGE);
        let most = (2 * rows).min(by_wal);
        let as_a_rule = gap_wal_bytes.map(|bytes| most.min(bytes / WAL_BYTES_AN_EVENT_AS_A_RULE));
        // Before and after.
        Self { most, as_a_rule, bytes: EVENT_BYTES + 2 * bytes.checked_div(rows).unwrap_or(0) }
    }
}

impl Throughput {
    /// What the request's hub takes, if it has one.
    pub(super) fn of(request: &Request, events: &ExpectedEvents, seconds: f64) -> Option<Self> {
        if !sends_to_hub(request) {
            return None;
        }
        let found = (events.most as f64 / seconds.max(1.0)).min(EVENTS_A_SECOND);
        // The service counts events and bytes, and the larger of the two decides.
        let units = |a_second: f64| {
            let bytes = a_second * events.bytes as f64;
            (a_second / UNIT_EVENTS).max(bytes / UNIT_BYTES).ceil() as u64
        };
        let capped = cap(&request.event_hub, events.bytes);
        Some(Self { units: units(found.min(capped)), capped: capped < found })
    }
}

impl SlotWal {
    /// By how fast production wrote WAL in the gap, where it is known when that began and ended.
    pub(super) fn of(
        gap_wal_bytes: Option<u64>,
        commits: (Option<Timestamp>, Option<Timestamp>),
        seconds: f64,
    ) -> Option<Self> {
        let (bytes, (Some(base), Some(head))) = (gap_wal_bytes?, commits) else { return None };
        let gap_seconds = head.duration_since(base).as_secs_f64();
        if gap_seconds < 1.0 {
            return None;
        }
        let bytes_a_second = bytes as f64 / gap_seconds;
        Some(Self {
            bytes_a_second: bytes_a_second.ceil() as u64,
            bytes: (bytes_a_second * seconds).ceil() as u64,
        })
    }
}

/// A table that was never counted has at most so many.
fn rows(table: &PlanTable) -> u64 {
    table.rows.unwrap_or(table.bytes / 28)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    fn table(rows: u64, bytes: u64) -> PlanTable {
        PlanTable {
            name: TableName { schema: "s".into(), name: "t".into() },
            strategy: Strategy::RowVersions,
            strategy_reason: String::new(),
            columns: 1,
            key: Vec::new(),
            rows: Some(rows),
            bytes,
            warnings: Vec::new(),
        }
    }

    fn into_hub(event_hub: EventHubOptions) -> Request {
        let sinks = vec!["event-hub:shop/orders".parse().unwrap()];
        Request { sinks, event_hub, ..Request::default() }
    }

    #[test]
    fn events_or_bytes_decide_and_caps_keep_both_low() {
        let tables = [table(1_000_000, 200_000_000)];
        // 600 + 2 * 200 bytes an event: 10,000 of them a second are ten of either.
        let of = |wal, options: EventHubOptions| {
            let events = ExpectedEvents::of(&tables, wal);
            (events, Throughput::of(&into_hub(options), &events, 200.0).unwrap())
        };
        let free = EventHubOptions::default;
        let (events, hub) = of(None, free());
        assert_eq!((events.most, events.as_a_rule, events.bytes), (2_000_000, None, 1_000));
        assert_eq!(hub.units, 10);
        // Little WAL, little to send.
        let (events, hub) = of(Some(6_000_000), free());
        assert_eq!((events.most, events.as_a_rule, hub.units), (100_000, Some(4_000), 1));
        let capped = EventHubOptions { max_events_per_second: NonZeroU64::new(2_500), ..free() };
        assert_eq!(of(None, capped).1, Throughput { units: 3, capped: true });
        let capped = EventHubOptions { max_bytes_per_second: NonZeroU64::new(4_000_000), ..free() };
        assert_eq!(of(None, capped.clone()).1, Throughput { units: 4, capped: true });
        // A cap above what is found is none.
        let high = EventHubOptions { max_events_per_second: NonZeroU64::new(50_000), ..capped };
        let none = ExpectedEvents::of(&[], None);
        let hub = Throughput::of(&into_hub(high), &none, 0.0);
        assert_eq!(hub, Some(Throughput { units: 0, capped: false }));
        assert_eq!(Throughput::of(&Request::default(), &none, 1.0), None, "no sink is a hub");
    }

    #[test]
    fn workers_share_what_is_cut_and_proofs_and_caps_take_their_time() {
        let tables = [table(1_000_000, 1_000_000_000), table(1_000_000, 500_000_000)];
        let events = ExpectedEvents::of(&tables, Some(1_500_000_000));
        let of = |cut: [bool; 2], request: &Request| {
            let timed = tables.iter().zip(cut).map(|(table, is_cut)| Timed { table, is_cut });
            seconds(&timed.collect::<Vec<_>>(), request, &events)
        };
        let asked = |parallel, verify| Request { parallel, verify, ..Request::default() };
        assert_eq!(of([true; 2], &asked(1, Verify::None)), 6.0);
        assert_eq!(of([true; 2], &asked(6, Verify::None)), 1.0);
        assert_eq!(of([true, false], &asked(6, Verify::None)), 2.0);
        assert_eq!(of([true; 2], &asked(6, Verify::Count)), 7.0);
        assert_eq!(of([true; 2], &asked(6, Verify::Full)), 157.0);
        let slow = EventHubOptions {
            max_events_per_second: NonZeroU64::new(1_000),
            ..EventHubOptions::default()
        };
        assert_eq!(of([true; 2], &into_hub(slow)), 1_000.0);
    }

    #[test]
    fn a_slot_keeps_what_production_writes_meanwhile() {
        let at = |second| Timestamp::from_second(second).ok();
        let slot = SlotWal::of(Some(10_000), (at(100), at(200)), 30.0);
        assert_eq!(slot, Some(SlotWal { bytes_a_second: 100, bytes: 3_000 }));
        assert_eq!(SlotWal::of(None, (at(100), at(200)), 30.0), None);
        assert_eq!(SlotWal::of(Some(1), (at(100), None), 30.0), None);
        assert_eq!(SlotWal::of(Some(1), (at(100), at(100)), 30.0), None);
    }
}
