//! The two sessions that a diff reads with.

use sqlx::{Connection, PgConnection, PgTransaction};

use crate::error::Result;

/// A session on either server. Each has a transaction open in which one snapshot is read.
///
/// The strategies that read little talk to both servers at once; `full` uses head's session only
/// and reads base through it.
#[derive(Debug)]
pub(crate) struct Sessions<'a> {
    pub(crate) base: &'a mut PgConnection,
    pub(crate) head: &'a mut PgConnection,
}

impl Sessions<'_> {
    /// The same sessions for a while.
    pub(crate) fn reborrow(&mut self) -> Sessions<'_> {
        Sessions { base: self.base, head: self.head }
    }
}

/// Opens the transaction in which an item reads one side: one snapshot, nothing written.
pub(crate) async fn snapshot(connection: &mut PgConnection) -> Result<PgTransaction<'_>> {
    Ok(connection
        .begin_with("begin transaction isolation level repeatable read, read only")
        .await?)
}
