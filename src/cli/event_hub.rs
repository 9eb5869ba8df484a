//! The options of `--sink event-hub:…`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use deltacompare::identity::Identity;
use deltacompare::sink::{
    EventHubAccess, EventHubOptions, PartitionBy, PartitionHash, PartitionKeySource,
};

/// What concerns `--sink event-hub:…` only.
#[derive(Debug, Args)]
pub(super) struct EventHubArguments {
    /// What decides an event's partition
    #[arg(
        long,
        env = "DELTACOMPARE_PARTITION_BY",
        value_enum,
        value_name = "WHAT",
        default_value_t
    )]
    partition_by: PartitionBy,
    /// Which string the partition key is
    #[arg(
        long,
        env = "DELTACOMPARE_PARTITION_KEY_SOURCE",
        value_enum,
        value_name = "FORM",
        default_value_t
    )]
    partition_key_source: PartitionKeySource,
    /// How a key becomes a partition
    #[arg(
        long,
        env = "DELTACOMPARE_PARTITION_HASH",
        value_enum,
        value_name = "HASH",
        default_value_t
    )]
    partition_hash: PartitionHash,
    /// Give each event the properties of CloudEvents 1.0 (binary mode) as well
    #[arg(long, env = "DELTACOMPARE_CLOUD_EVENTS")]
    cloud_events: bool,
    /// The most bytes that one process sends into the hub in a second
    #[arg(long, env = "DELTACOMPARE_MAX_BYTES_PER_SECOND", value_name = "N")]
    max_bytes_per_second: Option<NonZeroU64>,
    /// The most events that one process sends into the hub in a second
    #[arg(long, env = "DELTACOMPARE_MAX_EVENTS_PER_SECOND", value_name = "N")]
    max_events_per_second: Option<NonZeroU64>,
}

/// How hubs are reached from here.
#[derive(Debug, Args)]
pub(super) struct EventHubAccessArguments {
    /// Where to connect to: amqps://<host>[:<port>], or amqp:// without TLS
    #[arg(long, env = "DELTACOMPARE_EVENT_HUB_ENDPOINT", value_name = "URL")]
    event_hub_endpoint: Option<String>,
    /// An authority's certificates (PEM) to trust besides the public ones
    #[arg(long, env = "DELTACOMPARE_EVENT_HUB_SSLROOTCERT", value_name = "FILE")]
    event_hub_sslrootcert: Option<PathBuf>,
}

impl EventHubArguments {
    /// What the request has of it.
    pub(super) fn options(&self) -> EventHubOptions {
        EventHubOptions {
            partition_by: self.partition_by,
            partition_key_source: self.partition_key_source,
            partition_hash: self.partition_hash,
            cloud_events: self.cloud_events,
            max_bytes_per_second: self.max_bytes_per_second,
            max_events_per_second: self.max_events_per_second,
        }
    }
}

impl EventHubAccessArguments {
    /// How hubs are reached; the connection string comes from
    /// `DELTACOMPARE_EVENT_HUB_CONNECTION_STRING`.
    pub(super) fn access(&self, identity: Identity) -> EventHubAccess {
        EventHubAccess {
            endpoint: self.event_hub_endpoint.clone(),
            authority: self.event_hub_sslrootcert.clone(),
            connection_string: std::env::var("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING")
                .ok()
                .filter(|text| !text.is_empty())
                .map(Into::into),
            identity,
        }
    }
}
