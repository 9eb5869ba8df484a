//! reladiff, which compares checksums of key ranges and reads the rows of ranges that differ.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use crate::data::TABLE;
use crate::measured::Measured;
use crate::pair::{Pair, Way};
use crate::process;

/// Compares all columns, with four threads a server.
pub(crate) async fn run(program: &Path, pair: &Pair, way: &Way) -> Result<Measured> {
    let output = pair.file("output");
    let mut command = Command::new(program);
    command
        .args([&way.base_url_with_password(), TABLE, &way.head_url_with_password(), TABLE])
        .args(pair.set.key().iter().flat_map(|column| ["-k", column]))
        .args(["-c", "%", "-j", "4"]);
    let mut measured = process::run(command, &output).await?;
    // A line for each version of a row, with the sign of its side.
    let lines = std::fs::read_to_string(&output)?;
    measured.changes = Some(lines.lines().filter(|line| line.starts_with('+')).count() as u64);
    Ok(measured)
}
