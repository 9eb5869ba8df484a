//! The PostgreSQL versions that are installed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::account::Account;

/// The programs of one installed PostgreSQL: Debian's, or those that `scripts/setup` fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    major: u32,
    bin: PathBuf,
    extensions: PathBuf,
}

impl Postgres {
    /// Every installed major from 14 on, ascending, one each: Debian's, where there is one, else
    /// the one in the cache folder that `scripts/setup` fills.
    pub fn available() -> Vec<Self> {
        let Ok(account) = Account::choose() else { return Vec::new() };
        let mut found = BTreeMap::new();
        for cache in caches() {
            for (major, folder) in numbered(&cache.join("postgresql")) {
                found.insert(
                    major,
                    Self {
                        major,
                        bin: folder.join("native/bin"),
                        extensions: folder.join("native/share/postgresql/extension"),
                    },
                );
            }
        }
        for (major, folder) in numbered(Path::new("/usr/lib/postgresql")) {
            let extensions = format!("/usr/share/postgresql/{major}/extension").into();
            found.insert(major, Self { major, bin: folder.join("bin"), extensions });
        }
        found
            .into_values()
            .filter(|p| p.major >= 14 && account.can_enter(&p.bin))
            .filter(|p| p.bin.join("initdb").exists() && p.bin.join("postgres").exists())
            .collect()
    }

    /// The installed PostgreSQL of this major; without one, that of `DELTACOMPARE_TEST_PG_MAJOR`,
    /// else 15. Fails if it is not installed, and then says how to install it.
    pub fn find(major: Option<u32>) -> Result<Self> {
        let major = match (major, std::env::var("DELTACOMPARE_TEST_PG_MAJOR")) {
            (Some(major), _) => major,
            (None, Ok(text)) => {
                text.parse().with_context(|| format!("DELTACOMPARE_TEST_PG_MAJOR is `{text}`"))?
            }
            (None, Err(_)) => 15,
        };
        ensure!(major >= 14, "DeltaCompare needs PostgreSQL 14 or newer, not {major}");
        Self::available().into_iter().find(|p| p.major == major).with_context(|| {
            format!(
                "PostgreSQL {major} is not installed, or the account that runs the servers cannot \
                 enter its folder: run `scripts/setup {major}`"
            )
        })
    }

    /// The major version: 14, 15, …
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder that holds `initdb` and `postgres` (and, in Debian's, `psql` and the rest).
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Whether `create extension` finds this extension's files here.
    pub fn has_extension(&self, name: &str) -> bool {
        self.extensions.join(format!("{name}.control")).exists()
    }
}

/// The Python of the virtual environment that `scripts/setup --python` makes, with what
/// `examples/*/requirements.txt` names, and Microsoft's client of Event Hubs. Fails if it is not
/// there.
pub fn python() -> Result<PathBuf> {
    of_python("python")
}

/// schemathesis, in the same environment. Fails if it is not there.
pub fn schemathesis() -> Result<PathBuf> {
    of_python("schemathesis")
}

fn of_python(program: &str) -> Result<PathBuf> {
    caches()
        .into_iter()
        .rev()
        .map(|cache| cache.join("python/bin").join(program))
        .find(|path| path.exists())
        .with_context(|| format!("{program} is missing: run `scripts/setup --python`"))
}

/// A browser without a window, and what drives it.
#[derive(Clone, Debug)]
pub struct Browser {
    /// The program.
    pub chromium: PathBuf,
    /// A folder whose `node_modules` has playwright-core and axe-core.
    pub modules: PathBuf,
}

/// What `scripts/setup --browser` installs. Fails if it is not there.
pub fn browser() -> Result<Browser> {
    let chromium = ["chromium-headless-shell", "chromium", "google-chrome"]
        .iter()
        .map(|name| Path::new("/usr/bin").join(name))
        .find(|program| program.exists());
    let modules = caches()
        .into_iter()
        .rev()
        .map(|cache| cache.join("browser"))
        .find(|folder| folder.join("node_modules/axe-core").exists());
    chromium
        .zip(modules)
        .map(|(chromium, modules)| Browser { chromium, modules })
        .context("there is no browser for tests: run `scripts/setup --browser`")
}

/// Subfolders whose names are numbers.
fn numbered(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())))
        .collect()
}

/// Where `scripts/setup` may have put things, least preferred first. The script chooses: keep the
/// two alike.
pub(crate) fn caches() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("DELTACOMPARE_CACHE") {
        return vec![folder.into()];
    }
    let uid = rustix::process::geteuid().as_raw();
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    vec![
        PathBuf::from(format!("/var/tmp/deltacompare-cache-{uid}")),
        repo.join(".cache/deltacompare"),
    ]
}
