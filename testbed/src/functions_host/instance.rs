//! One instance: a host of its own with a handler process of its own.

use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Shared;
use super::log::{Level, LogLine};
use crate::server::free_port;

/// How long a handler may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// After how many crashes, none of them long after the one before, the host gives up.
const CRASHES: usize = 3;

/// The status that asks for a restart.
const RESTART: i32 = 200;

/// An instance of the app.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) number: usize,
    /// When its host was started: the timer's lock is looked for in steps from then on.
    pub(super) since: Instant,
    host: Arc<Shared>,
    handler: watch::Sender<Handler>,
    /// Asks the supervisor to end the handler and start another.
    recycle: Notify,
    draining: AtomicBool,
    running: AtomicUsize,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The handler process, as invocations see it.
#[derive(Clone, Debug)]
enum Handler {
    Starting,
    Ready {
        port: u16,
        pid: u32,
    },
    /// The host will not start it again, and why.
    Ended(String),
}

/// Why a handler process is no more.
enum End {
    Exited(ExitStatus),
    NotReady,
    Recycled,
}

impl Instance {
    /// An instance whose handler runs until it is told otherwise. Its queue functions are started
    /// apart from it.
    pub(super) fn start(number: usize, host: &Arc<Shared>) -> Arc<Self> {
        let instance = Arc::new(Self {
            number,
            since: Instant::now(),
            host: Arc::clone(host),
            handler: watch::Sender::new(Handler::Starting),
            recycle: Notify::new(),
            draining: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            tasks: Mutex::default(),
        });
        instance.keep([tokio::spawn(Arc::clone(&instance).supervise())]);
        instance
    }

    /// Keeps tasks that end with the instance.
    pub(super) fn keep(&self, tasks: impl IntoIterator<Item = JoinHandle<()>>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }

    /// The machine is gone, from one instant to the next: nobody gives messages back.
    pub(super) async fn kill(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for task in self.abort() {
            let _ = task.await;
        }
        self.handler.send_replace(Handler::Ended("the instance was killed".to_owned()));
    }

    /// The same without waiting.
    pub(super) fn abort(&self) -> Vec<JoinHandle<()>> {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }

    /// Takes no new work; waits for what runs, at most this long; then it is killed.
    pub(super) async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let until = Instant::now() + grace;
        while self.running.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill().await;
    }

    /// Whether it takes new work.
    pub(super) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
            && !matches!(*self.handler.borrow(), Handler::Ended(_))
    }

    /// The handler's process, while there is one that is ready.
    pub(super) fn handler_pid(&self) -> Option<u32> {
        match *self.handler.borrow() {
            Handler::Ready { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Waits until the handler answers.
    ///
    /// # Errors
    /// The host does not start it any more.
    pub(super) async fn ready(&self) -> Result<u16> {
        let mut handler = self.handler.subscribe();
        loop {
            match &*handler.borrow_and_update() {
                Handler::Ready { port, .. } => return Ok(*port),
                Handler::Ended(why) => bail!("the handler is not started again: {why}"),
                Handler::Starting => {}
            }
            handler.changed().await?;
        }
    }

    /// Posts an invocation that is not HTTP. Yields whether the handler reported success.
    pub(super) async fn invoke(&self, function: &str, body: &Value) -> bool {
        self.running.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let limit = self.host.app.function_timeout;
        let outcome = match tokio::time::timeout(limit, self.post(function, body)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.recycle.notify_one();
                Err(anyhow::anyhow!("it ran longer than functionTimeout; the handler is killed"))
            }
        };
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.host.counters.invocations.fetch_add(1, Ordering::Relaxed);
        match &outcome {
            Ok(()) => self.say(
                Level::Information,
                format!("Executed '{function}' (Succeeded, {} ms)", since.elapsed().as_millis()),
            ),
            Err(error) => self.say(
                Level::Error,
                format!(
                    "Executed '{function}' (Failed, {} ms): {error:#}",
                    since.elapsed().as_millis()
                ),
            ),
        }
        outcome.is_ok()
    }

    async fn post(&self, function: &str, body: &Value) -> Result<()> {
        let port = self.ready().await?;
        let url = format!("http://127.0.0.1:{port}/{function}");
        let request = self.host.client.post(url).json(body);
        let mut request =
            request.header("X-Azure-Functions-InvocationId", Uuid::new_v4().to_string());
        if self.host.application_insights {
            // It is the host's telemetry that is sampled, so the flag says no.
            let (trace, parent) = (Uuid::new_v4().simple(), Uuid::new_v4().as_u64_pair().0);
            request = request.header("traceparent", format!("00-{trace}-{parent:016x}-00"));
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(answer)) => {
                let lines = answer.get("Logs").and_then(Value::as_array);
                for line in lines.into_iter().flatten().filter_map(Value::as_str) {
                    self.log(Level::Information, true, line.to_owned());
                }
                Ok(())
            }
            Ok(Value::Null) | Err(_) if text.is_empty() || text == "null" => {
                // The host goes on waiting for an answer.
                self.say(Level::Error, format!("'{function}' answered nothing; waiting"));
                std::future::pending().await
            }
            _ => bail!("not a JSON object: {text}"),
        }
    }

    /// Forwards an HTTP request. Yields the answer, whole.
    pub(super) async fn forward(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(reqwest::StatusCode, HeaderMap, Vec<u8>)> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let request = async {
            let port = self.ready().await?;
            let url = format!("http://127.0.0.1:{port}{path_and_query}");
            let mut request = self.host.client.request(method, url).headers(headers);
            if !body.is_empty() {
                request = request.body(body);
            }
            let answer = request.send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            anyhow::Ok((status, headers, answer.bytes().await?.to_vec()))
        };
        let outcome = tokio::time::timeout(self.host.app.function_timeout, request).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        outcome.unwrap_or_else(|_| {
            self.recycle.notify_one();
            bail!("it ran longer than functionTimeout; the handler is killed")
        })
    }

    /// Keeps a handler running as the host does.
    async fn supervise(self: Arc<Self>) {
        let mut crashes: Vec<Instant> = Vec::new();
        loop {
            self.handler.send_replace(Handler::Starting);
            let end = match self.start_handler().await {
                Ok((mut child, port)) => self.watch(&mut child, port).await,
                Err(error) => {
                    self.end(format!("it could not be started: {error:#}"));
                    return;
                }
            };
            match end {
                End::Recycled => continue,
                End::Exited(status) if status.code() == Some(RESTART) => continue,
                End::Exited(status) if status.code() == Some(0) => {
                    self.end("it exited with 0, which the host takes for intended".to_owned());
                    return;
                }
                End::Exited(status) => {
                    self.say(Level::Error, format!("the handler ended: {status}"))
                }
                End::NotReady => {
                    self.say(Level::Error, "the handler did not answer in time".to_owned());
                }
            }
            if crashes.last().is_some_and(|last| last.elapsed() >= self.host.crash_window) {
                crashes.clear();
            }
            crashes.push(Instant::now());
            if crashes.len() == CRASHES {
                self.end(format!("it crashed {CRASHES} times"));
                return;
            }
        }
    }

    fn end(&self, why: String) {
        self.say(Level::Error, format!("the handler is not started again: {why}"));
        self.handler.send_replace(Handler::Ended(why));
    }

    async fn start_handler(self: &Arc<Self>) -> Result<(Child, u16)> {
        let app = &self.host.app;
        let port = free_port()?;
        let mut command = Command::new(&app.program);
        command
            .args(&app.arguments)
            .current_dir(&app.root)
            .env_clear()
            .envs(
                ["PATH", "HOME", "TMPDIR"]
                    .into_iter()
                    .filter_map(|name| std::env::var_os(name).map(|value| (name, value))),
            )
            .envs(&self.host.settings)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        if let Some(output) = child.stdout.take() {
            tokio::spawn(Arc::clone(self).read(output, false));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(Arc::clone(self).read(output, true));
        }
        Ok((child, port))
    }

    /// Waits for the handler's end. What is in the way of its being ready ends it too.
    async fn watch(&self, child: &mut Child, port: u16) -> End {
        let answers = async {
            let url = format!("http://127.0.0.1:{port}/");
            while self.host.client.get(&url).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let pid = child.id().unwrap_or_default();
        let ready = tokio::select! {
            ready = tokio::time::timeout(READY_WITHIN, answers) => ready.is_ok(),
            Ok(status) = child.wait() => return End::Exited(status),
        };
        if !ready {
            let _ = child.kill().await;
            return End::NotReady;
        }
        self.handler.send_replace(Handler::Ready { port, pid });
        tokio::select! {
            Ok(status) = child.wait() => End::Exited(status),
            () = self.recycle.notified() => {
                let _ = child.kill().await;
                End::Recycled
            }
        }
    }

    async fn read(self: Arc<Self>, output: impl AsyncRead + Unpin, is_error: bool) {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let level = match is_error {
                false => Level::Information,
                true if line.to_lowercase().contains("warn") => Level::Warning,
                true => Level::Error,
            };
            self.log(level, true, line);
        }
    }

    pub(super) fn say(&self, level: Level, text: String) {
        self.log(level, false, text);
    }

    fn log(&self, level: Level, by_handler: bool, text: String) {
        self.host.log.push(LogLine { instance: self.number, level, by_handler, text });
    }
}
