//! `GET /api/plan/{id}`: a plan that takes longer than a caller waits.
//!
//! The platform cuts a request off after 230 s, and a plan of many tables, or of servers that are busy,
//! may take longer. So a caller waits for [`WAITS`] and is then told where to ask; the same question
//! leads to the same plan, whichever instance it comes to.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use uuid::Uuid;

use super::problem::Problem;
use super::request::{self, RecoveryRequest};
use super::words;
use crate::app::plans::PlanAnswer;
use crate::app::state::App;
use crate::error::Error;
use crate::model::{Plan, PlanPending, ProblemDocument, Request};
use crate::preflight::Servers;
use crate::recovery;

/// How long a caller waits for a plan before it is told where to ask for it.
const WAITS: Duration = Duration::from_secs(20);

/// After which time it is to ask again, in seconds.
const ASK_AGAIN_SECONDS: u64 = 5;

/// What plans' ids are made within.
const PLANS: Uuid = Uuid::from_u128(0x6f2c_1a8e_52d3_4c0b_9d0e_73f4_b1a6_2c95);

/// A plan that took longer than its caller waited. It is kept for an hour.
#[utoipa::path(
    get,
    path = "/api/plan/{id}",
    operation_id = "GetPlan",
    params(("id" = Uuid, Path, description = "The plan.")),
    responses(
        (status = 200, description = "The plan.", body = Plan),
        (status = 202, description = "It is still being made.", body = PlanPending,
         headers(("Location" = String, description = "Where to ask for it."),
                 ("Retry-After" = u64, description = "After how many seconds."))),
        (status = 404, description = "There is no such plan, or not any more.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The recovery would be refused; every reason found.",
         body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "A server does not answer, or too many other plans are being \
         made.", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(in crate::app) async fn get(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let unknown = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "there is no plan {text}: plans are kept for an hour; ask for it again with POST \
                 /api/plan"
            ),
        )
    };
    let id: Uuid = text.parse().map_err(|_| unknown())?;
    let asked = app.store().await?.asked_plan(id).await?.ok_or_else(unknown)?;
    if let Some((status, text)) = asked.status.zip(asked.answer) {
        let status = u16::try_from(status).unwrap_or(500);
        return Ok(respond(PlanAnswer { status, text: text.into() }));
    }
    if let Some(plan) = app.plans.in_progress(id) {
        return Ok(plan.within(WAITS).await.map_or_else(|| pending(id), respond));
    }
    if asked.is_alive {
        return Ok(pending(id));
    }
    // The process that made it has ended.
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (said, body) = request::read(&headers, Ok(asked.body.into()))?;
    of(&app, &said, body).await
}

/// The plan of a request, or where to ask for it.
pub(in crate::app) async fn of(
    app: &App,
    said: &Value,
    body: RecoveryRequest,
) -> Result<Response, Problem> {
    let servers = body.servers(app.servers().await?);
    let request = body.request(&app.defaults()?.request)?;
    let id = id_of(&servers, &request, said)?;
    if app.plans.in_progress(id).is_none()
        && let Some(store) = app.opened_store()
        && let Ok(Some(asked)) = store.asked_plan(id).await
        && asked.is_alive
    {
        return Ok(pending(id));
    }
    let Some(plan) = app.plans.join(id, || make(servers, request)) else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many plans are being made at once: ask again in a minute",
        ));
    };
    if let Some(answer) = plan.within(WAITS).await {
        return Ok(respond(answer));
    }
    let stored = match app.store().await {
        Ok(store) => plan.store(store, id, &said.to_string()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        // Nobody else could answer for it.
        tracing::warn!(plan = %id, %error, "how a plan stands could not be stored");
        let answer = plan.within(Duration::MAX).await;
        return Ok(answer.map_or_else(|| pending(id), respond));
    }
    Ok(pending(id))
}

fn id_of(servers: &Servers, request: &Request, said: &Value) -> Result<Uuid, Problem> {
    let request = serde_json::to_string(request)
        .map_err(|error| Error::recovery(format!("the request cannot be written: {error}")))?;
    let Servers { base, head } = servers;
    Ok(Uuid::new_v5(&PLANS, format!("{base} {head} {request} {said}").as_bytes()))
}

async fn make(servers: Servers, request: Request) -> PlanAnswer {
    match recovery::plan(&servers, &request).await.and_then(|plan| words::answer(&plan)) {
        Ok(Json(plan)) => PlanAnswer { status: 200, text: plan.to_string().into() },
        Err(error) => {
            let problem = Problem::from(error);
            PlanAnswer { status: problem.status().as_u16(), text: problem.detail().into() }
        }
    }
}

fn respond(PlanAnswer { status, text }: PlanAnswer) -> Response {
    if status == 200 {
        let json = HeaderValue::from_static("application/json");
        return ([(header::CONTENT_TYPE, json)], text.to_string()).into_response();
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Problem::new(status, text.to_string()).into_response()
}

fn pending(id: Uuid) -> Response {
    let headers = [
        (header::LOCATION, format!("/api/plan/{id}")),
        (header::RETRY_AFTER, ASK_AGAIN_SECONDS.to_string()),
    ];
    let document = PlanPending { plan_id: id, retry_after_seconds: ASK_AGAIN_SECONDS };
    (StatusCode::ACCEPTED, headers, Json(document)).into_response()
}
