//! `deltacompare <command>`: reads arguments, calls the library, prints, sets the exit code.

/// What is printed to somebody who has closed the other end is lost, and nothing else: in place of the
/// standard library's macros, which panic.
macro_rules! println {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arguments)*);
    }};
}

/// The same for standard error.
macro_rules! eprintln {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arguments)*);
    }};
}

mod arguments;
mod assess;
mod client;
mod command;
#[cfg(test)]
mod documents;
mod help;
mod local;
mod manual;
mod output;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use deltacompare::app;
use deltacompare::config;
use deltacompare::error::{Error, ErrorKind, Result};
use deltacompare::fdw::Remains;
use deltacompare::model::{Record, SinkTarget, StartOptions};
use deltacompare::postgres::statements_stopped;
use deltacompare::recovery::{self, Progress};
use deltacompare::telemetry::{self, Log, Telemetry};
use tracing::Instrument;

use arguments::{PlanArguments, RunArguments};
use command::{Arguments, Command};
use local::{Outcome, Run, Start};

/// Exit codes, the same for every command.
const COMPLETED: u8 = 0;
const FAILED: u8 = 1;
const REFUSED: u8 = 2;
const INTERRUPTED: u8 = 130;

pub(crate) fn main() -> ExitCode {
    let matches = config::without_empty(help::with_help(Arguments::command()))
        .try_get_matches()
        .unwrap_or_else(|error| without_secrets(error).exit());
    let arguments =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| without_secrets(error).exit());
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
            Command::Plan(arguments) => plan(&arguments, &matches).await,
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
            Command::App(command) => client::run(command, given(&matches)).await,
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

/// What may be a URL with a password, or a connection string, in the wrong place is not repeated.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let text = |error: &clap::Error, kind| error.get(kind).map(ToString::to_string);
    let argument = text(&error, ContextKind::InvalidArg).unwrap_or_default();
    if argument.starts_with("--sink") {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
        return error;
    }
    let given = [
        argument.clone(),
        text(&error, ContextKind::InvalidValue).unwrap_or_default(),
        text(&error, ContextKind::InvalidSubcommand).unwrap_or_default(),
    ];
    if !given.iter().any(|given| given.contains("://") || given.contains("SharedAccessKey")) {
        return error;
    }
    let option = if argument.starts_with("--") {
        format!(" of {}", argument.split(['=', ' ']).next().unwrap_or_default())
    } else {
        String::new()
    };
    clap::Error::raw(
        error.kind(),
        format!(
            "a value{option} cannot be used where it stands; it is not repeated here, since it may \
             hold a password\n"
        ),
    )
}

/// What was given to the command that was named.
fn given(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, given)| given)
}

async fn plan(arguments: &PlanArguments, matches: &ArgMatches) -> Result<u8> {
    if arguments::is_plan_of_app(matches)? {
        return client::plan(arguments, given(matches)).await;
    }
    if *arguments.start() != StartOptions::default() {
        return Err(Error::refused(
            "--database and --allow-concurrent are for a plan of the app: leave --base and --head \
             out, or name the database in their URLs",
        ));
    }
    arguments.request().check()?;
    arguments.check_event_hub()?;
    let servers = arguments.servers.servers().await?;
    let plan = recovery::plan(&servers, arguments.request()).await.map_err(nothing_changed)?;
    output::plan(&plan, arguments.json)?;
    Ok(COMPLETED)
}

async fn run(arguments: RunArguments) -> Result<u8> {
    let servers = arguments.servers.servers().await?;
    if let Some(path) = &arguments.report {
        output::check_report(path)?;
    }
    let start = match arguments.resume {
        Some(id) => Start::Resume(id),
        None => Start::New(Box::new(arguments.request()?)),
    };
    if let (Start::New(request), Some(report)) = (&start, &arguments.report) {
        let is_report = |sink: &SinkTarget| match sink {
            SinkTarget::Ndjson(file) => std::path::absolute(report).is_ok_and(|it| it == *file),
            _ => false,
        };
        if request.sinks.iter().any(is_report) {
            return Err(Error::refused(format!(
                "{} is both in --sink and in --report: name another file with --report",
                report.display()
            )));
        }
    }
    let run = Run {
        servers,
        event_hub: arguments.event_hub()?,
        progress: Progress::new(arguments.quiet),
        lease: arguments.lease(),
        keep_objects: arguments.keep_objects(),
    };
    match run.run(start, stop_signal()).await? {
        Outcome::Finished(report) => {
            // First what is to be kept.
            let written = match &arguments.report {
                Some(path) => output::write_report(&report, path),
                None => Ok(()),
            };
            output::report(&report);
            written?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_hold_a_password_is_not_repeated() {
        for words in [
            &["postgres://u:hunter2@h/db"][..],
            &["run", "postgres://u:hunter2@h/db"],
            &["run", "--bse", "postgres://u:hunter2@h/db"],
            &["run", "--bse=postgres://u:hunter2@h/db"],
            &["run", "--sink", "Endpoint=sb://x/;SharedAccessKey=hunter2"],
            &["run", "--lost-at-lsn", "postgres://u:hunter2@h/db"],
            &["run", "--strategy", "postgres://u:hunter2@h/db"],
            &["run", "--resume", "postgres://u:hunter2@h/db"],
            &["status", "postgres://u:hunter2@h/db"],
        ] {
            let words = ["deltacompare"].iter().chain(words);
            let error = help::with_help(Arguments::command()).try_get_matches_from(words);
            let error = without_secrets(error.unwrap_err());
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error.exit_code(), i32::from(REFUSED));
        }
    }
}
