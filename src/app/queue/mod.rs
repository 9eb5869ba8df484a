//! The app's driver of recoveries: a message says which recovery to advance or which item to work on,
//! and what is due afterwards is sent as further messages. One file a function.

mod diff_table;
mod expired_leases;
mod fail_message;
mod plan_recovery;
mod take_over;
mod watchdog;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use tracing::Instrument;

use super::host::invocation;
use super::queues::Message;
use super::state::App;
use crate::error::Result;

pub(super) use take_over::take_over;

/// The addresses to which the Functions host posts messages and timer ticks.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/PlanRecovery", post(plan_recovery::plan))
        .route("/DiffTable", post(diff_table::diff))
        .route("/FailPlan", post(fail_message::fail_plan))
        .route("/FailWorkItem", post(fail_message::fail_work_item))
        .route("/Watchdog", post(watchdog::watch))
}

/// Does what the message of an invocation says, in a span that continues the message's trace.
async fn on_message<F: Future<Output = Result<()>>>(
    app: &Arc<App>,
    function: &str,
    headers: &HeaderMap,
    body: &Bytes,
    work: impl FnOnce(Message) -> F,
) -> Response {
    match invocation::message::<Message>(body) {
        Ok(message) => {
            expired_leases::watch(app, message.recovery);
            let span = invocation::of_message(function, headers, message.trace.as_deref());
            invocation::answer(work(message).instrument(span).await)
        }
        Err(error) => invocation::drop_message(&error),
    }
}
