//! What a recovery may choose about its events' way into a hub. Holds no secret.

use std::num::NonZeroU64;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How events are spread and dressed, and how fast they go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct EventHubOptions {
    /// What decides an event's partition.
    pub partition_by: PartitionBy,
    /// Which string is the partition key, under [`PartitionBy::Key`].
    pub partition_key_source: PartitionKeySource,
    /// How a key becomes a partition.
    pub partition_hash: PartitionHash,
    /// Whether the properties are CloudEvents' as well (binary mode).
    pub cloud_events: bool,
    /// The most that one process sends.
    pub max_bytes_per_second: Option<NonZeroU64>,
    /// The most that one process sends.
    pub max_events_per_second: Option<NonZeroU64>,
}

/// `--partition-by`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionBy {
    /// The row's key: its recovered events are where its streamed ones are. Events without a key
    /// are spread as under round-robin.
    #[default]
    Key,
    /// The table's name, `schema.table`.
    Table,
    /// The event's id: evenly, and a repeat is where the first one is.
    RoundRobin,
}

/// `--partition-key-source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionKeySource {
    /// The message key as it is, `{"id":3}`.
    #[default]
    Json,
    /// Its values only, with commas between them, `3`.
    Values,
    /// As Kafka Connect's StringConverter prints it, `Struct{id=3}`.
    Struct,
}

/// `--partition-hash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionHash {
    /// The one that the service applies to a partition key.
    #[default]
    EventHubs,
    /// The one of Kafka's producers (murmur2), for pipelines that use the Kafka endpoint.
    Kafka,
}
