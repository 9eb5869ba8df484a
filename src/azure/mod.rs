//! Azure's services, as the rest of the program uses them: who the program is to Azure, secrets in Key
//! Vault, tokens to log in to PostgreSQL with.

mod credential;
mod entra_token;
mod key_vault;

pub use credential::{AzureIdentity, AzureIdentityKind};
pub(crate) use entra_token::EntraToken;
pub(crate) use key_vault::{KeyVault, SecretName, VaultSecret};
