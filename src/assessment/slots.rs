//! Logical slots: which are lost, and how long the others last.

use jiff::Timestamp;

use super::server::Facts;
use crate::error::Result;
use crate::model::{AssessedSlot, Lsn, SlotState};
use crate::postgres::{Session, from_row};

/// A slot that lasts for less is at risk.
const SOON_HOURS: f64 = 24.0;

struct SlotRow {
    name: String,
    database: String,
    plugin: String,
    active: bool,
    wal_status: Option<String>,
    safe_wal_size: Option<i64>,
    confirmed_flush_lsn: Option<String>,
    restart_lsn: Option<String>,
    retained: Option<i64>,
    /// Why it is invalidated, from PostgreSQL 17 on.
    invalidation: Option<String>,
    inactive_since: Option<i64>,
    failover: bool,
}

from_row!(SlotRow {
    name,
    database,
    plugin,
    active,
    wal_status,
    safe_wal_size,
    confirmed_flush_lsn,
    restart_lsn,
    retained,
    invalidation,
    inactive_since,
    failover
});

/// The logical slots of all databases, the worst first.
pub(super) async fn read(
    session: &Session,
    facts: &Facts,
    bytes_a_second: f64,
    free_bytes: Option<u64>,
) -> Result<Vec<AssessedSlot>> {
    // Columns that only newer servers have are looked for by name.
    let rows: Vec<SlotRow> = session
        .query(
            r#"
            select s.slot_name::text as name, s.database::text as database,
                   s.plugin::text as plugin, s.active, s.wal_status, s.safe_wal_size,
                   textin(pg_lsn_out(s.confirmed_flush_lsn)) as confirmed_flush_lsn,
                   textin(pg_lsn_out(s.restart_lsn)) as restart_lsn,
                   pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8 as retained,
                   to_jsonb(s) ->> 'invalidation_reason' as invalidation,
                   (extract(epoch from (to_jsonb(s) ->> 'inactive_since')::timestamptz) * 1000)::int8
                     as inactive_since,
                   coalesce((to_jsonb(s) ->> 'failover')::bool, false) as failover
              from pg_replication_slots s
             where s.slot_type = 'logical' and not s.temporary
             order by s.slot_name
            "#,
            &[],
        )
        .await?;
    let rate = bytes_a_second * 3600.0;
    let mut slots: Vec<AssessedSlot> =
        rows.into_iter().map(|row| row.assessed(facts, rate, free_bytes)).collect::<Result<_>>()?;
    slots.sort_by_key(|slot| slot.state);
    Ok(slots)
}

/// Adds those of these names that are not there, in front: they are lost. `known`: all slots, the
/// physical ones too.
pub(super) fn add_missing(slots: &mut Vec<AssessedSlot>, names: &[String], known: &[String]) {
    for name in names {
        if known.contains(name) {
            continue;
        }
        slots.insert(
            0,
            AssessedSlot {
                name: name.clone(),
                database: None,
                plugin: None,
                state: SlotState::Lost,
                why: "there is no such slot: a failover, a change of the server's size or the server \
                      itself has dropped it; what it had confirmed is in its consumer's stored \
                      offset"
                    .to_owned(),
                active: false,
                wal_status: None,
                confirmed_flush_lsn: None,
                restart_lsn: None,
                retained_bytes: None,
                inactive_since: None,
                hours_left: None,
                survives_failover: false,
            },
        );
    }
}

/// Since when the slot is lost that was lost first, where the server knows it.
pub(super) fn lost_since(slots: &[AssessedSlot]) -> Option<Timestamp> {
    slots
        .iter()
        .filter(|slot| slot.state == SlotState::Lost)
        .filter_map(|slot| slot.inactive_since)
        .min()
}

impl SlotRow {
    fn assessed(
        self,
        facts: &Facts,
        bytes_an_hour: f64,
        free_bytes: Option<u64>,
    ) -> Result<AssessedSlot> {
        let lsn = |text: Option<String>| text.map(|text| text.parse::<Lsn>()).transpose();
        let inactive_since =
            self.inactive_since.and_then(|at| Timestamp::from_millisecond(at).ok());
        let hours_left = self.hours_left(facts, bytes_an_hour, free_bytes);
        let (state, why) = self.judged(hours_left);
        let preloaded = facts.preloaded.split(',').any(|it| it.trim() == "pg_failover_slots");
        Ok(AssessedSlot {
            state,
            why,
            hours_left,
            inactive_since,
            survives_failover: !self.is_lost()
                && facts.standby_feedback
                && (preloaded || self.failover && facts.synchronizes_slots),
            confirmed_flush_lsn: lsn(self.confirmed_flush_lsn)?,
            restart_lsn: lsn(self.restart_lsn)?,
            retained_bytes: self.retained.map(i64::unsigned_abs),
            name: self.name,
            database: Some(self.database),
            plugin: Some(self.plugin),
            active: self.active,
            wal_status: self.wal_status,
        })
    }

    fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation.is_some()
    }

    /// Hours until the first of its limits, if nobody reads it from now on. `None` without a limit that
    /// is known, and for a slot that is lost.
    fn hours_left(
        &self,
        facts: &Facts,
        bytes_an_hour: f64,
        free_bytes: Option<u64>,
    ) -> Option<f64> {
        if self.is_lost() {
            return None;
        }
        let of_bytes = |bytes: f64| (bytes_an_hour > 0.0).then(|| bytes.max(0.0) / bytes_an_hour);
        let limit = self.safe_wal_size.filter(|_| facts.slot_limit >= 0);
        let idles = !self.active && facts.idle_limit > 0;
        let idle = self.inactive_since.filter(|_| idles).map(|since| {
            let idle = (facts.at - since) / 1000;
            (facts.idle_limit - idle).max(0) as f64 / 3600.0
        });
        [
            limit.and_then(|bytes| of_bytes(bytes as f64)),
            free_bytes.and_then(|bytes| of_bytes(bytes as f64)),
            idle,
        ]
        .into_iter()
        .flatten()
        .min_by(f64::total_cmp)
    }

    fn judged(&self, hours_left: Option<f64>) -> (SlotState, String) {
        let name = &self.name;
        if self.is_lost() {
            let reason = self.invalidation.as_deref().unwrap_or("wal_removed");
            return (
                SlotState::Lost,
                format!(
                    "it is invalidated ({reason}): what it had not sent is missing downstream; \
                     keep its confirmed_flush_lsn, drop it, and create {name} anew"
                ),
            );
        }
        let left = match hours_left {
            Some(hours) => format!("{hours:.1} hours are left while nobody reads it"),
            None => "how long it lasts is not known here: give --disk-gib".to_owned(),
        };
        if self.active {
            return (SlotState::Streaming, "a consumer is connected".to_owned());
        }
        if self.wal_status.as_deref() == Some("unreserved")
            || hours_left.is_some_and(|hours| hours < SOON_HOURS)
        {
            return (SlotState::AtRisk, format!("{left}: start its consumer now"));
        }
        (SlotState::Idle, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            at: "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond(),
            version: "18.1".to_owned(),
            version_number: 180_001,
            in_recovery: false,
            role: "me".to_owned(),
            may_replicate: true,
            may_create_roles: true,
            wal_level: "logical".to_owned(),
            track_counts: true,
            free_slots: 1,
            allowed_extensions: None,
            has_postgres_fdw: true,
            preloaded: String::new(),
            slot_limit: -1,
            idle_limit: 0,
            synchronizes_slots: true,
            standby_feedback: true,
        }
    }

    fn slot() -> SlotRow {
        SlotRow {
            name: "downstream".to_owned(),
            database: "shop".to_owned(),
            plugin: "pgoutput".to_owned(),
            active: false,
            wal_status: Some("reserved".to_owned()),
            safe_wal_size: None,
            confirmed_flush_lsn: Some("0/10".to_owned()),
            restart_lsn: Some("0/8".to_owned()),
            retained: Some(1),
            invalidation: None,
            inactive_since: None,
            failover: false,
        }
    }

    /// An hour of WAL.
    const HOUR: f64 = 1000.0;

    #[test]
    fn a_slot_is_judged_by_its_nearest_limit() {
        let assessed =
            |facts: &Facts, slot: SlotRow, free| slot.assessed(facts, HOUR, free).unwrap();
        let unknown = assessed(&facts(), slot(), None);
        assert_eq!((unknown.state, unknown.hours_left), (SlotState::Idle, None));
        assert!(unknown.why.contains("--disk-gib"), "{}", unknown.why);
        assert_eq!(unknown.confirmed_flush_lsn, Some(Lsn(0x10)));

        let of_disk = assessed(&facts(), slot(), Some(30_000));
        assert_eq!((of_disk.state, of_disk.hours_left), (SlotState::Idle, Some(30.0)));
        let soon = assessed(&facts(), slot(), Some(3_000));
        assert_eq!((soon.state, soon.hours_left), (SlotState::AtRisk, Some(3.0)));

        // A limit on what slots keep, which Azure has not.
        let limited = Facts { slot_limit: 1 << 30, ..facts() };
        let row = SlotRow { safe_wal_size: Some(1_500), ..slot() };
        assert_eq!(assessed(&limited, row, Some(30_000)).hours_left, Some(1.5));

        // A limit on how long nobody reads it.
        let idle = Facts { idle_limit: 7_200, ..facts() };
        let since: Timestamp = "2026-01-01T11:00:00Z".parse().unwrap();
        let row = || SlotRow { inactive_since: Some(since.as_millisecond()), ..slot() };
        assert_eq!(assessed(&idle, row(), None).hours_left, Some(1.0));
        let active = assessed(&idle, SlotRow { active: true, ..row() }, None);
        assert_eq!((active.state, active.hours_left), (SlotState::Streaming, None));
    }

    #[test]
    fn a_slot_that_is_invalidated_is_lost() {
        let lost = SlotRow { wal_status: Some("lost".to_owned()), ..slot() };
        let since: Timestamp = "2026-01-01T11:00:00Z".parse().unwrap();
        let timed_out = SlotRow {
            invalidation: Some("idle_timeout".to_owned()),
            inactive_since: Some(since.as_millisecond()),
            ..slot()
        };
        let slots: Vec<AssessedSlot> = [lost, timed_out, slot()]
            .into_iter()
            .map(|slot| slot.assessed(&facts(), HOUR, Some(1)).unwrap())
            .collect();
        let states: Vec<SlotState> = slots.iter().map(|slot| slot.state).collect();
        assert_eq!(states, [SlotState::Lost, SlotState::Lost, SlotState::AtRisk]);
        assert!(slots[1].why.contains("idle_timeout"), "{}", slots[1].why);
        assert_eq!(lost_since(&slots), Some(since));
    }

    #[test]
    fn a_slot_survives_a_failover_by_its_own_mark_or_by_the_extension() {
        let assessed = |facts: &Facts, slot: SlotRow| slot.assessed(facts, HOUR, None).unwrap();
        assert!(!assessed(&facts(), slot()).survives_failover);
        assert!(assessed(&facts(), SlotRow { failover: true, ..slot() }).survives_failover);
        let preloaded = Facts { preloaded: "pg_cron, pg_failover_slots".to_owned(), ..facts() };
        assert!(assessed(&preloaded, slot()).survives_failover);
        let failover = || SlotRow { failover: true, ..slot() };
        for lacking in [
            Facts { synchronizes_slots: false, ..facts() },
            Facts { standby_feedback: false, ..facts() },
        ] {
            assert!(!assessed(&lacking, failover()).survives_failover);
        }
        let lost = SlotRow { wal_status: Some("lost".to_owned()), ..failover() };
        assert!(!assessed(&facts(), lost).survives_failover);
    }
}
