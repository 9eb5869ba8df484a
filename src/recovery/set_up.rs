//! What a recovery needs on the two servers before items can be worked on, and its removal.

use uuid::Uuid;

use super::store::{Store, StoredRecovery};
use super::work_item::ItemState;
use crate::error::{Error, Result};
use crate::fdw::{self, ForeignTable, Link};
use crate::model::Verify;
use crate::postgres::{Ident, Session};
use crate::preflight::{self, Servers};
use crate::telemetry::metrics;

/// Whether two pairs of restores are one, as far as both tell.
pub(super) fn are_restores(then: &str, now: &str) -> bool {
    then.is_empty()
        || then.split(' ').zip(now.split(' ')).all(|(then, now)| preflight::same_restore(then, now))
}

/// A recovery goes on with the two restores that it began with, and with no others.
pub(super) fn same_restores(
    recovery: &StoredRecovery,
    checked: &preflight::PreflightReport,
) -> Result<()> {
    // Where they ended counts only if the histories could be read both times.
    let same_ends = match (recovery.ends, checked.ends) {
        (Some(then), Some(now)) => then == now,
        _ => true,
    };
    if are_restores(&recovery.restores, &checked.restores) && same_ends {
        return Ok(());
    }
    Err(Error::refused(format!(
        "recovery {} began with other restores than these: name the same --base and --head as \
         then, or begin a new recovery",
        recovery.id
    )))
}

/// The foreign tables that what is left of a recovery needs.
pub(super) async fn foreign_tables_left(
    store: &Store,
    recovery: &StoredRecovery,
) -> Result<Vec<ForeignTable>> {
    let verified = recovery.request.verify == Verify::Full;
    Ok(store
        .items(recovery.id)
        .await?
        .into_iter()
        .filter(|item| verified || matches!(item.state, ItemState::Pending | ItemState::Running))
        .filter_map(|item| item.spec.foreign)
        .collect())
}

/// Creates the link and its foreign tables. Its sessions carry the recovery's name, so that those
/// of a process that died in the middle of it are ended by whoever removes the rest.
pub(super) async fn set_up_link(
    servers: &Servers,
    link: &Link,
    foreign: &[ForeignTable],
) -> Result<()> {
    let (base, mut head) = connect_both(servers, link.name.name()).await?;
    link.establish(&base, &mut head).await?;
    fdw::create_foreign_tables(link, &base, &head, foreign).await?;
    tokio::join!(base.close(), head.close());
    Ok(())
}

pub(super) async fn connect_both(servers: &Servers, name: &str) -> Result<(Session, Session)> {
    tokio::try_join!(servers.base.connect(name), servers.head.connect(name))
}

/// Drops what the recovery created on the servers, and ends its sessions.
pub(super) async fn remove_objects(servers: &Servers, id: Uuid) -> Result<()> {
    let _watch = metrics::watch(metrics::Step::CleanUp);
    let (base, head) = connect_both(servers, "deltacompare clean-up").await?;
    fdw::remove(&base, &head, &Ident::new(fdw::object_name(id))).await?;
    tokio::join!(base.close(), head.close());
    Ok(())
}
