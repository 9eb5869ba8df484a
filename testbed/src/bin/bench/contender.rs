//! Who is measured, and how each is run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use deltacompare_testbed::event_hubs::{EventHubs, HubOptions, Keep};
use deltacompare_testbed::{Connection, Role};
use tokio::process::Command;

use crate::data::{DataSet, TABLE};
use crate::measured::Measured;
use crate::pair::{Pair, Way};
use crate::process::{self, Servers};
use crate::{reladiff, seed};

/// A way to find what changed, or to count rows, which any way must outdo or bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Contender {
    /// `select count(*)` on base, then on head
    Floor,
    /// The program as it chooses
    Auto,
    /// The same by the build that --earlier names
    Earlier,
    /// The same, into a stand-in for Event Hubs
    Hub,
    /// The program with --strategy row-versions
    RowVersions,
    /// The program with --strategy content
    Content,
    /// The program with --strategy full
    Full,
    /// The seed's SQL: a FULL JOIN over postgres_fdw
    Seed,
    /// reladiff 0.6.0 with four threads
    Reladiff,
}

/// Executables that are not built with the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Programs {
    /// reladiff's executable; scripts/bench installs it
    #[arg(long, env = "DELTACOMPARE_RELADIFF", value_name = "FILE")]
    reladiff: Option<PathBuf>,
    /// Another build of deltacompare: it and this one take turns, and nobody else
    #[arg(long, value_name = "FILE")]
    pub(crate) earlier: Option<PathBuf>,
}

impl DataSet {
    pub(crate) fn contenders(self) -> &'static [Contender] {
        use Contender::*;
        match self {
            Self::Same | Self::Clustered => &[Floor, RowVersions, Content],
            Self::Scattered => &[Floor, RowVersions, Content, Full, Seed, Reladiff],
            Self::Tenth => &[Floor, Auto, Seed],
            Self::Half => &[Floor, Auto, Hub, Seed],
            Self::Wide | Self::Toasted | Self::TextKey => &[Floor, RowVersions, Content, Seed],
            Self::Rewritten => &[Floor, Content, Seed, Reladiff],
            Self::Tables => &[Auto],
        }
    }
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "count(*) on both",
            Self::Auto => "auto",
            Self::Earlier => "auto, the earlier build",
            Self::Hub => "auto, into a hub",
            Self::RowVersions => "row-versions",
            Self::Content => "content",
            Self::Full => "full",
            Self::Seed => "seed's SQL",
            Self::Reladiff => "reladiff",
        }
    }

    /// One run of it, directly or through relays that count what passes.
    pub(crate) async fn run(
        self,
        pair: &Pair,
        programs: &Programs,
        relayed: bool,
    ) -> Result<Measured> {
        let way = pair.way(relayed).await?;
        let servers = Servers::of(pair).await?;
        let mut measured = match self {
            Self::Floor => floor(&way).await?,
            Self::Auto
            | Self::Earlier
            | Self::Hub
            | Self::RowVersions
            | Self::Content
            | Self::Full => self.program(pair, &way, programs).await?,
            Self::Seed => seed::run(pair, &way).await?,
            Self::Reladiff => {
                let program = programs
                    .reladiff
                    .as_deref()
                    .context("name reladiff's executable: --reladiff, or run scripts/bench")?;
                reladiff::run(program, pair, &way).await?
            }
        };
        measured.servers = servers.since(pair).await?;
        measured.moved = way.moved();
        Ok(measured)
    }

    /// The program on the table, less the program on an empty one: preflight, set-up and the wait
    /// before the last look for writes do not depend on the table.
    async fn program(self, pair: &Pair, way: &Way, programs: &Programs) -> Result<Measured> {
        let program = match self {
            Self::Earlier => programs.earlier.clone().context("name the build: --earlier")?,
            _ => std::env::current_exe()?.with_file_name("deltacompare"),
        };
        let empty = self.program_on(pair, way, &program, Some("nothing")).await?;
        way.forget();
        let mut measured = self.program_on(pair, way, &program, pair.set.table()).await?;
        measured.fixed_seconds = empty.seconds;
        measured.seconds -= empty.seconds;
        Ok(measured)
    }

    /// One run of a build of the program, on one table or on all, and all that it made removed.
    async fn program_on(
        self,
        pair: &Pair,
        way: &Way,
        program: &Path,
        table: Option<&str>,
    ) -> Result<Measured> {
        ensure!(program.exists(), "{} is missing: run scripts/bench", program.display());
        let (events, report) = (pair.file("events.ndjson"), pair.file("report.json"));
        for file in [&events, &report] {
            let _ = std::fs::remove_file(file);
        }
        let strategy = match self {
            Self::RowVersions => "row-versions",
            Self::Content => "content",
            Self::Full => "full",
            _ => "auto",
        };
        let command = || {
            let mut command = Command::new(program);
            command
                .env("DELTACOMPARE_BASE", way.base_url())
                .env("DELTACOMPARE_HEAD", way.head_url())
                .env("DELTACOMPARE_BASE_PASSWORD", pair.base.password(Role::Admin))
                .env("DELTACOMPARE_HEAD_PASSWORD", pair.head.password(Role::Admin));
            command
        };
        let hub = match self {
            Self::Hub => {
                let options = HubOptions { keep: Keep::Count, ..HubOptions::default() };
                Some(EventHubs::start(options).await?)
            }
            _ => None,
        };
        let mut run = command();
        run.arg("run");
        match &hub {
            Some(hub) => run
                .args(["--sink", &hub.sink(), "--event-hub-endpoint", &hub.endpoint()])
                .env("DELTACOMPARE_EVENT_HUB_CONNECTION_STRING", hub.connection_string()),
            None => run.args(["--sink", &format!("ndjson:{}", events.display())]),
        };
        run.args(["--quiet", "--strategy", strategy])
            .args(table.map(|table| format!("--table=public.{table}")))
            .arg("--report")
            .arg(&report);
        let standin = process::own_cpu_seconds();
        let mut measured = process::run(run, &pair.file("output")).await?;
        measured.standin_cpu_seconds =
            hub.as_ref().map_or(0.0, |_| process::own_cpu_seconds() - standin);
        // Builds of different versions do not read each other's status.
        let mut clean_up = command();
        clean_up.args(["cleanup", "--yes"]);
        process::run(clean_up, &pair.file("output")).await?;
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
        let totals = &report["totals"];
        let count = |name: &str| totals[name].as_u64().unwrap_or(0);
        let changes = count("inserts") + count("updates") + count("deletes");
        measured.changes = Some(changes);
        match hub {
            Some(hub) => {
                let stored = hub.stored();
                ensure!(stored >= changes, "{changes} changes, and the hub has {stored} events");
            }
            None => measured.written_bytes = std::fs::metadata(&events)?.len(),
        }
        Ok(measured)
    }
}

async fn floor(way: &Way) -> Result<Measured> {
    let since = std::time::Instant::now();
    for url in [way.base_url_with_password(), way.head_url_with_password()] {
        let connection = Connection::open(&url).await?;
        let rows: i64 = connection.value(&format!("select count(*) from {TABLE}"), &[]).await?;
        ensure!(rows > 0, "an empty table");
    }
    Ok(Measured::new(since.elapsed()))
}
