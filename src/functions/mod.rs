//! The Azure Functions app: what the Functions host's custom handler answers, one file a function.
//! Only health is there yet; what the other functions of [`bindings`] are sent is not found.
//!
//! The host starts `deltacompare serve`, forwards HTTP functions as they come, and posts queue
//! messages and timer ticks to `/<Function>`. State never travels through this process: the status
//! store is the truth, messages are hints, and the host may kill the process at any instant.

mod app;
pub mod bindings;
mod health;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::error::{Error, Result};
use app::App;

/// Answers the Functions host on this port of the loopback address until `stop` resolves.
///
/// It answers `GET /` at once, before anything that it depends on is configured or can be reached.
///
/// # Errors
/// Refused if the port cannot be had.
pub async fn serve(port: u16, stop: impl Future<Output = ()>) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::refused(format!("cannot listen on {address}: {error}; name another --port"))
            .because(error)
    })?;
    let app = Arc::new(App::default());
    tracing::info!(%address, "listening");
    let server = axum::serve(listener, router(app)).into_future();
    tokio::select! {
        served = server => served.map_err(|error| {
            Error::recovery(format!("the server ended: {error}; start it again")).because(error)
        }),
        () = stop => Ok(()),
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        // How the host finds out that the handler is up.
        .route("/", get(async || "deltacompare"))
        .route("/api/health", get(health::health))
        .with_state(app)
}
