//! The server that is backed up and restored.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;
use crate::binaries::Postgres;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::scratch::create_private;
use crate::server::{RestorePoint, Server};
use crate::template::{self, Template};

/// How one restore is done.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Whether it archives its own WAL to where production's is. So a fork in the timeline is
    /// built: restore with `archive`, mark a point there, and restore to that.
    pub archive: bool,
    /// The timeline to follow, by default the point's.
    pub timeline: Option<u32>,
    /// More lines for `postgresql.conf`; they win over those of [`Options::conf`].
    pub conf: Vec<String>,
}

/// The server whose slot gets lost: it archives its WAL, decodes logically, and can be restored to
/// any [`RestorePoint`] after its base backup.
///
/// The folder that holds it, its archive and its restores is removed when the last of them is
/// dropped.
#[derive(Debug)]
pub struct Production {
    server: Server,
    backup: Mutex<Option<PathBuf>>,
}

impl Production {
    /// A new cluster, running, with the roles and the database that [`Role`](crate::Role) and
    /// [`Options`] tell.
    pub async fn start(postgres: &Postgres, options: Options) -> Result<Self> {
        let template = if options.own_identifier {
            Arc::new(Template::create(postgres, options.wal_segment_mb).await?)
        } else {
            Template::of(postgres, options.wal_segment_mb).await?
        };
        let cluster = Arc::new(Cluster::create(postgres, options, template.passwords.clone())?);
        let data = cluster.scratch.path().join("production");
        template.copy_to(&cluster, &data).await?;
        cluster.configure(&data, true, &[])?;
        let server = Server::launch(cluster, data).await?;
        let production = Self { server, backup: Mutex::new(None) };
        if production.database() != Options::default().database {
            production.create_database(production.database()).await?;
        }
        Ok(production)
    }

    /// Creates another database, owned by `azure_admin` too.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        template::create_database(&self.server, name).await
    }

    /// Takes the base backup that later restores start from, while the server goes on working.
    /// Taken again, it replaces the earlier one for the restores that follow.
    pub async fn base_backup(&self) -> Result<()> {
        let cluster = self.server.cluster();
        let folder = cluster.scratch.path().join(format!("backup-{}", cluster.next_number()));
        // They would wait for the archive in steps of a second; a restore point waits better.
        let (start, stop) = if cluster.postgres.major() < 15 {
            (
                "select pg_start_backup('testbed', true, false)::text",
                "select labelfile, spcmapfile from pg_stop_backup(false, false)",
            )
        } else {
            (
                "select pg_backup_start('testbed', true)::text",
                "select labelfile, spcmapfile from pg_backup_stop(false)",
            )
        };
        let connection = self.server.connect().await?;
        connection.sql(start).await?;
        let (from, to) = (self.server.data_dir().to_owned(), folder.clone());
        let account = cluster.account.clone();
        tokio::task::spawn_blocking(move || copy_running(&from, &to, &account)).await??;
        let mut stopped: Vec<(String, String)> = connection.rows(stop, &[]).await?;
        connection.close().await?;
        let (label, tablespaces) = stopped.pop().context("a backup without a label")?;
        ensure!(tablespaces.is_empty(), "the testbed does not back up tablespaces");
        let path = folder.join("backup_label");
        fs::write(&path, &label)?;
        cluster.account.give(&path)?;

        // Restores begin with this file; the earlier ones only take up room.
        if let Some((_, first)) = label.split_once("(file ")
            && let Some(first) = first.get(..24)
        {
            forget_before(first, &cluster.archive)?;
        }
        *self.backup.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
        Ok(())
    }

    /// [`restore_with`](Self::restore_with) the default options.
    pub async fn restore(&self, to: &RestorePoint) -> Result<Server> {
        self.restore_with(to, RestoreOptions::default()).await
    }

    /// A new server that is what the cluster was at this point: promoted, ready for writing, on a
    /// timeline of its own, its statistics empty. Restores may run at the same time.
    pub async fn restore_with(&self, to: &RestorePoint, options: RestoreOptions) -> Result<Server> {
        let cluster = self.server.cluster();
        let backup = self.backup.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let backup = backup.context("take a base backup before the restore point")?;
        let data = cluster.scratch.path().join(format!("restore-{}", cluster.next_number()));
        template::copy(cluster, &backup, &data).await?;
        let mut conf = vec![
            format!("restore_command = 'cp \"{}/%f\" \"%p\"'", cluster.archive.display()),
            format!("recovery_target_name = '{}'", to.name.replace('\'', "''")),
            format!("recovery_target_timeline = '{}'", options.timeline.unwrap_or(to.timeline)),
            "recovery_target_action = promote".to_owned(),
            // Else the server calls itself ready before it has reached the target.
            "hot_standby = off".to_owned(),
        ];
        conf.extend(options.conf);
        cluster.configure(&data, options.archive, &conf)?;
        let signal = data.join("recovery.signal");
        fs::write(&signal, "")?;
        cluster.account.give(&signal)?;
        Server::launch(Arc::clone(cluster), data)
            .await
            .with_context(|| format!("cannot restore to {}", to.name))
    }
}

impl Drop for Production {
    fn drop(&mut self) {
        // Restores may live on, and nobody can make another one.
        if let Some(backup) = &*self.backup.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = fs::remove_dir_all(backup);
        }
    }
}

impl Deref for Production {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Copies the data folder of a running server as a base backup wants it: files may vanish meanwhile,
/// and what a restore must not have stays behind.
/// <https://www.postgresql.org/docs/15/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP-DATA>
fn copy_running(from: &Path, to: &Path, account: &Account) -> Result<()> {
    const FILES: &[&str] = &[
        "postmaster.pid",
        "postmaster.opts",
        "backup_label",
        "tablespace_map",
        "pg_internal.init",
    ];
    const CONTENTS: &[&str] = &[
        "pg_wal",
        "pg_replslot",
        "pg_dynshmem",
        "pg_notify",
        "pg_serial",
        "pg_snapshots",
        "pg_stat_tmp",
        "pg_subtrans",
    ];

    create_private(to).with_context(|| format!("cannot create {}", to.display()))?;
    account.give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let target = to.join(&*name);
        let Some(kind) = present(entry.file_type())? else { continue };
        if kind.is_dir() {
            if CONTENTS.contains(&&*name) {
                create_private(&target)?;
                account.give(&target)?;
            } else if !name.starts_with("pgsql_tmp") {
                copy_running(&entry.path(), &target, account)?;
            }
        } else if kind.is_file() {
            if !FILES.contains(&&*name) && present(fs::copy(entry.path(), &target))?.is_some() {
                fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
                account.give(&target)?;
            }
        } else {
            bail!("{} is neither file nor folder", entry.path().display());
        }
    }
    Ok(())
}

/// Removes files of WAL from an archive that come before this one on its timeline.
fn forget_before(first: &str, archive: &Path) -> Result<()> {
    for entry in fs::read_dir(archive)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let earlier = name.len() == first.len() && name[..8] == first[..8] && *name < *first;
        if earlier {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// None for what has vanished.
fn present<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
