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
//! So every change comes out once, whichever items the two versions fall into. Tables without a key
//! cannot be decided range by range: see [`multiset`].

mod candidates;
mod fingerprint;
mod multiset;
mod sample;
mod tid;

pub(super) use multiset::changes as multiset_changes;

use std::ops::Range;

use async_stream::try_stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{Checkpoint, Image, Sessions, Step, Tables, pairing};
use crate::error::{Error, Result};
use crate::sql::Relation;

use candidates::{Candidates, Versions};
pub(crate) use fingerprint::ReusedIds;

/// Blocks that are fingerprinted by one query on each side, and the distance of checkpoints.
const WINDOW: u32 = 8192;
/// Blocks a fingerprint.
const GROUP: u32 = 4;
// Only a range's last group may be shorter.
const _: () = assert!(WINDOW.is_multiple_of(GROUP));
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
    /// Rows of either side to hold at once: few enough, whatever their width.
    pub(crate) rows: u32,
    pub(crate) reused: Option<ReusedIds>,
    /// Of the groups of blocks that are equal, so many in a hundred are chosen by chance and their
    /// contents compared too; none if 0.
    pub(crate) sample_percent: u8,
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
        let mut block = match from {
            Some(Checkpoint::Block(block)) => block,
            _ => range.blocks.start,
        };
        let end = range.open(base, head).await?;
        while block < end {
            let window = block..end.min(block.saturating_add(WINDOW));
            let Differing { rows, batches } = range.differing(base, head, tables, &window).await?;
            yield Step::Compared(rows);
            for batch in batches {
                for part in range.candidates(base, head, &batch).await? {
                    let (old, new) = range.images(base, head, tables, &part).await?;
                    for step in pairing::pair_and_look_up(base, head, tables, old, new).await? {
                        yield step;
                    }
                }
            }
            block = window.end;
            yield Step::Checkpoint(Checkpoint::Block(block));
        }
        range.check_file(base, head).await?;
    }
    .boxed()
}

/// What of a window of blocks the two sides do not share.
struct Differing {
    /// Head's rows in the window.
    rows: u64,
    /// First blocks of the groups that differ, in batches of bounded size.
    batches: Vec<Vec<u32>>,
}

impl BlockRange {
    /// Prepares both sessions and yields the block where the range ends.
    async fn open(&self, base: &mut PgConnection, head: &mut PgConnection) -> Result<u32> {
        tokio::try_join!(prepare(base), prepare(head))?;
        self.check_file(base, head).await?;
        let (base_blocks, head_blocks) = tokio::try_join!(
            fingerprint::blocks(base, self.file.oid),
            fingerprint::blocks(head, self.file.oid),
        )?;
        Ok(self.blocks.end.min(base_blocks.max(head_blocks)))
    }

    async fn check_file(&self, base: &mut PgConnection, head: &mut PgConnection) -> Result<()> {
        tokio::try_join!(self.file.check(base, "base"), self.file.check(head, "head"))?;
        Ok(())
    }

    async fn differing(
        &self,
        base: &mut PgConnection,
        head: &mut PgConnection,
        tables: &Tables,
        window: &Range<u32>,
    ) -> Result<Differing> {
        let (base_xmin, head_xmin) = self.xmins();
        let (on_base, on_head) = tokio::try_join!(
            fingerprint::groups(base, &self.base, window, GROUP, &base_xmin),
            fingerprint::groups(head, &self.head, window, GROUP, &head_xmin),
        )?;
        let (equal, differing): (Vec<_>, Vec<_>) =
            on_base.iter().zip(&on_head).partition(|(base, head)| base == head);
        let equal: Vec<u32> =
            equal.iter().filter(|(_, head)| head.tuples > 0).map(|(_, head)| head.block).collect();
        sample::compare(self, base, head, tables, sample::choose(&equal, self.sample_percent))
            .await?;
        let differing = differing
            .into_iter()
            .map(|(base, head)| (head.block, base.tuples.max(head.tuples)))
            .collect();
        Ok(Differing {
            rows: on_head.iter().map(|group| group.tuples).sum(),
            batches: batches(differing),
        })
    }

    /// Expressions for xmin on base and on head.
    fn xmins(&self) -> (String, String) {
        (fingerprint::xmin(None), fingerprint::xmin(self.reused))
    }

    /// The row versions of some groups that only one side has, in parts whose images may be held.
    async fn candidates(
        &self,
        base: &mut PgConnection,
        head: &mut PgConnection,
        groups: &[u32],
    ) -> Result<Vec<Candidates>> {
        let (base_xmin, head_xmin) = self.xmins();
        let (on_base, on_head) = tokio::try_join!(
            Versions::list(base, &self.base, groups, GROUP, self.blocks.end, &base_xmin),
            Versions::list(head, &self.head, groups, GROUP, self.blocks.end, &head_xmin),
        )?;
        Ok(Candidates::of(on_base, on_head).parts(self.rows as usize))
    }

    /// The published rows among these, base's and head's.
    async fn images(
        &self,
        base: &mut PgConnection,
        head: &mut PgConnection,
        tables: &Tables,
        candidates: &Candidates,
    ) -> Result<(Vec<Image>, Vec<Image>)> {
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        tokio::try_join!(
            candidates::images(base, base_source, &self.base, &candidates.base_only),
            candidates::images(head, &tables.head, &self.head, &candidates.head_only),
        )
    }
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
