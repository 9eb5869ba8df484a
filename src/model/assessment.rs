//! What can be said of a production server before anything is restored or paid for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Lsn;

/// The assessment of a production server and of all of its databases. Holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// When it was made, by the server's clock.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Host and port.
    pub server: String,
    /// `server_version`.
    pub version: String,
    /// How fast the server writes WAL.
    pub wal: AssessedWal,
    /// Bytes of all databases: what each of the two restores holds at least.
    pub bytes: u64,
    /// Bytes that are left until the server becomes read-only; null if the size of its disk was not
    /// given.
    pub free_bytes: Option<u64>,
    /// The logical slots of all databases, and those that were asked for and are not there, the worst
    /// first. A failover may have taken slots of which nothing is left.
    pub slots: Vec<AssessedSlot>,
    /// The databases that have publications or logical slots.
    pub databases: Vec<AssessedDatabase>,
    /// Whether the moment of the loss can be restored to, if it is known.
    pub loss: Option<Loss>,
    /// What a recovery needs of this server.
    pub requirements: Vec<Requirement>,
    /// What the copies would do by themselves, one sentence each: they carry on production's jobs and
    /// subscriptions.
    pub wakes: Vec<String>,
}

/// How fast a server writes WAL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedWal {
    /// `pg_current_wal_lsn()`.
    pub position: Lsn,
    /// Bytes a second while the assessment looked.
    pub bytes_a_second_now: f64,
    /// Bytes a second since the server's statistics began (`pg_stat_wal`).
    pub bytes_a_second_on_average: Option<f64>,
}

impl Assessment {
    /// Whether a slot is lost or will be soon.
    pub fn needs_attention(&self) -> bool {
        self.slots.iter().any(|slot| slot.state <= SlotState::AtRisk)
    }
}

impl AssessedWal {
    /// The higher of the two rates, in bytes a second: what slots are judged by.
    pub fn bytes_a_second(&self) -> f64 {
        self.bytes_a_second_on_average.unwrap_or_default().max(self.bytes_a_second_now)
    }
}

/// A logical slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedSlot {
    /// Its name.
    pub name: String,
    /// Its database; null if there is no such slot.
    pub database: Option<String>,
    /// Its output plugin; null if there is no such slot.
    pub plugin: Option<String>,
    /// What is to be thought of it.
    pub state: SlotState,
    /// Why, in words, with the next step.
    pub why: String,
    /// Whether a consumer is connected.
    pub active: bool,
    /// `wal_status`.
    pub wal_status: Option<String>,
    /// What its consumer has confirmed: a recovery's `lost_at_lsn` if the slot is lost.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// From where on it keeps WAL.
    pub restart_lsn: Option<Lsn>,
    /// Bytes of WAL that it keeps.
    pub retained_bytes: Option<u64>,
    /// Since when no consumer is connected; from PostgreSQL 17 on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub inactive_since: Option<Timestamp>,
    /// Hours until it is lost or the disk is full if its consumer stays away, as far as known.
    pub hours_left: Option<f64>,
    /// Whether it is there after a failover, as far as the primary can tell.
    pub survives_failover: bool,
}

/// What is to be thought of a slot.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// It is invalidated or not there: what it had not sent is missing downstream.
    Lost,
    /// It will be lost soon.
    AtRisk,
    /// Nobody reads it.
    Idle,
    /// A consumer is connected.
    Streaming,
}

impl SlotState {
    /// The word of the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::AtRisk => "at_risk",
            Self::Idle => "idle",
            Self::Streaming => "streaming",
        }
    }
}

/// A database that has publications or logical slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessedDatabase {
    /// Its name.
    pub name: String,
    /// Its bytes; null if the role may not see them.
    pub bytes: Option<u64>,
    /// Its publications.
    pub publications: Vec<String>,
    /// Tables that these publish, a table that is published as itself and by its root once.
    pub tables: u64,
    /// Bytes of these tables, TOAST included, as VACUUM or ANALYZE last saw them.
    pub table_bytes: u64,
    /// Those of them that the role may not read.
    pub unreadable: u64,
    /// Those of them without a primary key and without a replica identity index.
    pub without_key: u64,
    /// The logical slots that read it.
    pub slots: Vec<String>,
    /// Seconds that a comparison takes at least and at most, by the strategies that read most and
    /// least; see `plan`, which knows better once the copies are there.
    pub seconds: (u64, u64),
    /// Why it could not be looked at.
    pub error: Option<String>,
}

/// The moment of the loss and the server's backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// When the slot was lost.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when it can be restored to: the backups are kept for so many days.
    #[schema(value_type = String, format = DateTime)]
    pub restorable_until: Timestamp,
    /// Whether it still can.
    pub restorable: bool,
}

/// What a recovery needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// What must be so.
    pub what: String,
    /// Whether it is.
    pub met: bool,
    /// The statement or the setting that makes it so.
    pub next: String,
}
