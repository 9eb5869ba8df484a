//! `deltacompare <command>`: reads arguments, calls the library, prints, sets the exit code.

mod arguments;
mod assess;
mod client;
mod command;
mod event_hub;
mod local;
mod manual;
mod output;
#[cfg(test)]
mod readme;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};
use deltacompare::app;
use deltacompare::config;
use deltacompare::error::{Error, ErrorKind, Result};
use deltacompare::fdw::Remains;
use deltacompare::model::{Record, Request};
use deltacompare::postgres::statements_stopped;
use deltacompare::recovery::{self, Progress};
use deltacompare::telemetry::{self, Log, Telemetry};
use tracing::Instrument;

use arguments::RunArguments;
use command::{Arguments, Command};
use local::{Outcome, Run, Start};

/// Exit codes, the same for every command.
const COMPLETED: u8 = 0;
const FAILED: u8 = 1;
const REFUSED: u8 = 2;
const INTERRUPTED: u8 = 130;

pub(crate) fn main() -> ExitCode {
    let matches = config::without_empty(Arguments::command())
        .try_get_matches()
        .unwrap_or_else(|error| without_sink(error).exit());
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let telemetry = {
        let _within = runtime.enter();
        let served = matches!(arguments.command, Command::Serve(_));
        Telemetry::start(if served { Log::Host } else { Log::People })
    };
    let outcome = runtime.block_on(async {
        arguments::refuse_passwords_in_sight(&matches)?;
        arguments::refuse_changes_on_resume(&matches)?;
        match arguments.command {
            Command::Run(arguments) => run(*arguments).instrument(telemetry::root("run")).await,
            Command::Plan { servers, selection, rate, json } => {
                let request = Request { event_hub: rate.options(), ..selection.request()? };
                let plan = recovery::plan(&servers.servers().await?, &request)
                    .await
                    .map_err(nothing_changed)?;
                output::plan(&plan, json)?;
                Ok(COMPLETED)
            }
            Command::Assess(arguments) => {
                let fine = arguments.run().await.map_err(nothing_changed)?;
                Ok(if fine { COMPLETED } else { FAILED })
            }
            Command::Serve(arguments) => {
                app::serve(arguments.port, arguments.options(), stop_signal()).await?;
                // The host takes 0 for intended and never starts it again.
                Ok(INTERRUPTED)
            }
            Command::Record { servers, file } => {
                let record =
                    Record::of(&servers.servers().await?).await.map_err(nothing_changed)?;
                record.write(&file)?;
                output::recorded(&record, &file);
                Ok(COMPLETED)
            }
            Command::Cleanup { servers, yes } => {
                let servers = servers.servers().await?;
                let (base, mut head) = servers
                    .connect_unpooled("deltacompare cleanup")
                    .await
                    .map_err(nothing_changed)?;
                let remains = Remains::find(&base, &head).await?;
                output::remains(&remains);
                if !remains.is_empty() && !yes {
                    return Err(Error::refused(format!(
                        "nothing was removed: with --yes, cleanup removes all of this, and {} \
                         events in the delta table cannot be had back; copy those that are needed \
                         first",
                        remains.delta_rows
                    )));
                }
                output::removed(&remains.remove(&base, &mut head).await?);
                Ok(COMPLETED)
            }
            Command::App(command) => client::run(command, &Arguments::command(), &matches).await,
            Command::Completions { shell } => {
                manual::completions(shell);
                Ok(COMPLETED)
            }
            Command::Man { folder } => {
                manual::pages(&folder)?;
                Ok(COMPLETED)
            }
        }
    });
    runtime.block_on(statements_stopped());
    telemetry.end();
    // Nothing that is still open is of any use: do not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("error: {line}");
            }
            ExitCode::from(match error.kind() {
                ErrorKind::Refused => REFUSED,
                _ => FAILED,
            })
        }
    }
}

/// What is not a sink is not repeated: it may be a connection string in the wrong place.
fn without_sink(mut error: clap::Error) -> clap::Error {
    let of_sink = |argument: &ContextValue| argument.to_string().starts_with("--sink");
    if error.get(ContextKind::InvalidArg).is_some_and(of_sink) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

async fn run(arguments: RunArguments) -> Result<u8> {
    let servers = arguments.settings.servers.servers().await?;
    if let Some(path) = &arguments.report {
        output::check_report(path)?;
    }
    let start = match arguments.resume {
        Some(id) => Start::Resume(id),
        None => Start::New(Box::new(arguments.request()?)),
    };
    let run = Run {
        servers,
        event_hub: arguments.settings.event_hub_access()?,
        progress: Progress::new(arguments.quiet),
        lease: Duration::from_secs(arguments.lease_seconds),
        keep_objects: arguments.keep_objects,
    };
    match run.run(start, stop_signal()).await? {
        Outcome::Finished(report) => {
            output::report(&report);
            if let Some(path) = &arguments.report {
                output::write_report(&report, path)?;
            }
            Ok(if report.is_completed() { COMPLETED } else { FAILED })
        }
        Outcome::Interrupted(id) => {
            eprintln!(
                "interrupted; nothing is lost. Go on with:\n  deltacompare run --resume {id} (and \
                 the same --base and --head)"
            );
            Ok(INTERRUPTED)
        }
    }
}

/// Resolves when the operator (Ctrl-C) or the system (SIGTERM) asks to stop.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end the process; that is crash-safe too.
        _ => std::future::pending().await,
    }
}

/// Trouble before anything was changed has the exit code of a refusal.
fn nothing_changed(error: Error) -> Error {
    error.with_kind(ErrorKind::Refused)
}

fn report_failed(recovery: &str, path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Recovery,
        format!(
            "the report could not be written to {}: {error}; write it elsewhere with --resume \
             {recovery} --report <file>, which compares nothing again",
            path.display()
        ),
    )
    .because(error)
}
