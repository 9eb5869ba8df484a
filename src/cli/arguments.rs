//! The options of the commands that run a recovery or serve the app. What a recovery is asked for is
//! defined in `model::Request`, where the servers are in `config`.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser};
use deltacompare::app::{Defaults, Options};
use deltacompare::config::{self, EventHubSettings, ServerSettings, Settings};
use deltacompare::error::{Error, Result};
use deltacompare::model::option_group::{SERVERS, TUNING};
use deltacompare::model::{Request, SinkTarget, StartOptions};
use deltacompare::sink::EventHubAccess;
use uuid::Uuid;

/// Where the app is. Its key is never an argument: `DELTACOMPARE_APP_KEY`, or a prompt.
#[derive(Debug, Args)]
pub(super) struct AppArgument {
    /// The app in Azure: https://<name>.azurewebsites.net
    ///
    /// Plain http only on this machine. Its key comes from DELTACOMPARE_APP_KEY or a prompt. A plan
    /// is of the app's servers, instead of --base and --head.
    #[arg(long, env = "DELTACOMPARE_APP", value_name = "URL", help_heading = SERVERS)]
    app: Option<String>,
}

impl AppArgument {
    /// The app's address.
    ///
    /// # Errors
    /// Refused if it was not given.
    pub(super) fn address(&self) -> Result<&str> {
        self.app.as_deref().ok_or_else(|| {
            Error::refused("the app is not named: say --app https://<name>.azurewebsites.net")
        })
    }
}

#[derive(Debug, Args)]
#[command(mut_arg("sinks", |sink| sink.required_unless_present("resume")))]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) servers: ServerSettings,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    event_hub: EventHubSettings,
    #[command(flatten)]
    lease: LeaseArgument,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Go on with an interrupted recovery
    ///
    /// Everything that was asked for then still holds.
    #[arg(long, value_name = "RECOVERY ID")]
    pub(super) resume: Option<Uuid>,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
struct LeaseArgument {
    /// How long a worker may be silent before its work is taken over, in seconds
    ///
    /// 1 to 3600. After a crash, whoever goes on waits so long for what the dead process had in hand.
    #[arg(long, env = "DELTACOMPARE_LEASE_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = TUNING)]
    lease_seconds: u64,
}

/// A plan takes what a run takes. It is of the two servers or, with `--app`, of the app's.
#[derive(Debug, Args)]
#[command(
    mut_arg("base", |base| base.required_unless_present("app")),
    mut_arg("head", |head| head.required_unless_present("app"))
)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    pub(super) servers: ServerSettings,
    #[command(flatten)]
    pub(super) app: AppArgument,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    event_hub: EventHubSettings,
    #[command(flatten)]
    start: StartOptions,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Port of the loopback address to listen on
    #[arg(long, env = "FUNCTIONS_CUSTOMHANDLER_PORT", value_name = "PORT", default_value_t = 8080)]
    pub(super) port: u16,
    #[command(flatten)]
    lease: LeaseArgument,
    /// How long one queue message is worked on before another goes on, in seconds; less where
    /// functionTimeout in host.json asks for less
    #[arg(long, env = "DELTACOMPARE_WORK_SECONDS", value_name = "S", hide = true,
          default_value_t = 480, value_parser = clap::value_parser!(u64).range(1..=86400))]
    work_seconds: u64,
    /// After how many seconds without effect a queue message is sent again
    #[arg(long, env = "DELTACOMPARE_RESEND_SECONDS", value_name = "S", hide = true,
          default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    resend_seconds: u64,
}

/// The app's settings: what a recovery is that nothing is said of.
#[derive(Debug, Parser)]
pub(super) struct AppSettings {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    request: Request,
}

impl AppSettings {
    fn read() -> Result<Defaults> {
        // The servers are named here so that it does not matter whether settings name them.
        let Self { settings, request } = config::read_settings([
            "deltacompare",
            "--base=postgres://u@h/d",
            "--head=postgres://u@h/d",
        ])?;
        Ok(Defaults { event_hub: settings.event_hub_access()?, request })
    }
}

impl ServeArguments {
    pub(super) fn options(&self) -> Options {
        Options {
            defaults: AppSettings::read(),
            lease: self.lease.lease(),
            work: Duration::from_secs(self.work_seconds),
            resend: Duration::from_secs(self.resend_seconds),
        }
    }
}

impl LeaseArgument {
    fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
}

impl PlanArguments {
    /// What the plan is of.
    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// Refuses what a run would refuse of how event hubs are reached.
    ///
    /// # Errors
    /// As [`EventHubSettings::access`].
    pub(super) fn check_event_hub(&self) -> Result<()> {
        self.event_hub.access(&self.servers).map(drop)
    }

    /// What the app alone is told.
    pub(super) fn start(&self) -> &StartOptions {
        &self.start
    }
}

impl RunArguments {
    /// The request of a new recovery.
    ///
    /// # Errors
    /// Refused: the options do not go together, or this process has no current folder.
    pub(super) fn request(&self) -> Result<Request> {
        self.request.check()?;
        let sinks = self.request.sinks.iter().map(absolute).collect::<Result<_>>()?;
        Ok(Request { sinks, ..self.request.clone() })
    }

    /// How event hubs are reached.
    ///
    /// # Errors
    /// As [`EventHubSettings::access`].
    pub(super) fn event_hub(&self) -> Result<EventHubAccess> {
        self.event_hub.access(&self.servers)
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease.lease()
    }

    /// Whether to keep what was created on the servers, which a resumption may ask for too.
    pub(super) fn keep_objects(&self) -> bool {
        self.request.keep_objects
    }
}

/// The same sink without a relative path, so that a resumption from another folder finds the file.
fn absolute(sink: &SinkTarget) -> Result<SinkTarget> {
    let SinkTarget::Ndjson(path) = sink else { return Ok(sink.clone()) };
    std::path::absolute(path).map(SinkTarget::Ndjson).map_err(|error| {
        Error::refused(format!("{}: {error}; give a whole path", path.display())).because(error)
    })
}

/// Whether a plan is to be made by the app. What the command line says decides over the environment.
///
/// # Errors
/// Refused if both an app and the servers are given in the same place.
pub(super) fn is_plan_of_app(matches: &ArgMatches) -> Result<bool> {
    let Some((_, plan)) = matches.subcommand() else { return Ok(false) };
    let from = |place, names: &[&str]| names.iter().any(|it| plan.value_source(it) == Some(place));
    let servers = ["base", "head", "base_secret", "head_secret"];
    for place in [ValueSource::CommandLine, ValueSource::EnvVariable] {
        match (from(place, &["app"]), from(place, &servers)) {
            (true, true) => {
                return Err(Error::refused(
                    "a plan is of the app (--app) or of two servers (--base and --head), and both \
                     are given: say on the command line which one is meant",
                ));
            }
            (false, false) => {}
            (app, _) => return Ok(app),
        }
    }
    Ok(false)
}

/// Command lines are visible to every user of the machine (`ps`) and kept in shell histories: a
/// password there is refused before it is used.
pub(super) fn refuse_passwords_in_sight(matches: &ArgMatches) -> Result<()> {
    let Some((_, command)) = matches.subcommand() else { return Ok(()) };
    for argument in ["base", "head", "production"] {
        if command.try_contains_id(argument).is_err() {
            continue;
        }
        let on_command_line = command.value_source(argument) == Some(ValueSource::CommandLine);
        let has_password = command
            .get_one::<String>(argument)
            .and_then(|url| url::Url::parse(url).ok())
            .is_some_and(|url| url.password().is_some());
        if on_command_line && has_password {
            let variable = argument.to_uppercase();
            return Err(Error::refused(format!(
                "--{argument} has a password, which every user of this machine can see: put the \
                 URL into DELTACOMPARE_{variable}, or the password alone into \
                 DELTACOMPARE_{variable}_PASSWORD"
            )));
        }
    }
    Ok(())
}

/// A resumed recovery does what was asked for when it began; anything else on the command line
/// would be ignored, so it is refused.
pub(super) fn refuse_changes_on_resume(matches: &ArgMatches) -> Result<()> {
    let Some(("run", command)) = matches.subcommand() else { return Ok(()) };
    if command.value_source("resume").is_none() {
        return Ok(());
    }
    let request = Request::augment_args(clap::Command::new("run"));
    let ignored = request.get_arguments().find(|argument| {
        let id = argument.get_id().as_str();
        command.value_source(id) == Some(ValueSource::CommandLine) && id != "keep_objects"
    });
    match ignored {
        None => Ok(()),
        Some(argument) => Err(Error::refused(format!(
            "--{} cannot be changed with --resume: leave it out, the recovery goes on as it was \
             asked for",
            argument.get_long().unwrap_or_default()
        ))),
    }
}
