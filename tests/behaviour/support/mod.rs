//! What the behaviours share: a gap between two restores, the program, and the judge.

#[macro_use]
mod harness;

mod fingerprint;
mod gap;
mod held;
mod hosted;
mod package;
mod program;
mod user_casts;
mod world;

pub(crate) use deltacompare_judge::{
    DebeziumEvents, Events, LandingEvent, NetChange, Printer, Row, State, Streamed, TableName,
    literal, net as net_of_stream, quoted, read as read_stream,
};
pub(crate) use fingerprint::Fingerprint;
pub(crate) use gap::{Gap, leftovers};
pub(crate) use harness::{Test, main, say, skip};
pub(crate) use held::{hold, hold_the_sink, until, waiting_for, waiting_for_the_sink};
pub(crate) use hosted::Hosted;
pub(crate) use package::package;
pub(crate) use program::{Program, Run, deltacompare, run_by, url};
pub(crate) use user_casts::USER_CASTS;
pub(crate) use world::Database;

/// `apply(base, events) == head`, image for image, for these tables, which are named as in SQL.
pub(crate) async fn assert_events_turn_base_into_head(gap: &Gap, tables: &[&str], events: &Events) {
    deltacompare_judge::assert_recovered(&gap.base, &gap.head, tables, events).await;
}

/// The same for one table.
pub(crate) async fn assert_recovered(gap: &Gap, table: &TableName, events: &Events) {
    deltacompare_judge::assert_table_recovered(&gap.base, &gap.head, table, events).await;
}

/// A judge's sessions on base and on head.
pub(crate) async fn printers(gap: &Gap) -> (Printer, Printer) {
    (Printer::of(&gap.base).await, Printer::of(&gap.head).await)
}
