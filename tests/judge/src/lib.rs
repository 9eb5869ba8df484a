//! The judge of the behaviours: it reads base and head with statements of its own, reads the events as
//! a consumer would, and says whether `apply(base, events) == head`, image for image. It shares no
//! code with the program.
//!
//! A package of its own, since it handles every row of every test: it is compiled with optimisation,
//! the tests are not.

mod debezium;
mod image;
mod landing;
mod pgoutput;
mod state;
mod table;

use deltacompare_testbed::Server;

pub use debezium::DebeziumEvents;
pub use image::{Printer, Row};
pub use landing::{Events, LandingEvent};
pub use pgoutput::{Streamed, net, read};
pub use state::{KeyImage, NetChange, State};
pub use table::{TableName, literal, quoted};

/// `apply(base, events) == head`, image for image, for these tables, which are named as in SQL.
///
/// The states are read from the servers by code of the test's own; the events are what a sink got.
pub async fn assert_recovered(base: &Server, head: &Server, tables: &[&str], events: &Events) {
    let (base, head) = (Printer::of(base).await, Printer::of(head).await);
    for table in tables {
        assert_recovered_by(&base, &head, &TableName::of(table), events).await;
    }
    base.close().await;
    head.close().await;
}

/// The same for one table.
pub async fn assert_table_recovered(
    base: &Server,
    head: &Server,
    table: &TableName,
    events: &Events,
) {
    let (base, head) = (Printer::of(base).await, Printer::of(head).await);
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
