//! The cluster that every production is a copy of: made once a process, since `initdb` takes longer
//! than the copy of what it made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::binaries::Postgres;
use crate::cluster::{Cluster, Passwords};
use crate::options::Options;
use crate::server::{Server, StopMode};

/// A cluster that was shut down, with the roles of [`Role`](crate::Role) and the database `shop`.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) data: PathBuf,
    pub(crate) passwords: Passwords,
    /// Holds the folder.
    _cluster: Arc<Cluster>,
}

/// By programs and size of a WAL segment. What is in here is removed when the process ends.
static TEMPLATES: Mutex<BTreeMap<(PathBuf, u32), Arc<Template>>> =
    Mutex::const_new(BTreeMap::new());

impl Template {
    /// The template that productions with such options share.
    pub(crate) async fn of(postgres: &Postgres, wal_segment_mb: u32) -> Result<Arc<Self>> {
        let mut templates = TEMPLATES.lock().await;
        let key = (postgres.bin().to_owned(), wal_segment_mb);
        if let Some(template) = templates.get(&key) {
            return Ok(Arc::clone(template));
        }
        let template = Arc::new(Self::create(postgres, wal_segment_mb).await?);
        templates.insert(key, Arc::clone(&template));
        Ok(template)
    }

    /// A template that nobody else has, with a system identifier of its own.
    pub(crate) async fn create(postgres: &Postgres, wal_segment_mb: u32) -> Result<Self> {
        let passwords = Passwords {
            superuser: Uuid::new_v4().simple().to_string(),
            admin: Uuid::new_v4().simple().to_string(),
        };
        let options = Options { wal_segment_mb, ..Options::default() };
        let cluster = Arc::new(Cluster::create(postgres, options, passwords.clone())?);
        let made = cluster.scratch.path().join("made");
        cluster
            .run(
                &postgres.bin().join("initdb"),
                &[
                    "--username=postgres",
                    "--auth-host=scram-sha-256",
                    "--auth-local=trust",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--data-checksums",
                    "--no-sync",
                    &format!("--wal-segsize={wal_segment_mb}"),
                    "-D",
                    &made.to_string_lossy(),
                ],
            )
            .await?;
        cluster.configure(&made, false, &[])?;
        let server = Server::launch(Arc::clone(&cluster), made.clone()).await?;
        let connection = server.connect_to("postgres").await?;
        let roles = format!(
            "alter role postgres password '{}';
             create role azure_admin login createdb createrole replication password '{}';
             grant pg_monitor, pg_read_all_data, pg_signal_backend
                to azure_admin with admin option",
            passwords.superuser, passwords.admin,
        );
        connection.sql(&roles).await?;
        create_database(&server, server.database()).await?;
        connection.close().await?;
        server.stop(StopMode::Fast).await?;
        let data = cluster.scratch.path().join("template");
        std::fs::rename(&made, &data).context("cannot keep the template")?;
        Ok(Self { data, passwords, _cluster: cluster })
    }

    /// Copies it to a new data folder of this cluster.
    pub(crate) async fn copy_to(&self, cluster: &Cluster, data: &Path) -> Result<()> {
        copy(cluster, &self.data, data).await
    }
}

/// Creates a database owned by `azure_admin`.
pub(crate) async fn create_database(server: &Server, name: &str) -> Result<()> {
    // By WAL (the default since 15), the whole of it would go to the archive.
    let strategy = if server.cluster().postgres.major() < 15 { "" } else { "strategy file_copy" };
    let connection = server.connect_to("postgres").await?;
    let name = name.replace('"', "\"\"");
    connection.sql(&format!("create database \"{name}\" owner azure_admin {strategy}")).await?;
    connection.close().await
}

/// Copies a data folder of a server that does not run.
pub(crate) async fn copy(cluster: &Cluster, from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    cluster.run(Path::new("cp"), &["-a", "--reflink=auto", &from, &to]).await
}
