//! The pair of restores that a data set is measured on.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use deltacompare_testbed::{Options, Postgres, Production, Role, Server};
use tempfile::TempDir;

use crate::data::{DataSet, TABLE};
use crate::measured::Moved;
use crate::relay::Relay;

/// Base and head, and a folder for what the contenders write.
pub(crate) struct Pair {
    pub(crate) base: Server,
    pub(crate) head: Server,
    pub(crate) set: DataSet,
    folder: TempDir,
}

impl Pair {
    /// Fills production, restores it to before and after the gap, and lets production go.
    pub(crate) async fn make(
        set: DataSet,
        rows: u64,
        folder: &Path,
        major: Option<u32>,
    ) -> Result<Self> {
        let since = Instant::now();
        let postgres = Postgres::find(major)?;
        let options = Options {
            wal_segment_mb: 16,
            folder: Some(folder.to_owned()),
            // As on a server of this size: an eighth of the memory.
            conf: vec!["shared_buffers = '3GB'".to_owned(), "max_wal_size = '8GB'".to_owned()],
            ..Options::default()
        };
        let production = Production::start(&postgres, options).await?;
        for statement in set.before(rows) {
            production.sql(statement).await?;
        }
        production.base_backup().await?;
        let lost = production.restore_point("lost").await?;
        for statement in set.during(rows) {
            production.sql(statement).await?;
        }
        let back = production.restore_point("back").await?;
        production.stop(deltacompare_testbed::StopMode::Fast).await?;
        let base = production.restore(&lost).await?;
        let head = production.restore(&back).await?;
        drop(production);
        head.allow_postgres_fdw().await?;
        // Hint bits are set by whoever reads a row first; nobody shall pay for the others.
        for server in [&base, &head] {
            server.sql(format!("vacuum {TABLE}")).await?;
            server.sql("checkpoint").await?;
        }
        println!(
            "  made with PostgreSQL {} in {:.0} s",
            postgres.major(),
            since.elapsed().as_secs_f64()
        );
        let folder = tempfile::Builder::new().prefix("deltacompare-bench-").tempdir_in(folder)?;
        Ok(Self { base, head, set, folder })
    }

    /// The table's size on head, TOAST included.
    pub(crate) async fn bytes(&self) -> Result<u64> {
        let bytes: i64 = self.head.value(format!("select pg_table_size('{TABLE}')")).await?;
        Ok(bytes.try_into()?)
    }

    /// A file for what a contender writes.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How the servers are reached.
    pub(crate) async fn way(&self, relayed: bool) -> Result<Way> {
        let relay = async |server: &Server| -> Result<Option<Relay>> {
            if !relayed {
                return Ok(None);
            }
            Relay::start(server.port()).await.map(Some).context("cannot start a relay")
        };
        Ok(Way {
            base: relay(&self.base).await?,
            head: relay(&self.head).await?,
            base_port: self.base.port(),
            head_port: self.head.port(),
            password: self.base.password(Role::Admin).to_owned(),
            database: self.base.database().to_owned(),
        })
    }

    /// Keeps the servers until the standard input ends.
    pub(crate) async fn hold(&self) -> Result<()> {
        for (name, server) in [("BASE", &self.base), ("HEAD", &self.head)] {
            println!("export DELTACOMPARE_{name}='{}'", server.url(Role::Admin));
            println!("export {name}_SUPERUSER='{}'", server.url(Role::Superuser));
        }
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
            .await??;
        Ok(())
    }
}

/// The ways to the two servers: straight, or through relays.
pub(crate) struct Way {
    base: Option<Relay>,
    head: Option<Relay>,
    base_port: u16,
    head_port: u16,
    password: String,
    database: String,
}

impl Way {
    pub(crate) fn base_port(&self) -> u16 {
        self.base.as_ref().map_or(self.base_port, Relay::port)
    }

    pub(crate) fn head_port(&self) -> u16 {
        self.head.as_ref().map_or(self.head_port, Relay::port)
    }

    pub(crate) fn base_url(&self) -> String {
        self.url(self.base_port(), "")
    }

    pub(crate) fn head_url(&self) -> String {
        self.url(self.head_port(), "")
    }

    pub(crate) fn base_url_with_password(&self) -> String {
        self.url(self.base_port(), &format!(":{}", self.password))
    }

    pub(crate) fn head_url_with_password(&self) -> String {
        self.url(self.head_port(), &format!(":{}", self.password))
    }

    fn url(&self, port: u16, password: &str) -> String {
        let (user, database) = (Role::Admin.name(), &self.database);
        format!("postgres://{user}{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// What went through the relays so far.
    pub(crate) fn moved(&self) -> Moved {
        let traffic =
            |relay: &Option<Relay>| relay.as_ref().map(Relay::traffic).unwrap_or_default();
        Moved { base: traffic(&self.base), head: traffic(&self.head) }
    }

    /// Begins to count anew.
    pub(crate) fn forget(&self) {
        [&self.base, &self.head].into_iter().flatten().for_each(Relay::forget);
    }
}
