//! The commands that talk to the app in Azure, over its HTTP API and nothing else.

mod app;
mod body;
mod output;
mod plan;
mod watch;

use clap::{ArgMatches, Args, Subcommand};
use deltacompare::error::{Error, Result};
use deltacompare::model::{Begun, Request, StartOptions};
use serde_json::Value;
use uuid::Uuid;

use super::arguments::{AppArgument, PlanArguments};
use super::{COMPLETED, output as program};
use app::AppClient;

/// What can be done with recoveries of the app.
#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// Begin a recovery in the app.
    Start(Box<StartArguments>),
    /// Show how a recovery of the app stands, or all of them.
    Status {
        #[command(flatten)]
        app: AppArgument,
        /// The recovery; without it, all are listed
        id: Option<Uuid>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow a recovery of the app until it has ended.
    Watch {
        #[command(flatten)]
        app: AppArgument,
        /// The recovery
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the tables of a recovery of the app.
    Tables {
        #[command(flatten)]
        app: AppArgument,
        /// The recovery
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a live recovery of the app. What was sent stays sent.
    Cancel {
        #[command(flatten)]
        app: AppArgument,
        /// The recovery
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare what failed in a recovery of the app once more.
    Retry {
        #[command(flatten)]
        app: AppArgument,
        /// The recovery
        id: Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Follow it until it has ended
        #[arg(long)]
        watch: bool,
    },
}

/// What a new recovery is asked for.
#[derive(Debug, Args)]
#[command(mut_arg("sinks", |sink| sink.required(true)))]
pub(super) struct StartArguments {
    #[command(flatten)]
    app: AppArgument,
    #[command(flatten)]
    request: Request,
    #[command(flatten)]
    start: StartOptions,
    /// Makes a repetition of this command give the same recovery [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Follow it until it has ended
    #[arg(long)]
    watch: bool,
}

/// Does it; yields the exit code.
///
/// # Errors
/// Refused by the app or before it was asked, or the app cannot be reached.
pub(super) async fn run(command: AppCommand, given: &ArgMatches) -> Result<u8> {
    match command {
        AppCommand::Start(arguments) => {
            let StartArguments { request, start, .. } = &*arguments;
            begin(&arguments, &body::of(request, start, given)?).await
        }
        AppCommand::Status { app, id: None, json } => {
            let recoveries =
                AppClient::at(app.address()?)?.pages("/recoveries", "recoveries").await?;
            output::recoveries(recoveries, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Status { app, id: Some(id), json } => {
            let status = AppClient::at(app.address()?)?.get(&format!("/recoveries/{id}")).await?;
            output::status(status, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Watch { app, id, json } => {
            watch::until_it_has_ended(&mut AppClient::at(app.address()?)?, id, json).await
        }
        AppCommand::Tables { app, id, json } => {
            let path = format!("/recoveries/{id}/tables");
            output::tables(AppClient::at(app.address()?)?.pages(&path, "tables").await?, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Cancel { app, id, json } => {
            let mut app = AppClient::at(app.address()?)?;
            let status = app.post(&format!("/recoveries/{id}/cancel"), &Value::Null).await?;
            output::status(status, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Retry { app, id, json, watch } => {
            let mut app = AppClient::at(app.address()?)?;
            let status = app.post(&format!("/recoveries/{id}/retry"), &Value::Null).await?;
            if watch {
                return watch::until_it_has_ended(&mut app, id, json).await;
            }
            output::status(status, json)?;
            Ok(COMPLETED)
        }
    }
}

/// Shows what a recovery of the app would do.
///
/// # Errors
/// As [`run`].
pub(super) async fn plan(arguments: &PlanArguments, given: &ArgMatches) -> Result<u8> {
    let body = body::of(arguments.request(), arguments.start(), given)?;
    let plan = AppClient::at(arguments.app.address()?)?.plan(&body).await?;
    if arguments.json {
        output::json(&plan);
    } else {
        program::plan(&read(plan)?, false)?;
    }
    Ok(COMPLETED)
}

async fn begin(arguments: &StartArguments, body: &Value) -> Result<u8> {
    let mut app = AppClient::at(arguments.app.address()?)?;
    // With a key the request can be repeated when its answer was lost.
    let key = arguments.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let begun = app.begin(body, &key).await?;
    let Begun { id } = read(begun.clone())?;
    if arguments.watch {
        if !arguments.json {
            output::begun(id, app.dashboard(id).as_str());
        }
        return watch::until_it_has_ended(&mut app, id, arguments.json).await;
    }
    if arguments.json {
        output::json(&begun);
    } else {
        output::begun(id, app.dashboard(id).as_str());
    }
    Ok(COMPLETED)
}

/// What an answer says, as far as this program knows it.
fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|error| {
        Error::recovery(format!(
            "the app's answer cannot be read: {error}; is the app of another version than this \
             program (deltacompare --version, GET /api/health)?"
        ))
        .because(error)
    })
}
