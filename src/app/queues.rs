//! The two queues, as Azure's storage has them.

use std::time::Duration;

use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use azure_core::http::{StatusCode, Url};
use azure_storage_queue::QueueClient;
use azure_storage_queue::models::{QueueClientSendMessageOptions, QueueMessage};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::host::bindings::{PLAN_QUEUE, QUEUE_CONNECTION, WORK_QUEUE};
use crate::azure::{AzureIdentity, AzureIdentityKind};
use crate::crypto::install_crypto_provider;
use crate::error::{Error, ErrorKind, Result};
use crate::recovery::PendingMessages;

/// A message: a hint that something may be to do. None of its fields has the name of an entry that
/// the host keeps of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) recovery: Uuid,
    /// The batch of work items, which is the number of the first; without one, the recovery's next
    /// step is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<i32>,
    /// The trace of who asked for the recovery, as a `traceparent`, if traces are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
}

/// Sends messages. They live as long as the queue: what is done with is not done twice.
pub(super) struct Queues {
    plan: QueueClient,
    work: QueueClient,
    /// Where they are, without a signature.
    address: String,
}

impl Queues {
    /// The queues that the app settings name: `DELTACOMPARE_QUEUES` as a connection string, or
    /// `DELTACOMPARE_QUEUES__queueServiceUri` and a managed identity.
    ///
    /// # Errors
    /// Refused; names the setting, and no secret.
    pub(super) fn from_environment() -> Result<Self> {
        install_crypto_provider();
        let setting = |suffix: &str| {
            std::env::var(format!("{QUEUE_CONNECTION}{suffix}")).ok().filter(|s| !s.is_empty())
        };
        let client = |queue: &str| match (setting(""), setting("__queueServiceUri")) {
            (Some(connection), _) => client(&signed(&connection, queue)?, None),
            (None, Some(service)) => {
                let client_id = setting("__clientId");
                let kind = if client_id.is_some() {
                    AzureIdentityKind::Managed
                } else {
                    AzureIdentityKind::Auto
                };
                let credential = AzureIdentity { kind, client_id }.credential()?;
                client(&format!("{}/{queue}", service.trim_end_matches('/')), Some(credential))
            }
            (None, None) => Err(Error::refused(format!(
                "the app setting {QUEUE_CONNECTION}__queueServiceUri is missing: set it to \
                 https://<account>.queue.core.windows.net, or {QUEUE_CONNECTION} to a storage \
                 connection string"
            ))),
        };
        let plan = client(PLAN_QUEUE)?;
        Ok(Self { address: address_of(plan.url()), plan, work: client(WORK_QUEUE)? })
    }

    /// Where they are: what tells this app from another one with queues of its own.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends what a recovery needs, with the trace that it belongs to.
    ///
    /// # Errors
    /// Transient. What was not sent is sent by the watchdog.
    pub(super) async fn send_pending(
        &self,
        recovery: Uuid,
        messages: &PendingMessages,
        trace: Option<String>,
    ) -> Result<()> {
        let mut message = Message { recovery, item: None, trace };
        if messages.advance {
            self.send(&message, Duration::ZERO).await?;
        }
        for &batch in &messages.batches {
            message.item = Some(batch);
            self.send(&message, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Sends a message to the queue of its kind, to be seen after `delay`. A queue that is not there
    /// is created.
    pub(super) async fn send(&self, message: &Message, delay: Duration) -> Result<()> {
        let queue = if message.item.is_some() { &self.work } else { &self.plan };
        match put(queue, message, delay).await {
            Err(error) if error.http_status() == Some(StatusCode::NotFound) => {
                queue.create(None).await.map_err(unsent)?;
                put(queue, message, delay).await.map_err(unsent)
            }
            sent => sent.map_err(unsent),
        }
    }
}

/// The queue service's address, of a queue's.
fn address_of(queue: &Url) -> String {
    let account = queue.path().trim_end_matches(PLAN_QUEUE).trim_end_matches('/');
    match queue.port() {
        Some(port) => format!("{}:{port}{account}", queue.host_str().unwrap_or_default()),
        None => format!("{}{account}", queue.host_str().unwrap_or_default()),
    }
}

async fn put(queue: &QueueClient, message: &Message, delay: Duration) -> azure_core::Result<()> {
    let text = serde_json::to_vec(message)?;
    let body = QueueMessage { message_text: Some(STANDARD.encode(text)) };
    let options = QueueClientSendMessageOptions {
        // Never: the recovery may take longer than the seven days that are the default.
        message_time_to_live: Some(-1),
        visibility_timeout: Some(delay.as_secs() as i32),
        ..Default::default()
    };
    queue.send_message(body.try_into()?, Some(options)).await?;
    Ok(())
}

/// The cause's own text may repeat the queue's URL, and with it a signature.
fn unsent(error: azure_core::Error) -> Error {
    let status = error.http_status().map_or_else(String::new, |status| format!(" ({status})"));
    Error::new(
        ErrorKind::Transient,
        format!(
            "a message could not be sent to the queue{status}: check {QUEUE_CONNECTION}, the \
             identity's role Storage Queue Data Contributor, and the network"
        ),
    )
}

fn client(
    url: &str,
    credential: Option<std::sync::Arc<dyn azure_core::credentials::TokenCredential>>,
) -> Result<QueueClient> {
    let url = Url::parse(url)
        .map_err(|_| Error::refused(format!("{QUEUE_CONNECTION} holds no URL: correct it")))?;
    QueueClient::new(url, credential, None).map_err(|_| {
        Error::refused(format!("{QUEUE_CONNECTION}__queueServiceUri must be an https URL"))
    })
}

/// The queue's URL with an account SAS, from a connection string. The signature lives in this
/// process only, so it may be valid for long.
/// <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>
fn signed(connection: &str, queue: &str) -> Result<String> {
    let connection = if connection.trim() == "UseDevelopmentStorage=true" {
        DEVELOPMENT_STORAGE
    } else {
        connection
    };
    let part = |name: &str| {
        connection.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let missing = |name: &str| {
        Error::refused(format!("{QUEUE_CONNECTION} is a connection string without {name}"))
    };
    let account = part("AccountName").ok_or_else(|| missing("AccountName"))?;
    let key = part("AccountKey").ok_or_else(|| missing("AccountKey"))?;
    let endpoint = part("QueueEndpoint").map_or_else(
        || {
            let suffix = part("EndpointSuffix").unwrap_or("core.windows.net");
            format!("https://{account}.queue.{suffix}")
        },
        |endpoint| endpoint.trim_end_matches('/').to_owned(),
    );
    const EXPIRY: &str = "2099-12-31T00:00:00Z";
    const VERSION: &str = "2019-12-12";
    let text = format!("{account}\nrwdlacup\nq\nsco\n\n{EXPIRY}\n\nhttps,http\n{VERSION}\n");
    let signature = hmac_sha256(&text, &Secret::new(key.to_owned())).map_err(|_| {
        Error::refused(format!("the AccountKey of {QUEUE_CONNECTION} is not base64"))
    })?;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("sv", VERSION),
            ("ss", "q"),
            ("srt", "sco"),
            ("sp", "rwdlacup"),
            ("se", EXPIRY),
            ("spr", "https,http"),
            ("sig", &signature),
        ])
        .finish();
    Ok(format!("{endpoint}/{queue}?{query}"))
}

/// What `UseDevelopmentStorage=true` stands for: the emulator's well-known account.
const DEVELOPMENT_STORAGE: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_the_account_and_has_no_signature() {
        for (queue, address) in [
            (
                "https://Shop.queue.core.windows.net/recovery-plan?sig=s",
                "shop.queue.core.windows.net",
            ),
            (
                "http://127.0.0.1:10001/devstoreaccount1/recovery-plan",
                "127.0.0.1:10001/devstoreaccount1",
            ),
        ] {
            assert_eq!(address_of(&Url::parse(queue).unwrap()), address);
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_secret() {
        for connection in ["AccountKey=c2VjcmV0", "AccountName=a", "AccountName=a;AccountKey=%%"] {
            let error = signed(connection, "q").unwrap_err();
            assert!(error.to_string().contains(QUEUE_CONNECTION), "{error}");
            assert!(!format!("{error:?}").contains("c2VjcmV0"), "{error:?}");
        }
    }
}
