//! What proves to the service who we are: a token of Entra, or a shared access signature.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core::credentials::TokenCredential;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use super::endpoint::Endpoint;
use super::hub_error::{Cause, HubError};
use crate::error::{Error, Result};
use crate::model::{EMULATOR, HubAddress};
use crate::secrets::{Origin, SecretSource};

/// Entra's name for Event Hubs.
const SCOPE: &str = "https://eventhubs.azure.net/.default";

/// How long a signature of ours is good for. Links close with it, so it is renewed before.
const SIGNATURE_LASTS: Duration = Duration::from_secs(3600);

/// A source of tokens.
#[derive(Clone)]
pub(super) enum Credential {
    Entra(Arc<dyn TokenCredential>),
    /// Read anew for every token, so that a policy's key may be changed in mid-recovery.
    Shared(ConnectionStringSource),
}

/// Where the connection string of a shared access policy is. Prints nothing of it.
#[derive(Clone)]
pub(crate) struct ConnectionStringSource {
    pub(crate) origin: Origin,
    pub(crate) source: Arc<dyn SecretSource>,
}

impl ConnectionStringSource {
    /// What the connection string says now. Bounded.
    ///
    /// # Errors
    /// Refused if it is not one, or not for this hub; the source's. Holds nothing of it but names.
    pub(super) async fn read(&self, address: &HubAddress) -> Result<ConnectionString> {
        ConnectionString::parse(&self.source.read().await?.value, &self.origin, address)
    }
}

/// What a policy's connection string lets us do: sign tokens, or show one that was made elsewhere.
pub(super) enum SharedAccess {
    Key { policy: String, key: SecretString },
    Signature(SecretString),
}

/// A token as `$cbs` takes it.
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) kind: &'static str,
    pub(super) expires: SystemTime,
}

impl Credential {
    /// A token for a hub. Bounded by the caller.
    pub(super) async fn token(&self, address: &HubAddress) -> Result<Token, HubError> {
        match self {
            Self::Entra(credential) => {
                let token =
                    credential.get_token(&[SCOPE], None).await.map_err(|error| HubError {
                        cause: Cause::Unauthorized,
                        sentence: format!("no token from Entra: {error}"),
                    })?;
                Ok(Token {
                    value: token.token.secret().into(),
                    kind: "jwt",
                    expires: token.expires_on.into(),
                })
            }
            Self::Shared(connection_string) => {
                let said = connection_string.read(address).await.map_err(|error| HubError {
                    cause: Cause::ConnectionString,
                    sentence: error.to_string(),
                })?;
                let now = SystemTime::now();
                let (value, expires) = match said.access {
                    SharedAccess::Key { policy, key } => {
                        let expires = now + SIGNATURE_LASTS;
                        (sign(&address.audience(), &policy, &key, expires), expires)
                    }
                    // When it ends is in it; the service says if it has.
                    SharedAccess::Signature(signature) => {
                        let expires = ends(&signature).unwrap_or(now + SIGNATURE_LASTS);
                        (signature, expires)
                    }
                };
                Ok(Token { value, kind: "servicebus.windows.net:sastoken", expires })
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entra(_) => "Entra",
            Self::Shared(_) => "Shared",
        })
    }
}

/// A signature of the audience and the time (in seconds) until which it is good.
/// <https://learn.microsoft.com/azure/event-hubs/authenticate-shared-access-signature>
fn sign(audience: &str, policy: &str, key: &SecretString, expires: SystemTime) -> SecretString {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let seconds = seconds(expires);
    let resource = encode(audience);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let signature = hmac::sign(&key, format!("{resource}\n{seconds}").as_bytes());
    let signature = encode(&BASE64_STANDARD.encode(signature));
    format!(
        "SharedAccessSignature sr={resource}&sig={signature}&se={seconds}&skn={}",
        encode(policy)
    )
    .into()
}

fn ends(signature: &SecretString) -> Option<SystemTime> {
    let (_, rest) = signature.expose_secret().split_once("&se=")?;
    let seconds = rest.split('&').next()?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a connection string says, taken apart.
pub(super) struct ConnectionString {
    pub(super) access: SharedAccess,
    /// Where Microsoft's emulator is, if it names one.
    pub(super) emulator: Option<Endpoint>,
}

impl ConnectionString {
    /// Takes a connection string apart and checks that it is for this hub.
    ///
    /// # Errors
    /// Refused if it is not. The sentence has nothing of it but names.
    fn parse(text: &SecretString, origin: &Origin, address: &HubAddress) -> Result<Self> {
        let refused = |why: String| {
            Error::refused(format!(
                "the connection string in {origin} cannot be used: {why}; copy it from the shared \
                 access policies of the namespace or the hub"
            ))
        };
        let find = |name: &str| {
            text.expose_secret().split(';').find_map(|part| {
                let (key, value) = part.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let endpoint = find("Endpoint").ok_or_else(|| refused("it has no Endpoint".into()))?;
        let url = url::Url::parse(&endpoint)
            .map_err(|_| refused("its Endpoint is not sb://<namespace>/".into()))?;
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let on_emulator =
            find("UseDevelopmentEmulator").is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let expected = if on_emulator { EMULATOR } else { host.as_str() };
        if address.namespace() != expected {
            return Err(refused(format!(
                "it is of the namespace {expected}, and the sink is in {}",
                address.namespace()
            )));
        }
        if let Some(entity) = find("EntityPath").filter(|entity| entity != address.hub()) {
            return Err(refused(format!(
                "it is of the hub {entity}, and the sink is {}",
                address.hub()
            )));
        }
        let access = match (
            find("SharedAccessSignature"),
            find("SharedAccessKeyName").zip(find("SharedAccessKey")),
        ) {
            (Some(signature), None) => SharedAccess::Signature(signature.into()),
            (None, Some((policy, key))) => SharedAccess::Key { policy, key: key.into() },
            _ => {
                return Err(refused(
                    "it needs SharedAccessKeyName and SharedAccessKey, or a SharedAccessSignature"
                        .into(),
                ));
            }
        };
        let emulator = on_emulator.then(|| Endpoint::emulator(&host, url.port()));
        Ok(Self { access, emulator })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STRING: &str = "Endpoint=sb://Shop.servicebus.windows.net/;SharedAccessKeyName=send;\
                          SharedAccessKey=c2VjcmV0=;EntityPath=orders";

    #[test]
    fn a_connection_string_is_for_one_hub() {
        let parse = |text: &str, hub: &str| {
            let text = text.to_owned().into();
            ConnectionString::parse(&text, &Origin::Environment("HERE"), &hub.parse().unwrap())
        };
        let found = parse(STRING, "shop/orders").unwrap();
        let SharedAccess::Key { policy, key } = found.access else { panic!() };
        assert_eq!((policy.as_str(), key.expose_secret()), ("send", "c2VjcmV0="));
        for (text, hub) in [
            (STRING, "shop/others"),
            (STRING, "other/orders"),
            ("Endpoint=sb://shop.servicebus.windows.net/", "shop/orders"),
            ("nonsense c2VjcmV0=", "shop/orders"),
        ] {
            let error = parse(text, hub).err().unwrap().to_string();
            assert!(error.contains("copy it") && !error.contains("c2VjcmV0"), "{error}");
        }
    }

    #[test]
    fn the_emulator_is_named_by_its_connection_string() {
        let text = "Endpoint=sb://10.0.0.7:5673;SharedAccessKeyName=a;SharedAccessKey=b;\
                    UseDevelopmentEmulator=true;";
        let address = "localhost/eh1".parse().unwrap();
        let origin = Origin::Environment("HERE");
        let found = ConnectionString::parse(&text.to_owned().into(), &origin, &address).unwrap();
        assert_eq!(found.emulator.unwrap().to_string(), "amqp://10.0.0.7:5673");
    }
}
