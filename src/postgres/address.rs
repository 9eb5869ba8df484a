//! Where a server is: what its URL says.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{FixedPassword, PasswordSource};
use crate::error::{Error, Result};
use crate::model::SslMode;

/// How long one attempt to connect may take, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What a server is to this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The restore to the moment when the slot was lost.
    Base,
    /// The restore to the moment when the slot was back.
    Head,
    /// The server whose slot was lost, which is only looked at.
    Production,
}

impl Side {
    /// The environment variable for its password.
    pub(crate) fn password_variable(self) -> &'static str {
        match self {
            Self::Base => "DELTACOMPARE_BASE_PASSWORD",
            Self::Head => "DELTACOMPARE_HEAD_PASSWORD",
            Self::Production => "DELTACOMPARE_PRODUCTION_PASSWORD",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Head => "head",
            Self::Production => "production",
        })
    }
}

/// Where a server is and how to log in. `Debug` and `Display` leave the password out.
#[derive(Clone)]
pub struct Server {
    side: Side,
    host: String,
    port: u16,
    user: String,
    password: Option<Arc<dyn PasswordSource>>,
    database: String,
    ssl_mode: SslMode,
    ssl_root_cert: Option<PathBuf>,
    connect_timeout: Duration,
    /// Options of the server process (`-c name=value …`), which come before the pinned settings.
    options: Option<String>,
}

impl Server {
    /// A server from `postgres://user[:password]@host[:port]/database[?parameter=value&…]`, and the
    /// password from elsewhere if the URL has none. Parameters are libpq's `sslmode`, `sslrootcert`,
    /// `connect_timeout` and `options`; `application_name` is accepted and not used.
    ///
    /// # Errors
    /// Refused for anything that is not such a URL, for parameters that would be
    /// ignored, for more than one host, and for two passwords that differ. The message never repeats
    /// the URL.
    pub fn parse(side: Side, url: &str, password: Option<SecretString>) -> Result<Self> {
        let bad = |what: &str| {
            Error::refused(format!(
                "the {side} URL {what}; it must look like \
                 postgres://user@host:5432/database?sslmode=verify-full"
            ))
        };
        if !ends_its_password_once(url) {
            return Err(bad(
                "has an @, /, ? or # in its user or password, or an @ or # after the host, that is \
                 not percent-encoded: write %40, %2F, %3F or %23",
            ));
        }
        if names_several_hosts(url) {
            return Err(bad(
                "names more than one host. Each session could reach another server then, and a \
                 recovery compares one base with one head: name the one that is meant",
            ));
        }
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
            (Some(in_url), _) => Some(FixedPassword::new("its URL", in_url)),
            (None, Some(beside)) => Some(FixedPassword::new(side.password_variable(), beside)),
            (None, None) => None,
        };
        let password = password.map(|password| Arc::new(password) as Arc<dyn PasswordSource>);
        let mut ssl_mode = SslMode::Prefer;
        let mut ssl_root_cert = None;
        let mut connect_timeout = CONNECT_TIMEOUT;
        let mut options = None;
        for (name, value) in parsed.query_pairs() {
            match name.as_ref() {
                "sslmode" => ssl_mode = value.parse()?,
                // The authorities that everybody trusts, as without this parameter.
                "sslrootcert" if value == "system" => ssl_root_cert = None,
                "sslrootcert" => ssl_root_cert = Some(PathBuf::from(value.as_ref())),
                "connect_timeout" => {
                    connect_timeout = match value.parse() {
                        Ok(seconds @ 1..) => Duration::from_secs(seconds),
                        _ => return Err(bad("has a connect_timeout that is no number of seconds")),
                    };
                }
                "options" => options = Some(value.into_owned()),
                "application_name" => {}
                other => {
                    // Not what may be a part of a password that has a ? in it.
                    let is_name = other.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                    let name = if is_name { format!(" {other}") } else { String::new() };
                    return Err(bad(&format!(
                        "has a parameter{name} that is not supported (sslmode, sslrootcert, \
                         connect_timeout and options are)"
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
            connect_timeout,
            options,
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

    /// Whether a password that is sent as it is cannot be read in transit.
    pub(crate) fn hides_passwords(&self) -> bool {
        let is_here = self.host == "localhost"
            || self.host.starts_with('/')
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_here || !matches!(self.ssl_mode, SslMode::Disable | SslMode::Prefer)
    }

    pub(crate) fn ssl_root_cert(&self) -> Option<&Path> {
        self.ssl_root_cert.as_deref()
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(super) fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// Where the password comes from; `None` for a login without one.
    pub(crate) fn password_source(&self) -> Option<&dyn PasswordSource> {
        self.password.as_deref()
    }

    /// The same server, logging in with this password.
    pub(crate) fn with_password(self, password: impl PasswordSource + 'static) -> Self {
        Self { password: Some(Arc::new(password)), ..self }
    }

    /// The password to log in with now; `None` for a login without one.
    ///
    /// # Errors
    /// The source's.
    pub(crate) async fn password(&self) -> Result<Option<SecretString>> {
        match &self.password {
            Some(password) => password.get().await.map(Some),
            None => Ok(None),
        }
    }

    /// The same server, another database on it.
    pub(crate) fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }
}

/// Whether it is clear where user and password end: at the only @, which stands before the first of
/// /, ? and #. Elsewhere a part of the password would be taken for host, path or parameter, and be
/// repeated in messages.
fn ends_its_password_once(url: &str) -> bool {
    let Some((_, address)) = url.split_once("://") else { return true };
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let ats = |text: &str| text.matches('@').count();
    !address.contains('#') && ats(address) == ats(authority) && ats(authority) <= 1
}

/// Whether there is a comma in the host: libpq then takes it for a list.
fn names_several_hosts(url: &str) -> bool {
    let Some((_, address)) = url.split_once("://") else { return false };
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    percent_decode_str(host).decode_utf8_lossy().contains(',')
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
    use crate::error::ErrorKind;

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
            "postgres://u:hunter2@h/db?connect_timeout=0",
            "postgres://u:hunter2@h/db?connect_timeout=soon",
            "postgres://u:hunter2@h:port/db",
            "postgres://:hunter2@h/db",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        // A password that was not encoded ends too early.
        for url in [
            "postgres://u:p@hunter2@h/db",
            "postgres://u:p@hunter2/w@h/db",
            "postgres://u:p@ss/hunter2@h",
            "postgres://u:p@ss/hunter2@h/db",
            "postgres://u:1/hunter2@h/db",
            "postgres://u:1?hunter2@h/db",
            "postgres://u:p@ss?hunter2=1@h/db",
            "postgres://u:p@h/db?a@hunter2=1",
            "postgres://u:p@h/db?Hunter2-hunter2=1",
            "postgres://u:1#hunter2@h/db",
            "postgres://u:p@ss#hunter2",
            "postgres://u:p@h/db#hunter2",
            "postgres://hunter2@ss/w@h",
        ] {
            let error = parse(url).map(|server| server.to_string()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{url}");
            let said = format!("{error} {error:?}").to_lowercase();
            assert!(!said.contains("hunter2"), "{url}: {said}");
        }
        for url in ["postgres://u:p%40ss%2Fw@h/db", "postgres://u@h/d%40b?options=-c%20a%3D%40"] {
            assert!(parse(url).is_ok(), "{url}");
        }
        let both = Server::parse(Side::Head, "postgres://u:a@h/db", Some("hunter2".into()));
        assert!(both.unwrap_err().to_string().contains("keep one"));
    }

    #[test]
    fn takes_one_host_only() {
        for url in [
            "postgres://u:hunter2@one,other/db",
            "postgres://u:hunter2@one:5432,other:5433/db",
            "postgres://u:hunter2@one%2Cother/db",
            "postgres://u:hunter2@[::1],[::2]/db",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains("more than one host"), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(parse("postgres://u:a,b@h/db?options=-c%20work_mem%3D1MB,x").is_ok());
        assert!(parse("postgres://u@h/a,b?sslrootcert=/a,b").is_ok());
    }

    #[test]
    fn reads_parameters() {
        let server =
            parse("postgres://u@h/db?connect_timeout=7&options=-c%20work_mem%3D1MB").unwrap();
        assert_eq!(server.connect_timeout(), Duration::from_secs(7));
        assert_eq!(server.options(), Some("-c work_mem=1MB"));
        assert_eq!(parse("postgres://u@h/db").unwrap().connect_timeout(), CONNECT_TIMEOUT);
    }

    #[test]
    fn debug_and_display_hide_the_password() {
        let server = parse("postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{server} {server:?}").contains("hunter2"));
    }
}
