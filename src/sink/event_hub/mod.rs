//! A hub of Azure Event Hubs.
//!
//! A producer of our own on an AMQP library, since the official one takes outcomes that do not mean
//! *stored* for success and has calls that may never return (`docs/decisions.md`).

mod batch;
mod claim_check;
mod connection;
mod credential;
mod endpoint;
#[cfg(test)]
mod endurance;
mod health;
mod hub_error;
mod hub_incarnation;
mod in_flight;
mod message;
mod partition;
mod partition_sender;
mod producer;
mod rate_limiter;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use uuid::Uuid;

pub(crate) use credential::ConnectionStringSource;
pub(crate) use hub_incarnation::HubIncarnation;

use claim_check::MessageEncoder;
use connection::Connector;
use credential::Credential;
use endpoint::Endpoint;
use message::MessageForm;
use partition::Router;
use producer::Producer;

use super::{DeltaTable, Held, Sink};
use crate::azure::AzureIdentity;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::model::{EMULATOR, EventHubOptions, HubAddress};

use crate::crypto::install_crypto_provider;
use crate::postgres::Pool;

/// How this process reaches hubs and proves who it is. Not part of a request: a token must not go
/// where a request says.
#[derive(Clone)]
pub struct EventHubAccess {
    /// `--event-hub-endpoint`: where to connect, if not to the namespace itself.
    pub(crate) endpoint: Option<String>,
    /// `--event-hub-sslrootcert`: an authority to trust besides the public ones.
    pub(crate) authority: Option<PathBuf>,
    /// The connection string of a shared access policy, instead of an identity.
    pub(crate) connection_string: Option<ConnectionStringSource>,
    /// Who we are to Entra, without a connection string.
    pub(crate) identity: AzureIdentity,
    /// How long a partition may accept nothing before those who wait are told.
    pub(crate) stall_timeout: Duration,
}

impl fmt::Debug for EventHubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHubAccess")
            .field("endpoint", &self.endpoint)
            .field("connection_string", &self.connection_string.is_some())
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl EventHubAccess {
    async fn connector(&self, address: &HubAddress) -> Result<Connector> {
        let given: Option<Endpoint> = self.endpoint.as_deref().map(str::parse).transpose()?;
        let (credential, emulator) = match &self.connection_string {
            Some(source) => {
                // Read for the token again, but what is wrong with it is better said now.
                let found = source.read(address).await?;
                (Credential::Shared(source.clone()), found.emulator)
            }
            None => (Credential::Entra(self.identity.credential()?), None),
        };
        if address.namespace() == EMULATOR && emulator.is_none() {
            return Err(Error::refused(
                "event-hub:localhost/… is Microsoft's emulator: put its connection string, with \
                 UseDevelopmentEmulator=true, into DELTACOMPARE_EVENT_HUB_CONNECTION_STRING",
            ));
        }
        Ok(Connector {
            endpoint: given.or(emulator).unwrap_or_else(|| Endpoint::of(address)),
            address: address.clone(),
            credential,
            tls: self.tls()?,
        })
    }

    fn tls(&self) -> Result<tokio_rustls::TlsConnector> {
        install_crypto_provider();
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(path) = &self.authority {
            let unusable = |error: &dyn fmt::Display| {
                Error::refused(format!(
                    "{} has no certificates: {error}; name a PEM file with --event-hub-sslrootcert",
                    path.display()
                ))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(&e))? {
                roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
            }
        }
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(config).into())
    }
}

/// Sends events to a hub. An event counts as durable once the service has accepted it.
///
/// The events of a recovery keep their order within a partition, except where the service had to
/// be asked twice.
pub struct EventHub {
    producer: Arc<Producer>,
    router: Router,
    encoder: Arc<MessageEncoder>,
}

impl EventHub {
    /// Opens the hub for a recovery's events. `began` is given the hub that is there and yields the
    /// one that the recovery began with: events go to as many partitions as it had then. `control`
    /// has the delta table, for events that are too large. Yields a warning, too, if the hub has
    /// grown.
    ///
    /// # Errors
    /// Refused for settings that cannot be right; transient if the hub does not answer or says no;
    /// [`EventsLost`](crate::error::ErrorKind::EventsLost) if it is another hub.
    pub(crate) async fn open(
        access: &EventHubAccess,
        address: &HubAddress,
        options: &EventHubOptions,
        recovery: Uuid,
        recovered_at: Timestamp,
        control: Pool,
        began: impl AsyncFnOnce(HubIncarnation) -> Result<HubIncarnation>,
    ) -> Result<(Self, Option<String>)> {
        let producer = async |partitions| {
            let connector = access.connector(address).await?;
            Producer::shared(connector, options, access.stall_timeout, partitions).await
        };
        let mut found = producer(1).await?;
        let began = began(found.hub()).await?;
        if found.hub().partitions < began.partitions {
            // It may have been opened before the hub grew.
            found = producer(began.partitions).await?;
        }
        let grown = HubIncarnation::check(&began, &found.hub(), address)?;
        let hub = Self {
            router: Router::new(options, began.partitions),
            producer: found,
            encoder: Arc::new(MessageEncoder {
                form: MessageForm::new(options, recovery, recovered_at),
                delta: Arc::new(DeltaTable::new(control, recovery)),
            }),
        };
        Ok((hub, grown))
    }

    /// Whether the hub is there and lets us in. Sends nothing.
    ///
    /// # Errors
    /// As [`EventHub::open`].
    pub(crate) async fn check(
        access: &EventHubAccess,
        address: &HubAddress,
        options: &EventHubOptions,
    ) -> Result<()> {
        let connector = access.connector(address).await?;
        Producer::shared(connector, options, access.stall_timeout, 1).await.map(drop)
    }
}

impl Sink for EventHub {
    fn write<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for event in events {
                let partition = self.router.partition(event);
                self.producer.put(partition, event.clone(), &self.encoder).await?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async {
            self.producer.flush().await?;
            Ok(Held::Unknown)
        })
    }
}

impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHub").finish_non_exhaustive()
    }
}
