//! apply(base, events) == head, by code that has nothing in common with what made the events.
//!
//! Both servers print a table's rows in the order of their keys. Key by key, the events are applied
//! to base's rows and the outcome is compared with head's. Memory: the events, and a row of each
//! side.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use deltacompare_testbed::Server;

use crate::copy::{self, Row, Rows, Shape};
use crate::event::{Event, Events};
use crate::narrator::count;
use crate::shop::{self, Table};
use crate::tally::Op;

/// How much was compared.
pub(crate) struct Proved {
    pub(crate) base_rows: u64,
    pub(crate) events: u64,
    pub(crate) head_rows: u64,
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [base, events, head] = [self.base_rows, self.events, self.head_rows].map(count);
        write!(f, "{base:>10} rows of base + {events:>7} events = {head:>10} rows of head    ")
    }
}

/// Proves one table.
///
/// # Errors
/// The first row that is not as it should be.
pub(crate) async fn check(
    base: &Server,
    head: &Server,
    table: &Table,
    events: &[Event],
) -> Result<Proved> {
    let outcome = compare(base, head, table, events).await;
    outcome.with_context(|| format!("apply(base, events) is not head for {}", table.name))
}

async fn compare(base: &Server, head: &Server, table: &Table, events: &[Event]) -> Result<Proved> {
    let shape = Shape::of(head, table).await?;
    ensure!(shape == Shape::of(base, table).await?, "base has other columns");
    let mut by_key = BTreeMap::<Vec<u8>, Vec<&Event>>::new();
    for event in events {
        by_key.entry(event.key(&shape)?).or_default().push(event);
    }
    let (base, head) = tokio::try_join!(copy::session(base), copy::session(head))?;
    let (mut base, mut head) =
        tokio::try_join!(Rows::read(&base, table, &shape), Rows::read(&head, table, &shape))?;
    let (mut state, mut wanted) = (Vec::new(), Vec::new());
    loop {
        let event_key = by_key.keys().next().map(Vec::as_slice);
        let Some(key) = [base.key(), head.key(), event_key].into_iter().flatten().min() else {
            break;
        };
        let key = key.to_vec();
        base.take(&key, &mut state).await?;
        head.take(&key, &mut wanted).await?;
        for event in by_key.remove(&key).unwrap_or_default() {
            apply(&mut state, event, &shape, !table.key.is_empty())
                .with_context(|| format!("{event:?}"))?;
        }
        state.sort();
        wanted.sort();
        if state != wanted {
            bail!("base with the events has {}, head has {}", printed(&state), printed(&wanted));
        }
    }
    Ok(Proved { base_rows: base.taken(), events: events.len() as u64, head_rows: head.taken() })
}

/// Applies an event to the rows that have its key.
fn apply(state: &mut Vec<Row>, event: &Event, shape: &Shape, keyed: bool) -> Result<()> {
    match event.op() {
        Op::Insert => {
            ensure!(!keyed || state.is_empty(), "there is a row with this key already");
            state.push(event.after(shape)?);
        }
        Op::Update => {
            let [row] = state.as_mut_slice() else { bail!("{} rows have this key", state.len()) };
            if let Some(before) = event.before(shape) {
                ensure!(*row == before?, "the row was another one before");
            }
            let after = event.after(shape)?;
            ensure!(*row != after, "it changes nothing");
            *row = after;
        }
        Op::Delete if keyed => {
            ensure!(state.len() == 1, "{} rows have this key", state.len());
            state.clear();
        }
        Op::Delete => {
            let before = event.before(shape).context("a delete that names no row")??;
            let at = state.iter().position(|row| *row == before).context("there is no such row")?;
            state.remove(at);
        }
    }
    Ok(())
}

/// A check that cannot fail proves nothing: with one event left out, it must.
pub(crate) async fn check_that_it_can_fail(
    base: &Server,
    head: &Server,
    events: &Events,
) -> Result<()> {
    let with_events = shop::TABLES.iter().filter(|table| !events.of(table).is_empty());
    let table = with_events.min_by_key(|table| events.of(table).len()).context("no events")?;
    let (_, all_but_one) = events.of(table).split_last().context("no events")?;
    let outcome = check(base, head, table, all_but_one).await;
    ensure!(outcome.is_err(), "the check did not notice that an event is missing");
    Ok(())
}

fn printed(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no row".to_owned();
    }
    let lines: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(&row.line)).collect();
    format!("{lines:?}")
}
