//! Plans that take longer than a caller waits, so that any process can answer for them.

use std::time::Duration;

use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::postgres::from_row;

/// How long a process that makes a plan may be silent before another one makes it.
const LEASE_SECONDS: f64 = 30.0;

/// How often it says that it is at it.
pub(crate) const RENEW_PLAN_EVERY: Duration = Duration::from_secs(10);

/// How long an answer is kept, in seconds.
const KEPT_SECONDS: f64 = 3600.0;

/// Plans that are kept at most; one may have some megabytes.
const MOST_KEPT: i64 = 20;

/// A plan that was asked for.
#[derive(Debug)]
pub(crate) struct AskedPlan {
    /// What was asked.
    pub(crate) body: String,
    /// Whether the process that makes it has said so a moment ago.
    pub(crate) is_alive: bool,
    /// The HTTP status of the answer, and its document; null until it is made.
    pub(crate) status: Option<i32>,
    pub(crate) answer: Option<String>,
}

from_row!(AskedPlan { body, is_alive, status, answer });

impl Store {
    /// The plan of this id, unless nobody has asked for it within the last hour.
    pub(crate) async fn asked_plan(&self, id: Uuid) -> Result<Option<AskedPlan>> {
        self.pool()
            .query_opt(
                r#"
            select body, status, answer,
                   ended_at is null and lease_until > clock_timestamp() as is_alive
              from deltacompare.asked_plan
             where id = $1
               and coalesce(ended_at, lease_until) > clock_timestamp() - $2 * interval '1 s'
            "#,
                &[&id, &KEPT_SECONDS],
            )
            .await
    }

    /// Says that this process makes a plan, and forgets old ones. Yields false, and does nothing, while
    /// another process makes it.
    pub(crate) async fn begin_plan(&self, id: Uuid, body: &str) -> Result<bool> {
        let begun = self
            .pool()
            .execute(
                r#"
            insert into deltacompare.asked_plan (id, body, worker, lease_until)
            values ($1, $2, $3, clock_timestamp() + $4 * interval '1 s')
            on conflict (id) do update
               set body = excluded.body, worker = excluded.worker, asked_at = clock_timestamp(),
                   lease_until = excluded.lease_until, ended_at = null, status = null, answer = null
             where asked_plan.ended_at is not null
                or asked_plan.lease_until < clock_timestamp()
                or asked_plan.worker = excluded.worker
            "#,
                &[&id, &body, &self.worker(), &LEASE_SECONDS],
            )
            .await?;
        self.pool()
            .execute(
                r#"
            delete from deltacompare.asked_plan as p
             where coalesce(p.ended_at, p.lease_until) < clock_timestamp() - $1 * interval '1 s'
                or p.ended_at is not null
                   and p.id not in (select n.id from deltacompare.asked_plan as n
                                     order by n.asked_at desc limit $2)
            "#,
                &[&KEPT_SECONDS, &MOST_KEPT],
            )
            .await?;
        Ok(begun == 1)
    }

    /// Says that this process is still at it.
    pub(crate) async fn renew_plan(&self, id: Uuid) -> Result<()> {
        self.pool()
            .execute(
                r#"
            update deltacompare.asked_plan
               set lease_until = clock_timestamp() + $3 * interval '1 s'
             where id = $1 and worker = $2 and ended_at is null
            "#,
                &[&id, &self.worker(), &LEASE_SECONDS],
            )
            .await
            .map(drop)
    }

    /// Stores the answer, unless another process makes the plan by now.
    pub(crate) async fn end_plan(&self, id: Uuid, status: u16, answer: &str) -> Result<()> {
        self.pool()
            .execute(
                r#"
            update deltacompare.asked_plan
               set ended_at = clock_timestamp(), status = $3, answer = $4
             where id = $1 and worker = $2 and ended_at is null
            "#,
                &[&id, &self.worker(), &i32::from(status), &answer],
            )
            .await
            .map(drop)
    }
}
