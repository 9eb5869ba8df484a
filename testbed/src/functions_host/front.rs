//! HTTP functions: requests are checked, forwarded to an instance, and answered whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    TRANSFER_ENCODING, USER_AGENT,
};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::Shared;
use super::app::Trigger;
use super::log::{Level, LogLine};

/// What a request may weigh: 100 MB, as with the host.
const LARGEST_BODY: usize = 100 << 20;

/// The keys that open functions.
#[derive(Debug)]
pub(super) struct Keys {
    /// Opens all.
    pub(super) host: String,
    /// Each opens the function of this name.
    pub(super) functions: BTreeMap<String, String>,
}

impl Keys {
    pub(super) fn new<'f>(functions: impl Iterator<Item = &'f str>) -> Self {
        let key = || Uuid::new_v4().simple().to_string();
        Self { host: key(), functions: functions.map(|name| (name.to_owned(), key())).collect() }
    }

    fn open(&self, function: &str, key: &str) -> bool {
        key == self.host || self.functions.get(function).is_some_and(|own| own == key)
    }
}

/// Answers requests until it is dropped.
pub(super) async fn serve(listener: TcpListener, host: Arc<Shared>) {
    let router = Router::new().fallback(answer).with_state(host);
    let _ = axum::serve(listener, router).await;
}

async fn answer(State(host): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some((function, anonymous)) = function(&host, parts.method.as_str(), &parts.uri) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let key = key(&parts.uri, &parts.headers);
    if !anonymous && !key.is_some_and(|key| host.keys.open(&function, &key)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    // The host fails to forward a chunked request.
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut headers = parts.headers;
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if let Ok(agent) = format!("{agent} Azure-Functions-Host/4.0").trim_start().parse() {
        headers.insert(USER_AGENT, agent);
    }
    for lost in [CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        headers.remove(lost);
    }
    if let Ok(id) = Uuid::new_v4().to_string().parse() {
        headers.insert(HeaderName::from_static("x-azure-functions-invocationid"), id);
    }
    let Some(instance) = host.choose() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let limit = host.request_limit;
    // It goes on when the caller has gone, or has been cut off.
    let invocation = tokio::spawn(async move {
        let outcome = instance.forward(parts.method, &path, headers, body.to_vec()).await;
        if let Err(error) = &outcome {
            host.log.push(LogLine {
                instance: instance.number,
                level: Level::Error,
                by_handler: false,
                text: format!("Executed '{function}' (Failed): {error:#}"),
            });
        }
        outcome
    });
    match tokio::time::timeout(limit, invocation).await {
        Ok(Ok(Ok((status, headers, body)))) => {
            let mut response = (status, body).into_response();
            *response.headers_mut() = headers;
            for own in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
                response.headers_mut().remove(own);
            }
            response
        }
        // The platform's load balancer has no more patience.
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The function of this route and method, and whether it is open to all. As with the host, a known
/// route with another method is an unknown one, and case does not matter.
fn function(host: &Shared, method: &str, uri: &Uri) -> Option<(String, bool)> {
    let (prefix, path) = uri.path().strip_prefix('/')?.split_once('/')?;
    if !prefix.eq_ignore_ascii_case(&host.app.route_prefix) {
        return None;
    }
    host.app.functions.iter().find_map(|function| match &function.trigger {
        Trigger::Http { methods, route, anonymous }
            if route.fits(path) && methods.iter().any(|own| own.eq_ignore_ascii_case(method)) =>
        {
            Some((function.name.clone(), *anonymous))
        }
        _ => None,
    })
}

/// The key in the header, else the one in the query.
fn key(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-functions-key") {
        return key.to_str().ok().map(str::to_owned);
    }
    let query = uri.query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("code=").map(str::to_owned))
}
