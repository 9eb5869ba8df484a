//! What the behaviours share: a gap between two restores, the program, and the judge.

mod fingerprint;
mod gap;
mod program;
mod state;

pub(crate) use fingerprint::Fingerprint;
pub(crate) use gap::Gap;
pub(crate) use program::{Program, Run, deltacompare, url};
pub(crate) use state::{Events, State};

/// `apply(base, events) == head`, image for image, for these tables.
///
/// The states are read from the servers by code of the test's own; the events are what a sink got.
pub(crate) async fn assert_events_turn_base_into_head(gap: &Gap, tables: &[&str], events: &Events) {
    for table in tables {
        let base = State::read(&gap.base, table).await;
        let head = State::read(&gap.head, table).await;
        let mut applied = base;
        applied.apply(events.of(table));
        assert_eq!(applied, head, "{table}");
    }
}
