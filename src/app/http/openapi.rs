//! `GET /api/openapi.json`: the HTTP functions, described.

use axum::Json;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::ResponseBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    asked_plan, cancel_recovery, dashboard, health, plan, recoveries, retry_recovery,
    start_recovery,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "DeltaCompare",
        description = "Recovers the changes that downstream missed while a PostgreSQL logical \
                       replication slot was lost."
    ),
    paths(
        start_recovery::start,
        recoveries::list,
        recoveries::get,
        recoveries::tables,
        cancel_recovery::cancel,
        retry_recovery::retry,
        plan::show,
        asked_plan::get,
        health::health,
        dashboard::show,
        dashboard::show_recovery,
        describe,
    ),
    security(("key" = []), ("code" = [])),
    modifiers(&FunctionKeys),
)]
struct Api;

/// What the Functions host wants to see of a caller.
struct FunctionKeys;

impl Modify for FunctionKeys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme(
            "key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-functions-key"))),
        );
        components.add_security_scheme(
            "code",
            SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("code"))),
        );
        for item in api.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                if operation.security.is_none() {
                    let closed = "The function key is missing or wrong. The host's own answer.";
                    let response = ResponseBuilder::new().description(closed).build();
                    operation.responses.responses.insert("401".to_owned(), response.into());
                }
            }
        }
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    operation_id = "OpenApi",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object))
)]
pub(in crate::app) async fn describe() -> Response {
    Json(Api::openapi()).into_response()
}
