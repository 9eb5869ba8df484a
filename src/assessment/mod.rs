//! What can be said of a production server before anything is restored or paid for: its slots and how
//! long they last, its publications, what a recovery needs of it.
//!
//! Reads catalogs and statistics only, in transactions that are read-only. The locks are those that a
//! look at `pg_publication_tables` takes.

mod database;
mod requirements;
mod server;
mod slots;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};
use crate::model::{Assessment, Loss};
use crate::postgres::Server;
use server::Facts;

/// What the server cannot say.
#[derive(Clone, Debug)]
pub struct Known {
    /// Bytes of the server's disk.
    pub disk_bytes: Option<u64>,
    /// Days for which its backups are kept.
    pub retention_days: u16,
    /// Slots that must be there.
    pub slots: Vec<String>,
    /// When the slot was lost.
    pub lost_at: Option<Timestamp>,
    /// How long to look at the rate of WAL.
    pub watch: Duration,
}

/// At this share of its disk Azure makes a server read-only (or below 5 GiB free, whichever comes
/// first): <https://learn.microsoft.com/azure/postgresql/configure-maintain/concepts-limits>.
const READ_ONLY_AT: f64 = 0.95;
const READ_ONLY_BELOW: u64 = 5 << 30;

/// Assesses a server by a session on each of its databases. Changes nothing.
///
/// # Errors
/// Refused if it is a standby, or reached through a pooler; or it cannot be reached.
pub async fn assess(server: &Server, known: Known) -> Result<Assessment> {
    let session = server.connect_unpooled(SESSION).await?;
    session.batch_execute(READ_ONLY).await?;
    let facts = Facts::read(&session).await?;
    let at = facts.at()?;
    let position = server::wal_position(&session).await?;
    tokio::time::sleep(known.watch).await;
    let wal = server::wal(&session, position, known.watch).await?;
    let free_bytes = match known.disk_bytes {
        Some(disk) => {
            let usable =
                ((disk as f64 * READ_ONLY_AT) as u64).min(disk.saturating_sub(READ_ONLY_BELOW));
            Some(usable.saturating_sub(server::used_bytes(&session).await?))
        }
        None => None,
    };
    let mut slots = slots::read(&session, &facts, wal.bytes_a_second(), free_bytes).await?;
    let there = session.query("select slot_name::text from pg_replication_slots", &[]).await?;
    slots::add_missing(&mut slots, &known.slots, &there);
    let names = server::databases(&session).await?;
    let mut requirements = requirements::of(&facts);
    let mut wakes = server::subscriptions(&session).await?;
    session.close().await;

    let mut databases = Vec::new();
    for (name, bytes, takes_connections) in &names {
        let readers = slots.iter().filter(|slot| slot.database.as_ref() == Some(name));
        let readers: Vec<String> = readers.map(|slot| slot.name.clone()).collect();
        let found = database::read(server, name, *bytes, *takes_connections, readers).await;
        wakes.extend(found.wakes);
        if found.database.is_concerned() {
            databases.push(found.database);
        }
    }
    requirements.extend(requirements::of_databases(&facts, &databases));
    let loss = known
        .lost_at
        .or_else(|| slots::lost_since(&slots))
        .map(|lost_at| loss(lost_at, at, known.retention_days))
        .transpose()?;
    Ok(Assessment {
        at,
        server: format!("{}:{}", server.host(), server.port()),
        version: facts.version,
        wal,
        bytes: names.iter().filter_map(|(_, bytes, _)| *bytes).sum(),
        free_bytes,
        slots,
        databases,
        loss,
        requirements,
        wakes,
    })
}

/// What each session does first.
const READ_ONLY: &str = "set default_transaction_read_only = on";

/// The name of the sessions.
const SESSION: &str = "deltacompare assess";

/// Whether a moment can be restored to, while backups are kept for so many days.
fn loss(at: Timestamp, now: Timestamp, retention_days: u16) -> Result<Loss> {
    if at > now {
        return Err(Error::refused(format!("{at} lies in the future: say when the slot was lost")));
    }
    let kept = SignedDuration::from_hours(24 * i64::from(retention_days));
    let restorable_until = at.checked_add(kept).map_err(|error| {
        Error::refused(format!("{at} is no moment that a server can be restored to")).because(error)
    })?;
    Ok(Loss { at, restorable_until, restorable: now < restorable_until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_can_be_restored_to_as_long_as_backups_are_kept() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let found = |now| loss(at("2026-01-01T00:00:00Z"), at(now), 7).unwrap();
        assert!(found("2026-01-07T23:59:59Z").restorable);
        assert!(!found("2026-01-08T00:00:00Z").restorable);
        assert_eq!(found("2026-01-02T00:00:00Z").restorable_until, at("2026-01-08T00:00:00Z"));
        assert!(loss(Timestamp::MAX, Timestamp::MAX, 7).is_err());
        assert!(loss(at("2026-01-02T00:00:00Z"), at("2026-01-01T00:00:00Z"), 7).is_err());
    }
}
