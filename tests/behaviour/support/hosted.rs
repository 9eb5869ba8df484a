//! The packaged app under the Functions host, with a gap to recover.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use deltacompare_testbed::functions_host::{FunctionsHost, HostOptions, Queue};
use deltacompare_testbed::{Azurite, Role};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;

use super::{Gap, package};

/// How long a recovery of these tests may take on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(100);

/// The app with its queues. Ends when this is dropped.
pub(crate) struct Hosted {
    pub(crate) host: FunctionsHost,
    client: reqwest::Client,
    azurite: Azurite,
    _folder: TempDir,
}

impl Hosted {
    /// Starts the app on a gap, with so many instances and with more settings.
    pub(crate) async fn start(gap: &Gap, instances: usize, settings: &[(&str, &str)]) -> Self {
        let options = HostOptions { instances, ..HostOptions::default() };
        Self::laid_out(gap, options, settings, |_| {}).await
    }

    /// The same where the host gives an invocation so long (`hh:mm:ss`).
    pub(crate) async fn within(
        function_timeout: &str,
        gap: &Gap,
        instances: usize,
        settings: &[(&str, &str)],
    ) -> Self {
        let options = HostOptions { instances, ..HostOptions::default() };
        Self::laid_out(gap, options, settings, |folder| {
            let timeout = format!(r#""functionTimeout": "{function_timeout}""#);
            change(&folder.join("host.json"), r#""functionTimeout": "01:00:00""#, &timeout);
        })
        .await
    }

    /// The same without Application Insights.
    pub(crate) async fn without_insights(
        gap: &Gap,
        instances: usize,
        settings: &[(&str, &str)],
    ) -> Self {
        let options =
            HostOptions { instances, application_insights: false, ..HostOptions::default() };
        Self::laid_out(gap, options, settings, |_| {}).await
    }

    /// The same where failed messages come back after a second, and the watchdog looks every other
    /// second.
    pub(crate) async fn hurried(
        gap: &Gap,
        options: HostOptions,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::laid_out(gap, options, settings, |folder| {
            let timeout = |seconds| format!(r#""visibilityTimeout": "00:00:{seconds}""#);
            change(&folder.join("host.json"), &timeout("10"), &timeout("01"));
            let watchdog = folder.join("Watchdog/function.json");
            change(&watchdog, "*/30 * * * * *", "*/2 * * * * *");
        })
        .await
    }

    async fn laid_out(
        gap: &Gap,
        options: HostOptions,
        settings: &[(&str, &str)],
        change: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        package(folder.path());
        change(folder.path());
        let azurite = Azurite::shared().unwrap();
        // What the example leaves empty is as if it were not set.
        let mut all = example_settings();
        all.extend([
            ("DELTACOMPARE_BASE".to_owned(), gap.base.url(Role::Admin)),
            ("DELTACOMPARE_HEAD".to_owned(), gap.head.url(Role::Admin)),
            ("DELTACOMPARE_QUEUES".to_owned(), azurite.connection_string()),
            ("TMPDIR".to_owned(), folder.path().display().to_string()),
        ]);
        let more = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        all.extend(more);
        let options = HostOptions { settings: all, ..options };
        let host = FunctionsHost::start(folder.path(), options).await.unwrap();
        host.ready().await.unwrap();
        Self { host, client: reqwest::Client::new(), azurite, _folder: folder }
    }

    /// One of the app's queues.
    pub(crate) async fn queue(&self, name: &str) -> Queue {
        Queue::connect(&self.azurite.connection_string(), name).await.unwrap()
    }

    /// A request to a function, with a key that opens it.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.host.url()))
            .header("x-functions-key", self.host.host_key())
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// Begins a recovery; its id.
    pub(crate) async fn begin(&self, body: &Value) -> String {
        let begun = self.post("/api/recoveries", body).await;
        let (status, headers) = (begun.status(), begun.headers().clone());
        let answer = begun.text().await.unwrap();
        assert_eq!(status, 202, "{answer}\n{}", self.said());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let id = answer["id"].as_str().unwrap().to_owned();
        assert_eq!(headers["location"], format!("/api/recoveries/{id}"));
        id
    }

    /// How a recovery stands.
    pub(crate) async fn status(&self, id: &str) -> Value {
        let status = self.get(&format!("/api/recoveries/{id}")).await;
        assert_eq!(status.status(), 200);
        status.json().await.unwrap()
    }

    /// How a recovery's table stands.
    pub(crate) async fn table(&self, id: &str, table: &str) -> Value {
        let tables: Value =
            self.get(&format!("/api/recoveries/{id}/tables")).await.json().await.unwrap();
        let found = tables["tables"].as_array().unwrap().iter().find(|it| it["table"] == table);
        found.unwrap_or_else(|| panic!("no {table} in {tables:#}")).clone()
    }

    /// Waits until a recovery has ended; how it stands then.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        self.watched(id, |_| ()).await
    }

    /// The same; each status on the way is looked at.
    pub(crate) async fn watched(&self, id: &str, look: impl Fn(&Value)) -> Value {
        let since = Instant::now();
        loop {
            let status = self.status(id).await;
            look(&status);
            if !["planning", "running"].contains(&status["state"].as_str().unwrap()) {
                return status;
            }
            assert!(since.elapsed() < ENDS_WITHIN, "{status:#}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a recovery has completed; how it stands then.
    pub(crate) async fn completed(&self, id: &str) -> Value {
        let status = self.ended(id).await;
        assert_eq!(status["state"], "completed", "{status:#}\n{}", self.said());
        status
    }

    /// The host's log, for a test that failed.
    pub(crate) fn said(&self) -> String {
        let lines: Vec<String> =
            self.host.log().iter().map(|it| format!("[{}] {}", it.instance, it.text)).collect();
        lines.join("\n")
    }
}

/// Changes a packaged file in one place.
fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{file:?} has no {from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The settings that `local.settings.example.json` shows and leaves empty.
fn example_settings() -> BTreeMap<String, String> {
    let example: Value =
        serde_json::from_str(include_str!("../../../local.settings.example.json")).unwrap();
    let values: BTreeMap<String, String> =
        serde_json::from_value(example["Values"].clone()).unwrap();
    values.into_iter().filter(|(_, value)| value.is_empty()).collect()
}
