//! Which processes work on a recovery right now, in the control database's advisory locks: they end
//! with the session that holds them, however its process ends.

use uuid::Uuid;

use crate::error::Result;
use crate::postgres::{Server, Session};

/// This process's presence at a recovery, for as long as this lives.
#[derive(Debug)]
pub(super) struct Presence {
    session: Session,
    recovery: Uuid,
}

impl Presence {
    /// Joins a recovery. Waits while somebody who is alone with it sets it up or tidies it up.
    pub(super) async fn join(control: &Server, recovery: Uuid) -> Result<Self> {
        let session = session(control).await?;
        // Whoever proves a recovery may take hours.
        session.execute("set lock_timeout = 0", &[]).await?;
        let mut presence = Self { session, recovery };
        presence
            .call("select pg_advisory_lock_shared(hashtextextended($1, 0))", "at work on")
            .await?;
        Ok(presence)
    }

    /// Whether no other process works on the recovery. If so, none joins until [`Self::share`].
    pub(super) async fn alone(&mut self) -> Result<bool> {
        let alone = self
            .session
            .query_one(
                "select pg_try_advisory_lock(hashtextextended($1, 0))",
                &[&self.key("at work on")],
            )
            .await?;
        Ok(alone)
    }

    /// Lets others join again, after [`Self::alone`].
    pub(super) async fn share(&mut self) -> Result<()> {
        self.call("select pg_advisory_unlock(hashtextextended($1, 0))", "at work on").await
    }

    /// Waits until no other process proves the recovery; from then on, none does.
    pub(super) async fn prove_alone(&mut self) -> Result<()> {
        self.call("select pg_advisory_lock(hashtextextended($1, 0))", "proving").await
    }

    /// Leaves the recovery.
    pub(super) async fn leave(self) {
        self.session.close().await;
    }

    fn key(&self, what: &str) -> String {
        format!("deltacompare {what} {}", self.recovery)
    }

    async fn call(&mut self, statement: &'static str, what: &str) -> Result<()> {
        self.session.execute(statement, &[&self.key(what)]).await?;
        Ok(())
    }
}

/// The turn of the one process that takes a queued recovery's next step: plans, proves, tidies up.
/// It ends with the session that holds it, however its process ends.
#[derive(Debug)]
pub(super) struct Turn(Session);

impl Turn {
    /// Takes the turn, unless another process has it.
    pub(super) async fn take(control: &Server, recovery: Uuid) -> Result<Option<Self>> {
        let session = session(control).await?;
        let taken = session
            .query_one(
                "select pg_try_advisory_lock(hashtextextended($1, 0))",
                &[&format!("deltacompare step of {recovery}")],
            )
            .await?;
        Ok(if taken { Some(Self(session)) } else { None })
    }

    /// Leaves the turn to others.
    pub(super) async fn end(self) {
        self.0.close().await;
    }
}

/// A session whose server notices within half a minute that the machine at its other end is gone.
async fn session(control: &Server) -> Result<Session> {
    let session = control.connect("deltacompare presence").await?;
    session.batch_execute("set tcp_keepalives_idle = 15; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3")
    .await?;
    Ok(session)
}
