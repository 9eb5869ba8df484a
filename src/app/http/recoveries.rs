//! `GET /api/recoveries`, `…/{id}` and `…/{id}/tables`: how recoveries stand, out of the status store.
//!
//! Answers carry an `ETag`; a dashboard that asks again with it hears 304 until something changes.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::problem::Problem;
use super::words;
use crate::app::state::{App, in_time};
use crate::model::{ProblemDocument, RecoveryStatus, RecoverySummary, TableStatus};
use crate::recovery::Page;

/// Which part of a list.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::app) struct Part {
    /// So many are left out at the beginning.
    #[param(minimum = 0, maximum = 4294967295u32, default = 0)]
    offset: Option<u32>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The function key, which the host hands on.
    #[param(ignore)]
    #[serde(rename = "code")]
    _code: Option<String>,
    /// The key's name, which the host hands on.
    #[param(ignore)]
    #[serde(rename = "clientId")]
    _client_id: Option<String>,
}

const DEFAULT_LIMIT: u32 = 100;
const MOST: u32 = 1000;

/// Recoveries, the newest first.
#[derive(Serialize, ToSchema)]
pub(in crate::app) struct Recoveries {
    recoveries: Vec<RecoverySummary>,
    /// The offset of the next part; null if there is none.
    next_offset: Option<u32>,
}

/// A recovery's tables, by name.
#[derive(Serialize, ToSchema)]
pub(in crate::app) struct Tables {
    tables: Vec<TableStatus>,
    /// The offset of the next part; null if there is none.
    next_offset: Option<u32>,
}

/// The recoveries, the newest first.
#[utoipa::path(
    get,
    path = "/api/recoveries",
    operation_id = "ListRecoveries",
    params(Part),
    responses(
        (status = 200, description = "A part of the list.", body = Recoveries,
         headers(("ETag" = String))),
        (status = 304, description = "Nothing has changed since the `If-None-Match`."),
        (status = 400, description = "offset or limit cannot be used.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "A setting of the app is wrong.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = page(part)?;
    let store = app.answering_store().await?;
    let found = in_time(store.recoveries(one_more(page))).await?;
    let (recoveries, next_offset) = cut(found, page);
    tagged(&headers, &Recoveries { recoveries, next_offset })
}

/// How a recovery stands.
#[utoipa::path(
    get,
    path = "/api/recoveries/{id}",
    operation_id = "GetRecovery",
    params(("id" = Uuid, Path, description = "The recovery.")),
    responses(
        (status = 200, description = "How it stands.", body = RecoveryStatus,
         headers(("ETag" = String))),
        (status = 304, description = "Nothing has changed since the `If-None-Match`."),
        (status = 404, description = "There is no such recovery.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "A setting of the app is wrong.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn get(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = recovery_id(&id)?;
    let found = in_time(app.answering_store().await?.status(id)).await?;
    tagged(&headers, &found.ok_or_else(|| Problem::unknown_recovery(id))?)
}

/// A recovery's tables, by name.
#[utoipa::path(
    get,
    path = "/api/recoveries/{id}/tables",
    operation_id = "ListTables",
    params(("id" = Uuid, Path, description = "The recovery."), Part),
    responses(
        (status = 200, description = "A part of the list.", body = Tables,
         headers(("ETag" = String))),
        (status = 304, description = "Nothing has changed since the `If-None-Match`."),
        (status = 400, description = "offset or limit cannot be used.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 404, description = "There is no such recovery.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 422, description = "A setting of the app is wrong.", body = ProblemDocument,
         content_type = "application/problem+json"),
        (status = 503, description = "The control database does not answer.",
         body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn tables(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = recovery_id(&id)?;
    let page = page(part)?;
    let store = app.answering_store().await?;
    if in_time(store.recovery(id)).await?.is_none() {
        return Err(Problem::unknown_recovery(id));
    }
    let found = in_time(store.tables(id, one_more(page))).await?;
    let (tables, next_offset) = cut(found, page);
    tagged(&headers, &Tables { tables, next_offset })
}

fn page(part: Result<Query<Part>, QueryRejection>) -> Result<Page, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(part) =
        part.map_err(|_| bad("use offset and limit, each once, both numbers".to_owned()))?;
    let limit = part.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(bad(format!("limit must be from 1 to {MOST}")));
    }
    Ok(Page { offset: part.offset.unwrap_or(0), limit })
}

/// One more than asked for tells whether there are more.
fn one_more(page: Page) -> Page {
    Page { limit: page.limit + 1, ..page }
}

fn cut<T>(mut found: Vec<T>, page: Page) -> (Vec<T>, Option<u32>) {
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    (found, page.offset.checked_add(page.limit).filter(|_| more))
}

/// An id of the path.
pub(in crate::app) fn recovery_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::unknown_recovery(text))
}

/// The document with its tag, or 304 if the caller has it.
fn tagged(headers: &HeaderMap, document: &impl Serialize) -> Result<Response, Problem> {
    let Json(document) = words::answer(document)?;
    let body = document.to_string();
    let digest = Sha1::digest(&body);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hex}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let known = known.is_some_and(|tags| {
        tags.split(',')
            .map(str::trim)
            .any(|known| known.trim_start_matches("W/") == tag || known == "*")
    });
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    Ok(if known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    })
}
