//! A stand-in for Azure Key Vault.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Json;
use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use crate::identity_endpoint::Tokens;

/// The name that the vault answers to. The real one's is `<name>.vault.azure.net`, and its
/// challenge names the resource `https://vault.azure.net`: the client checks that the one ends in
/// the other.
const HOST: &str = "dc.vault.test";
const RESOURCE: &str = "https://vault.test";

/// A vault that speaks TLS under a name of its own, reached through a proxy as on a machine
/// without a way out: so the official client runs as it is, checks and all.
///
/// Covers: the challenge, the token's resource, versions, and the errors for secrets that are
/// missing, deleted, disabled, forbidden, behind a firewall, and for throttling (Azure
/// documentation, "Key Vault REST API error codes"). Does not cover: everything but reading secrets.
#[derive(Debug)]
pub struct KeyVault {
    vault: Vault,
    proxy: String,
    folder: TempDir,
    tasks: Vec<AbortHandle>,
}

#[derive(Clone, Debug)]
struct Vault {
    tokens: Tokens,
    state: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    secrets: HashMap<String, Secret>,
    trouble: Option<Trouble>,
    reads: usize,
}

#[derive(Debug, Default)]
struct Secret {
    /// With their versions, oldest first.
    values: Vec<(String, String)>,
    disabled: bool,
    deleted: bool,
}

/// What a vault can answer with instead of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The identity has no role.
    Forbidden,
    /// The machine is not let in.
    Firewall,
    /// Too many requests.
    Throttled,
}

impl KeyVault {
    /// Starts one that takes these tokens.
    ///
    /// # Errors
    /// If no port can be had or no certificate can be made.
    pub async fn start(tokens: &Tokens) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let acceptor = crate::tls::acceptor(&folder.path().join("ca.pem"), HOST)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let vault = Vault { tokens: tokens.clone(), state: Arc::default() };
        let router = Router::new()
            .route("/secrets/{name}", get(secret))
            .route("/secrets/{name}/", get(secret))
            .route("/secrets/{name}/{version}", get(secret))
            .route("/deletedsecrets/{name}", get(deleted))
            .with_state(vault.clone());
        let serving =
            tokio::spawn(
                async move { axum::serve(TlsListener { listener, acceptor }, router).await },
            );
        let proxy = TcpListener::bind("127.0.0.1:0").await?;
        let proxy_url = format!("http://{}", proxy.local_addr()?);
        let proxying = tokio::spawn(async move {
            while let Ok((stream, _)) = proxy.accept().await {
                tokio::spawn(tunnel(stream, address));
            }
        });
        let tasks = vec![serving.abort_handle(), proxying.abort_handle()];
        Ok(Self { vault, proxy: proxy_url, folder, tasks })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{HOST}")
    }

    /// How a process reaches and trusts it: what an administrator would set for a proxy and an
    /// authority of the company's own.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let authority: PathBuf = self.folder.path().join("ca.pem");
        [("HTTPS_PROXY", self.proxy.clone()), ("SSL_CERT_FILE", authority.display().to_string())]
    }

    /// Stores a new version of a secret and yields its name.
    pub fn set(&self, name: &str, value: &str) -> String {
        let version = Uuid::new_v4().simple().to_string();
        let mut contents = self.vault.lock();
        let secret = contents.secrets.entry(name.to_owned()).or_default();
        secret.values.push((version.clone(), value.to_owned()));
        version
    }

    /// Disables a secret.
    pub fn disable(&self, name: &str) {
        self.vault.lock().secrets.entry(name.to_owned()).or_default().disabled = true;
    }

    /// Deletes a secret so that it can be recovered.
    pub fn delete(&self, name: &str) {
        self.vault.lock().secrets.entry(name.to_owned()).or_default().deleted = true;
    }

    /// Answers every request so from now on.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.vault.lock().trouble = trouble;
    }

    /// How many secrets were given out.
    pub fn reads(&self) -> usize {
        self.vault.lock().reads
    }
}

impl Drop for KeyVault {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Vault {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the vault checks before it looks at the secret.
    fn admit(
        &self,
        headers: &HeaderMap,
        query: &HashMap<String, String>,
    ) -> Result<(), Box<Response>> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let challenge =
            format!("Bearer authorization=\"https://login.test/tenant\", resource=\"{RESOURCE}\"");
        let unauthorized = |why: &str| {
            let mut response = refusal(StatusCode::UNAUTHORIZED, "Unauthorized", why, None);
            if let Ok(challenge) = challenge.parse() {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            Err(Box::new(response))
        };
        let Some(token) = token else {
            return unauthorized("AKV10000: Request is missing a Bearer or PoP token.");
        };
        if let Err(why) = self.tokens.check(token, RESOURCE) {
            return unauthorized(why);
        }
        if query.get("api-version").is_none_or(|version| version.len() < 3) {
            return Err(Box::new(refusal(
                StatusCode::BAD_REQUEST,
                "BadParameter",
                "api-version must be specified",
                None,
            )));
        }
        match self.lock().trouble {
            None => Ok(()),
            Some(Trouble::Forbidden) => Err(Box::new(refusal(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "Caller is not authorized to perform action on resource.",
                Some("ForbiddenByRbac"),
            ))),
            Some(Trouble::Firewall) => Err(Box::new(refusal(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "Client address is not authorized and caller is not a trusted service.",
                Some("ForbiddenByFirewall"),
            ))),
            Some(Trouble::Throttled) => {
                let mut response = refusal(
                    StatusCode::TOO_MANY_REQUESTS,
                    "Throttled",
                    "Request was not processed because too many requests were received.",
                    None,
                );
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
                Err(Box::new(response))
            }
        }
    }
}

fn refusal(status: StatusCode, code: &str, message: &str, inner: Option<&str>) -> Response {
    let inner = inner.map(|code| json!({"code": code}));
    let body = json!({"error": {"code": code, "message": message, "innererror": inner}});
    (status, Json(body)).into_response()
}

async fn secret(
    State(vault): State<Vault>,
    UrlPath(path): UrlPath<HashMap<String, String>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = vault.admit(&headers, &query) {
        return *refused;
    }
    let name = path.get("name").map(String::as_str).unwrap_or_default();
    let mut contents = vault.lock();
    let wanted = path.get("version");
    let found = contents.secrets.get(name).filter(|secret| !secret.deleted).and_then(|secret| {
        let value = match wanted {
            None => secret.values.last(),
            Some(wanted) => secret.values.iter().find(|(version, _)| version == wanted),
        };
        value.map(|(version, value)| (secret.disabled, version.clone(), value.clone()))
    });
    match found {
        None => refusal(
            StatusCode::NOT_FOUND,
            "SecretNotFound",
            &format!(
                "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command."
            ),
            None,
        ),
        Some((true, ..)) => refusal(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "Operation get is not allowed on a disabled secret.",
            Some("SecretDisabled"),
        ),
        Some((false, version, value)) => {
            contents.reads += 1;
            let id = format!("https://{HOST}/secrets/{name}/{version}");
            Json(json!({"value": value, "id": id, "attributes": {"enabled": true}})).into_response()
        }
    }
}

async fn deleted(
    State(vault): State<Vault>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = vault.admit(&headers, &query) {
        return *refused;
    }
    if vault.lock().secrets.get(&name).is_some_and(|secret| secret.deleted) {
        let recovery = format!("https://{HOST}/deletedsecrets/{name}");
        return Json(json!({"recoveryId": recovery, "attributes": {"enabled": true}}))
            .into_response();
    }
    refusal(StatusCode::NOT_FOUND, "SecretNotFound", "Deleted Secret not found", None)
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // A client that does not trust us goes away in the middle.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// `CONNECT dc.vault.test:443`, and nothing else: no test may reach out.
async fn tunnel(mut client: TcpStream, vault: std::net::SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(client.read_u8().await?);
    }
    if !head.starts_with(format!("CONNECT {HOST}:443 ").as_bytes()) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    }
    let mut vault = TcpStream::connect(vault).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut vault).await.map(|_| ())
}
