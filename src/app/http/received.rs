//! What the host hands on, before it is looked at.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::TryStreamExt;

use super::problem::Problem;

/// The largest body of a request: a record of two restores has some 230 bytes a table and side.
const MAX_BODY_BYTES: usize = 32 << 20;

/// Everything of the app's is below this path.
const PREFIX: &str = "/api/";

/// Brings the path of a request into the form of the routes. The host's router ignores case and a slash
/// at the end, and hands the path on as it came.
pub(in crate::app) async fn as_routed(mut request: Request, next: Next) -> Response {
    if let Some(uri) = routed(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// The same address with the path of a route, if it is another one.
fn routed(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.get(..PREFIX.len())?.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let routed = path.trim_end_matches('/').to_ascii_lowercase();
    if routed == path {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{routed}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Receives the body of a request to its end before it is handled. One that is too large is received,
/// too, and dropped: who is still sending would see the connection break, and not the answer.
pub(in crate::app) async fn receive_whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match whole(body).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(problem) => problem.into_response(),
    }
}

async fn whole(body: Body) -> Result<Bytes, Problem> {
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::new();
    let mut received = 0;
    while let Some(part) = parts.try_next().await.map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "the body could not be received whole: it broke off")
    })? {
        received += part.len();
        if received > MAX_BODY_BYTES {
            whole = BytesMut::new();
        } else {
            whole.extend_from_slice(&part);
        }
    }
    if received > MAX_BODY_BYTES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the body could not be received whole: it may have {} MB",
                MAX_BODY_BYTES >> 20
            ),
        ));
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_that_of_its_route_whatever_its_case_and_end() {
        for (came, is) in [
            ("/api/dashboard/", "/api/dashboard"),
            (
                "/API/Recoveries/3B5C/Tables//?limit=2&code=A%2Fb",
                "/api/recoveries/3b5c/tables?limit=2&code=A%2Fb",
            ),
        ] {
            assert_eq!(routed(&came.parse().unwrap()).unwrap(), is);
        }
        for same in ["/", "/DiffTable", "/api", "/api/recoveries?code=K", "*"] {
            assert_eq!(routed(&same.parse().unwrap()), None, "{same}");
        }
    }
}
