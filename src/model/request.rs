//! What an operator asks for. Stored with the recovery; holds no secret.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    BeforeImage, DebeziumOptions, EventHubOptions, Format, HubAddress, Lsn, Record, SslMode,
    StrategyChoice, TableName,
};
use crate::error::Error;

/// Everything about a recovery but how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Only these publications' tables; empty for those of every publication.
    #[serde(default)]
    pub publications: Vec<String>,
    /// Only these tables.
    pub tables: Vec<TableName>,
    /// Not these tables.
    pub exclude: Vec<TableName>,
    /// Where the events go.
    pub sinks: Vec<SinkTarget>,
    /// How an event looks.
    pub format: Format,
    /// What an event says of the old row.
    pub before: BeforeImage,
    /// Follow each delete with its key and no event.
    pub tombstones: bool,
    /// Write the message key into NDJSON files.
    pub ndjson_keys: bool,
    /// Debezium's `topic.prefix`, which its events name as their source.
    pub topic_prefix: String,
    /// How Debezium's connector is set to encode values.
    pub debezium: DebeziumOptions,
    /// How events go into an event hub, if they do.
    #[serde(default)]
    pub event_hub: EventHubOptions,
    /// How tables are diffed.
    pub strategy: StrategyChoice,
    /// How results are proved.
    pub verify: Verify,
    /// For [`Verify::Sample`]: how much is compared, in percent.
    pub sample_percent: u8,
    /// Work items at once, in all processes together.
    pub parallel: u16,
    /// Blocks of a table in one work item, by which large tables are cut; by default as many as
    /// take some seconds.
    pub range_blocks: Option<u32>,
    /// Compare what is there although a restore was written to.
    pub accept_written: bool,
    /// What the lost slot had confirmed (`confirmed_flush_lsn`).
    pub lost_at_lsn: Option<Lsn>,
    /// The new slot's consistent point: its `confirmed_flush_lsn` as it was at creation.
    pub new_slot_lsn: Option<Lsn>,
    /// The new slot's `restart_lsn` as it was at creation: the version of every event.
    pub new_slot_restart_lsn: Option<Lsn>,
    /// Recover what lies between the restores although they do not cover the gap.
    pub accept_hole: bool,
    /// Go on although both restores end at the same place.
    #[serde(default)]
    pub accept_empty_gap: bool,
    /// Compare contents although a server is of a version or a make that nothing is known of.
    #[serde(default)]
    pub accept_unknown_version: bool,
    /// What the restores were, and said of their past, when they were new.
    #[serde(default)]
    pub recorded: Option<Record>,
    /// How head reaches base.
    pub fdw: FdwOverrides,
}

impl Request {
    /// The same without what was recorded of the restores.
    pub(crate) fn without_record(&self) -> Self {
        Self { recorded: None, ..self.clone() }
    }
}

/// Where head finds base, if not where this process finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdwOverrides {
    /// Base's host name as head knows it.
    pub host: Option<String>,
    /// Base's port as head knows it.
    pub port: Option<u16>,
    /// libpq's `sslmode` from head to base.
    pub ssl_mode: Option<SslMode>,
    /// The authority's certificate, as a path on head.
    pub ssl_root_cert: Option<String>,
}

/// `--verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Trust the strategy, and the account of each table.
    None,
    /// Count the rows of every table on both sides for its account, also where row versions were
    /// counted.
    Count,
    /// Compare the contents of a share of the blocks that `row-versions` called equal, chosen by
    /// chance, and fail the table if they differ.
    Sample,
    /// Diff every table once more with `full` and fail it if the results differ.
    Full,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SinkTarget {
    /// A file, one event a line.
    Ndjson(PathBuf),
    /// `deltacompare.delta` in the control database.
    DeltaTable,
    /// A hub of Azure Event Hubs.
    EventHub(HubAddress),
}

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndjson(path) => write!(f, "ndjson:{}", path.display()),
            Self::DeltaTable => f.write_str("delta-table"),
            Self::EventHub(address) => write!(f, "event-hub:{address}"),
        }
    }
}

impl FromStr for SinkTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("ndjson", path)) if !path.is_empty() => Ok(Self::Ndjson(path.into())),
            Some(("event-hub", address)) => address.parse().map(Self::EventHub),
            None if text == "delta-table" => Ok(Self::DeltaTable),
            // Not repeated: it may be a connection string in the wrong place.
            _ => Err(Error::refused(
                "this is not a sink: use event-hub:<namespace>/<hub>, ndjson:<file> or delta-table",
            )),
        }
    }
}

impl TryFrom<String> for SinkTarget {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<SinkTarget> for String {
    fn from(sink: SinkTarget) -> Self {
        sink.to_string()
    }
}
