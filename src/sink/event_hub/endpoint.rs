//! Where a hub is reached.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::error::{Error, Result};
use crate::model::HubAddress;

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
        Self { tls: true, host: address.namespace().to_owned(), port: 5671 }
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
    fn an_endpoint_holds_no_secret() {
        assert!("amqp://user:secret@h:1".parse::<Endpoint>().is_err());
        let endpoint: Endpoint = "amqps://h".parse().unwrap();
        assert_eq!(endpoint.to_string(), "amqps://h:5671");
    }
}
