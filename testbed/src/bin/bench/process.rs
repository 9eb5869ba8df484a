//! What processes cost, read from /proc.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use deltacompare_testbed::Server;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::measured::{Measured, ServerCost, ServersCost};
use crate::pair::Pair;

/// How often a process is looked at. Peaks are kept by the kernel; a process's last moments are all
/// that can be missed.
const EVERY: Duration = Duration::from_millis(10);

/// The clock of /proc/<pid>/stat, fixed for user space on Linux (proc(5), sysconf(3)).
const TICKS: f64 = 100.0;

/// Runs a program to its end, its output going to a file, and says what it cost.
///
/// # Errors
/// It does not start, or fails; then with the end of its output.
pub(crate) async fn run(mut command: Command, output: &Path) -> Result<Measured> {
    let log = File::create(output)?;
    command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    let since = Instant::now();
    let mut child = command.spawn().context("cannot start a contender")?;
    let pid = child.id().context("a process without id")?;
    let mut measured = Measured::default();
    let status = loop {
        if let Ok(status) = tokio::time::timeout(EVERY, child.wait()).await {
            break status?;
        }
        if let Some(peak) = status_kb(pid, "VmHWM:") {
            measured.peak_mb = peak / 1024.0;
        }
        if let Some(stat) = Stat::of(pid) {
            measured.cpu_seconds = stat.own;
        }
    };
    measured.seconds = since.elapsed().as_secs_f64();
    if !status.success() {
        let output = fs::read(output)?;
        let end = String::from_utf8_lossy(&output[output.len().saturating_sub(2000)..]);
        ensure!(status.success(), "a contender ended with {status}:\n{end}");
    }
    Ok(measured)
}

/// What the servers had cost when a run began, and who watches them.
pub(crate) struct Servers {
    base: Watched,
    head: Watched,
}

struct Watched {
    cpu_seconds: f64,
    temp_bytes: u64,
    peaks: Arc<Mutex<(f64, usize)>>,
    watching: JoinHandle<()>,
}

impl Servers {
    pub(crate) async fn of(pair: &Pair) -> Result<Self> {
        Ok(Self {
            base: Watched::start(&pair.base).await?,
            head: Watched::start(&pair.head).await?,
        })
    }

    /// What the run cost them.
    pub(crate) async fn since(self, pair: &Pair) -> Result<ServersCost> {
        // Sessions end, and only then report what they did.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(ServersCost {
            base: self.base.cost(&pair.base).await?,
            head: self.head.cost(&pair.head).await?,
        })
    }
}

impl Watched {
    async fn start(server: &Server) -> Result<Self> {
        let postmaster = server.pid().context("the server does not run")?;
        let temp_bytes = temp_bytes(server).await?;
        let before: HashSet<u32> = children(postmaster).collect();
        let peaks = Arc::new(Mutex::new((0.0_f64, 0)));
        let seen = Arc::clone(&peaks);
        let watching = tokio::spawn(async move {
            loop {
                let new: Vec<u32> =
                    children(postmaster).filter(|pid| !before.contains(pid)).collect();
                let most =
                    new.iter().filter_map(|&pid| status_kb(pid, "RssAnon:")).fold(0.0, f64::max);
                {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen = (seen.0.max(most), seen.1.max(new.len()));
                }
                tokio::time::sleep(EVERY * 5).await;
            }
        });
        Ok(Self { cpu_seconds: cpu_seconds(postmaster), temp_bytes, peaks, watching })
    }

    async fn cost(self, server: &Server) -> Result<ServerCost> {
        self.watching.abort();
        let postmaster = server.pid().context("the server does not run")?;
        let cpu_seconds = cpu_seconds(postmaster) - self.cpu_seconds;
        let (peak, sessions) = *self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ServerCost {
            cpu_seconds,
            temp_bytes: temp_bytes(server).await?.saturating_sub(self.temp_bytes),
            peak_mb: peak / 1024.0,
            sessions,
        })
    }
}

async fn temp_bytes(server: &Server) -> Result<u64> {
    let bytes: i64 = server
        .value("select temp_bytes from pg_stat_database where datname = current_database()")
        .await?;
    Ok(bytes.try_into()?)
}

/// What this process has taken so far.
pub(crate) fn own_cpu_seconds() -> f64 {
    Stat::of(std::process::id()).map_or(0.0, |stat| stat.own)
}

/// Of a server's processes, ended ones included.
fn cpu_seconds(postmaster: u32) -> f64 {
    let whole = Stat::of(postmaster).map_or(0.0, |stat| stat.own + stat.ended_children);
    let living: f64 = children(postmaster).filter_map(Stat::of).map(|stat| stat.own).sum();
    whole + living
}

fn children(parent: u32) -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |&pid| Stat::of(pid).is_some_and(|stat| stat.parent == parent))
}

/// /proc/<pid>/stat, in seconds.
struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything; what follows its last parenthesis are numbers.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: seconds(11)? + seconds(12)?,
            ended_children: seconds(13)? + seconds(14)?,
        })
    }
}

fn status_kb(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
