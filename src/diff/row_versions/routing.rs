//! Where the rows of a partition's keys are looked up.
//!
//! A unique index of a partitioned table has all columns that it is partitioned by, so a key says in
//! which partition its row is. Where both servers say so in the same words, a row that was found in a
//! partition has its other version there or nowhere. A lookup in the table itself would plan, and look
//! into, each of its partitions.

use super::BlockRange;
use crate::diff::{Sessions, Source, Tables};
use crate::error::Result;
use crate::postgres::Session;

/// What has every row of the keys of a range, on base and on head: the partition that the range is of,
/// or else the table.
pub(super) async fn sources(
    sessions: &mut Sessions<'_>,
    tables: &Tables,
    range: &BlockRange,
) -> Result<(Source, Source)> {
    let base = tables.base.as_ref().unwrap_or(&tables.head);
    if range.head != tables.head.relation {
        let Sessions { base: on_base, head: on_head } = sessions;
        let oid = range.file.oid;
        let routes = tokio::try_join!(route(on_base, oid), route(on_head, oid))?;
        if let (Some(on_base), Some(on_head)) = routes
            && on_base == on_head
        {
            let partition =
                |source: &Source, relation| Source { relation, only: false, ..source.clone() };
            return Ok((
                partition(base, range.base.clone()),
                partition(&tables.head, range.head.clone()),
            ));
        }
    }
    Ok((base.clone(), tables.head.clone()))
}

/// How a row comes into a partition, level by level from the partition to the root; `None` if some
/// level takes what no other partition takes, which says nothing of the row.
async fn route(session: &Session, oid: u32) -> Result<Option<String>> {
    session
        .query_opt(
            r#"
            select string_agg(concat_ws('|', c.oid, pg_get_expr(c.relpartbound, c.oid),
                                        pg_get_partkeydef(c.oid)), E'\n' order by t.number)
              from pg_partition_ancestors($1::int8::oid::regclass)
                     with ordinality as t (relid, number)
              join pg_class c on c.oid = t.relid
            having coalesce(bool_and(pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'), false)
            "#,
            &[&i64::from(oid)],
        )
        .await
}
