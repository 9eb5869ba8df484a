//! The leases of work items, as those see them who do not hold them.

use std::time::Duration;

use uuid::Uuid;

use super::Store;
use crate::error::Result;

/// The leases of a live recovery's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leases {
    /// Whether some have run out, so that their items are open.
    pub(crate) expired: bool,
    /// When the next of the others runs out unless it is renewed.
    pub(crate) next: Option<Duration>,
}

impl Store {
    /// How the leases of a recovery's items stand now; `None` if it has ended.
    pub(crate) async fn leases(&self, recovery: Uuid) -> Result<Option<Leases>> {
        let found: Option<(bool, Option<f64>)> = self
            .pool
            .query_opt(
                r#"
            select coalesce(bool_or(i.lease_until <= now.at), false),
                   extract(epoch from min(i.lease_until - now.at)
                                      filter (where i.lease_until > now.at))::float8
              from deltacompare.recovery r
             cross join (select clock_timestamp() as at offset 0) now
              left join deltacompare.work_item i on i.recovery_id = r.id and i.state = 'running'
             where r.id = $1 and r.state in ('planning', 'running')
             group by r.id
            "#,
                &[&recovery],
            )
            .await?;
        Ok(found.map(|(expired, next)| Leases { expired, next: next.map(seconds) }))
    }

    /// For how long another process has a batch yet, if that is why it cannot be claimed. Yields it to
    /// one caller until then, whose message is to come back at that time; the others, and their
    /// messages, are not needed.
    pub(crate) async fn leased_for(&self, recovery: Uuid, batch: i32) -> Result<Option<Duration>> {
        let left: Option<f64> = self
            .pool
            .query_opt(
                r#"
            with leased as (
              select min(number) as first, max(lease_until) as until
                from deltacompare.work_item
               where recovery_id = $1 and batch = $2 and state = 'running'
                 and lease_until > clock_timestamp() and worker is distinct from $3)
            update deltacompare.work_item i set sent_at = leased.until
              from leased
             where i.recovery_id = $1 and i.number = leased.first and i.state = 'running'
               and (i.sent_at is null or i.sent_at <= clock_timestamp())
               and exists (select from deltacompare.recovery where id = $1 and state = 'running')
            returning extract(epoch from leased.until - clock_timestamp())::float8
            "#,
                &[&recovery, &batch, &self.worker],
            )
            .await?;
        Ok(left.map(seconds))
    }

    /// Ends the leases of a process that is known to be dead: its items are open at once, and whoever
    /// claims one finds that it was left behind.
    pub(crate) async fn end_leases(&self, dead: Uuid) -> Result<()> {
        self.pool
            .execute(
                r#"
            update deltacompare.work_item
               set lease_until = clock_timestamp(), sent_at = null
             where worker = $1 and lease_until > clock_timestamp()
            "#,
                &[&dead],
            )
            .await?;
        Ok(())
    }
}

/// At least none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
