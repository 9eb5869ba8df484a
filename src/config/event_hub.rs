//! How event hubs are reached.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::ServerSettings;
use crate::azure::SecretName;
use crate::error::{Error, Result};
use crate::model::option_group::SINKS;
use crate::secrets::{Fixed, Origin};
use crate::sink::{ConnectionStringSource, EventHubAccess};

/// Has the connection string itself; never an option, since command lines are in sight.
pub(crate) const CONNECTION_STRING: &str = "DELTACOMPARE_EVENT_HUB_CONNECTION_STRING";

/// What tells how event hubs are reached. Not part of a request: a token must not go where a request
/// says.
#[derive(Clone, Debug, Args)]
pub struct EventHubSettings {
    /// Event hub: where to connect to [default: the namespace]
    ///
    /// amqps://<host>[:<port>], or amqp:// without TLS. Tokens stay those for the namespace.
    #[arg(long, env = "DELTACOMPARE_EVENT_HUB_ENDPOINT", value_name = "URL", help_heading = SINKS,
          hide_short_help = true)]
    event_hub_endpoint: Option<String>,
    /// Event hub: certificates (PEM) to trust besides the public ones
    #[arg(long, env = "DELTACOMPARE_EVENT_HUB_SSLROOTCERT", value_name = "FILE",
          help_heading = SINKS, hide_short_help = true)]
    event_hub_sslrootcert: Option<PathBuf>,
    /// Event hub: the vault's secret with a connection string
    ///
    /// Of a shared access policy, instead of an identity; it is read again for every token. Without a
    /// vault: DELTACOMPARE_EVENT_HUB_CONNECTION_STRING.
    #[arg(
        long,
        env = "DELTACOMPARE_EVENT_HUB_CONNECTION_STRING_SECRET",
        value_name = "NAME",
        requires = "vault",
        help_heading = SINKS,
        hide_short_help = true
    )]
    event_hub_connection_string_secret: Option<String>,
    /// How long a partition may accept nothing before the table's attempt fails, in seconds
    #[arg(long, env = "DELTACOMPARE_EVENT_HUB_PATIENCE_SECONDS", value_name = "S", hide = true,
          default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600),
          help_heading = SINKS)]
    event_hub_patience_seconds: u64,
}

impl EventHubSettings {
    /// How hubs are reached, with the vault and the identity that the servers' settings name.
    ///
    /// # Errors
    /// Refused if two places have a connection string, or the vault cannot be used.
    pub fn access(&self, servers: &ServerSettings) -> Result<EventHubAccess> {
        let in_environment = std::env::var(CONNECTION_STRING).ok().filter(|it| !it.is_empty());
        let connection_string = match (in_environment, &self.event_hub_connection_string_secret) {
            (Some(_), Some(name)) => {
                return Err(Error::refused(format!(
                    "{CONNECTION_STRING} has a connection string, and the secret {name} is named \
                     too: keep one"
                )));
            }
            (Some(text), None) => Some(ConnectionStringSource {
                origin: Origin::Environment(CONNECTION_STRING),
                source: Arc::new(Fixed(text.into())),
            }),
            (None, Some(name)) => {
                let vault = servers.vault()?.ok_or_else(|| {
                    Error::refused(
                        "--event-hub-connection-string-secret names a secret, but no vault: set \
                         --vault",
                    )
                })?;
                let secret = vault.secret(name.parse::<SecretName>()?);
                Some(ConnectionStringSource {
                    origin: Origin::KeyVault(secret.to_string()),
                    source: Arc::new(secret),
                })
            }
            (None, None) => None,
        };
        Ok(EventHubAccess {
            endpoint: self.event_hub_endpoint.clone(),
            authority: self.event_hub_sslrootcert.clone(),
            connection_string,
            identity: servers.identity(),
            stall_timeout: Duration::from_secs(self.event_hub_patience_seconds),
        })
    }
}
