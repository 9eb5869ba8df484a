//! A temporary folder that outlives nobody.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::account::Account;

/// Waits for the end of its input, which comes when the owner drops its end of the pipe or dies in
/// whatever way; then stops the servers that run in subfolders, and removes the folder. It is a
/// process group of its own, so a signal to the owner's group does not end it.
///
/// A process id is only believed if that process works in the folder: the file may be stale.
const GUARD: &str = r#"
    trap '' HUP INT QUIT TERM
    read -r _
    tries=0
    while [ -d "$1" ] && [ "$tries" -lt 300 ]; do
        alive=
        for data in "$1"/*/; do
            [ -f "$data/postmaster.pid" ] && read -r pid < "$data/postmaster.pid" || continue
            if [ "/proc/$pid/cwd" -ef "$data" ]; then
                alive=yes
                kill -QUIT "$pid"
            fi
        done
        if [ -z "$alive" ]; then rm -rf "$1" && exit 0; fi
        tries=$((tries + 1))
        sleep 0.05
    done
"#;

/// A folder owned by the servers' account. Removed on drop, and also if this process is killed,
/// with every server whose data folder lies directly in it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    guard: Child,
}

impl Scratch {
    /// A new folder for so many GiB in `parent`, by default where [`default_parent`] says.
    pub(crate) fn create(account: &Account, parent: Option<&Path>, gib: u64) -> Result<Self> {
        let parent = parent.map_or_else(|| default_parent(account, gib), Path::to_owned);
        let folder = tempfile::Builder::new()
            .prefix("deltacompare-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
        account.give(folder.path())?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the shell that cleans up after us")?;
        Ok(Self { path: folder.keep(), guard })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a subfolder, for the servers' account alone.
    pub(crate) fn subfolder(&self, account: &Account, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        create_private(&path)
            .and_then(|()| account.give(&path))
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if self.guard.wait().is_err() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Creates a folder that only its owner may enter; PostgreSQL refuses more open data folders.
pub(crate) fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|e: io::Error| e.into())
}

/// Where folders go unless the caller says: `TMPDIR` if it is set, else memory if it has so many
/// GiB, since a server is a thousand small files (a pair comes up three times as fast there), else `/tmp`.
///
/// A folder only counts if the account can enter it, if its name needs no quoting in shell and
/// configuration, and if a socket in it stays within the 107 bytes that Linux allows.
fn default_parent(account: &Account, gib: u64) -> PathBuf {
    let fits = |folder: &PathBuf| {
        account.can_enter(folder)
            && folder.to_str().is_some_and(|name| {
                name.len() <= 50
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c))
            })
    };
    let memory = PathBuf::from("/dev/shm");
    let roomy = rustix::fs::statvfs(&memory)
        .is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) >= gib << 30);
    std::env::var_os("TMPDIR")
        .map(PathBuf::from)
        .or(roomy.then_some(memory))
        .filter(fits)
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}
