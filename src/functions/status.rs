//! `GET /api/recoveries`, `…/{id}` and `…/{id}/tables`: how recoveries stand, out of the status store.
//!
//! Answers carry an `ETag`; a dashboard that asks again with it hears 304 until something changes.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::app::App;
use super::problem::Problem;

/// Which part of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    offset: Option<u32>,
    limit: Option<u32>,
}

const DEFAULT_LIMIT: u32 = 100;
const MOST: u32 = 1000;

const RECOVERIES: &str = r#"
    select coalesce(jsonb_agg(to_jsonb(r) order by r.started_at desc), '[]')
      from (select id, state, started_at, finished_at, error
              from (select id, state, created_at as started_at, finished_at, error
                      from deltacompare.recovery
                     where $1::uuid is null) all_of_them
             order by started_at desc, id
             offset $2 limit $3) r
"#;

/// The newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let (offset, limit) = bounds(page)?;
    let found = app.store().await?.document(RECOVERIES, None, offset, limit).await?;
    Ok(tagged(&headers, &serde_json::json!({"recoveries": found})))
}

/// Progress is by expected bytes. The time left is judged by the time that ended items took.
const RECOVERY: &str = r#"
    select to_jsonb(s)
      from (select r.id, r.state, r.request, r.base, r.head, r.gap, r.warnings, r.error,
                   r.base_end_lsn, r.head_end_lsn,
                   r.created_at as started_at, r.finished_at,
                   jsonb_build_object('inserts', i.inserts, 'updates', i.updates,
                                      'deletes', i.deletes) as totals,
                   i.rows_compared, i.bytes as bytes_expected, i.bytes_done,
                   case when r.state = 'completed' then 1
                        when i.bytes > 0 then round(i.bytes_done / i.bytes, 4) else 0
                    end as progress,
                   case when r.state = 'running' and i.bytes_done > 0
                        then round((i.bytes - i.bytes_done) / i.bytes_done * i.seconds
                                   / (r.request ->> 'parallel')::numeric)
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
                           coalesce(sum(seconds), 0)::numeric as seconds,
                           jsonb_build_object(
                             'pending', count(*) filter (where state = 'pending'),
                             'running', count(*) filter (where state = 'running'),
                             'completed', count(*) filter (where state = 'completed'),
                             'failed', count(*) filter (where state = 'failed')) as items
                      from deltacompare.work_item
                     where recovery_id = r.id) i
             cross join lateral
                   (select count(*) filter (where failed) as failed,
                           count(*) filter (where not failed and begun and open) as running,
                           count(*) filter (where not failed and not begun and open) as pending,
                           count(*) filter (where not failed and not open) as completed
                      from (select bool_or(state = 'failed') as failed,
                                   bool_or(state in ('pending', 'running')) as open,
                                   bool_or(state <> 'pending') as begun
                              from deltacompare.work_item
                             where recovery_id = r.id
                             group by schema_name, table_name) its_tables) t
             where r.id = $1
            offset $2 limit $3) s
"#;

/// One recovery.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = recovery_id(&id)?;
    let found = app.store().await?.document(RECOVERY, Some(id), 0, 1).await?;
    match found {
        Some(status) => Ok(tagged(&headers, &status)),
        None => Err(Problem::unknown_recovery(id)),
    }
}

const TABLES: &str = r#"
    select coalesce(jsonb_agg(to_jsonb(t) order by t.schema, t."table"), '[]')
      from (select schema_name as schema, table_name as "table",
                   case when bool_or(state = 'failed') then 'failed'
                        when bool_and(state = 'completed') then 'completed'
                        when bool_and(state = 'pending') then 'pending'
                        else 'running' end as state,
                   min(strategy) as strategy, min(strategy_reason) as strategy_reason,
                   count(*) filter (where state in ('completed', 'failed')) as ranges_done,
                   count(*) as ranges,
                   sum(bytes) as bytes, sum(inserts) as inserts, sum(updates) as updates,
                   sum(deletes) as deletes, sum(rows_compared) as rows_compared,
                   sum(seconds) as seconds,
                   (select coalesce(jsonb_agg(distinct w), '[]')
                      from deltacompare.work_item o
                     cross join jsonb_array_elements(o.warnings) w
                     where o.recovery_id = $1
                       and (o.schema_name, o.table_name) = (i.schema_name, i.table_name))
                     as warnings,
                   min(error) as error
              from deltacompare.work_item i
             where recovery_id = $1
             group by schema_name, table_name
             order by 1, 2
            offset $2 limit $3) t
"#;

/// A recovery's tables by name, at most 1000 a page.
pub(super) async fn tables(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let id = recovery_id(&id)?;
    let (offset, limit) = bounds(page)?;
    let store = app.store().await?;
    if store.recovery(id).await?.is_none() {
        return Err(Problem::unknown_recovery(id));
    }
    let found = store.document(TABLES, Some(id), offset, limit + 1).await?;
    let mut rows = match found {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = more.then_some(offset + limit);
    Ok(tagged(&headers, &serde_json::json!({"tables": rows, "next_offset": next})))
}

fn bounds(
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<(i64, i64), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(page) = page.map_err(|_| bad("use offset and limit, both numbers".to_owned()))?;
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(bad(format!("limit must be from 1 to {MOST}")));
    }
    Ok((page.offset.unwrap_or(0).into(), limit.into()))
}

/// An id of the path.
pub(super) fn recovery_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::unknown_recovery(text))
}

/// The document with its tag, or 304 if the caller has it.
pub(super) fn tagged(headers: &HeaderMap, document: &Value) -> Response {
    let body = document.to_string();
    let digest = Sha1::digest(body.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hex}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let known = known.is_some_and(|tags| {
        tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*")
    });
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
