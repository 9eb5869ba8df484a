//! The app as the Functions host wants it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Lays the app out in a new or empty folder by `scripts/layout`, which packages are made with too.
pub fn layout(program: &Path, folder: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/layout");
    let output = Command::new(&script)
        .args([program, folder])
        .output()
        .with_context(|| format!("cannot start {}", script.display()))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
