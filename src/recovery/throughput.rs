//! How much of an event hub's throughput a run would use.

use std::num::NonZeroU64;

use crate::model::{EventHubOptions, PlanTable, Throughput};

/// What one throughput unit takes in a second, whichever comes first.
/// <https://learn.microsoft.com/azure/event-hubs/event-hubs-scalability>
const UNIT_BYTES: f64 = 1_000_000.0;
const UNIT_EVENTS: f64 = 1_000.0;

/// The least WAL that a changed row leaves: a small update's record, without its commit.
const WAL_BYTES_A_CHANGE: u64 = 60;

/// An event without its rows: Debezium's source block, the properties, the message.
const EVENT_BYTES: u64 = 600;

/// What one process finds and encodes at most, about: `half` in docs/benchmarks.md.
const EVENTS_A_SECOND: f64 = 100_000.0;

impl Throughput {
    pub(super) fn of(
        tables: &[PlanTable],
        gap_wal_bytes: Option<u64>,
        seconds: f64,
        options: &EventHubOptions,
    ) -> Self {
        let rows: u64 = tables.iter().map(rows).sum();
        let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
        // Each row may have gone from base and another have come to head.
        let by_wal = gap_wal_bytes.map_or(u64::MAX, |bytes| bytes / WAL_BYTES_A_CHANGE);
        let events = (2 * rows).min(by_wal);
        // Before and after.
        let event_bytes = EVENT_BYTES + 2 * bytes.checked_div(rows).unwrap_or(0);
        let found = (events as f64 / seconds.max(1.0)).min(EVENTS_A_SECOND);
        // The service counts events and bytes, and the larger of the two decides.
        let units = |events: f64| {
            let bytes = events * event_bytes as f64;
            (events / UNIT_EVENTS).max(bytes / UNIT_BYTES).ceil() as u64
        };
        let cap = |cap: Option<NonZeroU64>| cap.map_or(f64::INFINITY, |cap| cap.get() as f64);
        let events_capped = cap(options.max_events_per_second);
        let capped = events_capped.min(cap(options.max_bytes_per_second) / event_bytes as f64);
        Self { events, event_bytes, units: units(found.min(capped)), capped: capped < found }
    }
}

/// A table that was never counted has at most so many.
fn rows(table: &PlanTable) -> u64 {
    table.rows.unwrap_or(table.bytes / 28)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Strategy;
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

    #[test]
    fn events_or_bytes_decide_and_caps_keep_both_low() {
        let tables = [table(1_000_000, 200_000_000)];
        let free = EventHubOptions::default();
        // 600 + 2 * 200 bytes an event: 10,000 of them a second are ten of either.
        let of = |wal, options: &EventHubOptions| Throughput::of(&tables, wal, 200.0, options);
        let all = of(None, &free);
        assert_eq!((all.events, all.event_bytes, all.units), (2_000_000, 1_000, 10));
        // Little WAL, little to send.
        assert_eq!(of(Some(6_000_000), &free).events, 100_000);
        assert_eq!(of(Some(6_000_000), &free).units, 1);
        let capped = EventHubOptions { max_events_per_second: NonZeroU64::new(2_500), ..free };
        assert_eq!((of(None, &capped).units, of(None, &capped).capped), (3, true));
        let capped = EventHubOptions {
            max_bytes_per_second: NonZeroU64::new(4_000_000),
            ..EventHubOptions::default()
        };
        assert_eq!((of(None, &capped).units, of(None, &capped).capped), (4, true));
        // A cap above what is found is none.
        let high = EventHubOptions { max_events_per_second: NonZeroU64::new(50_000), ..capped };
        assert_eq!(Throughput::of(&[], None, 0.0, &high).units, 0);
        assert!(!Throughput::of(&[], None, 0.0, &high).capped);
    }
}
