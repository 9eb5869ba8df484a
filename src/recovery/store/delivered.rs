//! What sinks must still hold: everything that counts as delivered.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Store;
use crate::error::Result;
use crate::postgres::{Json, from_row};
use crate::sink::{Held, HubIncarnation, delta_table_gone};

/// A recovery's events in the delta table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaRows {
    /// So many are there.
    pub(crate) found: i64,
    /// So many at least were delivered: by items that have completed, and by others up to their
    /// checkpoints.
    pub(crate) delivered: i64,
}

from_row!(DeltaRows { found, delivered });

impl Store {
    /// The hub of this address as it was when the recovery first opened it, which is now if nothing
    /// is stored yet. Of two processes that ask at once both get the same.
    pub(crate) async fn hub(
        &self,
        recovery: Uuid,
        address: &str,
        found: HubIncarnation,
    ) -> Result<HubIncarnation> {
        let Json(began) = self
            .pool()
            .query_one(
                r#"
                update deltacompare.recovery as r
                   set hubs = jsonb_build_object($2::text, $3::jsonb) || r.hubs
                 where r.id = $1
                returning r.hubs -> $2
                "#,
                &[&recovery, &address, &Json(found)],
            )
            .await?;
        Ok(began)
    }

    /// Adds a warning to a recovery, unless it has it.
    pub(crate) async fn warn(&self, recovery: Uuid, warning: &str) -> Result<()> {
        tracing::warn!(%recovery, warning, "a recovery has a new warning");
        self.pool()
            .execute(
                r#"
                update deltacompare.recovery as r
                   set warnings = r.warnings || to_jsonb($2::text)
                 where r.id = $1 and not r.warnings ? $2
                "#,
                &[&recovery, &warning],
            )
            .await?;
        Ok(())
    }

    /// What each of the recovery's sinks was last known to hold, by its place in the request; those
    /// of which nothing is known are left out.
    pub(crate) async fn held(&self, recovery: Uuid) -> Result<BTreeMap<usize, Held>> {
        let held: Vec<(i64, Json<Held>)> = self
            .pool()
            .query(
                r#"
                select distinct on (h.place) h.place, h.held
                  from deltacompare.work_item w
                 cross join lateral jsonb_array_elements(w.held) with ordinality as h (held, place)
                 where w.recovery_id = $1 and h.held ? 'file'
                 order by h.place, (h.held #>> '{file,length}')::int8 desc
                "#,
                &[&recovery],
            )
            .await?;
        Ok(held.into_iter().map(|(place, held)| (place as usize - 1, held.0)).collect())
    }

    /// Counts the recovery's rows in the delta table, in the snapshot in which it looks at the
    /// items: what they count as delivered was committed before.
    ///
    /// # Errors
    /// [`ErrorKind::EventsLost`](crate::error::ErrorKind::EventsLost) if there is no such table.
    pub(crate) async fn delta_rows(&self, recovery: Uuid) -> Result<DeltaRows> {
        self.pool()
            .query_one(
                r#"
            select (select count(*) from deltacompare.delta d where d.recovery_id = $1) as found,
                   (select coalesce(sum(
                             case when w.state = 'completed' then w.inserts + w.updates + w.deletes
                                  else (w.done ->> 'inserts')::int8 + (w.done ->> 'updates')::int8
                                         + (w.done ->> 'deletes')::int8
                             end), 0)::int8
                      from deltacompare.work_item w
                     where w.recovery_id = $1) as delivered
            "#,
                &[&recovery],
            )
            .await
            .map_err(|error| match error.sqlstate() {
                // undefined_table
                Some("42P01") => delta_table_gone(),
                _ => error,
            })
    }
}
