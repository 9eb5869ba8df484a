//! Logging in.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::error::SqlState;

use super::error::{is_about_tls, message};
use super::session::Session;
use super::settings::{APPLICATION_NAMES, pin_and_find_lacking, session_options};
use super::{PasswordSource, Server, pooler};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SslMode;

/// A peer that is gone without a word is noticed within about a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What is to be done where the server says no.
const CHECK: &str = "check user, password and database, and the server's access rules";

/// How an attempt to log in failed.
enum LoginFailure {
    /// The server did not accept the password.
    Refused(Error),
    /// Anything else.
    Failed(Error),
}

impl Server {
    /// Opens a session with the pinned settings, which are read again: a connection pooler may have
    /// dropped them. `application_name` shows in `pg_stat_activity`.
    ///
    /// # Errors
    /// Names side, host, port, `sslmode` and the next step. Transient unless the server itself
    /// refused (password, unknown database, `pg_hba.conf`) or is behind a pooler; a password that
    /// may change in the place that it comes from is transient too.
    pub async fn connect(&self, application_name: &str) -> Result<Session> {
        debug_assert!(
            APPLICATION_NAMES.contains(&application_name)
                || application_name.starts_with("deltacompare_"),
            "{application_name} is not known as one of our sessions"
        );
        let password = self.password().await?;
        let refused = match self.attempt(application_name, password.as_ref()).await {
            Ok(session) => return Ok(session),
            Err(LoginFailure::Failed(error)) => return Err(error),
            Err(LoginFailure::Refused(error)) => error,
        };
        // It may have been changed since it was read, or the place that it comes from will have the
        // new one in a moment: a server's password is changed first.
        let source = self.password_source();
        let changes = source.is_some_and(PasswordSource::changes);
        let kind = if changes { ErrorKind::Transient } else { refused.kind() };
        let other = match (source, &password) {
            (Some(source), Some(password)) => source.other_than(password).await,
            _ => Ok(None),
        };
        match other {
            Ok(Some(other)) => match self.attempt(application_name, Some(&other)).await {
                Ok(session) => Ok(session),
                Err(LoginFailure::Failed(error)) => Err(error),
                Err(LoginFailure::Refused(error)) => Err(error.with_kind(kind)),
            },
            Ok(None) => Err(refused.with_kind(kind)),
            Err(unread) => Err(Error::new(kind, format!("{refused}; {unread}"))),
        }
    }

    async fn attempt(
        &self,
        application_name: &str,
        password: Option<&SecretString>,
    ) -> Result<Session, LoginFailure> {
        let tls = self.tls().map_err(LoginFailure::Failed)?;
        let config = self.config(application_name, password);
        let attempt = tokio::time::timeout(self.connect_timeout(), async {
            let session = Session::open(self.side(), &config, tls).await?;
            let lacking = session.simple_query(&pin_and_find_lacking()).await?;
            Ok((session, lacking))
        });
        match attempt.await {
            Ok(Ok((session, None))) => Ok(session),
            Ok(Ok((_, Some(lacking)))) => {
                Err(LoginFailure::Failed(self.without_settings(&lacking)))
            }
            Ok(Err(error)) if pooler::is_from_pooler(&error) => {
                Err(LoginFailure::Failed(self.pooled(&message(&error))))
            }
            Ok(Err(error)) => Err(self.failed(error, password)),
            Err(_) => Err(LoginFailure::Failed(Error::new(
                ErrorKind::Transient,
                format!(
                    "cannot reach {self}: no answer in {} s; check that it runs and that this \
                     machine may reach it (firewall, private DNS)",
                    self.connect_timeout().as_secs()
                ),
            ))),
        }
    }

    /// What a failed login means and what is to be done.
    fn failed(
        &self,
        error: tokio_postgres::Error,
        password: Option<&SecretString>,
    ) -> LoginFailure {
        let code = error.code().map(SqlState::code);
        let (kind, advice) = match code {
            // Starting up, shutting down, or a standby that may not be read.
            Some("57P03") => (
                ErrorKind::Transient,
                "wait until it is up and its restore has ended (or promote it)",
            ),
            // Too many connections: the server's, the database's or the role's own limit.
            Some("53300") => (
                ErrorKind::Transient,
                "end sessions that are not needed there, or raise the limit that is reached \
                 (max_connections, alter role … connection limit, alter database … connection \
                 limit), and try again",
            ),
            Some(code) if code.starts_with("53") || code.starts_with("57") => {
                (ErrorKind::Transient, "end sessions that are not needed there, and try again")
            }
            // Nothing else runs in a function before a session is there.
            Some(_) if error.as_db_error().is_some_and(|error| error.where_().is_some()) => (
                ErrorKind::Refused,
                "a login trigger failed there: as a superuser with PGOPTIONS='-c \
                 event_triggers=off', run alter event trigger … disable",
            ),
            // The file's name stands in the message in whatever language the server speaks.
            Some("28000") if message(&error).contains("pg_hba.conf") => (
                ErrorKind::Refused,
                "no rule there admits this address, user, database and sslmode, whatever the \
                 password; on Azure that is the server's firewall, and a new rule may take five \
                 minutes to hold",
            ),
            Some(_) => (ErrorKind::Refused, CHECK),
            None if is_about_tls(&error) => {
                (ErrorKind::Refused, "check sslmode and sslrootcert in the URL")
            }
            None => (
                ErrorKind::Transient,
                "check that it runs and that this machine may reach it (firewall, private DNS)",
            ),
        };
        // invalid_password, invalid_authorization_specification
        let of_password = matches!(code, Some("28P01" | "28000"));
        let advice = match password.filter(|_| of_password && advice == CHECK) {
            None if code == Some("28P01") => self.set_password(),
            Some(empty) if empty.expose_secret().is_empty() => self.set_password(),
            Some(torn) if torn.expose_secret().ends_with(['\n', '\r']) => format!(
                "the password that {} has ends in a newline: store it without one (printf %s, not \
                 echo)",
                self.password_source().map(ToString::to_string).unwrap_or_default()
            ),
            _ => advice.to_owned(),
        };
        let sentence = format!("cannot log in to {self}: {}; {advice}", message(&error));
        let error = Error::new(kind, sentence).because(error);
        if of_password { LoginFailure::Refused(error) } else { LoginFailure::Failed(error) }
    }

    /// There is no password, and the server wants one.
    fn set_password(&self) -> String {
        format!(
            "no password was given: set {}, or name a secret of a vault with --{}-secret",
            self.side().password_variable(),
            self.side()
        )
    }

    /// What the driver is told of this server.
    fn config(&self, application_name: &str, password: Option<&SecretString>) -> Config {
        let options = [self.options(), Some(&session_options(0))];
        let options: Vec<&str> = options.into_iter().flatten().collect();
        let mut config = Config::new();
        config
            .host(self.host())
            .port(self.port())
            .user(self.user())
            // An empty one is refused by the server, in its own words.
            .password(password.map_or("", SecretString::expose_secret))
            .dbname(self.database())
            .options(options.join(" "))
            .application_name(application_name)
            .ssl_mode(match self.ssl_mode() {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                // Certificates are looked at by `Server::tls`.
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    tokio_postgres::config::SslMode::Require
                }
            })
            // SCRAM binds the login to the server's certificate where both ends can.
            .channel_binding(ChannelBinding::Prefer)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNACKNOWLEDGED);
        config
    }
}
