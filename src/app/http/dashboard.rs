//! `GET /api/dashboard` and `GET /api/dashboard/{id}`: one page for people. Anonymous, for it holds no
//! data: its script asks the API for them, with the key that the operator enters.

use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::prelude::{BASE64_STANDARD, Engine};
use ring::digest::{SHA256, digest};

const PAGE: &str = include_str!("dashboard.html");

/// Only this page's own script and style, by their hashes, and only requests to this origin. Markup
/// cannot be made of text (trusted types), and no other page can frame this one.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        source_hash("<script type=\"module\">", "</script>"),
        source_hash("<style>", "</style>"),
    )
});

/// The page, which lists the recoveries.
#[utoipa::path(
    get,
    path = "/api/dashboard",
    operation_id = "ShowDashboard",
    security(()),
    responses((status = 200, description = "A page for people.", body = String,
               content_type = "text/html")),
)]
pub(in crate::app) async fn show() -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, &POLICY),
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    (headers, PAGE).into_response()
}

/// The same page, which shows one recovery. Whether there is one, it finds out itself.
#[utoipa::path(
    get,
    path = "/api/dashboard/{id}",
    operation_id = "ShowRecovery",
    params(("id" = String, Path, description = "The recovery.")),
    security(()),
    responses((status = 200, description = "A page for people.", body = String,
               content_type = "text/html")),
)]
pub(in crate::app) async fn show_recovery() -> Response {
    show().await
}

/// How a policy names what stands between these two (Content Security Policy Level 3, "hash-source").
fn source_hash(open: &str, close: &str) -> String {
    let inside = PAGE.split_once(open).and_then(|(_, rest)| rest.split_once(close));
    let (inside, _) = inside.unwrap_or_default();
    format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, inside.as_bytes())))
}
