//! What the store tells those who watch.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::model::{RecoveryStatus, RecoverySummary, TableStatus};
use crate::postgres::Json;

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

/// The newest first.
const RECOVERIES: &str = r#"
select to_jsonb(r)
  from (select id, state, database, created_at as started_at, finished_at, error
          from deltacompare.recovery
         where $1::uuid is null
         order by created_at desc, id
        offset $2 limit $3) r
"#;

/// Progress is by expected bytes, of items that are worked on by rows where these were counted; an
/// item without bytes takes a moment, too. Until it is closed, a recovery is not quite done. The time
/// left is judged by the time that ended items took.
const RECOVERY: &str = r#"
select to_jsonb(s)
  from (select r.id, r.state, r.database, r.request, r.keep_objects, r.base, r.head, r.gap,
               r.warnings, r.error, r.base_end_lsn, r.head_end_lsn,
               r.created_at as started_at, r.finished_at,
               jsonb_build_object('inserts', i.inserts, 'updates', i.updates,
                                  'deletes', i.deletes) as totals,
               i.rows_compared, i.bytes as bytes_expected, i.bytes_done,
               case when r.state = 'completed' then 1
                    else least(coalesce(round(i.share, 4), 0),
                               case when r.state in ('planning', 'running') then 0.9999 else 1 end)
                end as progress,
               case when r.state = 'running' and i.bytes_done > 0
                    then round((i.bytes - i.bytes_done) / i.bytes_done * i.seconds
                               / (r.request -> 'parallel')::numeric)
                end as seconds_left,
               i.items,
               jsonb_build_object(
                 'pending', t.pending, 'running', t.running, 'completed', t.completed,
                 'failed', t.failed) as tables
          from deltacompare.recovery r
         cross join lateral
               (select coalesce(sum(inserts), 0) as inserts, coalesce(sum(updates), 0) as updates,
                       coalesce(sum(deletes), 0) as deletes,
                       coalesce(sum(rows_compared), 0) as rows_compared,
                       coalesce(sum(bytes), 0) as bytes,
                       coalesce(sum(bytes) filter (where state in ('completed', 'failed')), 0)
                         as bytes_done,
                       sum((bytes + 8192)
                           * case when state in ('completed', 'failed') then 1
                                  when rows > 0 then least(rows_compared::numeric / rows, 1)
                                  else 0 end)
                         / sum(bytes + 8192) as share,
                       coalesce(sum(seconds), 0)::numeric as seconds,
                       jsonb_build_object(
                         'pending', count(*) filter (where standing = 'pending'),
                         'running', count(*) filter (where standing = 'running'),
                         'completed', count(*) filter (where standing = 'completed'),
                         'failed', count(*) filter (where standing = 'failed')) as items
                  from deltacompare.item_standing
                 where recovery_id = r.id) i
         cross join lateral
               (select count(*) filter (where failed) as failed,
                       count(*) filter (where not failed and begun and open) as running,
                       count(*) filter (where not failed and not begun and open) as pending,
                       count(*) filter (where not failed and not open) as completed
                  from (select bool_or(state = 'failed') as failed,
                               bool_or(state in ('pending', 'running')) as open,
                               bool_or(standing <> 'pending') as begun
                          from deltacompare.item_standing
                         where recovery_id = r.id
                         group by schema_name, table_name) its_tables) t
         where r.id = $1
        offset $2 limit $3) s
"#;

/// By name.
const TABLES: &str = r#"
select to_jsonb(t) || jsonb_build_object('warnings',
         (select coalesce(jsonb_agg(distinct w.warning), '[]')
            from jsonb_array_elements(t.warnings) i (warnings)
           cross join jsonb_array_elements(i.warnings) w (warning)))
  from (select i.*, a.rows_base, a.rows_head, a.balance
          from (select schema_name as schema, table_name as "table",
               case when bool_or(state = 'failed') then 'failed'
                    when bool_and(state = 'completed') then 'completed'
                    when bool_and(standing = 'pending') then 'pending'
                    else 'running' end as state,
               min(strategy) as strategy, min(strategy_reason) as strategy_reason,
               count(*) filter (where state in ('completed', 'failed')) as ranges_done,
               count(*) as ranges,
               sum(bytes) as bytes, sum(inserts) as inserts, sum(updates) as updates,
               sum(deletes) as deletes, sum(rows_compared) as rows_compared,
               case when bool_and(state = 'completed')
                    then mod(sum(events_digest), 340282366920938463463374607431768211456)::text end as events_digest,
               sum(seconds) as seconds,
               jsonb_agg(warnings) as warnings, min(error) as error
          from deltacompare.item_standing
         where recovery_id = $1
         group by schema_name, table_name
         order by schema_name, table_name
        offset $2 limit $3) i
          left join deltacompare.account a
            on a.recovery_id = $1 and a.schema_name = i.schema and a.table_name = i."table"
         order by i.schema, i."table") t
"#;

impl Store {
    /// Recoveries, the newest first.
    pub(crate) async fn recoveries(&self, page: Page) -> Result<Vec<RecoverySummary>> {
        self.documents(RECOVERIES, None, page).await
    }

    /// How a recovery stands, if there is one with this id.
    pub(crate) async fn status(&self, id: Uuid) -> Result<Option<RecoveryStatus>> {
        Ok(self.documents(RECOVERY, Some(id), Page { offset: 0, limit: 1 }).await?.pop())
    }

    /// How a recovery's tables stand, by name.
    pub(crate) async fn tables(&self, id: Uuid, page: Page) -> Result<Vec<TableStatus>> {
        self.documents(TABLES, Some(id), page).await
    }

    async fn documents<T>(
        &self,
        query: &'static str,
        id: Option<Uuid>,
        page: Page,
    ) -> Result<Vec<T>>
    where
        T: DeserializeOwned + Send + Unpin + 'static,
    {
        let documents: Vec<Json<T>> =
            self.pool.query(query, &[&id, &i64::from(page.offset), &i64::from(page.limit)]).await?;
        Ok(documents.into_iter().map(|document| document.0).collect())
    }
}
