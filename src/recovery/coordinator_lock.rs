//! The lock of the one process that coordinates a recovery: that plans, verifies, closes or cleans
//! up.

use uuid::Uuid;

use crate::error::Result;
use crate::postgres::{Server, Session};

/// An advisory lock in the control database. PostgreSQL releases it with the session that holds it,
/// however the process ends. `fdw::Remains` looks for it, by the same key.
#[derive(Debug)]
pub(super) struct CoordinatorLock(Session);

impl CoordinatorLock {
    /// Takes the lock, unless another process has it.
    pub(super) async fn try_take(control: &Server, recovery: Uuid) -> Result<Option<Self>> {
        let session = control.connect("deltacompare coordinator").await?;
        // The server notices within half a minute that the machine at the other end is gone.
        session
            .batch_execute(
                "set tcp_keepalives_idle = 15; set tcp_keepalives_interval = 5; \
                 set tcp_keepalives_count = 3",
            )
            .await?;
        let taken = session
            .query_one(
                "select pg_try_advisory_lock(hashtextextended($1, 0))",
                &[&format!("deltacompare coordinates {recovery}")],
            )
            .await?;
        if taken {
            return Ok(Some(Self(session)));
        }
        session.close().await;
        Ok(None)
    }

    /// The session that holds the lock. What must not happen without the lock is done in it: if the
    /// session is gone, the lock is, and the statement fails.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.0
    }

    /// Whether the lock is still held.
    ///
    /// # Errors
    /// It is not.
    pub(super) async fn assert_held(&self) -> Result<()> {
        self.0.batch_execute("select").await
    }

    /// Releases the lock.
    pub(super) async fn release(self) {
        self.0.close().await;
    }
}
