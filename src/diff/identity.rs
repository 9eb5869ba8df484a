//! The `identity` strategy: compare row versions, not contents.
//!
//! Base and head are physical restores of one cluster. A row version that nobody touched sits at
//! the same `ctid` with the same `xmin` in both, so whatever is equal there need not be read. What
//! only base has was deleted or superseded in the gap, what only head has was inserted or is the
//! new version. This holds under conditions that the planner checks
//! ([`crate::catalog::same_rows`]) and [`SameFile`] checks again around each work item.
//!
//! 1. Fingerprint small groups of blocks on both sides at once: the count and the xor of a hash of
//!    (`ctid`, `xmin`).
//! 2. Where a group differs, exchange its (`ctid`, `xmin`) lists and keep what one side has.
//! 3. Fetch the images of these tuples only, pair them by key, and drop pairs with equal images.
//!
//! A new version whose old version lies elsewhere owns the update: its item looks the old image up
//! in base by key. An old version whose key head still has says nothing; otherwise it is a delete.
//! So every change comes out once, whichever items the two versions fall into.

mod candidates;
mod fingerprint;
mod tid;

use std::ops::Range;

use async_stream::try_stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Checkpoint, Sessions, Step, Tables, pairing};
use crate::error::{Error, Result};
use crate::sql::Relation;

use candidates::{Candidates, Versions};

/// Blocks that are fingerprinted by one query on each side, and the distance of checkpoints.
const WINDOW: u32 = 8192;
/// Blocks a fingerprint.
const GROUP: u32 = 4;
/// Tuples of differing groups that are held at once, on each side.
const BATCH_TUPLES: u64 = 8192;

/// Blocks of one relation that is, file for file, the same on both servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockRange {
    /// A plain table or a leaf partition on head.
    pub(crate) head: Relation,
    /// The same relation's name on base.
    pub(crate) base: Relation,
    pub(crate) file: SameFile,
    pub(crate) blocks: Range<u32>,
}

/// What identifies a relation's file; equal on both servers and from plan to end, or row versions
/// cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SameFile {
    pub(crate) oid: u32,
    /// `pg_relation_filenode`.
    pub(crate) filenode: u32,
}

impl SameFile {
    async fn check(self, connection: &mut PgConnection, side: &str) -> Result<()> {
        let now: Option<i64> =
            sqlx::query_scalar("select pg_relation_filenode($1::int8::oid)::int8")
                .bind(i64::from(self.oid))
                .fetch_one(connection)
                .await?;
        if now == Some(i64::from(self.filenode)) {
            return Ok(());
        }
        Err(Error::item(format!(
            "the table was rewritten on {side} since the recovery was planned: keep everybody away \
             from the restores, restore again and recover the table anew"
        )))
    }
}

pub(super) fn changes<'a>(
    sessions: Sessions<'a>,
    tables: &'a Tables,
    range: &'a BlockRange,
    from: Option<Checkpoint>,
) -> BoxStream<'a, Result<Step>> {
    let Sessions { base, head } = sessions;
    try_stream! {
        tokio::try_join!(prepare(base), prepare(head))?;
        tokio::try_join!(range.file.check(base, "base"), range.file.check(head, "head"))?;
        let mut block = match from {
            Some(Checkpoint::Block(block)) => block,
            _ => range.blocks.start,
        };
        let (base_blocks, head_blocks) = tokio::try_join!(
            fingerprint::blocks(base, range.file.oid),
            fingerprint::blocks(head, range.file.oid),
        )?;
        let end = range.blocks.end.min(base_blocks.max(head_blocks));
        while block < end {
            let window = block..end.min(block.saturating_add(WINDOW));
            let (on_base, on_head) = tokio::try_join!(
                fingerprint::groups(base, &range.base, &window, GROUP),
                fingerprint::groups(head, &range.head, &window, GROUP),
            )?;
            yield Step::Compared(on_head.iter().map(|group| group.tuples).sum());
            let differing: Vec<(u32, u64)> = on_base
                .iter()
                .zip(&on_head)
                .filter(|(base, head)| base != head)
                .map(|(base, head)| (head.block, base.tuples.max(head.tuples)))
                .collect();
            for batch in batches(differing) {
                let step = batch_changes(base, head, tables, range, &batch).await?;
                for step in step {
                    yield step;
                }
            }
            block = window.end;
            yield Step::Checkpoint(Checkpoint::Block(block));
        }
        tokio::try_join!(range.file.check(base, "base"), range.file.check(head, "head"))?;
    }
    .boxed()
}

/// The planner has no statistics that help here, and may have misleading ones. Everything is
/// reached by tuple id or by the key's index, whatever it thinks of the table.
async fn prepare(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        r#"
        select set_config('enable_seqscan', 'off', true),
               set_config('enable_hashjoin', 'off', true),
               set_config('enable_mergejoin', 'off', true),
               set_config('enable_material', 'off', true),
               set_config('max_parallel_workers_per_gather', '0', true)
        "#,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Cuts differing groups into batches of bounded size; a single group may exceed it.
fn batches(groups: Vec<(u32, u64)>) -> Vec<Vec<u32>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut tuples = 0;
    for (block, count) in groups {
        if tuples + count > BATCH_TUPLES && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            tuples = 0;
        }
        batch.push(block);
        tuples += count;
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// The changes that the tuples of some groups of blocks own.
async fn batch_changes(
    base: &mut PgConnection,
    head: &mut PgConnection,
    tables: &Tables,
    range: &BlockRange,
    groups: &[u32],
) -> Result<Vec<Step>> {
    let (on_base, on_head) = tokio::try_join!(
        Versions::list(base, &range.base, groups, GROUP),
        Versions::list(head, &range.head, groups, GROUP),
    )?;
    let Candidates { base_only, head_only } = Candidates::of(on_base, on_head);
    let base_source = tables.base.as_ref().unwrap_or(&tables.head);
    let (old, new) = tokio::try_join!(
        candidates::images(base, tables, base_source, &range.base, &base_only),
        candidates::images(head, tables, &tables.head, &range.head, &head_only),
    )?;
    pairing::pair_and_look_up(base, head, tables, old, new).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_lose_nothing() {
        let groups: Vec<(u32, u64)> = (0..100).map(|block| (block * 4, 1000)).collect();
        let batches = batches(groups.clone());
        assert!(batches.iter().all(|batch| batch.len() <= 8));
        assert_eq!(batches.concat(), groups.iter().map(|&(block, _)| block).collect::<Vec<_>>());
        assert_eq!(super::batches(vec![(0, 1 << 40)]), [[0]]);
        assert!(super::batches(Vec::new()).is_empty());
    }
}
