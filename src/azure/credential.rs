//! Who the program is to Azure: a managed identity where it runs there, the developer's own
//! sign-in on a desk.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_identity::{
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use serde::{Deserialize, Serialize};

use crate::crypto::install_crypto_provider;
use crate::error::{Error, Result};

/// `--identity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum AzureIdentityKind {
    /// Managed where App Service or Functions offers one (`IDENTITY_ENDPOINT`), else developer.
    #[default]
    Auto,
    /// The managed identity of the machine or the app.
    Managed,
    /// What the Azure CLI or the Azure Developer CLI is signed in as.
    Developer,
}

/// An identity in Microsoft Entra. Cheap to clone; holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureIdentity {
    /// Which kind.
    pub kind: AzureIdentityKind,
    /// The client id of a user-assigned managed identity; without it, the system-assigned one.
    pub client_id: Option<String>,
}

impl AzureIdentity {
    /// A source of tokens for this identity. Tokens are cached and renewed by it; nothing is asked
    /// for before the first one is wanted.
    ///
    /// # Errors
    /// Refused if the environment does not offer such an identity, or a client id is given that the
    /// identity would not use.
    pub fn credential(&self) -> Result<Arc<dyn TokenCredential>> {
        install_crypto_provider();
        let managed = match self.kind {
            AzureIdentityKind::Auto => std::env::var_os("IDENTITY_ENDPOINT").is_some(),
            AzureIdentityKind::Managed => true,
            AzureIdentityKind::Developer => false,
        };
        let unusable = |error: azure_core::Error| {
            Error::refused(format!(
                "no identity to show to Azure: {error}; in Azure assign a managed identity to the \
                 app, on a desk sign in with `az login`, or set --identity"
            ))
            .because(error)
        };
        if managed {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: self.client_id.clone().map(UserAssignedId::ClientId),
                ..Default::default()
            };
            return Ok(ManagedIdentityCredential::new(Some(options)).map_err(unusable)?);
        }
        if self.client_id.is_some() {
            return Err(Error::refused(
                "--identity-client-id names a managed identity, but here the developer's own \
                 sign-in is used: leave it out, or set --identity managed",
            ));
        }
        Ok(DeveloperToolsCredential::new(None).map_err(unusable)?)
    }
}
