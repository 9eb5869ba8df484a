//! Which partition an old row lay in, of tables whose partitions do not all tell the same of old
//! rows ([`Table::partitions`](crate::catalog::Table::partitions)).

use async_stream::try_stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};

use super::{DiffItem, Image, RowChange, Source, Tables, copy, key};
use crate::catalog::Key;
use crate::error::{Error, Result};
use crate::postgres::Session;

/// Keys in one query. Two numbers come back for each, which is little enough to be held.
const KEYS_AT_ONCE: usize = 8192;

/// Notes with each change of the items which partition of base has the old row. Does nothing for a
/// table whose partitions all tell the same.
pub(super) async fn note(base: &Session, tables: &Tables, items: &mut [DiffItem]) -> Result<()> {
    let (false, Key::Columns(key), Some(source)) =
        (tables.table.partitions.is_empty(), &tables.table.key, &tables.base)
    else {
        return Ok(());
    };
    // The filter's subquery would hide the system column, and a key names one row anyway.
    let columns = key.iter().map(|&at| source.columns[at].clone()).collect();
    let source = Source { filter: None, columns, ..source.clone() };
    for item in items {
        let DiffItem::Changes(changes) = item else { continue };
        let (old, mut of): (Vec<Image>, Vec<&mut Option<u32>>) = changes
            .iter_mut()
            .filter_map(|change| match &change.row {
                RowChange::Insert(_) => None,
                RowChange::Update { before, .. } | RowChange::Delete(before) => {
                    Some((key.iter().map(|&at| before.get(at)).collect(), &mut change.partition))
                }
            })
            .unzip();
        for (number, partition) in partitions_of(base, &source, &old).await? {
            *of[number] = Some(partition);
        }
    }
    Ok(())
}

/// The same of a stream of items.
pub(super) fn noted<'a>(
    base: &'a Session,
    tables: &'a Tables,
    mut items: BoxStream<'a, Result<DiffItem>>,
) -> BoxStream<'a, Result<DiffItem>> {
    if tables.table.partitions.is_empty() {
        return items;
    }
    try_stream! {
        while let Some(item) = items.try_next().await? {
            let mut item = [item];
            note(base, tables, &mut item).await?;
            let [item] = item;
            yield item;
        }
    }
    .boxed()
}

/// The numbers of those of these keys that base has, each with the oid of its partition.
async fn partitions_of(
    base: &Session,
    source: &Source,
    keys: &[Image],
) -> Result<Vec<(usize, u32)>> {
    let key: Vec<usize> = (0..source.columns.len()).collect();
    let mut found = Vec::with_capacity(keys.len());
    for (part, keys) in keys.chunks(KEYS_AT_ONCE).enumerate() {
        let query = key::join(&key, source, keys, "w.number, r.tableoid");
        let Some(images) = copy::images(base, &query, 2, None).await? else {
            return Err(Error::item("numbers of partitions take more memory than there is"));
        };
        for image in images {
            let number = |at: usize| image.get(at).and_then(|text| text.parse::<u32>().ok());
            let (Some(number), Some(partition)) = (number(0), number(1)) else {
                return Err(Error::item("a number of a key or a partition is not a number"));
            };
            let number = number as usize;
            if number >= keys.len() {
                return Err(Error::item("a key came back that was not asked for"));
            }
            found.push((part * KEYS_AT_ONCE + number, partition));
        }
    }
    Ok(found)
}
