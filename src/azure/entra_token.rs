//! A token of the program's own identity as a password (Azure Database for PostgreSQL,
//! "Microsoft Entra authentication").

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::time::OffsetDateTime;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use crate::error::{Error, ErrorKind, Result};
use crate::secrets::{Secret, SecretSource};

/// What a token must be for.
const SCOPE: &str = "https://ossrdbms-aad.database.windows.net/.default";

/// A token is not used in its last minutes: logging in takes time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// How long a token may be waited for.
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct EntraToken(pub(crate) Arc<dyn TokenCredential>);

impl EntraToken {
    async fn token(&self) -> Result<Secret> {
        let failed = |error: String| {
            Error::new(
                ErrorKind::Transient,
                format!(
                    "no token to log in to PostgreSQL with: {error}; check the identity \
                     (--identity), or use a password instead (--login password)"
                ),
            )
        };
        let token = tokio::time::timeout(WITHIN, self.0.get_token(&[SCOPE], None))
            .await
            .map_err(|_| failed(format!("no answer in {} s", WITHIN.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        let left = token.expires_on - OffsetDateTime::now_utc();
        Ok(Secret {
            value: SecretString::from(token.token.secret()),
            keep: Duration::try_from(left).unwrap_or_default().saturating_sub(MARGIN),
        })
    }
}

impl SecretSource for EntraToken {
    fn read(&self) -> BoxFuture<'_, Result<Secret>> {
        Box::pin(self.token())
    }
}
