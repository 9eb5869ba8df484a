//! The operating-system account that runs PostgreSQL.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The account that servers run as: our own, or, since PostgreSQL refuses root, `postgres` or
/// `nobody` when we are root.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    switch: bool,
}

impl Account {
    /// The account for this process. Fails only for root on a system without `postgres` and
    /// `nobody` in `/etc/passwd`.
    pub(crate) fn choose() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self { uid, gid: rustix::process::getegid().as_raw(), switch: false });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| {
                let mut fields = passwd
                    .lines()
                    .map(|l| l.split(':'))
                    .find(|l| l.clone().next() == Some(*name))?;
                let uid = fields.nth(2)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Self { uid, gid, switch: true })
            })
            .context(
                "PostgreSQL does not run as root, and neither `postgres` nor `nobody` is in \
                 /etc/passwd: add one, or run as an ordinary user",
            )
    }

    /// A command that runs as this account: no standard input, its own process group (so that
    /// Ctrl-C reaches only us, who then stop it), and none of the caller's environment but `PATH`
    /// (a stray `PGPORT` would change what it does).
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Makes the account the owner of `path`.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if self.switch {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)).with_context(|| {
                format!("cannot give {} to the server's account", path.display())
            })?;
        }
        Ok(())
    }

    /// Whether the account may enter `path` and every folder above it.
    pub(crate) fn can_enter(&self, path: &Path) -> bool {
        path.ancestors().filter(|a| !a.as_os_str().is_empty()).all(|folder| {
            fs::metadata(folder).is_ok_and(|m| {
                let bit = match () {
                    () if m.uid() == self.uid => 0o100,
                    () if m.gid() == self.gid => 0o010,
                    () => 0o001,
                };
                m.is_dir() && m.mode() & bit != 0
            })
        })
    }
}
