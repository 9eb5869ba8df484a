//! A second look at what is equal: contents of groups of blocks chosen by chance.
//!
//! Row versions prove rows equal as long as PostgreSQL alone wrote to the two restores, and counted
//! what it wrote. `--verify sample` looks whether that was so: it compares the contents of a share
//! of the groups whose row versions are the same, in the snapshots in which these were compared.

use super::{BlockRange, GROUP};
use crate::diff::{Source, Tables, checksum, tid};
use crate::error::{Error, Result};
use crate::postgres::{QualifiedName, Session};

/// Some of these groups, by chance: so many in a hundred, and one at least.
pub(super) fn choose(groups: &[u32], percent: u8) -> Vec<u32> {
    let amount = (groups.len() * usize::from(percent)).div_ceil(100).min(groups.len());
    let mut chosen: Vec<u32> = rand::seq::index::sample(&mut rand::rng(), groups.len(), amount)
        .into_iter()
        .map(|at| groups[at])
        .collect();
    chosen.sort_unstable();
    chosen
}

/// Compares the contents of groups whose row versions are equal.
///
/// # Errors
/// They are not; says where.
pub(super) async fn compare(
    range: &BlockRange,
    base: &Session,
    head: &Session,
    tables: &Tables,
    groups: Vec<u32>,
) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    let base_source = tables.base.as_ref().unwrap_or(&tables.head);
    let sides = (
        SampledSide(tables, base_source, &range.base),
        SampledSide(tables, &tables.head, &range.head),
    );
    let end = range.blocks.end;
    let (on_base, on_head) = tokio::try_join!(
        sides.0.checksums(base, &groups, GROUP, end),
        sides.1.checksums(head, &groups, GROUP, end),
    )?;
    let Some(at) = (0..groups.len()).find(|&at| on_base.get(at) != on_head.get(at)) else {
        return Ok(());
    };
    let group = groups[at];
    let blocks: Vec<u32> = (group..end.min(group.saturating_add(GROUP))).collect();
    let (on_base, on_head) = tokio::try_join!(
        sides.0.checksums(base, &blocks, 1, end),
        sides.1.checksums(head, &blocks, 1, end),
    )?;
    let block = (0..blocks.len())
        .find(|&at| on_base.get(at) != on_head.get(at))
        .map_or(group, |at| blocks[at]);
    Err(Error::item(format!(
        "verification failed: rows of {} in block {block} are the same row versions on both \
         servers and yet have different contents: a restore was changed behind PostgreSQL's back, or \
         is damaged, and the events of this table are not proved; restore again, or recover the \
         table anew with --strategy content",
        range.head
    )))
}

/// A relation on the server that holds it.
struct SampledSide<'a>(&'a Tables, &'a Source, &'a QualifiedName);

impl SampledSide<'_> {
    /// Checksums of the compared columns of all tuples in groups of `size` blocks, in the groups'
    /// order; none for a group without tuples.
    async fn checksums(
        &self,
        connection: &Session,
        groups: &[u32],
        size: u32,
        end: u32,
    ) -> Result<Vec<Option<i64>>> {
        let Self(tables, source, relation) = self;
        // As for fingerprints: the aggregate keeps each group a TID range scan of its own.
        let sql = format!(
            r#"
            select c.xor
              from unnest($1::tid[], $2::tid[]) with ordinality as g (low, high, position)
             cross join lateral (
                   select bit_xor({checksum}) as xor
                     from only {relation} as r
                    where r.ctid >= g.low and r.ctid < g.high) as c
             order by g.position
            "#,
            checksum = checksum::of_tuple(tables, source, "r"),
        );
        let (low, high) = tid::bounds(groups, size, end);
        connection.query(&sql, &[&low, &high]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_rounded_up_and_nothing_is_taken_twice() {
        let groups: Vec<u32> = (0..200).map(|group| group * 4).collect();
        assert!(choose(&groups, 0).is_empty());
        assert!(choose(&[], 50).is_empty());
        assert_eq!(choose(&groups, 100), groups);
        assert_eq!(choose(&groups[..1], 1).len(), 1);
        let mut some = choose(&groups, 10);
        assert_eq!(some.len(), 20);
        some.dedup();
        assert_eq!(some.len(), 20);
        assert_ne!(choose(&groups, 10), choose(&groups, 10), "once in 10^26 times");
    }
}
