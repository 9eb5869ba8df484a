//! Which hub, and where it is reached.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::error::{Error, Result};

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
pub(super) const EMULATOR: &str = "localhost";

impl HubAddress {
    /// The namespace's host name.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The hub's name.
    pub(super) fn hub(&self) -> &str {
        &self.hub
    }

    /// Where senders of a partition attach to.
    pub(super) fn partition(&self, id: &str) -> String {
        format!("{}/Partitions/{id}", self.hub)
    }

    /// What tokens are for.
    pub(super) fn audience(&self) -> String {
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

/// Where the connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    /// The namespace's own.
    pub(super) fn of(address: &HubAddress) -> Self {
        Self { tls: true, host: address.namespace.clone(), port: 5671 }
    }

    /// Microsoft's emulator, which speaks no TLS.
    pub(super) fn emulator(host: &str, port: Option<u16>) -> Self {
        Self { tls: false, host: host.to_owned(), port: port.unwrap_or(5672) }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// `--event-hub-endpoint`
    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            Error::refused(
                "--event-hub-endpoint is not an endpoint: use amqps://<host>[:<port>], or amqp:// \
                 for one without TLS",
            )
        };
        let url = Url::parse(text).map_err(|_| refused())?;
        let (tls, port) = match url.scheme() {
            "amqps" => (true, 5671),
            "amqp" => (false, 5672),
            _ => return Err(refused()),
        };
        let plain = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        match url.host_str() {
            Some(host) if plain => Ok(Self {
                tls,
                host: host.trim_matches(['[', ']']).to_owned(),
                port: url.port().unwrap_or(port),
            }),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
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

    #[test]
    fn an_endpoint_holds_no_secret() {
        assert!("amqp://user:secret@h:1".parse::<Endpoint>().is_err());
        let endpoint: Endpoint = "amqps://h".parse().unwrap();
        assert_eq!(endpoint.to_string(), "amqps://h:5671");
    }
}
