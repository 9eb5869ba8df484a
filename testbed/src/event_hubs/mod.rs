//! A stand-in for Azure Event Hubs: one hub, over AMQP 1.0, with faults on command.
//!
//! It speaks what the official clients speak: SASL ANONYMOUS; `$cbs` with both kinds of token, of
//! which audience and expiry are checked, and of shared access signatures the signature;
//! `$management` for the hub and its partitions; sender links to the hub and to partitions;
//! receiver links with a starting position.
//!
//! **What it does not cover:** WebSockets; Entra itself (a token is good if the stand-in of the
//! identity endpoint gave it out); rights of a policy; throttling by throughput units; retention,
//! capture, geo-replication; consumer groups' epochs and owners; the Kafka endpoint; idle
//! connections that the service closes; how the real service batches its acknowledgements, and how
//! long anything takes. Messages of senders to the hub without a key go round in turn, which the
//! service does not promise.

mod faults;
mod frames;
mod links;
mod log;
mod official_client;
mod tokens;

use std::collections::HashSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use fe2o3_amqp::acceptor::{ConnectionAcceptor, SaslAnonymousMechanism, SessionAcceptor};
use fe2o3_amqp::types::definitions::{self, ConnectionError};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use faults::{Fault, Faults};
pub use log::{Keep, StoredEvent};
pub use official_client::OfficialClient;

use frames::FullFrames;
use links::Connected;
use log::Log;
use tokens::Policy;

/// What the hub is like.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The namespace's host name, which tokens are for.
    pub namespace: String,
    /// The hub's name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// What a link says is the largest message; 1 MiB as on the Standard tier.
    pub largest_message: u64,
    /// What is kept of events.
    pub keep: Keep,
    /// The longest that a token is good for, whatever it says.
    pub tokens_last: Duration,
    /// Whether connections are TLS from the first byte, as the service's are.
    pub tls: bool,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            namespace: "standin.servicebus.windows.net".to_owned(),
            name: "orders".to_owned(),
            partitions: 4,
            largest_message: 1 << 20,
            keep: Keep::All,
            tokens_last: Duration::from_secs(3600),
            tls: false,
        }
    }
}

/// A running stand-in. Ends when dropped.
#[derive(Debug)]
pub struct EventHubs {
    address: SocketAddr,
    hub: Arc<Hub>,
    /// Has the authority's certificate.
    folder: TempDir,
    _tasks: JoinSet<()>,
}

/// What all connections share.
#[derive(Debug)]
struct Hub {
    options: HubOptions,
    policy: Mutex<Policy>,
    /// Whose tokens of Entra are good.
    issuer: Mutex<Option<crate::Tokens>>,
    /// Of every partition that it can have; [`Hub::logs`] are those that it has.
    room: Vec<Log>,
    partitions: AtomicUsize,
    /// When it was made, in milliseconds since 1970.
    created_at: AtomicI64,
    faults: Mutex<Faults>,
    /// Whether there is such a hub.
    exists: watch::Sender<bool>,
    /// The partition that answers nothing for now.
    stalled: watch::Sender<Option<usize>>,
    batches: AtomicU64,
    connections: AtomicU64,
    tokens: AtomicU64,
}

/// The most partitions that a hub of the service has.
const MOST_PARTITIONS: usize = 1024;

impl Hub {
    fn logs(&self) -> &[Log] {
        &self.room[..self.partitions.load(Ordering::Relaxed)]
    }
}

impl EventHubs {
    /// Starts it on a free port of this machine.
    pub async fn start(options: HubOptions) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port is free")?;
        let address = listener.local_addr()?;
        let folder = tempfile::tempdir()?;
        let tls = match options.tls {
            true => Some(crate::tls::acceptor(&folder.path().join("ca.pem"), "127.0.0.1")?),
            false => None,
        };
        let hub = Arc::new(Hub {
            policy: Mutex::new(Policy::random()),
            issuer: Mutex::default(),
            room: (0..MOST_PARTITIONS).map(|_| Log::new(options.keep)).collect(),
            partitions: AtomicUsize::new(options.partitions),
            created_at: AtomicI64::new(0),
            faults: Mutex::default(),
            exists: watch::Sender::new(true),
            stalled: watch::Sender::new(None),
            batches: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            options,
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&hub);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        shared.connections.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, hub, folder, _tasks: tasks })
    }

    /// For `--event-hub-endpoint`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.hub.options.tls { "amqps" } else { "amqp" };
        format!("{scheme}://{}", self.address)
    }

    /// For `--event-hub-sslrootcert`; there only with TLS.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For `--sink`.
    pub fn sink(&self) -> String {
        format!("event-hub:{}/{}", self.hub.options.namespace, self.hub.options.name)
    }

    /// A connection string of its policy, which is for the namespace.
    pub fn connection_string(&self) -> String {
        let Policy { name, key } = &*lock(&self.hub.policy);
        let namespace = &self.hub.options.namespace;
        format!("Endpoint=sb://{namespace}/;SharedAccessKeyName={name};SharedAccessKey={key}")
    }

    /// The same as Microsoft's emulator gives it: it says where to connect, and without TLS.
    pub fn emulator_connection_string(&self) -> String {
        let Policy { name, key } = &*lock(&self.hub.policy);
        let address = self.address;
        format!(
            "Endpoint=sb://{address};SharedAccessKeyName={name};SharedAccessKey={key};\
             UseDevelopmentEmulator=true"
        )
    }

    /// Gives the policy another key. Who was let in by the old one stays until the token ends.
    pub fn change_key(&self) {
        *lock(&self.hub.policy) = Policy::random();
    }

    /// Lets in whoever has a token of these that is for Event Hubs and has not ended.
    pub fn trust(&self, tokens: &crate::Tokens) {
        *lock(&self.hub.issuer) = Some(tokens.clone());
    }

    /// From now on these go wrong.
    pub fn inject(&self, faults: Faults) {
        *lock(&self.hub.faults) = faults;
    }

    /// Deletes the hub, or makes it again. What is stored stays.
    pub fn exists(&self, exists: bool) {
        self.hub.exists.send_replace(exists);
    }

    /// Gives the hub more partitions.
    pub fn grow(&self, partitions: usize) {
        self.hub.partitions.store(partitions, Ordering::Relaxed);
    }

    /// Deletes the hub with all that is stored, and makes another of the same name.
    pub fn replace(&self) {
        self.hub.room.iter().for_each(Log::clear);
        self.hub.created_at.fetch_add(60_000, Ordering::Relaxed);
    }

    /// Lets this partition answer nothing, or none.
    pub fn stall(&self, partition: Option<usize>) {
        self.hub.stalled.send_replace(partition);
    }

    /// Everything that is stored, by partition and in order.
    pub fn events(&self) -> Vec<StoredEvent> {
        let logs = self.hub.logs().iter().enumerate();
        logs.flat_map(|(partition, log)| log.events(partition)).collect()
    }

    /// How many events are stored, repeats included.
    pub fn stored(&self) -> u64 {
        self.hub.logs().iter().map(Log::stored).sum()
    }

    /// The ids of the events that were stored since the last call, under [`Keep::Ids`].
    pub fn take_ids(&self) -> HashSet<u128> {
        self.hub.logs().iter().flat_map(Log::take_ids).collect()
    }

    /// Batches received, connections accepted and tokens taken.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.hub.batches), read(&self.hub.connections), read(&self.hub.tokens))
    }
}

/// One connection, to its end.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, hub: Arc<Hub>) {
    // A second handle to the socket, to cut it in the middle of anything.
    let Ok((stream, scissors)) = stream.into_std().and_then(|stream| {
        let scissors = stream.try_clone()?;
        Ok((TcpStream::from_std(stream)?, scissors))
    }) else {
        return;
    };
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, &scissors, hub).await,
        // A client that does not trust us goes away in the middle.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                speak(stream, &scissors, hub).await;
            }
        }
    }
}

async fn speak<S>(stream: S, scissors: &std::net::TcpStream, hub: Arc<Hub>)
where
    S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static,
{
    let acceptor = ConnectionAcceptor::builder()
        .container_id("standin")
        .max_frame_size(64 << 10)
        .channel_max(4999)
        .sasl_acceptor(SaslAnonymousMechanism::new())
        .build();
    let Ok(mut handle) = acceptor.accept(FullFrames::new(stream)).await else { return };
    let connected = Arc::new(Connected::new(hub));
    let mut sessions = JoinSet::new();

    loop {
        tokio::select! {
            incoming = handle.next_incoming_session() => {
                let Some(incoming) = incoming else { break };
                // The service says how many links it takes, and its clients rely on it.
                let acceptor = SessionAcceptor::builder().handle_max(255_u32).build();
                let accepted = acceptor.accept_incoming_session(incoming, &mut handle).await;
                if let Ok(session) = accepted {
                    sessions.spawn(links::session(session, Arc::clone(&connected)));
                }
            }
            end = connected.ended() => match end {
                links::End::Cut => {
                    let _ = scissors.shutdown(std::net::Shutdown::Both);
                    break;
                }
                links::End::Forced => {
                    let error = definitions::Error::new(
                        ConnectionError::ConnectionForced,
                        "the connection was closed by the container".to_owned(),
                        None,
                    );
                    let _ = tokio::time::timeout(
                        Duration::from_secs(5),
                        handle.close_with_error(error),
                    )
                    .await;
                    break;
                }
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
