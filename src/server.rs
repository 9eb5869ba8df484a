//! The two restored servers: where they are and how a session on them is pinned.

mod pool;
mod pooler;
mod ssl_mode;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, raw_sql};
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::secrets::{Origin, Password};
use crate::sql::Literal;

pub(crate) use pooler::NAME_THE_SERVERS_PORT;
pub use ssl_mode::SslMode;

/// Which of the two restores a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The restore to the moment when the slot was lost.
    Base,
    /// The restore to the moment when the slot was back.
    Head,
}

impl Side {
    /// The environment variable for its password.
    pub(crate) fn password_variable(self) -> &'static str {
        match self {
            Self::Base => "DELTACOMPARE_BASE_PASSWORD",
            Self::Head => "DELTACOMPARE_HEAD_PASSWORD",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Head => "head",
        })
    }
}

/// Settings pinned in every session on either server, whatever a database or a role sets for its
/// applications' sake. A test compares the list with what each supported major has: see
/// `tests/behaviour/session_settings.rs`, which says of every other setting why it may differ.
///
/// Sessions that postgres_fdw opens have them too; see [`crate::fdw::Link`].
pub const SESSION_SETTINGS: [(&str, &str); 41] = [
    // How names and literals are read.
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
    // How values are printed: equal rows must have equal images.
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("intervalstyle", "postgres"),
    ("datestyle", "ISO,MDY"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    // Which rows are found. Row security raises an error instead of hiding rows.
    ("row_security", "off"),
    ("gin_fuzzy_search_limit", "0"),
    // How queries are planned: the strategies switch some methods off for a transaction, and count
    // on the others.
    ("enable_async_append", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_hashagg", "on"),
    ("enable_hashjoin", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_indexscan", "on"),
    ("enable_material", "on"),
    ("enable_mergejoin", "on"),
    ("enable_nestloop", "on"),
    ("enable_partition_pruning", "on"),
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
    ("enable_tidscan", "on"),
    ("plan_cache_mode", "auto"),
    // JIT is slow to start and never worth it here.
    ("jit", "off"),
    // What a session waits for. Locks of forgotten transactions are not waited for, and no standby
    // is: a restore may have inherited the names of production's.
    ("lock_timeout", "10s"),
    ("synchronous_commit", "local"),
    // What ends a session. One whose client has died ends within seconds.
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_connection_check_interval", "5s"),
    ("exit_on_error", "off"),
    // What may be written, and where.
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    // Sessions of a recovery are found by their name; this setting would give those of postgres_fdw
    // another one.
    ("postgres_fdw.application_name", ""),
];

/// The same for settings that only newer servers know, each with the version that all later ones
/// have it in.
pub const LATER_SESSION_SETTINGS: [(&str, &str, u32); 2] =
    [("transaction_timeout", "0", 170_000), ("restrict_nonsystem_relation_kind", "", 170_000)];

/// The settings of a session on a server of this version (`server_version_num`, 0 if unknown) as the
/// start-up parameter `options` has them: split at spaces, those in values escaped.
pub(crate) fn session_options(server_version: u32) -> String {
    let later = LATER_SESSION_SETTINGS
        .iter()
        .filter(|(_, _, since)| server_version >= *since)
        .map(|(name, value, _)| (*name, *value));
    let settings: Vec<String> = SESSION_SETTINGS
        .into_iter()
        .chain(later)
        .map(|(name, value)| format!("-c {name}={}", value.replace(' ', "\\ ")))
        .collect();
    settings.join(" ")
}

/// Pins [`LATER_SESSION_SETTINGS`] where the server has them. Minor releases brought some of them to
/// older majors.
pub(crate) async fn pin_later_settings(connection: &mut PgConnection) -> sqlx::Result<()> {
    let settings = LATER_SESSION_SETTINGS
        .map(|(name, value, _)| format!("({}, {})", Literal(name), Literal(value)));
    // No prepared statement: behind a pooler it may be bound in another backend.
    raw_sql(AssertSqlSafe(format!(
        r#"
        select pg_catalog.set_config(s.name, s.value, false)
          from (values {}) as s (name, value)
         where pg_catalog.current_setting(s.name, true) is not null
        "#,
        settings.join(", ")
    )))
    .execute(connection)
    .await?;
    Ok(())
}

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a server is and how to log in. `Debug` and `Display` leave the password out.
#[derive(Clone)]
pub struct Server {
    side: Side,
    host: String,
    port: u16,
    user: String,
    password: Option<Password>,
    database: String,
    ssl_mode: SslMode,
    ssl_root_cert: Option<PathBuf>,
}

impl Server {
    /// A server from `postgres://user[:password]@host[:port]/database[?sslmode=…&sslrootcert=…]`,
    /// and the password from elsewhere if the URL has none.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for anything that is not such a URL, for parameters that would be
    /// ignored, and for two passwords that differ. The message never repeats the URL.
    pub fn parse(side: Side, url: &str, password: Option<SecretString>) -> Result<Self> {
        let bad = |what: &str| {
            Error::refused(format!(
                "the {side} URL {what}; it must look like \
                 postgres://user@host:5432/database?sslmode=verify-full"
            ))
        };
        let parsed = Url::parse(url).map_err(|error| bad(&format!("is malformed ({error})")))?;
        if !["postgres", "postgresql"].contains(&parsed.scheme()) {
            return Err(bad("does not start with postgres://"));
        }
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| bad("is not UTF-8"))
        };
        let host = match parsed.host() {
            Some(url::Host::Ipv6(address)) => address.to_string(),
            Some(host) => decode(&host.to_string())?,
            None => return Err(bad("names no host")),
        };
        let database = decode(parsed.path().trim_start_matches('/'))?;
        if database.is_empty() {
            return Err(bad("names no database"));
        }
        if parsed.username().is_empty() {
            return Err(bad("names no user"));
        }
        let in_url = parsed.password().map(decode).transpose()?.map(SecretString::from);
        let password = match (in_url, password) {
            (Some(a), Some(b)) if a.expose_secret() != b.expose_secret() => {
                return Err(Error::refused(format!(
                    "the {side} URL has a password and another one is set beside it: keep one"
                )));
            }
            (Some(in_url), _) => Some(Password::fixed(Origin::Url, in_url)),
            (None, Some(beside)) => {
                Some(Password::fixed(Origin::Environment(side.password_variable()), beside))
            }
            (None, None) => None,
        };
        let mut ssl_mode = SslMode::Prefer;
        let mut ssl_root_cert = None;
        for (name, value) in parsed.query_pairs() {
            match name.as_ref() {
                "sslmode" => ssl_mode = value.parse()?,
                // The authorities that everybody trusts, as without this parameter.
                "sslrootcert" if value == "system" => ssl_root_cert = None,
                "sslrootcert" => ssl_root_cert = Some(PathBuf::from(value.as_ref())),
                "application_name" => {}
                other => {
                    return Err(bad(&format!(
                        "has the parameter {other:?}, which is not supported (sslmode and \
                         sslrootcert are)"
                    )));
                }
            }
        }
        Ok(Self {
            side,
            host,
            port: parsed.port().unwrap_or(5432),
            user: decode(parsed.username())?,
            password,
            database,
            ssl_mode,
            ssl_root_cert,
        })
    }

    /// Which restore this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The login role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `sslmode` as given.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// Whether a password that is sent as it is stays between the two of us.
    pub(crate) fn hides_passwords(&self) -> bool {
        let is_here = self.host == "localhost"
            || self.host.starts_with('/')
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_here || !matches!(self.ssl_mode, SslMode::Disable | SslMode::Prefer)
    }

    pub(crate) fn ssl_root_cert(&self) -> Option<&PathBuf> {
        self.ssl_root_cert.as_ref()
    }

    /// Where the password comes from; `None` for a login without one.
    pub(crate) fn password_origin(&self) -> Option<&Origin> {
        self.password.as_ref().map(Password::origin)
    }

    /// The same server, logging in with this password.
    pub(crate) fn with_password(self, password: Password) -> Self {
        Self { password: Some(password), ..self }
    }

    /// The password to log in with now; `None` for a login without one.
    ///
    /// # Errors
    /// Of the place that it comes from.
    pub(crate) async fn password(&self) -> Result<Option<SecretString>> {
        match &self.password {
            Some(password) => password.get().await.map(Some),
            None => Ok(None),
        }
    }

    /// Another password than the one that the server refused, if the place that it comes from has
    /// one by now.
    async fn password_after(&self, refused: Option<&SecretString>) -> Result<Option<SecretString>> {
        match (&self.password, refused) {
            (Some(password), Some(refused)) => password.other_than(refused).await,
            _ => Ok(None),
        }
    }

    /// The same server, another database on it.
    pub(crate) fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// Opens a session with the pinned settings, which are read again: a connection pooler may have
    /// dropped them. `application_name` shows in `pg_stat_activity`.
    ///
    /// # Errors
    /// Names side, host, port, `sslmode` and the next step. Transient unless the server itself
    /// refused (password, unknown database, `pg_hba.conf`) or is behind a pooler; a password that
    /// may change in the place that it comes from is transient too.
    pub async fn connect(&self, application_name: &str) -> Result<PgConnection> {
        if let Some(path) = &self.ssl_root_cert
            && let Err(error) = std::fs::File::open(path)
        {
            return Err(Error::refused(format!(
                "cannot read {}, the sslrootcert of the {} URL: {error}",
                path.display(),
                self.side
            ))
            .because(error));
        }
        let password = self.password().await?;
        let refused = match self.attempt(application_name, password.as_ref()).await {
            Ok(connection) => return Ok(connection),
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Refused(error)) => error,
        };
        // It may have been changed since it was read, or the place that it comes from will have the
        // new one in a moment: a server's password is changed first.
        let changes = self.password_origin().is_some_and(Origin::changes);
        let kind = if changes { ErrorKind::Transient } else { refused.kind() };
        match self.password_after(password.as_ref()).await {
            Ok(Some(other)) => match self.attempt(application_name, Some(&other)).await {
                Ok(connection) => Ok(connection),
                Err(Attempt::Failed(error)) => Err(error),
                Err(Attempt::Refused(error)) => Err(error.with_kind(kind)),
            },
            Ok(None) => Err(refused.with_kind(kind)),
            Err(unread) => Err(Error::new(kind, format!("{refused}; {unread}"))),
        }
    }

    async fn attempt(
        &self,
        application_name: &str,
        password: Option<&SecretString>,
    ) -> Result<PgConnection, Attempt> {
        let options = self.options(password).application_name(application_name);
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let lacking = pooler::lacking_settings(&mut connection).await?;
            if lacking.is_none() {
                pin_later_settings(&mut connection).await?;
            }
            Ok((connection, lacking))
        });
        match attempt.await {
            Ok(Ok((connection, None))) => Ok(connection),
            Ok(Ok((_, Some(lacking)))) => Err(Attempt::Failed(self.without_settings(&lacking))),
            Ok(Err(error)) if pooler::is_from_pooler(&error) => {
                Err(Attempt::Failed(self.pooled(&error.to_string())))
            }
            Ok(Err(error)) => {
                let code = match &error {
                    sqlx::Error::Database(error) => error.code().map(|code| code.into_owned()),
                    _ => None,
                };
                let (kind, advice) = match code.as_deref() {
                    // Starting up, shutting down, or a standby that may not be read.
                    Some("57P03") => (
                        ErrorKind::Transient,
                        "wait until it is up and its restore has ended (or promote it)",
                    ),
                    Some(code) if code.starts_with("53") || code.starts_with("57") => (
                        ErrorKind::Transient,
                        "end sessions that are not needed there, and try again",
                    ),
                    Some(_) => (
                        ErrorKind::Refused,
                        "check user, password and database, and the server's access rules",
                    ),
                    None if is_about_tls(&error) => {
                        (ErrorKind::Refused, "check sslmode and sslrootcert in the URL")
                    }
                    None => (
                        ErrorKind::Transient,
                        "check that it runs and that this machine may reach it (firewall, private \
                         DNS)",
                    ),
                };
                let error = Error::from(error);
                let error = Error::new(kind, format!("cannot log in to {self}: {error}; {advice}"))
                    .because(error);
                // invalid_password, invalid_authorization_specification
                Err(match code.as_deref() {
                    Some("28P01" | "28000") => Attempt::Refused(error),
                    _ => Attempt::Failed(error),
                })
            }
            Err(_) => Err(Attempt::Failed(Error::new(
                ErrorKind::Transient,
                format!(
                    "cannot reach {self}: no answer in {} s; check that it runs and that this \
                     machine may reach it (firewall, private DNS)",
                    CONNECT_TIMEOUT.as_secs()
                ),
            ))),
        }
    }

    /// Options for a session with the pinned settings.
    fn options(&self, password: Option<&SecretString>) -> PgConnectOptions {
        choose_cryptography();
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .ssl_mode(self.ssl_mode.into())
            .options(SESSION_SETTINGS)
            // sqlx asks for 2 otherwise, and that wins over the option.
            .extra_float_digits(3)
            .disable_statement_logging();
        // None is empty, or sqlx would take PGPASSWORD.
        options = options.password(password.map_or("", SecretString::expose_secret));
        if let Some(path) = &self.ssl_root_cert {
            options = options.ssl_root_cert(path);
        }
        options
    }
}

/// How an attempt to log in failed.
enum Attempt {
    /// The server did not accept the password.
    Refused(Error),
    /// Anything else.
    Failed(Error),
}

/// Whether it was TLS that failed: sqlx hands what the handshake found on as an input error.
fn is_about_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()),
        _ => false,
    }
}

/// Two of our dependencies bring a cryptography of their own each, and rustls then wants to be told
/// which to use (it panics otherwise). May be called again and again.
pub fn choose_cryptography() {
    // An error says that somebody has chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, host, port, user, database, ssl_mode, .. } = self;
        write!(f, "{side} ({user}@{host}:{port}/{database}, sslmode {})", ssl_mode.as_str())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server> {
        Server::parse(Side::Base, url, None)
    }

    #[tokio::test]
    async fn reads_what_libpq_reads() {
        let server =
            parse("postgres://us%40er:p%2Fw@[::1]:6432/my%20db?sslmode=verify-ca&sslrootcert=/ca")
                .unwrap();
        assert_eq!(server.host(), "::1");
        assert_eq!(server.port(), 6432);
        assert_eq!(server.user(), "us@er");
        assert_eq!(server.database(), "my db");
        assert_eq!(server.ssl_mode(), SslMode::VerifyCa);
        let password = server.password().await.unwrap().unwrap();
        assert_eq!(password.expose_secret(), "p/w");
    }

    #[test]
    fn says_what_is_wrong_and_never_the_password() {
        for url in [
            "postgres://u:hunter2@/db",
            "postgres://u:hunter2@h",
            "mysql://u:hunter2@h/db",
            "postgres://u:hunter2@h/db?sslmode=maybe",
            "postgres://u:hunter2@h/db?keepalives=1",
            "postgres://u:hunter2@h:port/db",
            "postgres://:hunter2@h/db",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let both = Server::parse(Side::Head, "postgres://u:a@h/db", Some("hunter2".into()));
        assert!(both.unwrap_err().to_string().contains("keep one"));
    }

    #[test]
    fn debug_and_display_hide_the_password() {
        let server = parse("postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{server} {server:?}").contains("hunter2"));
    }
}
