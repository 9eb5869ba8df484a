//! Statements that nobody waits for any more are cancelled on the server: it would go on with them
//! for as long as they take.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How often the server is asked. A request that comes before the statement does nothing.
const ATTEMPTS: u32 = 3;
/// How long an attempt may take, and how long its effect is waited for.
const WITHIN: Duration = Duration::from_millis(700);

/// Sessions whose statements are being cancelled.
static STOPPING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Cancels what is under way in a session whose client is gone, and sees the session end.
pub(super) async fn cancel(
    token: CancelToken,
    tls: MakeRustlsConnect,
    mut connection: JoinHandle<()>,
) {
    for _ in 0..ATTEMPTS {
        let asked = timeout(WITHIN, token.cancel_query(tls.clone())).await;
        if timeout(WITHIN, &mut connection).await.is_ok() {
            return;
        }
        tracing::debug!(?asked, "a statement goes on although it was cancelled");
    }
    // `client_connection_check_interval` ends it.
    connection.abort();
}

/// The same, without waiting for it.
pub(super) fn cancel_soon(token: CancelToken, tls: MakeRustlsConnect, connection: JoinHandle<()>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let stopping = Stopping::begin();
    runtime.spawn(async move {
        cancel(token, tls, connection).await;
        drop(stopping);
    });
}

/// Waits until statements that were dropped have been cancelled: to be called before the runtime is
/// shut down. Bounded in time.
pub async fn statements_stopped() {
    let mut stopping = STOPPING.subscribe();
    let _ = timeout(2 * WITHIN * ATTEMPTS, stopping.wait_for(|sessions| *sessions == 0)).await;
}

struct Stopping;

impl Stopping {
    fn begin() -> Self {
        STOPPING.send_modify(|sessions| *sessions += 1);
        Self
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        STOPPING.send_modify(|sessions| *sessions -= 1);
    }
}
