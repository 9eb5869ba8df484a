//! The `row-versions` strategy: compare row versions, not contents.
//!
//! Base and head are physical restores of one cluster. A row version that nobody touched sits at
//! the same `ctid` with the same `xmin` in both, so whatever is equal there need not be read. What
//! only base has was deleted or superseded in the gap, what only head has was inserted or is the
//! new version. This holds under conditions that the planner checks
//! ([`crate::catalog::same_rows`]) and [`SameFile`] checks again around each work item.
//!
//! 1. Fingerprint groups of blocks on both sides at once: the count and the xor of a hash of
//!    (`ctid`, `xmin`). Large groups while little differs, small ones where it does, none at all
//!    while nearly everything does ([`AdaptiveGranularity`]).
//! 2. Where a group differs, exchange its (`ctid`, `xmin`) lists and keep what one side has.
//! 3. Fetch the images of these tuples only, pair them by key, and drop pairs with equal images.
//!
//! A new version whose old version lies elsewhere owns the update: its item looks the old image up
//! in base by key. An old version whose key head still has says nothing; otherwise it is a delete.
//! So every change comes out once, whichever items the two versions fall into. Where the key's index
//! may be out of order nothing is looked up: see [`unindexed`]. Tables without a key cannot be decided
//! range by range: see [`multiset`].

mod adaptive_granularity;
mod candidates;
mod fingerprint;
mod multiset;
mod routing;
mod sample;
mod share;
mod unindexed;

pub(super) use multiset::changes as multiset_changes;
pub(super) use unindexed::changes as unindexed_changes;

use std::ops::Range;

use async_stream::try_stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, DiffItem, Image, RowsPassed, Sessions, Source, Tables, partition, places,
    row_pairing,
};
use crate::catalog::Key;
use crate::error::{Error, Result};
use crate::postgres::{QualifiedName, Session};

use adaptive_granularity::AdaptiveGranularity;
use candidates::{Candidates, Parts, Versions};
pub(crate) use fingerprint::ReusedIds;
use fingerprint::{Fingerprint, Xmin};
pub(crate) use share::{changed_share, follows_its_key};

/// Blocks of a small group, whose row versions are listed if its fingerprints differ.
const GROUP: u32 = 4;
/// Tuples of differing groups that are held at once, on each side.
const BATCH_TUPLES: u64 = 8192;
/// Blocks whose tuples are held at once where nobody has counted them. A block has 291 at most, and
/// some 60 as a rule.
const BATCH_BLOCKS: u32 = 128;

/// Blocks of one relation that is, file for file, the same on both servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockRange {
    /// A plain table or a leaf partition on head.
    pub(crate) head: QualifiedName,
    /// The same relation's name on base.
    pub(crate) base: QualifiedName,
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
    async fn check(self, connection: &Session, side: &str) -> Result<()> {
        let now: Option<i64> = connection
            .query_one("select pg_relation_filenode($1::int8::oid)::int8", &[&i64::from(self.oid)])
            .await?;
        self.judge(now, side)
    }

    fn judge(self, now: Option<i64>, side: &str) -> Result<()> {
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
) -> BoxStream<'a, Result<DiffItem>> {
    try_stream! {
        let Key::Columns(key) = &tables.table.key else {
            Err(Error::item("rows of a table without a key cannot be paired range by range"))?;
            return;
        };
        let mut block = match from {
            Some(Checkpoint::Block(block)) => block,
            _ => range.blocks.start,
        };
        let mut reader = Reader::open(sessions, tables, range).await?;
        let mut granularity = AdaptiveGranularity::new(range.sample_percent > 0);
        let mut parts = Parts::of_at_most(range.rows);
        yield DiffItem::Passed(RowsPassed::default());
        while block < reader.end {
            let window = block..reader.end.min(block.saturating_add(granularity.window()));
            let (batches, counted) = reader.differing(&window, &mut granularity).await?;
            let (mut listed, mut changed) = (RowsPassed::default(), 0);
            for batch in batches {
                let Listed { on_base, on_head, candidates } = reader.candidates(&batch).await?;
                listed += RowsPassed { base: on_base, head: on_head, ..RowsPassed::default() };
                changed += candidates.head_only.len().max(candidates.base_only.len()) as u64;
                parts.add(candidates);
                while let Some(part) = parts.next() {
                    match reader.changes(key, &part).await? {
                        Some(items) => {
                            for item in items {
                                yield item;
                            }
                        }
                        None => parts.halve(part),
                    }
                }
            }
            if counted.is_none() {
                granularity.listed(listed.head, changed);
            }
            let passed = counted.unwrap_or(listed);
            yield DiffItem::Passed(passed);
            yield DiffItem::Compared(passed.head);
            block = window.end;
            yield DiffItem::Checkpoint(Checkpoint::Block(block));
        }
        // Where nothing was read, the file was looked at together with its size.
        if block > range.blocks.start {
        range.check_file(&mut reader.sessions).await?;
    }
    }
    .boxed()
}

/// Reads a range of blocks on both sides.
struct Reader<'a> {
    sessions: Sessions<'a>,
    tables: &'a Tables,
    range: &'a BlockRange,
    base_xmin: Xmin,
    head_xmin: Xmin,
    /// The block where the range ends.
    end: u32,
    /// What has every row of the range's keys, on base and on head.
    lookups: (Source, Source),
}

/// The row versions of some groups.
struct Listed {
    /// How many base has.
    on_base: u64,
    /// How many head has.
    on_head: u64,
    /// What one side has.
    candidates: Candidates,
}

/// First blocks of groups that differ, in batches of bounded size.
type Batches = Vec<Vec<u32>>;

impl<'a> Reader<'a> {
    /// Prepares both sessions.
    async fn open(
        mut sessions: Sessions<'a>,
        tables: &'a Tables,
        range: &'a BlockRange,
    ) -> Result<Self> {
        let Sessions { base, head } = &mut sessions;
        let ((base_age, base_blocks), (head_age, head_blocks)) = tokio::try_join!(
            prepare(base, range.file, "base"),
            prepare(head, range.file, "head"),
        )?;
        let lookups = routing::sources(&mut sessions, tables, range).await?;
        let xmin = |age_of_3, marked| Xmin { age_of_3, wrapped: range.reused.is_some(), marked };
        Ok(Self {
            sessions,
            tables,
            range,
            base_xmin: xmin(base_age, None),
            head_xmin: xmin(head_age, range.reused),
            end: range.blocks.end.min(base_blocks.max(head_blocks)),
            lookups,
        })
    }

    /// The groups of a window of blocks that differ, and the rows of either side in the window. While
    /// nearly all differ nobody looks, all are taken, and nobody has counted rows.
    async fn differing(
        &mut self,
        window: &Range<u32>,
        granularity: &mut AdaptiveGranularity,
    ) -> Result<(Batches, Option<RowsPassed>)> {
        let Some(size) = granularity.group() else {
            let starts: Vec<u32> = window.clone().step_by(GROUP as usize).collect();
            let batch = (BATCH_BLOCKS / GROUP) as usize;
            return Ok((starts.chunks(batch).map(<[u32]>::to_vec).collect(), None));
        };
        let starts: Vec<u32> = window.clone().step_by(size as usize).collect();
        let pairs = self.fingerprints(&starts, size, window.end).await?;
        let counted = RowsPassed {
            base: pairs.iter().map(|(base, _)| base.tuples).sum(),
            head: pairs.iter().map(|(_, head)| head.tuples).sum(),
            ..RowsPassed::default()
        };
        let (equal, mut differing): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(base, head)| base == head);
        granularity.fingerprinted(equal.len() + differing.len(), differing.len());
        if size == GROUP {
            let equal: Vec<u32> = equal
                .iter()
                .filter(|(_, head)| head.tuples > 0)
                .map(|(_, head)| head.block)
                .collect();
            let chosen = sample::choose(&equal, self.range.sample_percent);
            let Sessions { base, head } = &mut self.sessions;
            sample::compare(self.range, base, head, self.tables, chosen).await?;
        } else if !differing.is_empty() {
            let within = |block: u32| block..window.end.min(block.saturating_add(size));
            let starts: Vec<u32> = differing
                .iter()
                .flat_map(|(_, head)| within(head.block).step_by(GROUP as usize))
                .collect();
            differing = self.fingerprints(&starts, GROUP, window.end).await?;
            differing.retain(|(base, head)| base != head);
            granularity.fingerprinted_again(starts.len(), differing.len());
        }
        let differing = differing
            .into_iter()
            .map(|(base, head)| (head.block, base.tuples.max(head.tuples)))
            .collect();
        Ok((batches(differing), Some(counted)))
    }

    /// The fingerprints of some groups, base's and head's.
    async fn fingerprints(
        &mut self,
        groups: &[u32],
        size: u32,
        end: u32,
    ) -> Result<Vec<(Fingerprint, Fingerprint)>> {
        let Self { range, base_xmin, head_xmin, .. } = *self;
        let Sessions { base, head } = &mut self.sessions;
        let (on_base, on_head) = tokio::try_join!(
            fingerprint::groups(base, &range.base, groups, size, end, base_xmin),
            fingerprint::groups(head, &range.head, groups, size, end, head_xmin),
        )?;
        Ok(on_base.into_iter().zip(on_head).collect())
    }

    /// The row versions of some small groups.
    async fn candidates(&mut self, groups: &[u32]) -> Result<Listed> {
        let Self { range, base_xmin, head_xmin, .. } = *self;
        let end = range.blocks.end;
        let Sessions { base, head } = &mut self.sessions;
        let (on_base, on_head) = tokio::try_join!(
            Versions::list(base, &range.base, groups, GROUP, end, base_xmin),
            Versions::list(head, &range.head, groups, GROUP, end, head_xmin),
        )?;
        Ok(Listed {
            on_base: on_base.len() as u64,
            on_head: on_head.len() as u64,
            candidates: Candidates::of(on_base, on_head),
        })
    }

    /// What happened to the rows of these places; `None` if they are too large to be held at once.
    async fn changes(&mut self, key: &[usize], part: &Candidates) -> Result<Option<Vec<DiffItem>>> {
        let Some((old, new)) = self.images(part).await? else { return Ok(None) };
        let passed = RowsPassed::one_sided(&old, &new);
        let Sessions { base, head } = &mut self.sessions;
        let items = row_pairing::pair_and_look_up(
            base,
            head,
            (&self.lookups.0, &self.lookups.1),
            key,
            old,
            new,
        )
        .await?;
        let Some(mut items) = items else { return Ok(None) };
        partition::note(base, self.tables, &mut items).await?;
        items.push(DiffItem::Passed(passed));
        Ok(Some(items))
    }

    /// The published rows among these, base's and head's; `None` if they are too large to be held at
    /// once.
    async fn images(
        &mut self,
        candidates: &Candidates,
    ) -> Result<Option<(Vec<Image>, Vec<Image>)>> {
        let Self { range, tables, .. } = *self;
        let base_source = tables.base.as_ref().unwrap_or(&tables.head);
        let Sessions { base, head } = &mut self.sessions;
        let (old, new) = tokio::try_join!(
            places::images(base, base_source, &range.base, &candidates.base_only),
            places::images(head, &tables.head, &range.head, &candidates.head_only),
        )?;
        Ok(old.zip(new))
    }
}

impl RowsPassed {
    /// Published row versions that one side alone has.
    fn one_sided(old: &[Image], new: &[Image]) -> Self {
        Self { base_only: old.len() as u64, head_only: new.len() as u64, ..Self::default() }
    }
}

impl BlockRange {
    async fn check_file(&self, sessions: &mut Sessions<'_>) -> Result<()> {
        let Sessions { base, head } = sessions;
        tokio::try_join!(self.file.check(base, "base"), self.file.check(head, "head"))?;
        Ok(())
    }
}

/// Looks at the file in one round trip, which is most of what a table with nothing in it takes. Yields
/// [`Xmin::age_of_3`], and the file's blocks.
///
/// The planner has no statistics that help here, and may have misleading ones. Everything is
/// reached by tuple id or by the key's index, whatever it thinks of the table.
async fn prepare(connection: &Session, file: SameFile, side: &str) -> Result<(u32, u32)> {
    let (age, filenode, blocks): (i32, Option<i64>, Option<i64>) = connection
        .query_one(
            r#"
            select age('3'::xid),
                   pg_relation_filenode($1::int8::oid)::int8,
                   pg_relation_size($1::int8::oid::regclass)
                     / pg_size_bytes(current_setting('block_size')),
                   set_config('enable_seqscan', 'off', true),
                   set_config('enable_hashjoin', 'off', true),
                   set_config('enable_mergejoin', 'off', true),
                   set_config('enable_material', 'off', true),
                   set_config('max_parallel_workers_per_gather', '0', true)
            "#,
            &[&i64::from(file.oid)],
        )
        .await?;
    file.judge(filenode, side)?;
    // PostgreSQL numbers blocks with 32 bits.
    Ok((age as u32, u32::try_from(blocks.unwrap_or(0)).unwrap_or(u32::MAX)))
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
