//! What the functions of one process share.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

use super::host::host_json;
use super::plans::Plans;
use super::queues::Queues;
use crate::config::ServerSettings;
use crate::error::{Error, Result};
use crate::model::Request;
use crate::preflight::Servers;
use crate::recovery::{CallLimit, Engine, Limits, Progress, Store};
use crate::sink::EventHubAccess;

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
    servers: OnceCell<Servers>,
    engine: OnceCell<Engine>,
    queues: OnceCell<Queues>,
    /// Plans that are being made.
    pub(super) plans: Plans,
    /// Becomes true when the process is to end.
    pub(super) stop: watch::Receiver<bool>,
}

impl App {
    pub(super) fn new(options: Options, stop: watch::Receiver<bool>) -> Self {
        Self {
            options,
            servers: OnceCell::new(),
            engine: OnceCell::new(),
            queues: OnceCell::new(),
            plans: Plans::default(),
            stop,
        }
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
    /// again, without any recoveries.
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
                Engine::open(servers.clone(), event_hub, limits, Progress::silent()).await
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
        let messages = self.engine().await?.pending_messages(recovery, self.options.resend).await?;
        queues.send_pending(recovery, &messages, trace).await
    }
}
