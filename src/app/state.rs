//! What the functions of one process share.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

use super::host::host_json;
use super::host::predecessor::Handler;
use super::plans::Plans;
use super::queues::Queues;
use crate::config::ServerSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Request;
use crate::preflight::Servers;
use crate::recovery::{CallLimit, Engine, Limits, Progress, Store};
use crate::sink::EventHubAccess;

/// How long who waits for an answer waits for the control database.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What a message may take where host.json says that it may take for ever.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// How the app was started.
#[derive(Debug)]
pub struct Options {
    /// What a request is that says nothing, and how event hubs are reached; or which setting is
    /// wrong.
    pub defaults: Result<Defaults>,
    /// How long a worker may be silent before another takes its item over.
    pub lease: Duration,
    /// How long a message is worked on at most where there are checkpoints.
    pub work: Duration,
    /// After which time without effect a message is sent again.
    pub resend: Duration,
}

/// What the app's settings say of recoveries.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// What a request is that says nothing.
    pub request: Request,
    /// How event hubs are reached.
    pub event_hub: EventHubAccess,
}

/// The state that the functions of one process share. What needs settings is made when it is first
/// needed, so that the process answers before they are right.
pub(super) struct App {
    options: Options,
    handler: Handler,
    servers: OnceCell<Servers>,
    engine: OnceCell<Engine>,
    queues: OnceCell<Queues>,
    /// Plans that are being made.
    pub(super) plans: Plans,
    /// How many invocations are under way.
    invocations: watch::Sender<usize>,
    /// Recoveries whose leases this process looks at.
    pub(super) watched: Mutex<HashSet<Uuid>>,
    /// What the last round of the Watchdog found; taken while one is under way.
    pub(super) watchdog: tokio::sync::Mutex<LastRound>,
    /// Becomes true when the process is to end.
    pub(super) stop: watch::Receiver<bool>,
}

/// What the last round of the Watchdog found.
#[derive(Debug, Default)]
pub(super) struct LastRound {
    /// Whether recoveries were live, as far as this process has seen.
    pub(super) live: bool,
    /// Why nothing could be seen, if so.
    pub(super) trouble: Option<String>,
}

/// An invocation that is under way.
pub(super) struct Invocation(watch::Sender<usize>);

impl Drop for Invocation {
    fn drop(&mut self) {
        self.0.send_modify(|under_way| *under_way -= 1);
    }
}

/// Waits for an answer of the control database, for [`ANSWERS_WITHIN`].
///
/// # Errors
/// That of the answer; or transient, if there is none in time.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWERS_WITHIN, answer).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Transient,
            format!(
                "the control database does not answer in {} s: look at head, and ask again",
                ANSWERS_WITHIN.as_secs()
            ),
        ))
    })
}

impl App {
    pub(super) fn new(options: Options, handler: Handler, stop: watch::Receiver<bool>) -> Self {
        Self {
            options,
            handler,
            servers: OnceCell::new(),
            engine: OnceCell::new(),
            queues: OnceCell::new(),
            plans: Plans::default(),
            invocations: watch::Sender::new(0),
            watched: Mutex::default(),
            watchdog: tokio::sync::Mutex::default(),
            stop,
        }
    }

    /// Counts an invocation until what this yields is dropped.
    pub(super) fn begin_invocation(&self) -> Invocation {
        self.invocations.send_modify(|under_way| *under_way += 1);
        Invocation(self.invocations.clone())
    }

    /// Waits until no invocation is under way.
    pub(super) async fn invocations_ended(&self) {
        let _ = self.invocations.subscribe().wait_for(|under_way| *under_way == 0).await;
    }

    /// What the settings say of recoveries.
    ///
    /// # Errors
    /// Refused: names the setting that is wrong.
    pub(super) fn defaults(&self) -> Result<Defaults> {
        match &self.options.defaults {
            Ok(defaults) => Ok(defaults.clone()),
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        }
    }

    /// The two restores, with the database that the settings name.
    ///
    /// # Errors
    /// Refused: names the setting that is missing.
    pub(super) async fn servers(&self) -> Result<&Servers> {
        self.servers
            .get_or_try_init(async || ServerSettings::from_environment()?.servers().await)
            .await
    }

    /// What advances recoveries, on a status store that is there: one that somebody removed is made
    /// again, without any recoveries. When it is opened, items that the process before this one on the
    /// instance has died at are open at once.
    ///
    /// # Errors
    /// As [`App::servers`], or the control database cannot be reached.
    pub(super) async fn engine(&self) -> Result<&Engine> {
        let engine = self
            .engine
            .get_or_try_init(async || {
                let event_hub = self.defaults()?.event_hub;
                let limits =
                    Limits { lease: self.options.lease, call: Some(self.call()?), files: false };
                let servers = self.servers().await?;
                servers.head.connect_unpooled("deltacompare preflight").await?.close().await;
                let queues = self.queues().await.ok().map(|queues| queues.address().to_owned());
                let engine = Engine::open(servers.clone(), event_hub, limits, Progress::silent())
                    .await?
                    .of_app(self.handler.worker, queues);
                if let Some(died) = self.handler.predecessor {
                    engine.store().end_leases(died).await?;
                }
                Ok::<_, Error>(engine)
            })
            .await?;
        engine.make_store_again().await?;
        Ok(engine)
    }

    /// The host ends the whole process when an invocation takes longer than it allows, so calls end
    /// well before that; what was done without a checkpoint is lost.
    fn call(&self) -> Result<CallLimit> {
        let work = self.options.work;
        Ok(match host_json::function_timeout(Path::new("."))? {
            Some(timeout) => {
                let margin = (timeout / 5).min(Duration::from_secs(60));
                CallLimit { pause: work.min(timeout - margin), end: timeout - margin / 2 }
            }
            None => CallLimit { pause: work, end: FOR_EVER },
        })
    }

    /// The status store.
    ///
    /// # Errors
    /// As [`App::engine`].
    pub(super) async fn store(&self) -> Result<&Store> {
        Ok(self.engine().await?.store())
    }

    /// The status store, if it was opened before.
    pub(super) fn opened_store(&self) -> Option<&Store> {
        self.engine.get().map(Engine::store)
    }

    /// The status store for somebody who waits for an answer.
    ///
    /// # Errors
    /// As [`App::engine`]; or transient, if the control database does not answer in time.
    pub(super) async fn answering_store(&self) -> Result<&Store> {
        if self.engine.initialized() {
            return in_time(self.store()).await;
        }
        // To make the store may take longer, once it is known that somebody answers.
        let servers = self.servers().await?;
        in_time(servers.head.connect("deltacompare health")).await?.close().await;
        self.store().await
    }

    /// The queues.
    ///
    /// # Errors
    /// Refused: names the setting that is missing.
    pub(super) async fn queues(&self) -> Result<&Queues> {
        self.queues.get_or_try_init(async || Queues::from_environment()).await
    }

    /// Sends the messages that a recovery needs now, with the trace that it belongs to.
    pub(super) async fn send_due(&self, recovery: Uuid, trace: Option<String>) -> Result<()> {
        // First the queues: messages that cannot be sent are not to be marked as sent.
        let queues = self.queues().await?;
        let engine = self.engine().await?;
        let messages =
            engine.pending_messages(recovery, queues.address(), self.options.resend).await?;
        queues.send_pending(recovery, &messages, trace).await
    }
}
