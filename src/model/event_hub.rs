//! Which event hub a recovery sends to, and what it may choose about that. Holds no secret.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::inline_schema::inlined;
use super::option_group::SINKS;
use crate::error::{Error, Result};

/// How events are spread and dressed, and how fast they go.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::Args, utoipa::ToSchema,
)]
#[serde(default)]
pub struct EventHubOptions {
    /// Event hub: what decides an event's partition
    #[arg(long, env = "DELTACOMPARE_PARTITION_BY", value_enum, value_name = "WHAT", default_value_t,
          help_heading = SINKS)]
    #[schema(schema_with = inlined::<PartitionBy>)]
    pub partition_by: PartitionBy,
    /// Event hub: which string the partition key is
    #[arg(long, env = "DELTACOMPARE_PARTITION_KEY_SOURCE", value_enum, value_name = "FORM",
          default_value_t, help_heading = SINKS)]
    #[schema(schema_with = inlined::<PartitionKeySource>)]
    pub partition_key_source: PartitionKeySource,
    /// Event hub: how a key becomes a partition
    #[arg(long, env = "DELTACOMPARE_PARTITION_HASH", value_enum, value_name = "HASH",
          default_value_t, help_heading = SINKS)]
    #[schema(schema_with = inlined::<PartitionHash>)]
    pub partition_hash: PartitionHash,
    /// Event hub: add the properties of CloudEvents 1.0 (binary mode)
    #[arg(long, env = "DELTACOMPARE_CLOUD_EVENTS", help_heading = SINKS)]
    pub cloud_events: bool,
    /// Event hub: the most bytes that one process sends in a second
    ///
    /// Leaves the live stream its share of the namespace.
    #[arg(long, env = "DELTACOMPARE_MAX_BYTES_PER_SECOND", value_name = "N", help_heading = SINKS)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_bytes_per_second: Option<NonZeroU64>,
    /// Event hub: the most events that one process sends in a second
    #[arg(long, env = "DELTACOMPARE_MAX_EVENTS_PER_SECOND", value_name = "N", help_heading = SINKS)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_events_per_second: Option<NonZeroU64>,
}

/// What decides an event's partition.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ValueEnum,
    utoipa::ToSchema,
)]
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

/// Which string the partition key is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ValueEnum,
    utoipa::ToSchema,
)]
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

/// How a key becomes a partition.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionHash {
    /// The one that the service applies to a partition key.
    #[default]
    EventHubs,
    /// The one of Kafka's producers (murmur2), for pipelines that use the Kafka endpoint.
    Kafka,
}

/// A hub in a namespace, as `--sink event-hub:<namespace>/<hub>` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubAddress {
    /// The namespace's whole host name.
    namespace: String,
    hub: String,
}

/// What namespaces end in, in each of Azure's clouds. A token is shown to nobody else: requests
/// reach the app from outside.
const CLOUDS: [&str; 4] = [
    ".servicebus.windows.net",
    ".servicebus.chinacloudapi.cn",
    ".servicebus.usgovcloudapi.net",
    ".servicebus.cloudapi.de",
];

/// The namespace of Microsoft's emulator.
pub(crate) const EMULATOR: &str = "localhost";

impl HubAddress {
    /// The namespace's host name.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The hub's name.
    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    /// Where senders of a partition attach to.
    pub(crate) fn partition(&self, id: &str) -> String {
        format!("{}/Partitions/{id}", self.hub)
    }

    /// What tokens are for.
    pub(crate) fn audience(&self) -> String {
        format!("amqps://{}/{}", self.namespace, self.hub)
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hub)
    }
}

impl FromStr for HubAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Not repeated: it may be a connection string in the wrong place.
        let refused = |why: &str| {
            Err(Error::refused(format!(
                "this is not an event hub: {why}; use event-hub:<namespace>/<hub>"
            )))
        };
        let Some((namespace, hub)) = text.split_once('/') else {
            return refused("there is no / between namespace and hub");
        };
        // https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
        let is_name = |name: &str, more: &[char]| {
            !name.is_empty()
                && name.len() <= 256
                && name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
        };
        if !is_name(hub, &['.', '-', '_']) {
            return refused("a hub's name has letters, digits, '.', '-' and '_'");
        }
        if !is_name(namespace, &['.', '-']) {
            return refused("a namespace's name has letters, digits and '-'");
        }
        let namespace = namespace.to_ascii_lowercase();
        let namespace = if namespace == EMULATOR || namespace.contains('.') {
            namespace
        } else {
            namespace + CLOUDS[0]
        };
        if namespace != EMULATOR && !CLOUDS.iter().any(|cloud| namespace.ends_with(cloud)) {
            return refused("the namespace is not one of Azure's (<name>.servicebus.windows.net)");
        }
        Ok(Self { namespace, hub: hub.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_namespace_is_in_the_public_cloud() {
        let address: HubAddress = "Shop/orders".parse().unwrap();
        assert_eq!(address.to_string(), "shop.servicebus.windows.net/orders");
        let again: HubAddress = address.to_string().parse().unwrap();
        assert_eq!(again, address);
    }

    #[test]
    fn a_token_goes_to_azure_only() {
        for wrong in [
            "evil.example.com/orders",
            "servicebus.windows.net.example.com/orders",
            "shop",
            "/orders",
            "shop/",
            "shop/a/b",
            "user@shop/orders",
            "shop:1/orders",
        ] {
            assert!(wrong.parse::<HubAddress>().is_err(), "{wrong}");
        }
    }
}
