//! A connection pooler in front of a server: PgBouncer, as Debian has it.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::account::Account;
use crate::azurite::GUARD;
use crate::scratch::Scratch;
use crate::server::{Role, Server, free_port};

/// How long the pooler may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// When a server's session goes back to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When its client leaves.
    Session,
    /// At the end of each transaction.
    Transaction,
}

/// How the pooler is set.
#[derive(Clone, Debug)]
pub struct PoolerOptions {
    /// When a server's session goes back to the pool.
    pub mode: PoolMode,
    /// Drops what a client asks for at start-up, as is usual, instead of refusing the client.
    pub ignore_options: bool,
    /// Lets everybody in, and logs in as the superuser for all of them.
    pub one_user: bool,
}

impl Default for PoolerOptions {
    fn default() -> Self {
        Self { mode: PoolMode::Session, ignore_options: true, one_user: false }
    }
}

/// A running pooler for every database and role of one server. Ends when this is dropped, or when
/// this process ends.
#[derive(Debug)]
pub struct PgBouncer {
    guard: Child,
    port: u16,
    _folder: Scratch,
}

impl PgBouncer {
    /// Starts it in front of a server. Fails if `scripts/setup` was not run.
    pub fn before(server: &Server, options: &PoolerOptions) -> Result<Self> {
        let program = Path::new("/usr/sbin/pgbouncer");
        ensure!(program.exists(), "PgBouncer is not installed: run `scripts/setup --extensions`");
        let account = Account::choose()?;
        let folder = Scratch::create(&account, None, 0)?;
        let own = folder.subfolder(&account, "pooler")?;
        let port = free_port()?;
        let mode = match options.mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let ignored = if options.ignore_options { "extra_float_digits,options" } else { "" };
        let (superuser, secret) = (Role::Superuser.name(), server.password(Role::Superuser));
        let users = own.join("users");
        // The pooler looks every role's verifier up as the superuser, and can log in with it.
        let (authentication, login) = match options.one_user {
            true => ("any", format!("user={superuser} password={secret}")),
            false => ("scram-sha-256", format!("auth_user={superuser}")),
        };
        let configuration = format!(
            "[databases]\n\
             * = host={} port={} {login}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = {authentication}\n\
             auth_file = {}\n\
             pool_mode = {mode}\n\
             ignore_startup_parameters = {ignored}\n\
             max_client_conn = 200\n\
             default_pool_size = 50\n",
            server.host(),
            server.port(),
            users.display(),
        );
        let file = own.join("pgbouncer.ini");
        let password = format!("\"{superuser}\" \"{secret}\"\n");
        for (path, text) in [(&file, &configuration), (&users, &password)] {
            std::fs::write(path, text)?;
            account.give(path)?;
        }
        let guard = account
            .command("sh")
            .args(["-c", GUARD, "guard"])
            .arg(program)
            .arg("--quiet")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start PgBouncer")?;
        let pooler = Self { guard, port, _folder: folder };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if since.elapsed() > STARTS_WITHIN {
                bail!("PgBouncer does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(pooler)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the server's database through the pooler, for this role.
    pub fn url(&self, server: &Server, role: Role) -> String {
        format!(
            "postgres://{}:{}@127.0.0.1:{}/{}?sslmode=disable",
            role.name(),
            server.password(role),
            self.port,
            utf8_percent_encode(server.database(), NON_ALPHANUMERIC),
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
