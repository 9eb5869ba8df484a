//! The options of `--sink event-hub:…`.

use std::num::NonZeroU64;

use clap::Args;
use deltacompare::model::{EventHubOptions, PartitionBy, PartitionHash, PartitionKeySource};

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
    #[command(flatten)]
    rate: RateArguments,
}

impl EventHubArguments {
    /// What the request has of it.
    pub(super) fn options(&self) -> EventHubOptions {
        EventHubOptions {
            partition_by: self.partition_by,
            partition_key_source: self.partition_key_source,
            partition_hash: self.partition_hash,
            cloud_events: self.cloud_events,
            ..self.rate.options()
        }
    }
}

/// How fast events go into a hub, which a plan wants to know as well.
#[derive(Debug, Args)]
pub(super) struct RateArguments {
    /// The most bytes that one process sends into the hub in a second
    #[arg(long, env = "DELTACOMPARE_MAX_BYTES_PER_SECOND", value_name = "N")]
    max_bytes_per_second: Option<NonZeroU64>,
    /// The most events that one process sends into the hub in a second
    #[arg(long, env = "DELTACOMPARE_MAX_EVENTS_PER_SECOND", value_name = "N")]
    max_events_per_second: Option<NonZeroU64>,
}

impl RateArguments {
    pub(super) fn options(&self) -> EventHubOptions {
        EventHubOptions {
            max_bytes_per_second: self.max_bytes_per_second,
            max_events_per_second: self.max_events_per_second,
            ..EventHubOptions::default()
        }
    }
}
