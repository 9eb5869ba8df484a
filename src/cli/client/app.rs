//! The app's HTTP API, with its key.

use std::io::IsTerminal;
use std::time::Duration;

use deltacompare::error::{Error, ErrorKind, Result};
use deltacompare::model::ProblemDocument;
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

/// Where the key is looked for first.
const KEY: &str = "DELTACOMPARE_APP_KEY";

/// The platform cuts a request off after 230 s.
const ANSWERS_WITHIN: Duration = Duration::from_secs(240);

/// What may be repeated is tried again after these.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// As many recoveries or tables as the app gives at once.
const PART: usize = 1000;

/// An app, asked by one operator.
#[derive(Debug)]
pub(super) struct AppClient {
    base: Url,
    client: reqwest::Client,
    key: Option<SecretString>,
}

impl AppClient {
    /// The app at this address.
    ///
    /// # Errors
    /// Refused if it is no address of an app, or would show the key to others.
    pub(super) fn at(address: &str) -> Result<Self> {
        let base = base(address)?;
        deltacompare::crypto::install_crypto_provider();
        let client = reqwest::Client::builder()
            .user_agent(concat!("deltacompare/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .timeout(ANSWERS_WITHIN)
            // The key would go where a redirection points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::recovery(format!("no HTTP client: {error}")).because(error))?;
        let key = std::env::var(KEY).ok().filter(|key| !key.is_empty()).map(Into::into);
        Ok(Self { base, client, key })
    }

    /// Where people look at a recovery.
    pub(super) fn dashboard(&self, id: Uuid) -> Url {
        self.url(&format!("/dashboard/{id}"))
    }

    /// The document at a path below `/api`. Trouble that may pass is waited out for some seconds.
    ///
    /// # Errors
    /// Refused by the app; transient if it does not answer.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        let url = self.url(path);
        self.repeated(|client| client.request(Method::GET, url.clone())).await
    }

    /// All parts of a list that comes in parts.
    ///
    /// # Errors
    /// As [`AppClient::get`].
    pub(super) async fn pages(&mut self, path: &str, list: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let mut part = self.get(&format!("{path}?offset={offset}&limit={PART}")).await?;
            if let Some(Value::Array(items)) = part.get_mut(list) {
                all.append(items);
            }
            match part.get("next_offset").and_then(Value::as_u64) {
                // One that does not move on would never end.
                Some(next) if next > offset => offset = next,
                _ => return Ok(all),
            }
        }
    }

    /// Has something done, once.
    ///
    /// # Errors
    /// As [`AppClient::get`].
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let url = self.url(path);
        self.with_key(|client| client.request(Method::POST, url.clone()).json(body)).await
    }

    /// Begins a recovery. It is one recovery, however often the request has to be sent.
    ///
    /// # Errors
    /// As [`AppClient::get`].
    pub(super) async fn begin(&mut self, body: &Value, idempotency_key: &str) -> Result<Value> {
        let url = self.url("/recoveries");
        self.repeated(|client| {
            let request = client.request(Method::POST, url.clone());
            request.header("idempotency-key", idempotency_key).json(body)
        })
        .await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        url.set_path(&format!("/api{path}"));
        url.set_query(query);
        url
    }

    async fn repeated(
        &mut self,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Value> {
        for pause in PAUSES {
            match self.with_key(&request).await {
                Err(error) if error.kind() == ErrorKind::Transient => {
                    tracing::warn!(%error, "asked again");
                    tokio::time::sleep(pause).await;
                }
                answer => return answer,
            }
        }
        self.with_key(&request).await
    }

    /// Asks for the key only if the app does.
    async fn with_key(
        &mut self,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Value> {
        let mut may_ask = self.key.is_none() && std::io::stderr().is_terminal();
        loop {
            let mut asked = request(&self.client);
            if let Some(key) = &self.key {
                let key = HeaderValue::from_str(key.expose_secret());
                let mut key =
                    key.map_err(|_| Error::refused(format!("{KEY} is not a function key")))?;
                key.set_sensitive(true);
                asked = asked.header("x-functions-key", key);
            }
            let answer = asked.send().await.map_err(|error| self.no_answer(error))?;
            let status = answer.status();
            let body = answer.bytes().await.map_err(|error| self.no_answer(error))?;
            if status.is_success() {
                return serde_json::from_slice(&body).map_err(|error| {
                    Error::refused(format!(
                        "{} is no app of DeltaCompare: its answer is not JSON; check --app",
                        self.base
                    ))
                    .because(error)
                });
            }
            let unknown = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if unknown && may_ask {
                may_ask = false;
                let key = rpassword::prompt_password(format!("key of {}: ", self.base)).map_err(
                    |error| {
                        Error::refused(format!(
                            "the key could not be asked for: {error}; set {KEY}"
                        ))
                        .because(error)
                    },
                )?;
                self.key = Some(key.trim().into());
                continue;
            }
            return Err(refusal(status, &body, &self.base));
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> Error {
        // Its own words name the URL once more, and the cause is below.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let why = cause.to_string();
        Error::new(
            ErrorKind::Transient,
            format!("{} does not answer: {why}; check --app, and whether the app runs", self.base),
        )
        .because(error)
    }
}

/// What a status that is not success means to the operator.
fn refusal(status: StatusCode, body: &[u8], base: &Url) -> Error {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Error::refused(format!(
            "{base} does not take the key ({status}): put a host key of the app into {KEY}"
        ));
    }
    let detail = serde_json::from_slice(body).map_or_else(
        |_| format!("{base} answered {status}; check --app, and the app's log"),
        |problem: ProblemDocument| problem.detail,
    );
    let kind = if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        ErrorKind::Transient
    } else {
        ErrorKind::Refused
    };
    Error::new(kind, detail)
}

/// Only https, or this machine; a key in the address would be seen by all.
fn base(address: &str) -> Result<Url> {
    let refused = |why: &str| {
        // The address itself may hold a key.
        Err(Error::refused(format!("--app {why}: say https://<name>.azurewebsites.net")))
    };
    let Ok(url) = Url::parse(address) else { return refused("is not a URL") };
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && here) {
        return refused("is not https, and would show the key on the way");
    }
    if url.query().is_some() || url.password().is_some() || !url.username().is_empty() {
        return refused(&format!(
            "holds more than an address; a key belongs into {KEY}, where other users do not see it"
        ));
    }
    if !matches!(url.path(), "/" | "/api" | "/api/") || url.fragment().is_some() {
        return refused("is the app's address without a path");
    }
    let mut base = url;
    base.set_path("/");
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_here_and_holds_no_key() {
        for good in ["https://a.azurewebsites.net", "https://a.example/api/", "http://[::1]:7071"] {
            let app = AppClient::at(good).unwrap();
            assert!(app.url("/recoveries?offset=0").as_str().ends_with("/api/recoveries?offset=0"));
        }
        for bad in [
            "a.azurewebsites.net",
            "http://a.azurewebsites.net",
            "https://a.example/?code=s3cret",
            "https://u:s3cret@a.example",
            "https://a.example/api/recoveries",
            "ftp://localhost",
        ] {
            let error = AppClient::at(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{bad}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
