//! reladiff, which compares checksums of key ranges and reads the rows of ranges that differ.

use std::path::Path;

use anyhow::{Result, bail};
use tokio::process::Command;

use crate::data::TABLE;
use crate::measured::Measured;
use crate::pair::{Pair, Way};
use crate::process;

/// Compares all columns, with four threads a server.
pub(crate) async fn run(program: &Path, pair: &Pair, way: &Way) -> Result<Measured> {
    let output = pair.file("output");
    // It knows no other scheme, and hands parameters that it does not know on to its driver.
    let url = |url: String| {
        let plain = url.split('?').next().unwrap_or_default();
        plain.replace("postgres://", "postgresql://")
    };
    let (base, head) = (url(way.base_url_with_password()), url(way.head_url_with_password()));
    let mut command = Command::new(program);
    command
        .args([&base, TABLE, &head, TABLE])
        .args(pair.set.key().iter().flat_map(|column| ["-k", column]))
        .args(["-c", "%", "-j", "4"]);
    let mut measured = process::run(command, &output).await?;
    // A line for each version of a row, with the sign of its side.
    let lines = std::fs::read_to_string(&output)?;
    // It ends with 0 whatever happened.
    if let Some(error) = lines.lines().find(|line| line.contains("ERROR")) {
        bail!("reladiff failed: {error}");
    }
    measured.changes = Some(lines.lines().filter(|line| line.starts_with('+')).count() as u64);
    Ok(measured)
}
