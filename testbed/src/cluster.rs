//! What production and every server restored from it have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::account::Account;
use crate::binaries::Postgres;
use crate::options::Options;
use crate::scratch::Scratch;
use crate::tls::{Certificates, Tls};

/// The passwords of the two roles that every cluster has.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    pub(crate) superuser: String,
    pub(crate) admin: String,
}

/// One history of WAL: the programs, the passwords, the archive, and the folder it all lies in.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) postgres: Postgres,
    pub(crate) account: Account,
    pub(crate) options: Options,
    pub(crate) passwords: Passwords,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) archive: PathBuf,
    pub(crate) sockets: PathBuf,
    pub(crate) scratch: Scratch,
    counter: AtomicU32,
}

impl Cluster {
    pub(crate) fn create(
        postgres: &Postgres,
        options: Options,
        passwords: Passwords,
    ) -> Result<Self> {
        let account = Account::choose()?;
        let scratch = Scratch::create(&account, options.folder.as_deref(), options.space_gib)?;
        let certificates = match options.tls {
            Tls::Off => None,
            Tls::Offered | Tls::Required => {
                Some(Certificates::create(&scratch.subfolder(&account, "tls")?, &account)?)
            }
        };
        Ok(Self {
            postgres: postgres.clone(),
            passwords,
            certificates,
            archive: scratch.subfolder(&account, "archive")?,
            sockets: scratch.subfolder(&account, "s")?,
            counter: AtomicU32::new(0),
            account,
            options,
            scratch,
        })
    }

    /// A number that no earlier call on this cluster gave.
    pub(crate) fn next_number(&self) -> u32 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs one of PostgreSQL's or the system's programs as the servers' account, to its end.
    pub(crate) async fn run(&self, program: &Path, args: &[&str]) -> Result<()> {
        let mut command = self.account.command(program);
        command.args(args);
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(
            output.status.success(),
            "{} {} ended with {}:\n{}{}",
            program.display(),
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        Ok(())
    }

    /// Replaces the configuration in `data`. Later lines win, so `lines` override the options'.
    pub(crate) fn configure(&self, data: &Path, archiving: bool, lines: &[String]) -> Result<()> {
        let mut conf = format!(
            "# Written by deltacompare-testbed.\n\
             listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\n\
             max_connections = 100\n\
             shared_buffers = '64MB'\n\
             dynamic_shared_memory_type = posix\n\
             wal_level = logical\n\
             fsync = off\n\
             wal_init_zero = off\n\
             min_wal_size = '32MB'\n\
             max_wal_size = '1GB'\n\
             timezone = 'UTC'\n\
             log_timezone = 'UTC'\n\
             log_line_prefix = '%m [%p] %q%u@%d '\n",
            self.sockets.display(),
        );
        if archiving {
            // Under another name first, so that nobody restores half a segment.
            conf += &format!(
                "archive_mode = on\n\
                 archive_command = 'cp \"%p\" \"{0}/%f.new\" && mv \"{0}/%f.new\" \"{0}/%f\"'\n",
                self.archive.display(),
            );
        }
        if let Some(tls) = &self.certificates {
            conf += &format!(
                "ssl = on\nssl_ca_file = '{}'\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
                tls.authority.display(),
                tls.certificate.display(),
                tls.key.display(),
            );
        }
        for line in self.options.conf.iter().chain(lines) {
            conf += line;
            conf.push('\n');
        }

        let host = if self.options.tls == Tls::Required { "hostssl" } else { "host" };
        // The socket lies in a folder that only the servers' account (and root) can enter.
        let hba = format!(
            "local all all trust\n\
             local replication all trust\n\
             {host} all all 127.0.0.1/32 scram-sha-256\n\
             {host} replication all 127.0.0.1/32 scram-sha-256\n"
        );
        for (name, text) in [("postgresql.conf", conf), ("pg_hba.conf", hba)] {
            let path = data.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            self.account.give(&path)?;
        }
        Ok(())
    }
}
