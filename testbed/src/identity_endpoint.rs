//! A stand-in for what gives an app in Azure its tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use uuid::Uuid;

/// App Service's identity endpoint (Microsoft Learn, "How to use managed identities for App Service
/// and Azure Functions"): `GET $IDENTITY_ENDPOINT?api-version=2019-08-01&resource=…[&client_id=…]`
/// with the header `X-IDENTITY-HEADER`. Anything else is refused, as there.
///
/// Does not cover: real tokens (these are random words that only the other stand-ins know), the
/// endpoint of virtual machines, object and resource ids, throttling.
#[derive(Debug)]
pub struct IdentityEndpoint {
    url: String,
    tokens: Tokens,
    serving: AbortHandle,
}

/// The tokens that were given out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Mutex<Issued>>);

#[derive(Debug)]
struct Issued {
    header: String,
    /// The user-assigned identity that the app has; `None` for the system-assigned one.
    client_id: Option<String>,
    lifetime: Duration,
    /// By token: for which resource, and until when in seconds since 1970.
    tokens: HashMap<String, (String, u64)>,
    broken: bool,
    /// The word to give out; `None` for a new one each time.
    word: Option<String>,
}

impl IdentityEndpoint {
    /// Starts one for an app with a system-assigned identity, or with this user-assigned one.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(client_id: Option<&str>) -> Result<Self> {
        let tokens = Tokens(Arc::new(Mutex::new(Issued {
            header: Uuid::new_v4().to_string(),
            client_id: client_id.map(str::to_owned),
            lifetime: Duration::from_secs(24 * 3600),
            tokens: HashMap::new(),
            broken: false,
            word: None,
        })));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/msi/token", listener.local_addr()?);
        let router = Router::new().route("/msi/token", get(token)).with_state(tokens.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, tokens, serving: serving.abort_handle() })
    }

    /// The variables that the app finds in its environment.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("IDENTITY_ENDPOINT", self.url.clone()),
            ("IDENTITY_HEADER", self.tokens.lock().header.clone()),
        ]
    }

    /// What it gave out, for stand-ins that check tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

impl Drop for IdentityEndpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this token is one, for this resource, and not yet expired.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, token: &str, resource: &str) -> Result<(), &'static str> {
        match self.lock().tokens.get(token) {
            None => Err("unknown token"),
            Some((other, _)) if other != resource => Err("token for another resource"),
            Some((_, until)) if now() >= *until => Err("token expired"),
            Some(_) => Ok(()),
        }
    }

    /// Tokens given out from now on live for so long.
    pub fn live_for(&self, lifetime: Duration) {
        self.lock().lifetime = lifetime;
    }

    /// Tokens given out from now on are this word.
    pub fn issue(&self, word: &str) {
        self.lock().word = Some(word.to_owned());
    }

    /// From now on (or no longer) the endpoint fails.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    /// Every token that was given out, so that a test can look for them elsewhere.
    pub fn all(&self) -> Vec<String> {
        self.lock().tokens.keys().cloned().collect()
    }

    /// The resources that tokens were asked for.
    pub fn resources(&self) -> Vec<String> {
        let mut resources: Vec<String> =
            self.lock().tokens.values().map(|(resource, _)| resource.clone()).collect();
        resources.sort();
        resources.dedup();
        resources
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn token(
    State(tokens): State<Tokens>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut issued = tokens.lock();
    let refuse = |status: StatusCode, why: &str| {
        (status, Json(json!({"statusCode": status.as_u16(), "message": why}))).into_response()
    };
    if issued.broken {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred.");
    }
    if headers.get("x-identity-header").and_then(|it| it.to_str().ok()) != Some(&issued.header) {
        return refuse(StatusCode::FORBIDDEN, "X-IDENTITY-HEADER is missing or wrong.");
    }
    if query.get("api-version").map(String::as_str) != Some("2019-08-01") {
        return refuse(StatusCode::BAD_REQUEST, "api-version is not 2019-08-01.");
    }
    if query.get("client_id") != issued.client_id.as_ref() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "No User Assigned or Delegated Managed Identity found.",
        );
    }
    let Some(resource) = query.get("resource").filter(|resource| !resource.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "resource is missing.");
    };
    let new = || format!("token-Walrus9-{}", Uuid::new_v4().simple());
    let token = issued.word.clone().unwrap_or_else(new);
    let until = now() + issued.lifetime.as_secs();
    issued.tokens.insert(token.clone(), (resource.clone(), until));
    let body: Value = json!({
        "access_token": token,
        "expires_on": until.to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": query.get("client_id"),
    });
    Json(body).into_response()
}
