//! The commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use deltacompare::config::ServerSettings;

use super::arguments::{PlanArguments, RunArguments, ServeArguments};
use super::assess::AssessArguments;
use super::client::AppCommand;

/// Recovers the changes that downstream missed while a PostgreSQL logical replication slot was
/// lost, by comparing two point-in-time restores.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find every change between base and head and send it to the sinks.
    Run(Box<RunArguments>),
    /// Show what a run with these options would do: how long, how many events, every table and every
    /// warning. Changes nothing.
    Plan(Box<PlanArguments>),
    /// Say of production what a recovery needs to know before anything is restored or paid for: which
    /// slots are lost, how long the others last, what is published, what is missing. Changes nothing. Exits with 1 if a slot is lost or will be
    /// within a day.
    Assess(AssessArguments),
    /// Answer the Azure Functions host, as its custom handler. Settings come from the environment.
    Serve(ServeArguments),
    /// Keep in a file what the two restores are, right after they were made, so that a recovery can
    /// tell that nobody altered them. Changes nothing.
    Record {
        #[command(flatten)]
        servers: ServerSettings,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List everything that DeltaCompare created on the two servers, and remove it with --yes: the
    /// status of all recoveries and the events in the delta table, too.
    Cleanup {
        #[command(flatten)]
        servers: ServerSettings,
        /// Remove it; without this it is only listed
        #[arg(long)]
        yes: bool,
    },
    #[command(flatten)]
    App(AppCommand),
    /// Print completions for a shell.
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual's pages into a folder.
    Man {
        /// The folder; it must exist
        folder: PathBuf,
    },
}
