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
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
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
use host::predecessor::Handler;
use host::{invocation, parent};
use http::problem::Problem;
use state::App;

/// How long invocations may take to end once the process is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Answers the Functions host on this port of the loopback address until `stop` resolves or the host is
/// gone; then running items are given back, and go on elsewhere from their last checkpoints.
///
/// It answers `GET /` at once, before anything that it depends on is configured or can be reached.
///
/// # Errors
/// Refused if the port cannot be had.
pub async fn serve(port: u16, options: Options, stop: impl Future<Output = ()>) -> Result<()> {
    let host_is_gone = parent::gone();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::refused(format!("cannot listen on {address}: {error}; name another --port"))
            .because(error)
    })?;
    let (stopping, stopped) = watch::channel(false);
    // The host starts its handler in the app's folder.
    let handler = Handler::begin(Path::new("."), &std::env::temp_dir());
    let died = handler.predecessor.is_some();
    let app = Arc::new(App::new(options, handler, stopped.clone()));
    tracing::info!(%address, "listening");
    if died {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            if let Err(error) = queue::take_over(&app).await {
                // The messages come back, and leases run out.
                tracing::info!(%error, "what the last process was at could not be gone on with yet");
            }
        });
    }
    let mut until = stopped;
    let server = axum::serve(listener, router(Arc::clone(&app)))
        .with_graceful_shutdown(async move {
            let _ = until.wait_for(|stop| *stop).await;
        })
        .into_future();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        served = &mut server => return served.map_err(|error| {
            Error::recovery(format!("the server ended: {error}; start it again")).because(error)
        }),
        () = stop => {}
        () = host_is_gone => tracing::warn!("the Functions host is gone: its handler ends, too"),
    }
    stopping.send_replace(true);
    let ended = async {
        let _ = server.await;
        // Those whose callers are gone have no connection that the server waits for.
        app.invocations_ended().await;
    };
    let _ = tokio::time::timeout(STOPS_WITHIN, ended).await;
    Ok(())
}

/// What the host hands on is brought into the form in which the routes are known before one is looked
/// for.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .fallback_service(routes(app))
        .layer(middleware::from_fn(http::receive_whole))
        .layer(middleware::from_fn(http::as_routed))
}

fn routes(app: Arc<App>) -> Router {
    Router::new()
        // How the host finds out that the handler is up.
        .route("/", get(async || "deltacompare"))
        .merge(http::routes())
        .merge(queue::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address has another method")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), contain))
        .with_state(app)
}

/// A task of its own for each invocation: a panic in one is its failure and nobody else's. It goes on
/// when the caller is gone.
async fn contain(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let logged = invocation::logged(request.headers());
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // Those that only look are many, and a trace of them tells nothing.
    let span = match path.filter(|_| request.method() == Method::POST) {
        Some(path) if path.starts_with("/api/") => {
            logged.in_scope(|| invocation::of_request(&format!("POST {path}"), request.headers()))
        }
        _ => Span::none(),
    };
    let invocation = app.begin_invocation();
    let running = async move {
        let response = next.run(request).instrument(span).await;
        drop(invocation);
        response
    };
    match tokio::spawn(running.instrument(logged.clone())).await {
        Ok(response) => response,
        Err(error) => {
            logged.in_scope(|| tracing::error!(%error, "an invocation panicked"));
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "an error of the program's own: see its log, and report it",
            )
            .into_response()
        }
    }
}
