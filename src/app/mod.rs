//! The Azure Functions app: what the Functions host's custom handler answers.
//!
//! The host starts `deltacompare serve`, forwards HTTP functions as they come, and posts queue
//! messages and timer ticks to `/<Function>`. State never travels through this process: the status
//! store is the truth, messages are hints, and the host may kill the process at any instant.

mod host;
mod http;
mod plans;
mod queue;
mod queues;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{Instrument, Span};

pub use host::bindings;
pub use state::{Defaults, Options};

use crate::error::{Error, Result};
use host::invocation;
use http::problem::Problem;
use state::App;

/// How long invocations may take to end once the process is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// The largest body of a request: a record of two restores has some 230 bytes a table and side.
const MAX_BODY_BYTES: usize = 32 << 20;

/// Answers the Functions host on this port of the loopback address until `stop` resolves; then
/// running items are given back, and go on elsewhere from their last checkpoints.
///
/// It answers `GET /` at once, before anything that it depends on is configured or can be reached.
///
/// # Errors
/// Refused if the port cannot be had.
pub async fn serve(port: u16, options: Options, stop: impl Future<Output = ()>) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::refused(format!("cannot listen on {address}: {error}; name another --port"))
            .because(error)
    })?;
    let (stopping, stopped) = watch::channel(false);
    let app = Arc::new(App::new(options, stopped.clone()));
    tracing::info!(%address, "listening");
    let mut until = stopped;
    let server = axum::serve(listener, router(app))
        .with_graceful_shutdown(async move {
            let _ = until.wait_for(|stop| *stop).await;
        })
        .into_future();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        served = &mut server => served.map_err(|error| {
            Error::recovery(format!("the server ended: {error}; start it again")).because(error)
        }),
        () = stop => {
            stopping.send_replace(true);
            let _ = tokio::time::timeout(STOPS_WITHIN, server).await;
            Ok(())
        }
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        // How the host finds out that the handler is up.
        .route("/", get(async || "deltacompare"))
        .merge(http::routes())
        .merge(queue::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address has another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(contain))
        .with_state(app)
}

/// A task of its own for each invocation: a panic in one is its failure and nobody else's.
async fn contain(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // Those that only look are many, and a trace of them tells nothing.
    let span = match path.filter(|_| request.method() == Method::POST) {
        Some(path) if path.starts_with("/api/") => {
            invocation::span(&format!("POST {path}"), request.headers(), None)
        }
        _ => Span::none(),
    };
    match tokio::spawn(next.run(request).instrument(span)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "an invocation panicked");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "an error of the program's own: see its log, and report it",
            )
            .into_response()
        }
    }
}
