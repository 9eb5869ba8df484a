//! Leases that run out: a process that died has had the items, and the message that named them is with
//! the host of that process for ten more minutes. The Watchdog would find them, but it runs in one
//! process, and when that one has died too, it is away for up to two minutes. So each process that works
//! on a recovery looks for them itself.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::app::state::App;
use crate::error::Result;

/// How often a recovery's leases are looked at: with one statement.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// A lease that is about to run out is looked at a moment later.
const RUN_OUT: Duration = Duration::from_millis(100);

/// Looks at the leases of a recovery until it has ended, unless this process does so already.
pub(super) fn watch(app: &Arc<App>, recovery: Uuid) {
    if !app.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(recovery) {
        return;
    }
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut stop = app.stop.clone();
        loop {
            let wait = match look(&app, recovery).await {
                Ok(Some(wait)) => wait,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%recovery, %error, "its leases could not be looked at");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        app.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&recovery);
    });
}

/// Sends messages for items whose leases have run out. Yields when to look again; `None` if the recovery
/// has ended.
async fn look(app: &App, recovery: Uuid) -> Result<Option<Duration>> {
    let Some(leases) = app.store().await?.leases(recovery).await? else { return Ok(None) };
    if leases.expired {
        app.send_due(recovery, None).await?;
    }
    let next = leases.next.map(|next| next + RUN_OUT);
    Ok(Some(next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)))
}
