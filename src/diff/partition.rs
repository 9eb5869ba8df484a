//! Which partition an old row lay in, of tables whose partitions do not all tell the same of old
//! rows ([`Table::partitions`](crate::catalog::Table::partitions)).

use std::collections::HashMap;

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::PgConnection;

use super::key::{self, KeyOf};
use super::{Image, RowChange, Source, Step, Tables, copy};
use crate::catalog::Key;
use crate::error::Result;

/// Notes with each change of the steps which partition of base has the old row. Does nothing for a
/// table whose partitions all tell the same.
pub(super) async fn note(
    base: &mut PgConnection,
    tables: &Tables,
    steps: &mut [Step],
) -> Result<()> {
    let (false, Key::Columns(key), Some(source)) =
        (tables.table.partitions.is_empty(), &tables.table.key, &tables.base)
    else {
        return Ok(());
    };
    // The filter's subquery would hide the system column, and a key names one row anyway.
    let source = Source { filter: None, ..source.clone() };
    for step in steps {
        let Step::Changes(changes) = step else { continue };
        let old: Vec<Image> = changes
            .iter()
            .filter_map(|change| match &change.row {
                RowChange::Insert(_) => None,
                RowChange::Update { before, .. } | RowChange::Delete(before) => Some(before),
            })
            .map(|image| key.iter().map(|&at| image.get(at)).collect())
            .collect();
        let partitions = partitions_of(base, key, &source, &old).await?;
        let positions: Vec<usize> = (0..key.len()).collect();
        let partitions: HashMap<KeyOf<'_>, u32> = partitions
            .iter()
            .filter_map(|image| {
                Some((KeyOf::new(image, &positions), image.get(key.len())?.parse().ok()?))
            })
            .collect();
        for change in changes {
            change.partition = match &change.row {
                RowChange::Insert(_) => None,
                RowChange::Update { before, .. } | RowChange::Delete(before) => {
                    partitions.get(&KeyOf::new(before, key)).copied()
                }
            };
        }
    }
    Ok(())
}

/// The same of a stream of steps.
pub(super) fn noted<'a>(
    base: &'a mut PgConnection,
    tables: &'a Tables,
    mut steps: BoxStream<'a, Result<Step>>,
) -> BoxStream<'a, Result<Step>> {
    if tables.table.partitions.is_empty() {
        return steps;
    }
    try_stream! {
        while let Some(step) = steps.try_next().await? {
            let mut step = [step];
            note(base, tables, &mut step).await?;
            let [step] = step;
            yield step;
        }
    }
    .boxed()
}

/// Keys that base has, as they print in these images of keys, each with the oid of its partition.
async fn partitions_of(
    base: &mut PgConnection,
    key: &[usize],
    source: &Source,
    keys: &[Image],
) -> Result<Vec<Image>> {
    let mut found = Vec::new();
    let mut waiting = vec![keys];
    while let Some(keys) = waiting.pop() {
        if keys.is_empty() {
            continue;
        }
        let positions: Vec<usize> = (0..key.len()).collect();
        key::bind(base, &positions, keys).await?;
        let wanted: Vec<String> = (1..=key.len()).map(|n| format!("w.k{n}")).collect();
        let query = key::join(key, source, &format!("{}, r.tableoid", wanted.join(", ")));
        match copy::images(base, &query, key.len() + 1).await? {
            Some(images) => found.extend(images),
            // Too large to be held at once as they were read; one row never is.
            None => waiting.extend(<[_; 2]>::from(keys.split_at(keys.len() / 2))),
        }
    }
    Ok(found)
}
