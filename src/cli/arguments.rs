//! The options of the commands, on the command line and in the environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser};
use deltacompare::app::{Defaults, Options};
use deltacompare::config::{self, Settings};
use deltacompare::error::{Error, Result};
use deltacompare::model::{
    BeforeImage, BinaryMode, DebeziumOptions, DecimalMode, EventHubOptions, FdwOverrides, Format,
    HstoreMode, IntervalMode, Lsn, Record, Request, SinkTarget, SslMode, StrategyChoice, TableName,
    TimePrecision, Verify,
};
use uuid::Uuid;

use super::event_hub::EventHubArguments;

/// What Debezium's events name as their source unless told otherwise.
const DEFAULT_TOPIC_PREFIX: &str = "deltacompare";

/// Little enough to cost next to nothing, enough to notice a restore that is not what it seems.
const DEFAULT_SAMPLE_PERCENT: u8 = 1;

#[derive(Clone, Debug, Args)]
pub(super) struct SelectionArguments {
    /// Only this publication's tables; may be repeated, as a slot may read several [default: every
    /// table of every publication]
    #[arg(long = "publication", env = "DELTACOMPARE_PUBLICATION", value_name = "NAME")]
    publications: Vec<String>,
    /// Only this table; may be repeated
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    tables: Vec<TableName>,
    /// Not this table; may be repeated
    #[arg(long, value_name = "SCHEMA.TABLE")]
    exclude: Vec<TableName>,
    /// How tables are diffed
    #[arg(long, env = "DELTACOMPARE_STRATEGY", value_enum, default_value_t = StrategyChoice::Auto)]
    strategy: StrategyChoice,
    /// Compare what is there although a restore was written to; the result is not proved
    #[arg(long)]
    accept_written: bool,
    /// What the lost slot had confirmed: its confirmed_flush_lsn
    #[arg(long, env = "DELTACOMPARE_LOST_AT_LSN", value_name = "LSN")]
    lost_at_lsn: Option<Lsn>,
    /// Where the new slot begins: its confirmed_flush_lsn as it was at creation
    #[arg(long, env = "DELTACOMPARE_NEW_SLOT_LSN", value_name = "LSN")]
    new_slot_lsn: Option<Lsn>,
    /// The new slot's restart_lsn as it was at creation: the version that every event carries
    #[arg(long, env = "DELTACOMPARE_NEW_SLOT_RESTART_LSN", value_name = "LSN")]
    new_slot_restart_lsn: Option<Lsn>,
    /// Go on although the restores do not cover the gap; what they leave out stays lost
    #[arg(long)]
    accept_hole: bool,
    /// Go on although both restores end at the same place, so that no change lies between them
    #[arg(long)]
    accept_empty_gap: bool,
    /// Compare contents although a server is of a version or a make that nothing is known of
    #[arg(long)]
    accept_unknown_version: bool,
    /// What the record command wrote of these two restores right after they were made
    #[arg(long, env = "DELTACOMPARE_RECORDED", value_name = "FILE")]
    recorded: Option<PathBuf>,
    /// Base's host as head knows it [default: the one in --base]
    #[arg(long, env = "DELTACOMPARE_FDW_HOST", value_name = "HOST")]
    fdw_host: Option<String>,
    /// Base's port as head knows it [default: the one in --base]
    #[arg(long, env = "DELTACOMPARE_FDW_PORT", value_name = "PORT")]
    fdw_port: Option<u16>,
    /// sslmode from head to base [default: the one in --base]
    #[arg(long, env = "DELTACOMPARE_FDW_SSLMODE", value_enum, value_name = "MODE")]
    fdw_sslmode: Option<SslMode>,
    /// The authority's certificate as a path on head's own machine, or "system"
    #[arg(long, env = "DELTACOMPARE_FDW_SSLROOTCERT", value_name = "PATH")]
    fdw_sslrootcert: Option<String>,
}

/// What can be asked of a recovery wherever it runs. `client::body` sends it by the same names.
#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    #[command(flatten)]
    selection: SelectionArguments,
    /// How an event looks
    #[arg(long, env = "DELTACOMPARE_FORMAT", value_enum, default_value_t = Format::Debezium)]
    format: Format,
    /// What an event says of the old row: what the table's replica identity would have sent, or
    /// all of it
    #[arg(long, env = "DELTACOMPARE_BEFORE", value_enum, default_value_t = BeforeImage::ReplicaIdentity)]
    before: BeforeImage,
    /// Debezium's topic.prefix, which its events name as their source
    #[arg(long, env = "DELTACOMPARE_TOPIC_PREFIX", value_name = "NAME",
          default_value = DEFAULT_TOPIC_PREFIX)]
    topic_prefix: String,
    /// Debezium's decimal.handling.mode
    #[arg(
        long,
        env = "DELTACOMPARE_DECIMAL_HANDLING_MODE",
        value_enum,
        value_name = "MODE",
        default_value_t
    )]
    decimal_handling_mode: DecimalMode,
    /// Debezium's time.precision.mode
    #[arg(
        long,
        env = "DELTACOMPARE_TIME_PRECISION_MODE",
        value_enum,
        value_name = "MODE",
        default_value_t
    )]
    time_precision_mode: TimePrecision,
    /// Debezium's binary.handling.mode
    #[arg(
        long,
        env = "DELTACOMPARE_BINARY_HANDLING_MODE",
        value_enum,
        value_name = "MODE",
        default_value_t
    )]
    binary_handling_mode: BinaryMode,
    /// Debezium's interval.handling.mode
    #[arg(
        long,
        env = "DELTACOMPARE_INTERVAL_HANDLING_MODE",
        value_enum,
        value_name = "MODE",
        default_value_t
    )]
    interval_handling_mode: IntervalMode,
    /// Debezium's hstore.handling.mode
    #[arg(
        long,
        env = "DELTACOMPARE_HSTORE_HANDLING_MODE",
        value_enum,
        value_name = "MODE",
        default_value_t
    )]
    hstore_handling_mode: HstoreMode,
    #[command(flatten)]
    event_hub: EventHubArguments,
    /// How results are proved: count counts the rows of every table on both sides, sample compares
    /// contents of some blocks that row-versions called equal, full diffs every table once more by
    /// reading everything, and counts
    #[arg(long, env = "DELTACOMPARE_VERIFY", value_enum, default_value_t = Verify::None)]
    verify: Verify,
    /// With --verify sample: percent of the equal blocks whose contents are compared
    #[arg(long, env = "DELTACOMPARE_SAMPLE_PERCENT", value_name = "N",
          default_value_t = DEFAULT_SAMPLE_PERCENT, value_parser = clap::value_parser!(u8).range(1..=100))]
    sample_percent: u8,
    /// Tables, or parts of large ones, at once, in all processes together
    #[arg(long, env = "DELTACOMPARE_PARALLEL", value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Blocks of 8 kB in one part of a large table [default: as many as take about 10 s]
    #[arg(long, env = "DELTACOMPARE_RANGE_BLOCKS", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    range_blocks: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    asked: RequestArguments,
    /// Where events go: event-hub:<namespace>/<hub>, ndjson:<file> or delta-table; may be repeated
    #[arg(long = "sink", value_name = "SINK", required_unless_present = "resume")]
    sinks: Vec<SinkTarget>,
    /// Follow each delete with a message that has its key and no event
    #[arg(long, env = "DELTACOMPARE_TOMBSTONES")]
    tombstones: bool,
    /// Lines of NDJSON files are {"key":…,"value":…}: the message key and the event
    #[arg(long, env = "DELTACOMPARE_NDJSON_KEYS")]
    ndjson_keys: bool,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Go on with an interrupted recovery; everything that was asked for then still holds
    #[arg(long, value_name = "RECOVERY ID")]
    pub(super) resume: Option<Uuid>,
    /// How long a worker may be silent before its table is taken over, in seconds
    #[arg(long, env = "DELTACOMPARE_LEASE_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) lease_seconds: u64,
    /// Keep foreign tables, helper views and the role on base when the recovery has ended
    #[arg(long)]
    pub(super) keep_objects: bool,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Port of the loopback address to listen on
    #[arg(long, env = "FUNCTIONS_CUSTOMHANDLER_PORT", value_name = "PORT", default_value_t = 8080)]
    pub(super) port: u16,
    /// How long a worker may be silent before its table is taken over, in seconds
    #[arg(long, env = "DELTACOMPARE_LEASE_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease_seconds: u64,
    /// How long one queue message is worked on before another goes on, in seconds; less where
    /// functionTimeout in host.json asks for less
    #[arg(long, env = "DELTACOMPARE_WORK_SECONDS", value_name = "S", default_value_t = 480,
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    work_seconds: u64,
    /// After how many seconds without effect a queue message is sent again
    #[arg(long, env = "DELTACOMPARE_RESEND_SECONDS", value_name = "S", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    resend_seconds: u64,
}

/// What a recovery is that nothing is said of but by settings.
#[derive(Debug, Parser)]
struct AppSettings {
    #[command(flatten)]
    run: RunArguments,
}

impl AppSettings {
    fn read() -> Result<Defaults> {
        // The servers are named here so that it does not matter whether settings name them.
        let settings = config::read_settings([
            "deltacompare",
            "--base=postgres://u@h/d",
            "--head=postgres://u@h/d",
            "--sink=delta-table",
        ]);
        let Self { run } = settings.map_err(|error| {
            Error::refused(format!(
                "a setting cannot be used: {}",
                error.to_string().lines().next().unwrap_or_default()
            ))
        })?;
        Ok(Defaults {
            event_hub: run.settings.event_hub_access()?,
            request: Request { sinks: Vec::new(), ..run.request()? },
        })
    }
}

impl ServeArguments {
    pub(super) fn options(&self) -> Options {
        Options {
            defaults: AppSettings::read(),
            lease: Duration::from_secs(self.lease_seconds),
            work: Duration::from_secs(self.work_seconds),
            resend: Duration::from_secs(self.resend_seconds),
        }
    }
}

impl SelectionArguments {
    /// The request of a plan: sinks and formats do not matter to it.
    pub(super) fn request(self) -> Result<Request> {
        if let Some(both) = self.tables.iter().find(|table| self.exclude.contains(table)) {
            return Err(Error::refused(format!(
                "{both} is both in --table and in --exclude: take it out of one"
            )));
        }
        Ok(Request {
            publications: self.publications,
            tables: self.tables,
            exclude: self.exclude,
            sinks: Vec::new(),
            format: Format::Debezium,
            before: BeforeImage::ReplicaIdentity,
            tombstones: false,
            ndjson_keys: false,
            topic_prefix: DEFAULT_TOPIC_PREFIX.to_owned(),
            debezium: DebeziumOptions::default(),
            strategy: self.strategy,
            event_hub: EventHubOptions::default(),
            verify: Verify::None,
            sample_percent: DEFAULT_SAMPLE_PERCENT,
            parallel: 1,
            range_blocks: None,
            accept_written: self.accept_written,
            lost_at_lsn: self.lost_at_lsn,
            new_slot_lsn: self.new_slot_lsn,
            new_slot_restart_lsn: self.new_slot_restart_lsn,
            accept_hole: self.accept_hole,
            accept_empty_gap: self.accept_empty_gap,
            accept_unknown_version: self.accept_unknown_version,
            recorded: self.recorded.as_deref().map(Record::read).transpose()?,
            fdw: FdwOverrides {
                host: self.fdw_host,
                port: self.fdw_port,
                ssl_mode: self.fdw_sslmode,
                ssl_root_cert: self.fdw_sslrootcert,
            },
        })
    }
}

impl RunArguments {
    /// The request of a new recovery.
    pub(super) fn request(&self) -> Result<Request> {
        let asked = &self.asked;
        Ok(Request {
            sinks: self.sinks.iter().map(absolute).collect::<Result<_>>()?,
            format: asked.format,
            before: asked.before,
            tombstones: self.tombstones,
            ndjson_keys: self.ndjson_keys,
            topic_prefix: asked.topic_prefix.clone(),
            debezium: DebeziumOptions {
                decimal: asked.decimal_handling_mode,
                time_precision: asked.time_precision_mode,
                binary: asked.binary_handling_mode,
                interval: asked.interval_handling_mode,
                hstore: asked.hstore_handling_mode,
            },
            event_hub: asked.event_hub.options(),
            verify: asked.verify,
            sample_percent: asked.sample_percent,
            parallel: asked.parallel,
            range_blocks: asked.range_blocks,
            ..asked.selection.clone().request()?
        })
    }
}

/// The same sink without a relative path, so that a resumption from another folder finds the file.
///
/// # Errors
/// Refused if this process has no current folder.
fn absolute(sink: &SinkTarget) -> Result<SinkTarget> {
    let SinkTarget::Ndjson(path) = sink else { return Ok(sink.clone()) };
    std::path::absolute(path).map(SinkTarget::Ndjson).map_err(|error| {
        Error::refused(format!("{}: {error}; give a whole path", path.display())).because(error)
    })
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

/// What a resumption may be told anew: how to log in, and what concerns this process alone.
const RESUME_TAKES: [&str; 17] = [
    "base",
    "head",
    "vault",
    "base_secret",
    "head_secret",
    "login",
    "identity",
    "identity_client_id",
    "event_hub_endpoint",
    "event_hub_sslrootcert",
    "event_hub_connection_string_secret",
    "event_hub_patience_seconds",
    "resume",
    "report",
    "lease_seconds",
    "keep_objects",
    "quiet",
];

/// A resumed recovery does what was asked for when it began; anything else on the command line
/// would be ignored, so it is refused.
pub(super) fn refuse_changes_on_resume(matches: &ArgMatches) -> Result<()> {
    let Some(("run", command)) = matches.subcommand() else { return Ok(()) };
    if command.value_source("resume").is_none() {
        return Ok(());
    }
    let run = RunArguments::augment_args(clap::Command::new("run"));
    let ignored = run.get_arguments().find(|argument| {
        let id = argument.get_id().as_str();
        command.value_source(id) == Some(ValueSource::CommandLine) && !RESUME_TAKES.contains(&id)
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
