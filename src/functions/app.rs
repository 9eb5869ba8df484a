//! What the functions of one process share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

use super::host_json;
use super::queue::Queues;
use crate::config::ServerSettings;
use crate::error::{Error, Result};
use crate::preflight::Servers;
use crate::recovery::{Due, Limits, Request, Steps, Store};
use crate::sink::EventHubAccess;
use crate::telemetry::trace;

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
    steps: OnceCell<Arc<Steps>>,
    queues: OnceCell<Queues>,
    /// Becomes true when the process is to end.
    pub(super) stop: watch::Receiver<bool>,
}

impl App {
    pub(super) fn new(options: Options, stop: watch::Receiver<bool>) -> Self {
        Self {
            options,
            servers: OnceCell::new(),
            steps: OnceCell::new(),
            queues: OnceCell::new(),
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

    /// The steps of recoveries, on a status store that is there: one that somebody removed is made
    /// again, without any recoveries.
    ///
    /// # Errors
    /// As [`App::servers`], or the control database cannot be reached.
    pub(super) async fn steps(&self) -> Result<&Arc<Steps>> {
        let steps = self
            .steps
            .get_or_try_init(async || {
                let event_hub = self.defaults()?.event_hub;
                let limits = self.limits()?;
                let servers = self.servers().await?;
                servers.head.refuse_pooler().await?;
                let store = Store::open(&servers.head).await?;
                Ok::<_, Error>(Arc::new(Steps::new(store, servers.clone(), limits, event_hub)))
            })
            .await?;
        steps.store.make_again(&self.servers().await?.head).await?;
        Ok(steps)
    }

    /// The host ends the whole process when an invocation takes longer than it allows, so messages
    /// end well before that; what was done without a checkpoint is lost.
    fn limits(&self) -> Result<Limits> {
        let Options { lease, work, resend, .. } = self.options;
        let (pause, end) = match host_json::function_timeout(Path::new("."))? {
            Some(timeout) => {
                let margin = (timeout / 5).min(Duration::from_secs(60));
                (work.min(timeout - margin), timeout - margin / 2)
            }
            None => (work, FOR_EVER),
        };
        Ok(Limits { lease, pause, end, resend })
    }

    /// The status store.
    ///
    /// # Errors
    /// As [`App::steps`].
    pub(super) async fn store(&self) -> Result<&Store> {
        Ok(&self.steps().await?.store)
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
        let due: Due = self.steps().await?.due(recovery).await?;
        queues.send_due(recovery, &due, trace).await
    }

    /// Sends the first message of a recovery, which carries the current trace on.
    pub(super) async fn send_start(&self, recovery: Uuid) -> Result<()> {
        let due = Due { step: true, items: Vec::new() };
        self.queues().await?.send_due(recovery, &due, trace::current()).await
    }
}
