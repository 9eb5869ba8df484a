//! How much of a table changed, before anything is decided.

use super::{BlockRange, GROUP, Reader};
use crate::diff::{Sessions, Tables};
use crate::error::Result;
use crate::postgres::Session;

/// Groups of blocks that are looked at.
const GROUPS: usize = 64;

/// The share of row versions that one side alone has, from 0 to 1, out of a few groups of blocks of
/// the range, chosen by chance. Reads within the transactions that are open in `sessions`.
pub(crate) async fn changed_share(
    sessions: Sessions<'_>,
    tables: &Tables,
    range: &BlockRange,
) -> Result<f64> {
    let mut reader = Reader::open(sessions, tables, range).await?;
    let groups = reader.end.saturating_sub(range.blocks.start).div_ceil(GROUP) as usize;
    let mut chosen: Vec<u32> =
        rand::seq::index::sample(&mut rand::rng(), groups, GROUPS.min(groups))
            .into_iter()
            .map(|group| range.blocks.start + group as u32 * GROUP)
            .collect();
    chosen.sort_unstable();
    let listed = reader.candidates(&chosen).await?;
    let on_head = listed.on_head as f64;
    let new = listed.candidates.head_only.len() as f64;
    let old = listed.candidates.base_only.len() as f64;
    // Base has what head has, less what is new, and what is old.
    Ok((new + old) / (2.0 * on_head - new + old).max(1.0))
}

/// Whether base's rows lie about in the order of a column, so that reading them in that order does
/// not jump from block to block. What statistics do not tell is taken for no.
pub(crate) async fn follows_its_key(
    base: &Session,
    tables: &Tables,
    column: usize,
) -> Result<bool> {
    let Some(source) = &tables.base else { return Ok(false) };
    base.query_one(
        r#"
        select coalesce(bool_or(abs(s.correlation) > 0.9), false)
          from pg_stats s
         where s.schemaname = $1 and s.tablename = $2 and s.attname = $3 and not s.inherited
        "#,
        &[
            &source.relation.schema.name(),
            &source.relation.name.name(),
            &source.columns[column].name.as_str(),
        ],
    )
    .await
}
