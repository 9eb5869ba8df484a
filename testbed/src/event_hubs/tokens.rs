//! Tokens, checked as the service checks them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use ring::hmac;

use super::{Hub, lock};

/// A shared access policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) key: String,
}

/// A token that was taken: for which path, and until when.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) path: String,
    pub(super) until: tokio::time::Instant,
}

impl Policy {
    pub(super) fn random() -> Self {
        let key = BASE64_STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
        Self { name: "standin".to_owned(), key }
    }
}

impl Hub {
    /// Takes a token for an audience, or says why not.
    /// `says`: until when it is said to be good, in seconds.
    pub(super) fn grant(
        &self,
        audience: &str,
        kind: &str,
        token: &str,
        says: u64,
    ) -> Result<Grant, String> {
        let until = match kind {
            "servicebus.windows.net:sastoken" => self.signature(audience, token)?,
            "jwt" => self.bearer(token, says)?,
            other => return Err(format!("{other} is not a kind of token")),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let lasts = Duration::from_secs(until)
            .checked_sub(now)
            .ok_or("ExpiredToken: the token has ended")?
            .min(self.options.tokens_last);
        let path = path(audience).to_owned();
        if !format!("{path}/").starts_with(&format!("{}/", self.options.name)) {
            return Err(format!("InvalidAudience: {audience}"));
        }
        Ok(Grant { path, until: tokio::time::Instant::now() + lasts })
    }

    fn signature(&self, audience: &str, token: &str) -> Result<u64, String> {
        let fields = token.strip_prefix("SharedAccessSignature ").ok_or("InvalidSignature")?;
        let field = |name: &str| {
            let prefix = format!("{name}=");
            fields
                .split('&')
                .find_map(|field| field.strip_prefix(&prefix))
                .ok_or_else(|| format!("InvalidSignature: no {name}"))
        };
        let (resource, until) = (field("sr")?, field("se")?);
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if path(&plain(resource)) != path(audience) {
            return Err(format!("InvalidAudience: signed for {resource}"));
        }
        let policy = lock(&self.policy);
        if plain(field("skn")?) != policy.name {
            return Err("InvalidSignature: no such policy".to_owned());
        }
        let signature = BASE64_STANDARD
            .decode(plain(field("sig")?))
            .map_err(|_| "InvalidSignature: not base64".to_owned())?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, policy.key.as_bytes());
        hmac::verify(&key, format!("{resource}\n{until}").as_bytes(), &signature)
            .map_err(|_| "InvalidSignature: the token has an invalid signature".to_owned())?;
        until.parse().map_err(|_| "InvalidSignature: se is not a number".to_owned())
    }

    /// Good if the stand-in of the identity endpoint gave it out for us; ends when it says.
    fn bearer(&self, token: &str, says: u64) -> Result<u64, String> {
        let Some(issuer) = lock(&self.issuer).clone() else {
            return Err("InvalidIssuer: nobody is trusted".to_owned());
        };
        issuer.check(token, "https://eventhubs.azure.net").map_err(str::to_owned)?;
        Ok(says)
    }
}

/// The path of an address, with or without scheme and host.
pub(super) fn path(address: &str) -> &str {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => address,
    };
    path.trim_matches('/')
}
