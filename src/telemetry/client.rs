//! How traces and metrics are sent.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use crate::crypto::install_crypto_provider;

/// As the specification has it, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Sends on the program's runtime: exporters call from threads of their own, which have none.
pub(super) struct Client {
    client: reqwest::Client,
    runtime: Handle,
    /// What it sends, for the log.
    what: &'static str,
    /// Whether the last attempt failed: that it fails is said once.
    failing: AtomicBool,
}

impl Client {
    /// A client that waits so many milliseconds for an answer; `None` if there can be none.
    pub(super) fn new(what: &'static str, timeout: Option<String>) -> Option<Self> {
        install_crypto_provider();
        let timeout = timeout.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let client = reqwest::Client::builder()
            .user_agent(concat!("deltacompare/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout.unwrap_or(ANSWERS_WITHIN))
            // The headers, which hold a key, would go where a redirection points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .ok()?;
        let runtime = Handle::try_current().ok()?;
        Some(Self { client, runtime, what, failing: AtomicBool::new(false) })
    }

    /// Says that it fails, or does again what it should; the error's text may have the URL in it.
    fn note(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let reason = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answered {}", answer.status())),
            Err(error) => Some(match error.downcast_ref::<reqwest::Error>() {
                Some(error) if error.is_timeout() => "no answer in time".to_owned(),
                Some(error) if error.is_connect() => "no connection".to_owned(),
                _ => "the exchange broke off".to_owned(),
            }),
        };
        let failed = self.failing.swap(reason.is_some(), Ordering::Relaxed);
        match reason {
            Some(reason) if !failed => {
                tracing::warn!(what = self.what, reason, "telemetry cannot be sent for now");
            }
            None if failed => tracing::info!(what = self.what, "telemetry is sent again"),
            _ => {}
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("what", &self.what).finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    // As the trait's macro writes it.
    fn send_bytes<'client, 'sent>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'client: 'sent,
        Self: 'sent,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move {
            let outcome = sending.await.map_err(HttpError::from).and_then(|sent| sent);
            self.note(&outcome);
            outcome
        })
    }
}
