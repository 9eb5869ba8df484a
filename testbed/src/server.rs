//! A running server: production, or a restore of it.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::database::{Connection, FromRow, Value};

/// Whom to connect as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `postgres`. Nobody has this on Azure.
    Superuser,
    /// `azure_admin`, with what a server administrator has on Azure: LOGIN, CREATEDB, CREATEROLE,
    /// REPLICATION, the roles `pg_monitor`, `pg_read_all_data` and `pg_signal_backend` with admin
    /// option, and the database; not a superuser.
    Admin,
}

impl Role {
    /// The role's name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superuser => "postgres",
            Self::Admin => "azure_admin",
        }
    }
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Rolls open transactions back and shuts down cleanly (SIGINT).
    Fast,
    /// Crashes: no checkpoint, and the next start recovers and forgets the statistics (SIGQUIT).
    Immediate,
}

/// A point in the history of a cluster that it can be restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePoint {
    /// Its unique name: the one asked for, and a number.
    pub name: String,
    /// Where it lies in the WAL, as PostgreSQL prints it.
    pub lsn: String,
    /// The timeline it lies on.
    pub timeline: u32,
}

/// One change that a logical slot decoded into text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedChange {
    /// Where the change lies in the WAL.
    pub lsn: String,
    /// The transaction.
    pub xid: String,
    /// What the output plug-in printed.
    pub data: String,
}

/// How many servers this process has started.
static LAUNCHED: AtomicU64 = AtomicU64::new(0);

/// The process of a server, its port and its folder.
#[derive(Debug)]
struct Running {
    data: PathBuf,
    log: PathBuf,
    port: AtomicU16,
    postmaster: Mutex<Option<Child>>,
    shared: AtomicBool,
    // Last, since dropping the last reference removes the folder.
    cluster: Arc<Cluster>,
}

/// A database of a PostgreSQL server of our own. The server ends (abruptly) and loses its data
/// folder when its last `Server` is dropped, and also when this process is killed. All methods may
/// be called from several tasks at once.
#[derive(Clone, Debug)]
pub struct Server {
    running: Arc<Running>,
    database: String,
}

impl Server {
    /// How many servers this process has started so far.
    pub fn launched() -> u64 {
        LAUNCHED.load(Ordering::Relaxed)
    }

    /// Starts a server in the configured folder `data`, on a port that is free.
    pub(crate) async fn launch(cluster: Arc<Cluster>, data: PathBuf) -> Result<Self> {
        let log = data.with_extension("log");
        let database = cluster.options.database.clone();
        let running = Running {
            data,
            log,
            port: AtomicU16::new(0),
            postmaster: Mutex::new(None),
            shared: AtomicBool::new(false),
            cluster,
        };
        let server = Self { running: Arc::new(running), database };
        LAUNCHED.fetch_add(1, Ordering::Relaxed);
        let mut tries = 0;
        loop {
            server.running.port.store(free_port()?, Ordering::Relaxed);
            tries += 1;
            match server.start().await {
                Ok(()) => return Ok(server),
                // Somebody took the port between our look and the server's.
                Err(_) if tries < 5 && server.log().contains("could not bind") => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The same server in another of its databases.
    pub fn in_database(&self, name: &str) -> Self {
        Self { running: Arc::clone(&self.running), database: name.to_owned() }
    }

    /// Says that several tests use this server at once: from now on stopping it panics.
    pub fn share(&self) {
        self.running.shared.store(true, Ordering::Relaxed);
    }

    /// Whether several tests use this server at once.
    pub fn is_shared(&self) -> bool {
        self.running.shared.load(Ordering::Relaxed)
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.running.cluster
    }

    /// Starts the server again after [`stop`](Self::stop), on the same port, and waits until it is
    /// out of recovery. Does nothing if it runs.
    pub async fn start(&self) -> Result<()> {
        if self.child().is_none() {
            let log = File::options().create(true).append(true).open(&self.running.log)?;
            let cluster = self.cluster();
            let mut command = cluster.account.command(cluster.postgres.bin().join("postgres"));
            command.arg("-D").arg(self.data_dir()).args(["-p", &self.port().to_string()]);
            command.stdout(log.try_clone()?).stderr(log);
            *self.child() = Some(command.spawn().context("cannot start postgres")?);
        }
        // No limit of time: replaying a long archive takes as long as it takes.
        while !self.is_ready() {
            if let Some(status) = self.running.poll_exit()? {
                let folder = self.data_dir().display();
                bail!("the server in {folder} ended with {status}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops the server and waits for its end. Does nothing if it does not run. Panics if the
    /// server is [shared](Self::share).
    pub async fn stop(&self, mode: StopMode) -> Result<()> {
        assert!(
            !self.is_shared(),
            "other tests use this server too: a test that stops a server needs its own ones"
        );
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.running.signal(signal)?;
        let since = Instant::now();
        while self.child().is_some() {
            self.running.poll_exit()?;
            if since.elapsed() > Duration::from_secs(60) {
                bail!("the server did not stop within a minute:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// The address it listens on: always 127.0.0.1.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The TCP port, which it keeps over restarts.
    pub fn port(&self) -> u16 {
        self.running.port.load(Ordering::Relaxed)
    }

    /// The database that all of this is about, owned by `azure_admin`: by default `shop`.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The password of a role; the same on production and all restores.
    pub fn password(&self, role: Role) -> &str {
        match role {
            Role::Superuser => &self.cluster().passwords.superuser,
            Role::Admin => &self.cluster().passwords.admin,
        }
    }

    /// `postgres://…@127.0.0.1:port/database?…` for this role, with `sslmode=disable`, or, if the
    /// server speaks TLS, `sslmode=verify-full` and `sslrootcert`.
    pub fn url(&self, role: Role) -> String {
        let tls = match self.ca_pem_path() {
            None => "sslmode=disable".to_owned(),
            Some(path) => {
                let path =
                    utf8_percent_encode(&path.to_string_lossy(), NON_ALPHANUMERIC).to_string();
                format!("sslmode=verify-full&sslrootcert={path}")
            }
        };
        format!(
            "postgres://{}:{}@{}:{}/{}?{tls}",
            role.name(),
            self.password(role),
            self.host(),
            self.port(),
            utf8_percent_encode(self.database(), NON_ALPHANUMERIC),
        )
    }

    /// The certificate of the authority that vouches for the server, if it speaks TLS.
    pub fn ca_pem_path(&self) -> Option<&Path> {
        self.cluster().certificates.as_ref().map(|c| c.authority.as_path())
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.running.data
    }

    /// All that the server has logged so far.
    pub fn log(&self) -> String {
        let log = fs::read(&self.running.log);
        log.map(|l| String::from_utf8_lossy(&l).into_owned()).unwrap_or_default()
    }

    /// The process id of the postmaster, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// A new connection to the database as superuser, over the server's socket.
    pub async fn connect(&self) -> Result<Connection> {
        let (cluster, user) = (self.cluster(), Role::Superuser.name());
        Connection::over_socket(&cluster.sockets, self.port(), user, &self.database)
            .await
            .with_context(|| {
                let folder = self.data_dir().display();
                format!("cannot connect to {} of the server in {folder}", self.database)
            })
    }

    /// The same to another database.
    pub async fn connect_to(&self, database: &str) -> Result<Connection> {
        self.in_database(database).connect().await
    }

    /// A new connection to the database over TCP, by the role's [`url`](Self::url).
    pub async fn connect_as(&self, role: Role) -> Result<Connection> {
        Connection::open(&self.url(role)).await
    }

    /// Runs statements as superuser on a connection of their own. Several statements without a
    /// transaction command are one transaction.
    pub async fn sql(&self, statements: impl Into<String>) -> Result<()> {
        let connection = self.connect().await?;
        connection.sql(&statements.into()).await?;
        connection.close().await
    }

    /// The rows that a query yields for the superuser, as tuples.
    pub async fn rows<T: FromRow>(&self, query: impl Into<String>) -> Result<Vec<T>> {
        let connection = self.connect().await?;
        let rows = connection.rows(&query.into(), &[]).await?;
        connection.close().await?;
        Ok(rows)
    }

    /// The one value that a query yields for the superuser. Fails if there is no row.
    pub async fn value<T: Value>(&self, query: impl Into<String>) -> Result<T> {
        let connection = self.connect().await?;
        let value = connection.value(&query.into(), &[]).await?;
        connection.close().await?;
        Ok(value)
    }

    /// Does what Azure does when its administrator creates `postgres_fdw`, which on stock
    /// PostgreSQL only a superuser can: the extension, and its use granted to `azure_admin`.
    pub async fn allow_postgres_fdw(&self) -> Result<()> {
        self.sql(
            "create extension if not exists postgres_fdw;
             grant usage on foreign data wrapper postgres_fdw to azure_admin",
        )
        .await
    }

    /// Marks the present as a point to restore to, and waits until the archive has it. What was
    /// committed before the call is in. Fails on a server that does not archive.
    pub async fn restore_point(&self, name: &str) -> Result<RestorePoint> {
        if self.value::<String>("show archive_mode").await? == "off" {
            bail!("this server does not archive: restore it with `archive: true`");
        }
        let name = format!("{name}-{}", self.cluster().next_number());
        let connection = self.connect().await?;
        let mut points: Vec<(String, String)> = connection
            .rows(
                "select lsn::text, pg_walfile_name(lsn) from pg_create_restore_point($1) lsn",
                &[&name],
            )
            .await?;
        let (lsn, file) = points.pop().context("a restore point without a place")?;
        connection.sql("select pg_switch_wal()").await?;
        connection.close().await?;

        let since = Instant::now();
        while !self.cluster().archive.join(&file).exists() {
            if since.elapsed() > Duration::from_secs(120) {
                bail!("{file} was not archived within two minutes:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let timeline =
            u32::from_str_radix(&file[..8], 16).context("a WAL file without timeline")?;
        Ok(RestorePoint { name, lsn, timeline })
    }

    /// Creates a logical slot in the database, and yields its consistent point.
    pub async fn create_logical_slot(&self, name: &str, plugin: &str) -> Result<String> {
        let connection = self.connect().await?;
        let create = "select lsn::text from pg_create_logical_replication_slot($1, $2)";
        let lsn = connection.value(create, &[&name, &plugin]).await?;
        connection.close().await?;
        Ok(lsn)
    }

    /// Consumes what a slot of `test_decoding` has, in the order of commits.
    pub async fn decode_changes(&self, slot: &str) -> Result<Vec<DecodedChange>> {
        let connection = self.connect().await?;
        let query =
            "select lsn::text, xid::text, data from pg_logical_slot_get_changes($1, null, null)";
        let changes = connection.rows(query, &[&slot]).await?;
        connection.close().await?;
        Ok(changes.into_iter().map(|(lsn, xid, data)| DecodedChange { lsn, xid, data }).collect())
    }

    /// Consumes what a slot of `pgoutput` has for this publication: one protocol message each
    /// (protocol version 1).
    pub async fn decode_messages(&self, slot: &str, publication: &str) -> Result<Vec<Vec<u8>>> {
        let connection = self.connect().await?;
        let query = "select data from pg_logical_slot_get_binary_changes(
                 $1, null, null, 'proto_version', '1', 'publication_names', quote_ident($2))";
        let messages = connection.values(query, &[&slot, &publication]).await?;
        connection.close().await?;
        Ok(messages)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.child()
    }

    /// Whether the postmaster says so in its pid file: the process in line 1, the status in line 8.
    fn is_ready(&self) -> bool {
        let Ok(text) = fs::read_to_string(self.data_dir().join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines().map(str::trim);
        lines.next().and_then(|pid| pid.parse().ok()) == self.pid() && lines.nth(6) == Some("ready")
    }
}

impl Running {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exit status, once, if the postmaster has ended.
    fn poll_exit(&self) -> io::Result<Option<std::process::ExitStatus>> {
        let mut child = self.child();
        let status = child.as_mut().map(Child::try_wait).transpose()?.flatten();
        if status.is_some() {
            *child = None;
        }
        Ok(status)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // While we hold the child unreaped, its process id is nobody else's.
        if let Some(child) = self.child().as_ref() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.context("a process without id")?, signal)?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.signal(Signal::QUIT);
        let since = Instant::now();
        while self.child().is_some() {
            if self.poll_exit().is_err() {
                break;
            }
            if since.elapsed() > Duration::from_secs(10) {
                // Its children notice and end by themselves.
                let _ = self.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// A port below the range that Linux gives to outgoing connections, so that a client does not take
/// it while the server restarts.
pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let random = Uuid::new_v4().as_u128() % 16_000;
        let port = 16_000 + u16::try_from(random)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("found no free port between 16000 and 32000")
}
