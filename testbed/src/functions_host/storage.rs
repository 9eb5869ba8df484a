//! The queues of a storage account, by its connection string.

use std::sync::Arc;

use anyhow::{Context, Result};
use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use azure_core::http::Url;
use azure_storage_queue::models::{QueueClientGetPropertiesResultHeaders, QueueMessage};
use azure_storage_queue::{QueueClient, QueueServiceClient};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Azurite;

/// Until when a signature is good: longer than any test.
const EXPIRES: &str = "2100-01-01T00:00:00Z";

/// The queue service of an account.
#[derive(Clone)]
pub(super) struct QueueService(Arc<QueueServiceClient>);

impl QueueService {
    /// By a connection string with a key; `UseDevelopmentStorage=true` is Azurite on its own ports.
    pub(super) fn connect(connection_string: &str) -> Result<Self> {
        let part = |name: &str| {
            connection_string.split(';').find_map(|part| {
                let (found, value) = part.trim().split_once('=')?;
                found.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let (account, key, endpoint) = if part("UseDevelopmentStorage").is_some() {
            let endpoint = format!("http://127.0.0.1:10001/{}", Azurite::ACCOUNT);
            (Azurite::ACCOUNT.to_owned(), Azurite::KEY.to_owned(), endpoint)
        } else {
            let account = part("AccountName").context("a connection string without AccountName")?;
            let key = part("AccountKey").context("a connection string without AccountKey")?;
            let endpoint = part("QueueEndpoint")
                .unwrap_or_else(|| format!("https://{account}.queue.core.windows.net"));
            (account, key, endpoint)
        };
        let url = Url::parse(&format!("{endpoint}?{}", signature(&account, key)?))?;
        // For its connections over TLS, which Azurite has none of, the client wants to know one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self(Arc::new(QueueServiceClient::new(url, None, None)?)))
    }

    pub(super) fn queue(&self, name: &str) -> Result<QueueClient> {
        Ok(self.0.queue_client(name)?)
    }
}

/// A queue, for tests that send messages of their own or look what is left.
pub struct Queue(QueueClient);

impl Queue {
    /// The queue of this name, created if there is none.
    pub async fn connect(connection_string: &str, name: &str) -> Result<Self> {
        let queue = QueueService::connect(connection_string)?.queue(name)?;
        queue.create(None).await?;
        Ok(Self(queue))
    }

    /// Sends a message, its text as it is.
    pub async fn send(&self, text: &str) -> Result<()> {
        let message = QueueMessage { message_text: Some(text.to_owned()) };
        self.0.send_message(message.try_into()?, None).await?;
        Ok(())
    }

    /// How many messages there are, those that somebody holds among them.
    pub async fn len(&self) -> Result<i64> {
        let properties = self.0.get_properties(None).await?;
        Ok(properties.approximate_messages_count()?.unwrap_or_default())
    }

    /// Removes all messages, those that somebody holds among them.
    pub async fn clear(&self) -> Result<()> {
        self.0.clear(None).await?;
        Ok(())
    }
}

/// A shared access signature of the account, for everything in its queues.
/// <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>
fn signature(account: &str, key: String) -> Result<String> {
    let (version, rights, services, resources) = ("2021-06-08", "rwdlacup", "q", "sco");
    let protocol = "https,http";
    let signed = format!(
        "{account}\n{rights}\n{services}\n{resources}\n\n{EXPIRES}\n\n{protocol}\n{version}\n\n"
    );
    let signature = hmac_sha256(&signed, &Secret::new(key))?;
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    Ok(format!(
        "sv={version}&ss={services}&srt={resources}&sp={rights}&se={}&spr={}&sig={}",
        encode(EXPIRES),
        encode(protocol),
        encode(&signature)
    ))
}
