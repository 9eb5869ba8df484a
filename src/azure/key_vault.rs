//! Secrets in Azure Key Vault, through the official client.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind as AzureErrorKind;
use azure_core::http::{ExponentialRetryOptions, RetryOptions, StatusCode};
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use crate::crypto::install_crypto_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::secrets::{Secret, SecretSource};

/// How long what was read is used without asking again: a vault throttles those who ask for every
/// session (4,000 requests in 10 s a vault), and a changed password is read again when it is
/// refused.
const KEEP: Duration = Duration::from_secs(5 * 60);

/// How long one read may take, the client's own retries included.
const WITHIN: Duration = Duration::from_secs(60);

/// `name` or `name/version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretName {
    name: String,
    version: Option<String>,
}

impl FromStr for SecretName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        // Azure documentation, "About keys, secrets, and certificates": 1 to 127 of these.
        let valid = |part: &str| {
            (1..=127).contains(&part.len())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if valid(name) && version.is_none_or(valid) {
            return Ok(Self { name: name.to_owned(), version: version.map(str::to_owned) });
        }
        Err(Error::refused(
            "a secret is named by letters, digits and hyphens, with /<version> behind it to pin \
             one: give the secret's name in the vault, not what is in it",
        ))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.version.iter().try_for_each(|version| write!(f, "/{version}"))
    }
}

/// A vault. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeyVault {
    client: Arc<SecretClient>,
}

impl KeyVault {
    /// The vault at `https://<name>.vault.azure.net`. Nothing is sent yet.
    ///
    /// # Errors
    /// Refused if that is not such a URL.
    pub(crate) fn new(url: &str, credential: Arc<dyn TokenCredential>) -> Result<Self> {
        install_crypto_provider();
        let https = url::Url::parse(url).is_ok_and(|url| {
            url.scheme() == "https"
                && url.host().is_some()
                && url.path() == "/"
                && url.username().is_empty()
        });
        if !https {
            return Err(Error::refused(
                "--vault is not a vault's URL: it must look like \
                 https://<name>.vault.azure.net",
            ));
        }
        let mut options = SecretClientOptions::default();
        options.client_options.retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: 4,
            ..Default::default()
        });
        let client = SecretClient::new(url, credential, Some(options)).map_err(|error| {
            Error::refused(format!("the vault {url} cannot be used: {error}")).because(error)
        })?;
        Ok(Self { client: Arc::new(client) })
    }

    /// A secret of it, to be read later.
    pub(crate) fn secret(&self, name: SecretName) -> VaultSecret {
        VaultSecret { vault: self.clone(), name }
    }
}

/// One secret of a vault.
#[derive(Clone)]
pub(crate) struct VaultSecret {
    vault: KeyVault,
    name: SecretName,
}

impl VaultSecret {
    async fn get(&self) -> Result<Secret> {
        let client = &self.vault.client;
        let options = SecretClientGetSecretOptions {
            secret_version: self.name.version.clone(),
            ..Default::default()
        };
        let read = async {
            match client.get_secret(&self.name.name, Some(options)).await {
                Ok(response) => response.into_model().map(|secret| secret.value),
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(WITHIN, read).await {
            Ok(Ok(Some(value))) if !value.is_empty() => {
                Ok(Secret { value: SecretString::from(value), keep: KEEP })
            }
            Ok(Ok(_)) => Err(Error::refused(format!("{self} is empty: set it"))),
            Ok(Err(error)) => Err(self.explain(error).await),
            Err(_) => Err(Error::new(
                ErrorKind::Transient,
                format!("{self} could not be read in {} s; try again", WITHIN.as_secs()),
            )),
        }
    }

    /// What the operator is to do about it. The service's own words hold no secret.
    async fn explain(&self, error: azure_core::Error) -> Error {
        let identity = "the identity that runs this";
        let AzureErrorKind::HttpResponse { status, error_code, raw_response } = error.kind() else {
            let (kind, advice) = match error.kind() {
                AzureErrorKind::Credential => (
                    ErrorKind::Refused,
                    "sign in (az login), or assign a managed identity and set --identity managed",
                ),
                _ => (
                    ErrorKind::Transient,
                    "check the vault's name, and that this machine may reach it (firewall, private \
                     DNS)",
                ),
            };
            return Error::new(kind, format!("{self} cannot be read: {error}; {advice}"))
                .because(error);
        };
        let said = raw_response
            .as_ref()
            .map(|response| String::from_utf8_lossy(response.body()).into_owned())
            .unwrap_or_default();
        let (kind, advice) = match *status {
            StatusCode::Unauthorized => (
                ErrorKind::Refused,
                format!("the vault does not accept the token of {identity}: it must belong to the vault's tenant"),
            ),
            StatusCode::Forbidden if said.contains("SecretDisabled") => {
                (ErrorKind::Refused, "the secret is disabled: enable it, or name another".to_owned())
            }
            StatusCode::Forbidden if said.contains("ForbiddenByFirewall") || said.contains("ForbiddenByConnection") => (
                ErrorKind::Refused,
                "the vault's network rules keep this machine out: allow it, or use the private endpoint".to_owned(),
            ),
            StatusCode::Forbidden => (
                ErrorKind::Refused,
                format!("give {identity} the role \"Key Vault Secrets User\" on the vault"),
            ),
            StatusCode::NotFound if self.is_deleted().await => (
                ErrorKind::Refused,
                format!("the secret was deleted: az keyvault secret recover --name {}", self.name.name),
            ),
            StatusCode::NotFound => (
                ErrorKind::Refused,
                "there is no such secret or version (or it was deleted): check the name".to_owned(),
            ),
            StatusCode::TooManyRequests => {
                (ErrorKind::Transient, "the vault is throttling: try again in a minute".to_owned())
            }
            _ => (ErrorKind::Transient, "try again; if it stays so, look at the vault's health".to_owned()),
        };
        let code = error_code.as_deref().unwrap_or("no code");
        Error::new(kind, format!("{self} cannot be read (HTTP {status}, {code}): {advice}"))
            .because(error)
    }

    /// Whether the secret can be recovered, as far as this identity may know.
    async fn is_deleted(&self) -> bool {
        let asked = self.vault.client.get_deleted_secret(&self.name.name, None);
        matches!(tokio::time::timeout(WITHIN, asked).await, Ok(Ok(_)))
    }
}

impl SecretSource for VaultSecret {
    fn read(&self) -> BoxFuture<'_, Result<Secret>> {
        Box::pin(self.get())
    }
}

impl fmt::Display for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vault = self.vault.client.endpoint().host_str().unwrap_or_default();
        write!(f, "the secret {} of {vault}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_never_the_secret_itself() {
        for (text, version) in [
            ("base-password", None),
            ("Base1/4387e9f3d6e14c459867679a90fd0f79", Some("4387e9f3d6e14c459867679a90fd0f79")),
        ] {
            let name: SecretName = text.parse().unwrap();
            assert_eq!(name.version.as_deref(), version);
            assert_eq!(name.to_string(), text);
        }
        for text in ["", "hunter2!", "postgres://u:hunter2@h/db", "a/b/c", "hunter2/"] {
            let error = text.parse::<SecretName>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
