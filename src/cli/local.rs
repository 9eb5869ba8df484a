//! `deltacompare run`: drives a recovery in this process until it has ended, and shows how far it is.

use std::pin::pin;
use std::time::Duration;

use deltacompare::error::{Error, ErrorKind, Result};
use deltacompare::model::Request;
use deltacompare::preflight::Servers;
use deltacompare::recovery::{self, Approved, Due, Engine, Limits, Progress, Report, Worked};
use deltacompare::sink::EventHubAccess;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;
use uuid::Uuid;

/// How soon items are looked at again that other processes have in hand.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The same of a recovery that another process plans or closes.
const COORDINATED: Duration = Duration::from_millis(500);

/// How long an interrupted run tidies up at most.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A new recovery or one that was interrupted.
pub(super) enum Start {
    New(Box<Request>),
    /// What was asked for when it began still holds.
    Resume(Uuid),
}

/// What concerns this run alone.
pub(super) struct Run {
    pub(super) servers: Servers,
    pub(super) event_hub: EventHubAccess,
    pub(super) progress: Progress,
    /// How long a worker may be silent before another takes its table over.
    pub(super) lease: Duration,
    /// Leave foreign tables, helper views and the role on base when the recovery has ended.
    pub(super) keep_objects: bool,
}

/// How a run ended.
pub(super) enum Outcome {
    /// All tables have ended.
    Finished(Box<Report>),
    /// It was told to stop; resume it under this id.
    Interrupted(Uuid),
}

impl Run {
    /// Runs a recovery until every table has ended or `interrupted` resolves.
    ///
    /// # Errors
    /// Refused, with nothing changed; or what keeps the recovery as a whole from going on. A table
    /// that fails is part of the report instead.
    pub(super) async fn run(
        &self,
        start: Start,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Outcome> {
        let (engine, id, approved) = match start {
            Start::New(request) => self.begin(&request).await?,
            Start::Resume(id) => self.resume(id).await?,
        };
        let (stop, stopped) = watch::channel(false);
        let mut driving = pin!(self.drive(&engine, id, approved, &stopped));
        let driven = tokio::select! {
            driven = &mut driving => Some(driven),
            () = interrupted => None,
        };
        let outcome = match driven {
            Some(Ok(())) => engine.report(id).await.map(Box::new).map(Outcome::Finished),
            Some(Err(error)) => {
                // The error is what matters; what cannot be given back comes back with its lease.
                let _ = tokio::time::timeout(STOP_WITHIN, engine.leave(id)).await;
                Err(error)
            }
            None => {
                self.progress.interrupt();
                let leaving = tokio::time::timeout(STOP_WITHIN, async {
                    // Claims that are being made are made to their end, so that they can be given back.
                    stop.send_replace(true);
                    let _ = driving.await;
                    engine.leave(id).await
                });
                if !matches!(leaving.await, Ok(Ok(()))) {
                    tracing::warn!("not everything could be removed; resume, or run cleanup");
                }
                Ok(Outcome::Interrupted(id))
            }
        };
        engine.close();
        self.progress.finish();
        outcome.map_err(|error| with_next_step(error, id))
    }

    /// Checks the request before anything is changed, then registers the recovery.
    async fn begin(&self, request: &Request) -> Result<(Engine, Uuid, Option<Approved>)> {
        self.progress.say("checking the two servers");
        // Nothing was changed yet, so trouble that may pass is a refusal too.
        let approved = recovery::check(&self.servers, request, &self.event_hub)
            .await
            .map_err(|error| error.with_kind(ErrorKind::Refused))?;
        for warning in approved.warnings() {
            self.progress.warn(warning);
        }
        let (servers, hub) = (self.servers.clone(), self.event_hub.clone());
        let engine = Engine::open(servers, hub, self.limits(), self.progress.clone()).await?;
        let id = engine.create(request, &approved).await?;
        self.progress.say(&format!("recovery {id}"));
        Ok((engine, id, Some(approved)))
    }

    async fn resume(&self, id: Uuid) -> Result<(Engine, Uuid, Option<Approved>)> {
        let (servers, hub) = (self.servers.clone(), self.event_hub.clone());
        let engine = Engine::open_existing(servers, hub, self.limits(), self.progress.clone())
            .await?
            .ok_or_else(|| recovery::unknown(&self.servers, id))?;
        let approved = engine.resume(id, self.keep_objects).await.map_err(|error| {
            match error.kind() {
                // Nothing was changed yet.
                ErrorKind::EventsLost => error.with_kind(ErrorKind::Refused),
                _ => error,
            }
        })?;
        Ok((engine, id, approved))
    }

    fn limits(&self) -> Limits {
        Limits { lease: self.lease, call: None, files: true }
    }

    /// Does what is due until nothing is, or `stop` becomes true.
    async fn drive(
        &self,
        engine: &Engine,
        id: Uuid,
        mut approved: Option<Approved>,
        stop: &watch::Receiver<bool>,
    ) -> Result<()> {
        let mut shown = false;
        loop {
            let due = engine.due(id).await?;
            if due != Due::Advance && !std::mem::replace(&mut shown, true) {
                engine.show_progress(id).await?;
            }
            match due {
                Due::Nothing => return Ok(()),
                Due::Work => work(engine, id, stop).await?,
                Due::Advance => {
                    let mut stopped = stop.clone();
                    let advanced = tokio::select! {
                        advanced = engine.advance(id, approved.take()) => advanced?,
                        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                    };
                    if !advanced {
                        // Another process is at it.
                        tokio::time::sleep(COORDINATED).await;
                    }
                }
            }
            if *stop.borrow() {
                return Ok(());
            }
        }
    }
}

/// Works on items, as many at once as the recovery allows, until none is open. A slot that becomes
/// free takes the next item at once; one that found none looks again after a moment, since other
/// processes may have the items in hand.
async fn work(engine: &Engine, id: Uuid, stop: &watch::Receiver<bool>) -> Result<()> {
    let mut idle = 0;
    let mut starting = engine.parallel(id).await?;
    let mut working = JoinSet::new();
    let mut stopped = stop.clone();
    loop {
        for _ in 0..std::mem::take(&mut starting) {
            let (engine, stop) = (engine.clone(), stop.clone());
            working.spawn(async move { engine.work(id, None, stop).await }.in_current_span());
        }
        tokio::select! {
            Some(worked) = working.join_next() => {
                let worked = worked.map_err(|error| {
                    Error::recovery("a worker ended unexpectedly").because(error)
                })?;
                match worked? {
                    Worked::NoneOpen => break,
                    Worked::NotNow => idle += 1,
                    // An operator is there to mend what does not pass by itself.
                    Worked::Open { trouble: Some(error), .. }
                        if error.kind() != ErrorKind::Transient => return Err(error),
                    Worked::Ended | Worked::Open { .. } => starting = 1,
                }
            }
            () = tokio::time::sleep(LOOK_AGAIN), if idle > 0 => {
                idle -= 1;
                starting = 1;
            }
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    // Those that are left find nothing either, or give their items back.
    while working.join_next().await.is_some() {}
    Ok(())
}

/// The recovery is there, so this is no refusal; it says how the recovery can go on.
fn with_next_step(error: Error, id: Uuid) -> Error {
    let sentence = error.to_string();
    let next = if sentence.contains("--resume") {
        String::new()
    } else {
        format!("; once that is mended, go on with --resume {id}")
    };
    let kind = match error.kind() {
        ErrorKind::Refused => ErrorKind::Recovery,
        kind => kind,
    };
    Error::new(kind, format!("{sentence}{next}")).because(error)
}
