//! A stand-in for the Azure Functions host: runs a packaged custom-handler app on this machine.
//!
//! It reads what is packaged (host.json, `<Name>/function.json`, the program), starts the handler
//! for each instance, forwards HTTP functions, polls the storage queues, ticks the timers, and
//! treats a handler that fails, hangs, exits or dies as the host does:
//!
//! - **HTTP:** method, path and query as they came;
//!   chunked requests answered with an empty 500; Content-Encoding lost, and a Content-Type without
//!   a body; routes whatever their case, with a slash at the end or not; function keys by
//!   `x-functions-key` or `?code=`; the answer whole; cut off after 230 s.
//! - **Queues:** `batchSize`, `newBatchThreshold`, `maxDequeueCount`, `visibilityTimeout` after a
//!   reported failure, `maxPollingInterval`, base64; a lease of 10 minutes renewed at half, so that
//!   a dead instance's message comes back only then; `<queue>-poison`, where a message that cannot
//!   be decoded stays.
//! - **Timers:** one instance runs them; when it is gone, another takes them over once its lease has
//!   run out and it looks for the lock, which it does once a minute.
//! - **Application Insights:** queue and timer calls come with a `traceparent` of the host's that is
//!   not sampled.
//! - **Payloads:** `Data` in each of its [encodings](DataEncoding); a message's own fields overwrite
//!   `Metadata`; an empty answer hangs until the time-out.
//! - **Handler:** an answer to `GET /` within 30 s; `functionTimeout` kills it with all that it does;
//!   exit 0 ends it for good, 200 restarts it, anything else restarts it until the third time.
//!
//! Not covered: scale decisions and scale groups (every instance runs every function); sign-in by an
//! identity (queues are reached by a connection string with a key); output bindings, proxying and
//! streaming; the host's own storage, so a timer has no memory; host.json settings that the app does
//! not use are refused, and so is every schedule but `*/n`; Application Insights; what the platform
//! in front of the host adds and removes. How a host of a newer version differs is not covered
//! either.

mod app;
mod front;
mod instance;
mod listener;
mod log;
mod payload;
mod route;
mod storage;
mod timer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use log::{Level, LogLine};
pub use payload::DataEncoding;
pub use storage::Queue;

use app::{App, Trigger};
use front::Keys;
use instance::Instance;
use log::Log;

/// How the host is run. All times have Azure's values by default.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// App settings: the handler's environment, and where the queues are.
    pub settings: BTreeMap<String, String>,
    /// How many instances there are at first.
    pub instances: usize,
    /// The port for HTTP functions; 0 is any free one.
    pub port: u16,
    /// How message texts stand in `Data`.
    pub data: DataEncoding,
    /// How long a message belongs to the instance that received it, unless it is renewed.
    pub lease: Duration,
    /// Crashes further apart are not counted together.
    pub crash_window: Duration,
    /// When the platform cuts an HTTP request off.
    pub request_limit: Duration,
    /// How long a timer's lock outlives the instance that has it.
    pub timer_lease: Duration,
    /// How often the other instances look whether it is free.
    pub timer_look: Duration,
    /// Whether Application Insights is connected.
    pub application_insights: bool,
    /// Whether log lines go to standard error as well.
    pub echo: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            settings: BTreeMap::new(),
            instances: 1,
            port: 0,
            data: DataEncoding::default(),
            lease: Duration::from_secs(600),
            crash_window: Duration::from_secs(30 * 60),
            request_limit: Duration::from_secs(230),
            timer_lease: Duration::from_secs(15),
            timer_look: Duration::from_secs(60),
            application_insights: true,
            echo: false,
        }
    }
}

/// What the host has done so far. Requests to the queues are `polls`, `deleted`, `returned`,
/// `renewed`, and three for each of `poisoned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Requests for messages.
    pub polls: u64,
    /// Messages that came.
    pub received: u64,
    /// Messages whose function succeeded.
    pub deleted: u64,
    /// Messages given back after a failure.
    pub returned: u64,
    /// Leases renewed.
    pub renewed: u64,
    /// Messages moved to a poison queue.
    pub poisoned: u64,
    /// Invocations that ended, HTTP not among them.
    pub invocations: u64,
}

#[derive(Debug, Default)]
struct Counters {
    polls: AtomicU64,
    received: AtomicU64,
    deleted: AtomicU64,
    returned: AtomicU64,
    renewed: AtomicU64,
    poisoned: AtomicU64,
    invocations: AtomicU64,
}

/// What the parts of a host share.
#[derive(Debug)]
struct Shared {
    app: App,
    settings: BTreeMap<String, String>,
    data: DataEncoding,
    lease: Duration,
    crash_window: Duration,
    request_limit: Duration,
    timer_lease: Duration,
    timer_look: Duration,
    application_insights: bool,
    keys: Keys,
    client: reqwest::Client,
    log: Log,
    counters: Counters,
    instances: Mutex<Vec<Arc<Instance>>>,
    turn: AtomicUsize,
}

impl Shared {
    /// The instances that take work.
    fn open(&self) -> Vec<Arc<Instance>> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.iter().filter(|instance| instance.is_open()).map(Arc::clone).collect()
    }

    /// The same in turn.
    fn choose(&self) -> Option<Arc<Instance>> {
        let open = self.open();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        open.get(turn % open.len().max(1)).map(Arc::clone)
    }
}

/// A running host. Its instances end with it.
#[derive(Debug)]
pub struct FunctionsHost {
    shared: Arc<Shared>,
    port: u16,
    tasks: Vec<JoinHandle<()>>,
    next: usize,
}

impl FunctionsHost {
    /// Starts the app in this folder, which is laid out as a package is.
    ///
    /// # Errors
    /// The folder holds no such app, or uses what this stand-in does not know.
    pub async fn start(folder: impl Into<PathBuf>, options: HostOptions) -> Result<Self> {
        let app = App::read(&folder.into())?;
        // The client wants to know one, though it speaks no TLS here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let keys = Keys::new(app.functions.iter().map(|function| function.name.as_str()));
        let shared = Arc::new(Shared {
            app,
            settings: options.settings,
            data: options.data,
            lease: options.lease.max(Duration::from_secs(1)),
            crash_window: options.crash_window,
            request_limit: options.request_limit,
            timer_lease: options.timer_lease,
            timer_look: options.timer_look,
            application_insights: options.application_insights,
            keys,
            client,
            log: Log::new(options.echo),
            counters: Counters::default(),
            instances: Mutex::default(),
            turn: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .await
            .with_context(|| format!("cannot listen on port {}", options.port))?;
        let port = listener.local_addr()?.port();
        let mut tasks = vec![tokio::spawn(front::serve(listener, Arc::clone(&shared)))];
        for function in &shared.app.functions {
            if let Trigger::Timer { binding, schedule } = &function.trigger {
                let (name, binding) = (function.name.clone(), binding.clone());
                tasks.push(tokio::spawn(timer::run(Arc::clone(&shared), name, binding, *schedule)));
            }
        }
        let mut host = Self { shared, port, tasks, next: 1 };
        for _ in 0..options.instances {
            host.add_instance();
        }
        Ok(host)
    }

    /// Where the app answers: `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The key that opens all functions.
    pub fn host_key(&self) -> &str {
        &self.shared.keys.host
    }

    /// The key that opens this function only.
    pub fn function_key(&self, function: &str) -> Option<&str> {
        self.shared.keys.functions.get(function).map(String::as_str)
    }

    /// Adds an instance, as scaling out does. Yields its number.
    pub fn add_instance(&mut self) -> usize {
        let number = self.next;
        self.next += 1;
        let instance = Instance::start(number, &self.shared);
        instance.keep(listener::start(&instance, &self.shared));
        self.instances().push(instance);
        number
    }

    /// The numbers of the instances that there are.
    pub fn instance_numbers(&self) -> Vec<usize> {
        self.instances().iter().map(|instance| instance.number).collect()
    }

    /// Waits until the handlers of all instances answer.
    pub async fn ready(&self) -> Result<()> {
        let instances = self.instances().clone();
        for instance in instances {
            instance.ready().await?;
        }
        Ok(())
    }

    /// An instance is gone from one instant to the next, with its handler. Messages that it holds
    /// come back when their lease is over.
    pub async fn kill_instance(&self, number: usize) {
        if let Some(instance) = self.take(number) {
            instance.kill().await;
        }
    }

    /// An instance is scaled in: it takes no new work, and what runs gets this long.
    pub async fn drain_instance(&self, number: usize, grace: Duration) {
        if let Some(instance) = self.take(number) {
            instance.drain(grace).await;
        }
    }

    /// The handler's process id, unless it is just starting or is not started any more.
    pub fn handler_pid(&self, number: usize) -> Option<u32> {
        self.instances().iter().find(|instance| instance.number == number)?.handler_pid()
    }

    /// The newest lines of the log.
    pub fn log(&self) -> Vec<LogLine> {
        self.shared.log.lines()
    }

    /// What was done so far.
    pub fn counts(&self) -> HostCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { polls, received, deleted, returned, renewed, poisoned, invocations } =
            &self.shared.counters;
        HostCounts {
            polls: read(polls),
            received: read(received),
            deleted: read(deleted),
            returned: read(returned),
            renewed: read(renewed),
            poisoned: read(poisoned),
            invocations: read(invocations),
        }
    }

    /// Ends all instances at once and waits for their handlers' ends.
    pub async fn stop(self) {
        let instances = std::mem::take(&mut *self.instances());
        for instance in instances {
            instance.kill().await;
        }
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Instance>>> {
        self.shared.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, number: usize) -> Option<Arc<Instance>> {
        let mut instances = self.instances();
        let at = instances.iter().position(|instance| instance.number == number)?;
        Some(instances.remove(at))
    }
}

impl Drop for FunctionsHost {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // Instances and what they share hold each other.
        for instance in self.instances().drain(..) {
            instance.abort();
        }
    }
}
