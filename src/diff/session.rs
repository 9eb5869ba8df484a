//! The two sessions that a diff reads with.

use crate::error::Result;
use crate::postgres::{Session, Transaction};

/// A session on either server. Each has a transaction open in which one snapshot is read.
///
/// The strategies that read little talk to both servers at once; `full` uses head's session only
/// and reads base through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sessions<'a> {
    pub(crate) base: &'a Session,
    pub(crate) head: &'a Session,
}

/// Opens the transaction in which an item reads one side: one snapshot, nothing written.
pub(crate) async fn snapshot(session: &mut Session) -> Result<Transaction<&mut Session>> {
    session.begin_snapshot().await
}
