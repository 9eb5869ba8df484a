//! The foreign server and the user mapping.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{MARKER, STATUS_SCHEMA, object_name, role};
use crate::error::{Error, Result};
use crate::model::{FdwOverrides, SslMode};
use crate::postgres::{
    Ident, Literal, NAME_THE_SERVERS_PORT, SESSION_SETTINGS, Server, Session, session_options,
};

/// How head reaches base: not always the way in which this process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FdwTarget {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) ssl_mode: SslMode,
    /// A path on head's own machine, or `system`.
    pub(crate) ssl_root_cert: Option<String>,
    /// `server_version_num` of base; head is of the same major version.
    pub(crate) server_version: u32,
}

impl FdwTarget {
    /// The target from base's URL and what the operator says otherwise.
    ///
    /// # Errors
    /// Refused: certificates are to be verified, but nothing says where head finds the authority.
    pub(crate) fn new(base: &Server, overrides: &FdwOverrides, base_version: u32) -> Result<Self> {
        let FdwOverrides { host, port, ssl_mode, ssl_root_cert } = overrides.clone();
        let ssl_mode = ssl_mode.unwrap_or(base.ssl_mode());
        let verifies = matches!(ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let ssl_root_cert = match ssl_root_cert {
            None if verifies && base_version >= 160_000 && ssl_mode == SslMode::VerifyFull => {
                Some("system".to_owned())
            }
            None if verifies => {
                return Err(Error::refused(format!(
                    "sslmode {} for the connection from head to base needs the authority's \
                     certificate on head: give its path there with --fdw sslrootcert=…, or say \
                     --fdw sslmode=require",
                    ssl_mode.as_str()
                )));
            }
            given => given,
        };
        Ok(Self {
            host: host.unwrap_or_else(|| base.host().to_owned()),
            port: port.unwrap_or(base.port()),
            database: base.database().to_owned(),
            ssl_mode,
            ssl_root_cert,
            server_version: base_version,
        })
    }

    /// The options of the foreign server. Sessions on base are pinned as our own are.
    fn server_options(&self, application_name: &str) -> Vec<(&'static str, String)> {
        let mut options = vec![
            ("host", self.host.clone()),
            ("port", self.port.to_string()),
            ("dbname", self.database.clone()),
            ("sslmode", self.ssl_mode.as_str().to_owned()),
            ("connect_timeout", "15".to_owned()),
            ("application_name", application_name.to_owned()),
            ("options", session_options(self.server_version)),
            // Estimates of base's own planner, from base's own statistics: no ANALYZE of foreign
            // tables, which would read them whole.
            ("use_remote_estimate", "true".to_owned()),
        ];
        if let Some(path) = &self.ssl_root_cert {
            options.push(("sslrootcert", path.clone()));
        }
        options
    }
}

impl fmt::Display for FdwTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, ssl_mode, .. } = self;
        write!(f, "host {host}, port {port}, database {database}, sslmode {}", ssl_mode.as_str())
    }
}

/// The way from head to base, for one recovery.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The name of the foreign server, of both schemas and of the role on base.
    pub(crate) name: Ident,
    pub(crate) target: FdwTarget,
    pub(crate) recovery: Uuid,
}

impl Link {
    pub(crate) fn new(recovery: Uuid, target: FdwTarget) -> Self {
        Self { name: Ident::new(object_name(recovery)), target, recovery }
    }

    /// Creates role, foreign server, user mapping and schema, then reads one row through. What an
    /// earlier attempt left must be gone ([`super::remove`]).
    ///
    /// # Errors
    /// Refused, with nothing left behind, if base does not answer head.
    pub(crate) async fn establish(&self, base: &Session, head: &mut Session) -> Result<()> {
        let password = role::random_password();
        role::create(base, &self.name, &password).await?;
        let linked = async {
            let transaction = head.begin().await?;
            self.create(&transaction, &Ident::new(STATUS_SCHEMA), &password).await?;
            self.read_through(&transaction).await?;
            transaction.commit().await?;
            Ok(())
        };
        if let Err(error) = linked.await {
            // The first failure is the one to report; a role that stays behind is found by cleanup.
            let _ = role::drop(base, &self.name).await;
            return Err(error);
        }
        Ok(())
    }

    /// The extension goes into a schema of ours if it is not there yet, so that a clean-up can tell
    /// that it is ours.
    async fn create(
        &self,
        head: &Session,
        extension_schema: &Ident,
        password: &SecretString,
    ) -> Result<()> {
        let Self { name, target, recovery } = self;
        let comment = format!("{MARKER} {recovery}; `deltacompare cleanup` drops it");
        let comment = Literal(&comment);
        let options: Vec<String> = target
            .server_options(name.name())
            .iter()
            .map(|(option, value)| format!("{option} {}", Literal(value)))
            .collect();
        head.batch_execute(&format!(
            r#"
            create schema {name};
            comment on schema {name} is {comment};
            create schema if not exists {extension_schema};
            create extension if not exists postgres_fdw with schema {extension_schema};
            create server {name} foreign data wrapper postgres_fdw options ({options});
            comment on server {name} is {comment};
            create user mapping for current_user server {name}
              options (user {user}, password {password});
            "#,
            options = options.join(", "),
            user = Literal(name.name()),
            password = Literal(password.expose_secret()),
        ))
        .await?;
        Ok(())
    }

    async fn read_through(&self, head: &Session) -> Result<()> {
        let name = &self.name;
        let unreachable = |error| self.target.unreachable(error);
        head.batch_execute(&format!(
            r#"
            create foreign table {name}.settings (name text, setting text)
              server {name} options (schema_name 'pg_catalog', table_name 'pg_settings')
            "#
        ))
        .await
        .map_err(unreachable)?;
        let settings: Vec<(String, String)> = head
            .query(&format!("select s.name, s.setting from {name}.settings as s"), &[])
            .await
            .map_err(unreachable)?;
        head.batch_execute(&format!("drop foreign table {name}.settings"))
            .await
            .map_err(unreachable)?;
        let lacking = lacking_settings(&settings);
        if lacking.is_empty() { Ok(()) } else { Err(self.target.pooled(&lacking)) }
    }
}

/// The pinned settings that are not in force where these are. Left out are those with a unit, which
/// are given in another one here and decide nothing about how values print, and those of extensions,
/// which `pg_settings` does not show in a session that has not loaded them. postgres_fdw itself sets
/// the time zone, by the name GMT in newer minor releases.
fn lacking_settings(settings: &[(String, String)]) -> Vec<&'static str> {
    let plain = |text: &str| match text.replace(' ', "").to_lowercase() {
        gmt if gmt == "gmt" => "utc".to_owned(),
        other => other,
    };
    let is_time = |text: &str| text.strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok());
    SESSION_SETTINGS
        .iter()
        .filter(|(name, value)| !is_time(value) && !name.contains('.'))
        .filter(|(name, value)| {
            let found = settings.iter().find(|(found, _)| found.to_lowercase() == *name);
            found.is_none_or(|(_, found)| plain(found) != plain(value))
        })
        .map(|(name, _)| *name)
        .collect()
}

impl FdwTarget {
    fn unreachable(&self, error: Error) -> Error {
        Error::refused(format!(
            "head cannot read base over postgres_fdw ({self}): {error}; if head reaches base under \
             another name, say --fdw host=…,port=…, and let base's firewall accept head; behind a \
             connection pooler, {NAME_THE_SERVERS_PORT} with --fdw port=…"
        ))
        .because(error)
    }

    fn pooled(&self, lacking: &[&str]) -> Error {
        Error::refused(format!(
            "head reaches base ({self}) through a connection pooler such as PgBouncer (these \
             settings of a session are not in force: {}): {NAME_THE_SERVERS_PORT} with --fdw port=…",
            lacking.join(", ")
        ))
    }
}

/// Whether base answers head at all, in a transaction that rolls back and with a role that does
/// not exist: that base refuses the role is the proof that it was reached.
///
/// # Errors
/// Refused, naming host, port and TLS mode tried.
pub(crate) async fn probe(head: &mut Session, target: &FdwTarget) -> Result<()> {
    let transaction = head.begin().await?;
    let link = Link::new(Uuid::new_v4(), target.clone());
    let name = link.name.name().to_owned();
    link.create(&transaction, &link.name, &role::random_password()).await.map_err(|error| {
        Error::refused(format!(
            "head does not let this role set up postgres_fdw: {error}; see the rights in the \
             README (on Azure, add POSTGRES_FDW to the server parameter azure.extensions)"
        ))
        .because(error)
    })?;
    let outcome = link.read_through(&transaction).await;
    transaction.rollback().await?;
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            // postgres_fdw names the foreign server; a second mention is base's own refusal of the
            // role, in whatever language it speaks. pg_hba.conf would refuse any role.
            let answered = text.matches(&name).count() >= 2 && !text.contains("pg_hba.conf");
            if answered { Ok(()) } else { Err(error) }
        }
    }
}
