//! What the behaviours share: a gap between two restores, the program, and the judge.

#[macro_use]
mod harness;

mod debezium;
mod fingerprint;
mod gap;
mod held;
mod hosted;
mod image;
mod landing;
mod package;
mod pgoutput;
mod program;
mod state;
mod table;
mod user_casts;
mod world;

pub(crate) use debezium::DebeziumEvents;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use gap::{Gap, leftovers};
pub(crate) use harness::{Test, main, say, skip};
pub(crate) use held::{hold_the_sink, until, waiting_for_the_sink};
pub(crate) use hosted::Hosted;
pub(crate) use image::{Printer, Row};
pub(crate) use landing::{Events, LandingEvent};
pub(crate) use package::package;
pub(crate) use pgoutput::{Streamed, net as net_of_stream, read as read_stream};
pub(crate) use program::{Program, Run, deltacompare, url};
pub(crate) use state::{NetChange, State};
pub(crate) use table::{TableName, literal, quoted};
pub(crate) use user_casts::USER_CASTS;
pub(crate) use world::Database;

/// `apply(base, events) == head`, image for image, for these tables, which are named as in SQL.
///
/// The states are read from the servers by code of the test's own; the events are what a sink got.
pub(crate) async fn assert_events_turn_base_into_head(gap: &Gap, tables: &[&str], events: &Events) {
    let (base, head) = Printer::of_both(gap).await;
    for table in tables {
        assert_recovered_by(&base, &head, &TableName::of(table), events).await;
    }
    base.close().await;
    head.close().await;
}

/// The same for one table.
pub(crate) async fn assert_recovered(gap: &Gap, table: &TableName, events: &Events) {
    let (base, head) = Printer::of_both(gap).await;
    assert_recovered_by(&base, &head, table, events).await;
    base.close().await;
    head.close().await;
}

async fn assert_recovered_by(
    on_base: &Printer,
    on_head: &Printer,
    table: &TableName,
    events: &Events,
) {
    let mut applied = State::read(on_base, table).await;
    let mut head = State::read(on_head, table).await;
    if applied.is_empty() {
        // Perhaps there is no such table, and so no key.
        applied = State::keyed(head.key().to_vec());
    }
    let both = !applied.is_empty() && !head.is_empty();
    let common = both.then(|| &applied.columns() & &head.columns());
    if let Some(common) = &common {
        // What both sides have is compared, by name.
        applied.keep(common);
        head.keep(common);
    }
    applied.apply(events.changes(on_head, table).await);
    if let Some(common) = &common {
        // Events carry a column that was renamed, too: the tests of drift judge these.
        applied.keep(common);
    }
    assert_eq!(applied, head, "{table}");
}
