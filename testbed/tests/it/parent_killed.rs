//! Nothing outlives a process that is killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use deltacompare_testbed::Options;

const HELPER: &str = "DELTACOMPARE_TEST_KILLED_HELPER";

/// Not a test: what the test below starts, a process that starts servers and waits to be killed.
#[tokio::test]
async fn helper() -> Result<()> {
    if std::env::var_os(HELPER).is_none() {
        return Ok(());
    }
    let (production, lost, _) = crate::gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    for server in [&*production, &base] {
        // Past the test harness, which would keep it until the end.
        use std::io::Write;
        let pid = server.pid().context("it runs")?;
        writeln!(std::io::stderr(), "SERVER {pid} {}", server.data_dir().display())?;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(())
}

#[test]
fn servers_and_folders_are_gone_after_kill_9() -> Result<()> {
    let mut helper = Command::new(std::env::current_exe()?)
        .args(["--exact", "parent_killed::helper", "--nocapture"])
        .env(HELPER, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = BufReader::new(helper.stderr.take().context("a pipe")?);
    let servers: Vec<(u32, PathBuf)> = stderr
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| {
            let (pid, data) = line.strip_prefix("SERVER ")?.split_once(' ')?;
            Some((pid.parse().ok()?, PathBuf::from(data)))
        })
        .take(2)
        .collect();
    assert_eq!(servers.len(), 2, "the helper did not start its servers");
    let works_in = |pid: u32| std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
    for (pid, data) in &servers {
        assert_eq!(works_in(*pid).as_ref(), Some(data));
    }
    let folder = servers[0].1.parent().context("a folder")?.to_owned();

    helper.kill()?;
    helper.wait()?;
    let since = Instant::now();
    while folder.exists() || servers.iter().any(|(pid, _)| works_in(*pid).is_some()) {
        assert!(since.elapsed() < Duration::from_secs(10), "still there: {servers:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("gone after {:?}", since.elapsed());
    Ok(())
}
