//! Old and new rows brought together by key.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::key::{self, KeyImage};
use super::{Change, Image, RowChange, Step, Tables};
use crate::error::Result;

/// Pairs rows that may have changed: first among themselves, then, by lookups, with the rest of the
/// table, where the other version may lie. A new row without an old one is an insert; an old row
/// whose key head still has says nothing, since whoever reads the new row reports it; otherwise it
/// is a delete.
pub(super) async fn pair_and_look_up(
    base: &mut PgConnection,
    head: &mut PgConnection,
    tables: &Tables,
    old: Vec<Image>,
    new: Vec<Image>,
) -> Result<Vec<Step>> {
    let table = &tables.table;
    let Paired { mut updates, old, new } = pair(tables, old, new);
    let base_source = tables.base.as_ref().unwrap_or(&tables.head);
    let (mut before, still_there) = tokio::try_join!(
        key::rows_by_key(base, table, base_source, &new),
        key::keys_present(head, table, &tables.head, &old),
    )?;
    let mut inserts = Vec::new();
    for after in new {
        match before.remove(&key::of(table, &after)) {
            Some(before) => update(&mut updates, before, after),
            None => inserts.push(after),
        }
    }
    let deletes =
        old.into_iter().filter(|image| !still_there.contains(&key::of(table, image))).collect();
    Ok(steps(deletes, updates, inserts))
}

/// The changes between all old and all new rows of some keys.
pub(super) fn pair_all(tables: &Tables, old: Vec<Image>, new: Vec<Image>) -> Vec<Step> {
    let Paired { updates, old, new } = pair(tables, old, new);
    steps(old, updates, new)
}

struct Paired {
    updates: Vec<Change>,
    /// Without a partner.
    old: Vec<Image>,
    new: Vec<Image>,
}

fn pair(tables: &Tables, old: Vec<Image>, new: Vec<Image>) -> Paired {
    let table = &tables.table;
    let mut old: HashMap<KeyImage, Image> =
        old.into_iter().map(|image| (key::of(table, &image), image)).collect();
    let mut updates = Vec::new();
    let mut unpaired = Vec::new();
    for after in new {
        match old.remove(&key::of(table, &after)) {
            Some(before) => update(&mut updates, before, after),
            None => unpaired.push(after),
        }
    }
    Paired { updates, old: old.into_values().collect(), new: unpaired }
}

/// An update, unless the row was only rewritten.
fn update(updates: &mut Vec<Change>, before: Image, after: Image) {
    if before != after {
        updates.push(Change { row: RowChange::Update { before, after }, ordinal: 0 });
    }
}

/// Deletes first, so that a consumer with unique constraints meets a value again only after it is
/// gone.
fn steps(deletes: Vec<Image>, updates: Vec<Change>, inserts: Vec<Image>) -> Vec<Step> {
    let mut steps = Vec::new();
    if !deletes.is_empty() {
        steps.push(Step::Compared(deletes.len() as u64));
    }
    let mut changes: Vec<Change> = deletes
        .into_iter()
        .map(|before| Change { row: RowChange::Delete(before), ordinal: 0 })
        .collect();
    changes.extend(updates);
    changes.extend(
        inserts.into_iter().map(|after| Change { row: RowChange::Insert(after), ordinal: 0 }),
    );
    if !changes.is_empty() {
        steps.push(Step::Changes(changes));
    }
    steps
}
