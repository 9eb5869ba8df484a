//! What two restores are right after they were made, and what they say of their past.

use std::fs::File;
use std::io::BufReader;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{History, Lsn, TableName};
use crate::error::{Error, Result};

/// The record of a pair of restores. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The restore to the moment when the slot was lost.
    pub base: Recorded,
    /// The restore to the moment when the slot was back.
    pub head: Recorded,
}

impl Record {
    /// Reads the file that an option names.
    ///
    /// # Errors
    /// Refused if there is none, or what is there is not a record.
    pub(crate) fn read(path: &str) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::refused(format!(
                "{path} is not a record: {error}; name the file that deltacompare record wrote"
            ))
        };
        let file = File::open(path).map_err(|error| failed(&error))?;
        serde_json::from_reader(BufReader::new(file)).map_err(|error| failed(&error))
    }
}

/// The record of one restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// When it was recorded, by the server's clock.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When the server was started. Its `last_replayed` means nothing if it was restarted before.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Host, port and database. Two restores of one timeline differ in nothing else that every role
    /// may read.
    pub server: String,
    /// Cluster, timeline and database, as the server says them.
    pub restore: String,
    /// The cluster's identity, equal in all restores of one server.
    pub system_identifier: String,
    /// `pg_last_wal_replay_lsn()`: NULL after a restart. For people to compare with the history.
    pub last_replayed: Option<Lsn>,
    /// Where its recovery ended, by its history.
    pub recovery_end: Option<Lsn>,
    /// Its timelines.
    pub history: Option<History>,
    /// Why there is no history.
    pub history_error: Option<String>,
    /// When its recovery ended, by the server's clock; null if the role may not see that
    /// (`pg_monitor`).
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// When the last transaction that it replayed was committed on production; null after a restart.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_commit: Option<Timestamp>,
    /// The next transaction id, with its epoch.
    #[serde(default)]
    pub next_transaction: Option<u64>,
    /// How many transactions got an id between the end of its recovery and the record; null once a
    /// checkpoint has come, after which that cannot be known.
    #[serde(default)]
    pub transactions: Option<u64>,
    /// The highest oid of what values of types such as `regclass` may name.
    #[serde(default)]
    pub newest_oid: Option<u32>,
    /// All tables of the database, but for our own; null in records of older versions.
    #[serde(default)]
    pub relations: Option<Vec<RecordedRelation>>,
    /// All publications of the database.
    #[serde(default)]
    pub publications: Vec<RecordedPublication>,
}

/// A table, a partitioned table or a partition, as one server has it.
///
/// Rights, statistics, comments, storage parameters and indexes other than the primary key and the
/// replica identity are left out: they change no row and no event, and some of them change with our
/// own role or with an autovacuum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordedRelation {
    /// Its name.
    #[serde(flatten)]
    pub name: TableName,
    /// Its oid.
    pub oid: u32,
    /// Its file node; 0 for a partitioned table, which has no file. `truncate`, `vacuum full`,
    /// `cluster` and rewriting `alter table` give it another.
    pub filenode: u32,
    /// The bytes of its file, without TOAST; null for a relation without a file, or that another
    /// transaction had locked.
    pub bytes: Option<u64>,
    /// Rows inserted, updated and deleted since the server's statistics began.
    pub written: u64,
    /// The oids of the relations that it is a partition of or inherits from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<u32>,
    /// Whether a publication names it, or publishes its schema or all tables.
    pub published: bool,
    /// Whether it was altered, or rights on it were changed, between the end of the server's recovery
    /// and the record, as far as that is known ([`Recorded::transactions`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub altered: bool,
    /// A hash of its name, kind, columns, inheritance, partition bound, key, replica identity and
    /// publications, and of its columns' types down to enum labels and attributes.
    pub definition: String,
}

/// A publication, as one server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedPublication {
    /// Its name.
    pub name: String,
    /// A hash of its parameters and of its schemas; its tables are in their own definitions.
    pub definition: String,
}
