//! The packaged app under the stand-in for the Functions host, with Azurite's queues.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use deltacompare_testbed::functions_host::{FunctionsHost, HostOptions};
use deltacompare_testbed::{Azurite, Role, Server};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::program::{Program, environment};

/// Handlers that share the work.
pub(crate) const INSTANCES: usize = 2;

/// A recovery that takes longer has gone wrong.
const ENDS_WITHIN: Duration = Duration::from_secs(600);

/// The app. Ends when this is dropped.
pub(crate) struct App {
    host: FunctionsHost,
    client: reqwest::Client,
    _azurite: Azurite,
}

impl App {
    /// Starts it with the two restores in its settings.
    pub(crate) async fn start(program: &Program, base: &Server, head: &Server) -> Result<Self> {
        let azurite = Azurite::start()?;
        let mut settings = BTreeMap::from([
            ("DELTACOMPARE_QUEUES".to_owned(), azurite.connection_string()),
            ("DELTACOMPARE_BASE_PASSWORD".to_owned(), base.password(Role::Admin).to_owned()),
            ("DELTACOMPARE_HEAD_PASSWORD".to_owned(), head.password(Role::Admin).to_owned()),
        ]);
        settings.extend(environment(base, head).map(|(name, url)| (name.to_owned(), url)));
        let options = HostOptions { settings, instances: INSTANCES, ..HostOptions::default() };
        let host = FunctionsHost::start(program.package()?, options).await?;
        host.ready().await?;
        Ok(Self { host, client: reqwest::Client::new(), _azurite: azurite })
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        self.host.url()
    }

    /// Opens every function; of this app only, and worth nothing once it has ended.
    pub(crate) fn key(&self) -> &str {
        self.host.host_key()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.host.url());
        self.client.request(method, url).header("x-functions-key", self.host.host_key())
    }

    /// Begins a recovery; where its status is.
    pub(crate) async fn begin(&self, body: &Value) -> Result<String> {
        let begun = self.request(Method::POST, "/api/recoveries").json(body).send().await?;
        let location = begun.headers().get("location").cloned();
        let (code, answer) = (begun.status(), begun.text().await?);
        ensure!(code == 202, "the app answered {code}: {answer}");
        Ok(location.context("no location")?.to_str()?.to_owned())
    }

    /// Waits until a recovery has completed; its status then.
    pub(crate) async fn completed(&self, location: &str) -> Result<Value> {
        let since = Instant::now();
        loop {
            let answer = self.request(Method::GET, location).send().await?;
            let status: Value = answer.error_for_status()?.json().await?;
            match status["state"].as_str().context("a status without a state")? {
                "completed" => return Ok(status),
                "planning" | "running" if since.elapsed() < ENDS_WITHIN => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => anyhow::bail!("the recovery did not complete: {status:#}"),
            }
        }
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.host.stop().await;
    }
}
