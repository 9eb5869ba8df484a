//! The commands that talk to the app in Azure, over its HTTP API and nothing else.

mod app;
mod body;
mod output;
mod watch;

use clap::{ArgMatches, Args, Command, Subcommand};
use deltacompare::error::{Error, Result};
use deltacompare::model::{Begun, SinkTarget};
use serde_json::Value;
use uuid::Uuid;

use super::arguments::{RequestArguments, SelectionArguments};
use super::{COMPLETED, output as program};
use app::AppClient;

/// What can be done with recoveries of the app.
#[derive(Debug, Subcommand)]
pub(super) enum AppCommand {
    /// Begin a recovery in the app.
    Start(Box<StartArguments>),
    /// Show what a recovery in the app would compare, how, how big, and every warning. Changes
    /// nothing.
    Preview {
        #[command(flatten)]
        app: AppArguments,
        #[command(flatten)]
        selection: Box<SelectionArguments>,
        /// This database of the two servers [default: the one of the app's settings]
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how a recovery of the app stands, or all of them.
    Status {
        #[command(flatten)]
        app: AppArguments,
        /// The recovery; without it, all are listed
        id: Option<Uuid>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Follow a recovery of the app until it has ended.
    Watch {
        #[command(flatten)]
        app: AppArguments,
        /// The recovery
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the tables of a recovery of the app.
    Tables {
        #[command(flatten)]
        app: AppArguments,
        /// The recovery
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a live recovery of the app. What was sent stays sent.
    Cancel {
        #[command(flatten)]
        app: AppArguments,
        /// The recovery
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare what failed in a recovery of the app once more.
    Retry {
        #[command(flatten)]
        app: AppArguments,
        /// The recovery
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Follow it until it has ended
        #[arg(long)]
        watch: bool,
    },
}

/// Where the app is. Its key is never an argument: `DELTACOMPARE_APP_KEY`, or a prompt.
#[derive(Debug, Args)]
pub(super) struct AppArguments {
    /// The app: https://<name>.azurewebsites.net. Its key comes from DELTACOMPARE_APP_KEY or a prompt
    #[arg(long, env = "DELTACOMPARE_APP", value_name = "URL")]
    app: String,
}

/// What a new recovery is asked for.
#[derive(Debug, Args)]
pub(super) struct StartArguments {
    #[command(flatten)]
    app: AppArguments,
    #[command(flatten)]
    asked: RequestArguments,
    /// Where events go: event-hub:<namespace>/<hub>, ndjson:<file> or delta-table; may be repeated
    #[arg(long = "sink", value_name = "SINK", required = true)]
    sinks: Vec<SinkTarget>,
    /// This database of the two servers [default: the one of the app's settings]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Begin although another recovery of the database is live
    #[arg(long)]
    allow_concurrent: bool,
    /// Keep foreign tables, helper views and the role on base when the recovery has ended
    #[arg(long)]
    keep_objects: bool,
    /// Makes a repetition of this command give the same recovery [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print JSON.
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
pub(super) async fn run(
    command: AppCommand,
    program: &Command,
    matches: &ArgMatches,
) -> Result<u8> {
    match command {
        AppCommand::Start(arguments) => start(&arguments, &body::of(program, matches)?).await,
        AppCommand::Preview { app, json, .. } => {
            let plan = AppClient::at(&app.app)?.post("/plan", &body::of(program, matches)?).await?;
            if json {
                output::json(&plan);
            } else {
                program::plan(&read(plan)?, false)?;
            }
            Ok(COMPLETED)
        }
        AppCommand::Status { app, id: None, json } => {
            let recoveries = AppClient::at(&app.app)?.pages("/recoveries", "recoveries").await?;
            output::recoveries(recoveries, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Status { app, id: Some(id), json } => {
            let status = AppClient::at(&app.app)?.get(&format!("/recoveries/{id}")).await?;
            output::status(status, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Watch { app, id, json } => {
            watch::until_it_has_ended(&mut AppClient::at(&app.app)?, id, json).await
        }
        AppCommand::Tables { app, id, json } => {
            let path = format!("/recoveries/{id}/tables");
            output::tables(AppClient::at(&app.app)?.pages(&path, "tables").await?, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Cancel { app, id, json } => {
            let mut app = AppClient::at(&app.app)?;
            let status = app.post(&format!("/recoveries/{id}/cancel"), &Value::Null).await?;
            output::status(status, json)?;
            Ok(COMPLETED)
        }
        AppCommand::Retry { app, id, json, watch } => {
            let mut app = AppClient::at(&app.app)?;
            let status = app.post(&format!("/recoveries/{id}/retry"), &Value::Null).await?;
            if watch {
                return watch::until_it_has_ended(&mut app, id, json).await;
            }
            output::status(status, json)?;
            Ok(COMPLETED)
        }
    }
}

async fn start(arguments: &StartArguments, body: &Value) -> Result<u8> {
    let mut app = AppClient::at(&arguments.app.app)?;
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
