//! A connection to a namespace: opened when it is wanted, authorized, and watched.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::primitives::{Array, Timestamp, Value};
use fe2o3_amqp::{Connection, Session};
use fe2o3_amqp_cbs::client::CbsClient;
use fe2o3_amqp_cbs::token::CbsToken;
use fe2o3_amqp_management::client::MgmtClient;
use fe2o3_amqp_management::operations::ReadRequest;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::credential::{Credential, Token};
use super::endpoint::Endpoint;
use super::hub_error::{Cause, HubError};
use crate::model::HubAddress;

/// For a connection with its token: a name server, TCP, TLS, AMQP, Entra.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// For an answer of the service to something small.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// After a connection could not be opened, nobody tries for so long.
const REST: Duration = Duration::from_millis(500);

/// Event Hubs' own frame size.
const FRAME_BYTES: u32 = 64 << 10;

/// A partition has a session of its own, and a hub up to 1,024 partitions; the service may ask for
/// fewer.
const LAST_CHANNEL: u16 = u16::MAX;

/// We say something at least this often, and notice within twice this that nobody is there.
const IDLE: Duration = Duration::from_secs(30);

/// How connections are made.
pub(super) struct Connector {
    pub(super) address: HubAddress,
    pub(super) endpoint: Endpoint,
    pub(super) credential: Credential,
    pub(super) tls: TlsConnector,
}

/// An open, authorized connection. Ends when dropped.
pub(super) struct OpenConnection {
    cbs: CbsClient,
    _cbs_session: SessionHandle<()>,
    handle: ConnectionHandle<()>,
    put_at: Instant,
    renew_at: Instant,
    /// Dropped with the rest, which is how those who use the connection learn of its end.
    over: watch::Sender<()>,
}

impl Connector {
    /// Opens a connection and shows a token. Bounded.
    pub(super) async fn open(&self) -> Result<OpenConnection, HubError> {
        timeout(OPEN_WITHIN, self.connect()).await.unwrap_or_else(|_| {
            Err(HubError::transient(format!(
                "{} did not answer within {} s",
                self.endpoint,
                OPEN_WITHIN.as_secs()
            )))
        })
    }

    async fn connect(&self) -> Result<OpenConnection, HubError> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let unreachable = |error: &dyn std::fmt::Display| {
            HubError::transient(format!("{} cannot be reached: {error}", self.endpoint))
        };
        let stream =
            TcpStream::connect((host.as_str(), *port)).await.map_err(|e| unreachable(&e))?;
        stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
        let builder = Connection::builder()
            .container_id(format!("deltacompare-{}", Uuid::new_v4().simple()))
            .hostname(self.address.namespace())
            .sasl_hostname(self.address.namespace())
            .sasl_profile(SaslProfile::Anonymous)
            .max_frame_size(FRAME_BYTES)
            .channel_max(LAST_CHANNEL)
            .idle_time_out(2 * IDLE.as_millis() as u32);
        let opened = if self.endpoint.tls {
            // Event Hubs speaks TLS from the first byte, without AMQP's own upgrade.
            let name = host.clone().try_into().map_err(|e| unreachable(&e))?;
            let stream = self.tls.connect(name, stream).await.map_err(|e| unreachable(&e))?;
            builder.open_with_stream(stream).await
        } else {
            builder.open_with_stream(stream).await
        };
        let mut handle = opened.map_err(|e| match &e {
            fe2o3_amqp::connection::OpenError::RemoteClosedWithError(error) => error.into(),
            _ => unreachable(&e),
        })?;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            HubError::transient(format!("{what} with {} failed: {error}", self.endpoint))
        };
        let mut session = Session::begin(&mut handle).await.map_err(|e| failed("a session", &e))?;
        let cbs = CbsClient::attach(&mut session).await.map_err(|e| failed("authorization", &e))?;
        let now = Instant::now();
        let (over, _) = watch::channel(());
        let mut connection =
            OpenConnection { cbs, _cbs_session: session, handle, put_at: now, renew_at: now, over };
        self.show(&mut connection, self.token().await?).await?;
        Ok(connection)
    }

    /// A new token. Bounded.
    async fn token(&self) -> Result<Token, HubError> {
        timeout(ANSWER_WITHIN, self.credential.token(&self.address))
            .await
            .unwrap_or_else(|_| Err(HubError::transient("no token was to be had in time")))
    }

    /// Shows a token. Bounded. After an error the connection is of no use: an answer that comes
    /// later would be taken for the next one's.
    async fn show(&self, connection: &mut OpenConnection, token: Token) -> Result<(), HubError> {
        let lasts = token.expires.duration_since(SystemTime::now()).unwrap_or_default();
        let since_epoch = token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expires = Timestamp::from_milliseconds(since_epoch.as_millis() as i64);
        let token = CbsToken::new(token.value.expose_secret(), token.kind, expires);
        let put = connection.cbs.put_token(self.address.audience(), token);
        tokio::select! {
            biased;
            // The answer would be waited for all the same.
            _ = connection.handle.on_close() => return Err(ended()),
            shown = timeout(ANSWER_WITHIN, put) => shown
                .map_err(|_| HubError::transient("the service did not answer to a token in time"))?
                .map_err(not_authorized)?,
        };
        connection.put_at = Instant::now();
        // Early enough to try several times, and not all the time if it lasts seconds only.
        let early = (lasts / 3).min(Duration::from_secs(300));
        connection.renew_at = connection.put_at + (lasts - early).max(Duration::from_secs(1));
        Ok(())
    }

    /// What the service says of the hub. Bounded.
    pub(super) async fn describe(
        &self,
        connection: &mut OpenConnection,
    ) -> Result<HubDescription, HubError> {
        let node = format!("{}/$management", self.address.hub());
        let read = timeout(ANSWER_WITHIN, async {
            let failed = |error: &dyn std::fmt::Display| {
                HubError::transient(format!("the hub's properties could not be read: {error}"))
            };
            let mut session =
                Session::begin(&mut connection.handle).await.map_err(|e| failed(&e))?;
            let mut client = MgmtClient::builder()
                .management_node_address(node)
                .client_node_addr(format!("deltacompare-{}", Uuid::new_v4().simple()))
                .attach(&mut session)
                .await
                .map_err(|error| match error {
                    fe2o3_amqp_management::error::AttachError::Sender(error) => error.into(),
                    other => failed(&other),
                })?;
            let request = ReadRequest::name(self.address.hub(), "com.microsoft:eventhub", None);
            let response = client.call(request).await.map_err(|error| match error {
                fe2o3_amqp_management::error::Error::Send(error) => error.into(),
                fe2o3_amqp_management::error::Error::Status(status)
                    if status.code.0.get() == 404 =>
                {
                    HubError { cause: Cause::Gone, sentence: "amqp:not-found".to_owned() }
                }
                other => failed(&other),
            })?;
            let created_at = match response.entity_attributes.get("created_at") {
                Some(Value::Timestamp(at)) => Some(at.milliseconds()),
                _ => None,
            };
            match response.entity_attributes.get("partition_ids") {
                Some(Value::Array(Array(ids))) => {
                    let partitions = ids
                        .iter()
                        .filter_map(|id| match id {
                            Value::String(id) => Some(id.clone()),
                            _ => None,
                        })
                        .collect();
                    Ok(HubDescription { partitions, created_at })
                }
                _ => Err(failed(&"there are no partition ids in the answer")),
            }
        });
        let mut hub = read.await.unwrap_or_else(|_| {
            Err(HubError::transient("the hub's properties could not be read in time"))
        })?;
        hub.partitions.sort_by_key(|id| id.parse().unwrap_or(u32::MAX));
        Ok(hub)
    }

    /// A session for one link, and the end of its connection. Bounded.
    pub(super) async fn session(
        &self,
        connection: &mut OpenConnection,
    ) -> Result<LinkSession, HubError> {
        match timeout(ANSWER_WITHIN, Session::begin(&mut connection.handle)).await {
            Ok(Ok(session)) => Ok(LinkSession { session, over: connection.over.subscribe() }),
            Ok(Err(error)) => Err(HubError::transient(format!("no session: {error}"))),
            Err(_) => Err(HubError::transient("no session within the time")),
        }
    }
}

/// What the service says of a hub.
pub(super) struct HubDescription {
    /// The ids of its partitions, in order.
    pub(super) partitions: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub(super) created_at: Option<i64>,
}

/// What one link needs of a connection.
pub(super) struct LinkSession {
    pub(super) session: SessionHandle<()>,
    /// Closed when the connection has ended: pending outcomes do not learn of it by themselves.
    pub(super) over: watch::Receiver<()>,
}

/// A connection that is there when somebody asks, again and again.
#[derive(Clone)]
pub(super) struct SharedConnection {
    wanted: mpsc::UnboundedSender<Wanted>,
}

struct Wanted {
    renewed: bool,
    reply: oneshot::Sender<Result<LinkSession, HubError>>,
}

impl SharedConnection {
    /// The connection, and what has to be run for it until the last clone is gone.
    pub(super) fn new(
        connector: Arc<Connector>,
        connection: Option<OpenConnection>,
    ) -> (Self, impl Future<Output = ()>) {
        let (wanted, requests) = mpsc::unbounded_channel();
        (Self { wanted }, keep(connector, connection, requests))
    }

    /// A session on the connection, which is opened if there is none. `renewed`: with a token that
    /// was made a moment ago. Bounded by the bounds above.
    pub(super) async fn session(&self, renewed: bool) -> Result<LinkSession, HubError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.wanted.send(Wanted { renewed, reply });
        answer.await.unwrap_or_else(|_| Err(HubError::transient("the connection was given up")))
    }
}

async fn keep(
    connector: Arc<Connector>,
    mut connection: Option<OpenConnection>,
    mut requests: mpsc::UnboundedReceiver<Wanted>,
) {
    let mut failed: Option<(Instant, HubError)> = None;
    loop {
        let wanted = match &mut connection {
            None => requests.recv().await,
            Some(open) => tokio::select! {
                biased;
                ended = open.handle.on_close() => {
                    tracing::info!(hub = %connector.address, ?ended, "connection ended");
                    connection = None;
                    continue;
                }
                () = sleep_until(open.renew_at) => {
                    if let Err(failure) = renew(&connector, &mut connection).await {
                        tracing::warn!(
                            hub = %connector.address,
                            error = failure.sentence,
                            "the token could not be renewed; trying again"
                        );
                    }
                    continue;
                }
                wanted = requests.recv() => wanted,
            },
        };
        let Some(Wanted { renewed, reply }) = wanted else { return };
        let answer = match &failed {
            // Who asks meanwhile does not make it longer.
            Some((at, failure)) if at.elapsed() < REST => Err(failure.clone()),
            _ => {
                let given = give(&connector, &mut connection, renewed).await;
                failed = given.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
                given
            }
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
    }
}

async fn give(
    connector: &Connector,
    connection: &mut Option<OpenConnection>,
    renewed: bool,
) -> Result<LinkSession, HubError> {
    // Many links fail together when a token ends: one new token does for all.
    if renewed && connection.as_ref().is_some_and(|open| open.put_at.elapsed() > REST) {
        renew(connector, connection).await?;
    }
    let open = match connection {
        Some(open) => open,
        None => connection.insert(connector.open().await?),
    };
    let way = connector.session(open).await;
    if way.is_err() {
        // A connection without sessions is of no use.
        *connection = None;
    }
    way
}

/// Shows a new token on a connection. Without one, the old is still good for a while.
async fn renew(
    connector: &Connector,
    connection: &mut Option<OpenConnection>,
) -> Result<(), HubError> {
    let Some(open) = connection else { return Ok(()) };
    open.renew_at = Instant::now() + Duration::from_secs(5);
    let token = tokio::select! {
        biased;
        // Those who use it have to learn of its end at once.
        _ = open.handle.on_close() => Err(ended()),
        token = connector.token() => Ok(token?),
    };
    let shown = match token {
        Ok(token) => connector.show(open, token).await,
        Err(ended) => Err(ended),
    };
    if shown.is_err() {
        *connection = None;
    }
    shown
}

fn ended() -> HubError {
    HubError::transient("the connection ended")
}

fn not_authorized(error: fe2o3_amqp_management::error::Error) -> HubError {
    use fe2o3_amqp_management::error::Error;
    match error {
        Error::Status(status) => {
            let code = status.code.0.get();
            let cause = match code {
                401 | 403 => Cause::Unauthorized,
                404 => Cause::Gone,
                _ => Cause::Transient,
            };
            let description = status.description.unwrap_or_default();
            HubError { cause, sentence: format!("the token was not taken ({code}): {description}") }
        }
        other => HubError::transient(format!("the token was not taken: {other}")),
    }
}
