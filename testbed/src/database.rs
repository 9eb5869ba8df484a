//! Access to PostgreSQL for tests, benchmarks and the demo. No other module names the driver.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::Stream;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, CopyOutStream, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A value that can be bound to `$1`, `$2`, ….
///
/// The server infers a parameter's type from the statement; a Rust value of another type is an
/// error. Where the context asks for a type such as `regclass`, write `$1::text::regclass`.
pub use tokio_postgres::types::ToSql as Parameter;

/// What a column's value can be read as. The Rust type must be that of the column: cast in SQL.
pub use tokio_postgres::types::FromSqlOwned as Value;

/// A session. It ends when this is closed or dropped.
pub struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Logs in by a URL `postgres://user:password@host:port/database` with `sslmode=disable`, or
    /// with `sslmode=verify-full` and, percent-encoded, `sslrootcert`.
    pub async fn open(url: &str) -> Result<Self> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut config: Config = address.parse()?;
        let (mut mode, mut authority) = ("disable", None);
        for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
            match name {
                "sslmode" => mode = value,
                "sslrootcert" => {
                    authority = Some(percent_encoding::percent_decode_str(value).decode_utf8()?);
                }
                _ => bail!("the URL parameter {name} is not supported here"),
            }
        }
        match mode {
            "disable" => {
                config.ssl_mode(SslMode::Disable);
                Self::start(&config).await
            }
            "verify-full" => {
                config.ssl_mode(SslMode::Require);
                let tls = MakeRustlsConnect::new(trusting(authority.as_deref().map(Path::new))?);
                let (client, connection) = config.connect(tls).await?;
                Ok(Self::drive(client, connection))
            }
            _ => bail!("sslmode={mode} is not supported here"),
        }
    }

    /// Logs in without a password over the socket in this folder.
    pub(crate) async fn over_socket(
        folder: &Path,
        port: u16,
        user: &str,
        database: &str,
    ) -> Result<Self> {
        let mut config = Config::new();
        config.host_path(folder).port(port).user(user).dbname(database);
        config.ssl_mode(SslMode::Disable);
        Self::start(&config).await
    }

    async fn start(config: &Config) -> Result<Self> {
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self::drive(client, connection))
    }

    fn drive(
        client: Client,
        connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    ) -> Self {
        let driver = tokio::spawn(async {
            // What breaks a connection fails the statement that uses it.
            let _ = connection.await;
        });
        Self { client, driver }
    }

    /// Runs statements. Several without a transaction command are one transaction.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        self.client.batch_execute(statements).await.with_context(|| format!("in: {statements}"))
    }

    /// Runs one statement with parameters, and yields how many rows it changed.
    pub async fn execute(
        &self,
        statement: &str,
        parameters: &[&(dyn Parameter + Sync)],
    ) -> Result<u64> {
        let changed = self.client.execute(statement, parameters).await;
        changed.with_context(|| format!("in: {statement}"))
    }

    /// The rows that a query yields, each as a tuple of its columns.
    pub async fn rows<T: FromRow>(
        &self,
        query: &str,
        parameters: &[&(dyn Parameter + Sync)],
    ) -> Result<Vec<T>> {
        let rows = self.client.query(query, parameters).await;
        let rows = rows.with_context(|| format!("in: {query}"))?;
        rows.iter().map(T::from_row).collect::<Result<_>>().with_context(|| format!("in: {query}"))
    }

    /// The values of the one column that a query yields.
    pub async fn values<T: Value>(
        &self,
        query: &str,
        parameters: &[&(dyn Parameter + Sync)],
    ) -> Result<Vec<T>> {
        let rows = self.rows::<(T,)>(query, parameters).await?;
        Ok(rows.into_iter().map(|(value,)| value).collect())
    }

    /// The one value that a query yields. Fails if there is no row.
    pub async fn value<T: Value>(
        &self,
        query: &str,
        parameters: &[&(dyn Parameter + Sync)],
    ) -> Result<T> {
        self.values(query, parameters).await?.pop().with_context(|| format!("no row: {query}"))
    }

    /// Runs statements by the simple protocol, as psql does, and yields the rows of all of them.
    pub async fn text_rows(&self, statements: &str) -> Result<Vec<TextRow>> {
        let messages = self.client.simple_query(statements).await;
        let messages = messages.with_context(|| format!("in: {statements}"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(TextRow(
                    (0..row.len())
                        .map(|at| {
                            (row.columns()[at].name().to_owned(), row.get(at).map(str::to_owned))
                        })
                        .collect(),
                )),
                _ => None,
            })
            .collect())
    }

    /// What `copy … to stdout` sends, in parts of any size. The session is free again once the
    /// stream has ended or is dropped.
    pub async fn copy_out(&self, copy: &str) -> Result<CopyOut> {
        let stream = self.client.copy_out(copy).await.with_context(|| format!("in: {copy}"))?;
        Ok(CopyOut(Box::pin(stream)))
    }

    /// Ends the session, and waits until that is sent.
    pub async fn close(self) -> Result<()> {
        drop(self.client);
        Ok(self.driver.await?)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// The data of a `copy … to stdout`.
pub struct CopyOut(Pin<Box<CopyOutStream>>);

impl Stream for CopyOut {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map_err(Into::into)
    }
}

/// A row of text, as the simple protocol yields it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRow(Vec<(String, Option<String>)>);

impl TextRow {
    /// The value of a column; `None` if it is null or the row has no such column.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == column)?.1.as_deref()
    }
}

/// What a row can be read as.
pub trait FromRow: Sized {
    /// Fails if the row has another number of columns, or a value has another type.
    fn from_row(row: &Row) -> Result<Self>;
}

macro_rules! tuples {
    ($($count:literal: $($value:ident $at:literal)+;)+) => {$(
        impl<$($value: Value),+> FromRow for ($($value,)+) {
            fn from_row(row: &Row) -> Result<Self> {
                ensure!(row.len() == $count, "{} columns, {} expected", row.len(), $count);
                Ok(($(row.try_get::<_, $value>($at)?,)+))
            }
        }
    )+};
}

tuples! {
    1: A 0;
    2: A 0 B 1;
    3: A 0 B 1 C 2;
    4: A 0 B 1 C 2 D 3;
    5: A 0 B 1 C 2 D 3 E 4;
    6: A 0 B 1 C 2 D 3 E 4 F 5;
    11: A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10;
}

/// TLS that trusts nobody but this authority, for the name in the URL.
pub(crate) fn trusting(authority: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = authority {
        for certificate in CertificateDer::pem_file_iter(file)
            .with_context(|| format!("cannot read {}", file.display()))?
        {
            roots.add(certificate?)?;
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
