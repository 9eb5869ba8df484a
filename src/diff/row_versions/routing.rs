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

/// The first oid that is not one of PostgreSQL's own objects (`FirstNormalObjectId`).
const FIRST_OF_USERS: i64 = 16_384;

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

/// How a row comes into a partition, level by level from the partition to the root, as a hash: a bound
/// may have text that is no UTF-8. `None` where that is not known: a level takes what no other
/// partition takes, or its operator class or collation is a user's, whose functions may be others on
/// the other server under the same name.
async fn route(session: &Session, oid: u32) -> Result<Option<String>> {
    session
        .query_opt(
            r#"
            select md5(string_agg(concat_ws('|', c.oid, pg_get_expr(c.relpartbound, c.oid),
                                            pg_get_partkeydef(c.oid)), E'\n' order by t.number))
              from pg_partition_ancestors($1::int8::oid::regclass)
                     with ordinality as t (relid, number)
              join pg_class c on c.oid = t.relid
            having coalesce(bool_and(pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'), false)
               and not exists (
                     select from pg_partition_ancestors($1::int8::oid::regclass) a (relid)
                       join pg_partitioned_table p on p.partrelid = a.relid
                      where p.partexprs is not null
                         or exists (select from unnest(p.partclass) as used (oid)
                                     where used.oid >= $2::int8::oid)
                         or exists (select from unnest(p.partcollation) as used (oid)
                                     where used.oid >= $2::int8::oid)
                         or exists (select from pg_attribute k join pg_type t on t.oid = k.atttypid
                                     where k.attrelid = p.partrelid and k.attnum = any (p.partattrs)
                                       and t.oid >= $2::int8::oid))
            "#,
            &[&i64::from(oid), &FIRST_OF_USERS],
        )
        .await
}
