//! The host's process, which started this one.

use std::os::unix::process::parent_id;
use std::time::Duration;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Resolves when the host is gone. It ends its handler by SIGKILL or, if it is killed or ends while an
/// invocation runs longer than it waits, not at all: then nobody calls this process any more.
pub(in crate::app) fn gone() -> impl Future<Output = ()> {
    let host = parent_id();
    async move {
        while parent_id() == host {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
