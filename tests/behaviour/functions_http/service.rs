//! `deltacompare serve` as a process of its own.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A running app. Ends when this is dropped.
pub(super) struct Service {
    /// With a folder for what it keeps of itself; `None` if somebody else has started it.
    process: Option<(Child, TempDir)>,
    port: u16,
    client: reqwest::Client,
}

impl Service {
    /// Starts it with these settings and nothing else of ours, and waits until it answers.
    pub(super) async fn start(settings: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let temporary = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_deltacompare"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DELTACOMPARE_") {
                command.env_remove(name);
            }
        }
        let process = command
            .arg("serve")
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .envs(settings.iter().copied())
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process: Some((process, temporary)), ..Self::at(port).await }
    }

    /// The one that listens on this port, once it answers.
    pub(super) async fn at(port: u16) -> Self {
        let service = Self { process: None, port, client: client() };
        let since = Instant::now();
        while service.client.get(service.url("/")).send().await.is_err() {
            assert!(since.elapsed() < Duration::from_secs(30), "it does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// Asks it to stop as a system does; its exit code.
    pub(super) async fn stop(self) -> Option<i32> {
        let (mut process, _) = self.process.unwrap();
        let pid = process.id().unwrap().to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
        process.wait().await.unwrap().code()
    }
}

/// Over plain HTTP, yet the client wants to know which cryptography it would use.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
