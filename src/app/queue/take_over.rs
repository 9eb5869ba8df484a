//! What a process does first if another one on this instance died before it: it goes on with that one's
//! items. The host would bring their messages again only after a while.

use std::sync::Arc;

use super::expired_leases;
use crate::app::state::App;
use crate::error::Result;

/// Sends the messages that live recoveries need now. The items of the process before this one are open
/// by then: see [`App::engine`].
pub(in crate::app) async fn take_over(app: &Arc<App>) -> Result<()> {
    for recovery in app.store().await?.live().await? {
        expired_leases::watch(app, recovery);
        app.send_due(recovery, None).await?;
    }
    Ok(())
}
