//! A session: statements, streams of rows, COPY, transactions.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, Stream, TryStreamExt};
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, CopyOutStream, RowStream, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::parameter::Parameters;
use super::read_ahead::{ReadAhead, poll_rows};
use super::row::FromRow;
use super::{Side, stop};
use crate::error::{Error, Result};

/// A session on a server, with the pinned settings: see [`Server::connect`](super::Server::connect).
///
/// Statements are sent in the order of the calls; each is answered once those before it have been. A
/// stream of rows that is not read to its end holds up the statements behind it.
///
/// No statement is prepared and kept: they are parsed anew each time, so that none is planned for
/// tables as they were before. Parameters go with it, in one round trip.
///
/// A session that is dropped while a statement is under way has the statement cancelled.
pub struct Session {
    side: Side,
    client: Client,
    /// Ends when the client is dropped and all that was sent is answered. `None` once somebody else
    /// waits for it.
    connection: Option<JoinHandle<()>>,
    tls: MakeRustlsConnect,
    /// Statements that were begun and whose end was not seen.
    under_way: AtomicUsize,
    read_ahead: ReadAhead,
}

impl Session {
    /// Logs in, without any of our settings.
    pub(super) async fn open(
        side: Side,
        config: &Config,
        tls: MakeRustlsConnect,
    ) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(tls.clone()).await?;
        let read_ahead = ReadAhead::default();
        let held_up = read_ahead.clone();
        let connection = tokio::spawn(async move {
            let ended = poll_fn(|context| {
                held_up.poll(context, |context| Pin::new(&mut connection).poll(context))
            });
            // Whoever waits for an answer hears of it too.
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a session broke");
            }
        });
        let under_way = AtomicUsize::new(0);
        Ok(Self { side, client, connection: Some(connection), tls, under_way, read_ahead })
    }

    /// All rows. For results that are known to be small; see [`Session::query_stream`].
    ///
    /// # Errors
    /// PostgreSQL's own, or rows that cannot be read as `T`; so with all of these methods.
    pub(crate) async fn query<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<T>> {
        self.query_stream(sql, parameters).await?.try_collect().await
    }

    /// The first row.
    ///
    /// # Errors
    /// There is none.
    pub async fn query_one<T: FromRow>(&self, sql: &str, parameters: Parameters<'_>) -> Result<T> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or_else(|| Error::item("a statement that must yield a row has yielded none"))
    }

    /// The first row, if there is one.
    pub(crate) async fn query_opt<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Option<T>> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// The rows as they come: the server goes on only as fast as they are read.
    pub(crate) async fn query_stream<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Rows<'_, T>> {
        let mut statement = self.begin_statement();
        match self.client.query_typed_raw(sql, typed(parameters)).await {
            Ok(rows) => {
                let read_ahead = HoldsUp(&self.read_ahead);
                Ok(Rows { rows: Box::pin(rows), statement, read_ahead, read: T::from_row })
            }
            Err(error) => Err(statement.failed(error)),
        }
    }

    /// Runs one statement. Yields the number of rows that it wrote, or else returned.
    pub(crate) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
        let statement = self.begin_statement();
        let typed: Vec<_> = typed(parameters).collect();
        statement.ended_with(self.client.execute_typed(sql, &typed).await)
    }

    /// Runs statements that take no parameters, separated by semicolons.
    pub(crate) async fn batch_execute(&self, sql: &str) -> Result<()> {
        let statement = self.begin_statement();
        statement.ended_with(self.client.batch_execute(sql).await)
    }

    /// What `copy (…) to stdout` yields, a row at a time.
    pub(crate) async fn copy_out(&self, sql: &str) -> Result<CopiedRows<'_>> {
        let mut statement = self.begin_statement();
        match self.client.copy_out(sql).await {
            Ok(rows) => {
                let read_ahead = HoldsUp(&self.read_ahead);
                Ok(CopiedRows { rows: Box::pin(rows), statement, read_ahead })
            }
            Err(error) => Err(statement.failed(error)),
        }
    }

    /// Runs `copy … from stdin` with these pieces of its data, each of which is sent before the next
    /// one is taken. Yields the number of rows that it wrote.
    pub(crate) async fn copy_in(
        &self,
        sql: &str,
        pieces: impl IntoIterator<Item = Bytes>,
    ) -> Result<u64> {
        let statement = self.begin_statement();
        let copied = async {
            let mut copy = pin!(self.client.copy_in::<_, Bytes>(sql).await?);
            for piece in pieces {
                copy.send(piece).await?;
            }
            copy.finish().await
        };
        statement.ended_with(copied.await)
    }

    /// The first column of the first row, as text, by the simple protocol: it leaves nothing behind
    /// in the server process that a pooler could lose.
    pub(super) async fn simple_query(
        &self,
        sql: &str,
    ) -> Result<Option<String>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let first = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(first.and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// Begins a transaction, which is rolled back if it is dropped.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<&mut Self>> {
        Transaction::begin(self, "begin").await
    }

    /// Begins a transaction in which one snapshot is read and nothing written.
    pub(crate) async fn begin_snapshot(&mut self) -> Result<Transaction<&mut Self>> {
        Transaction::begin(self, "begin transaction isolation level repeatable read, read only")
            .await
    }

    /// Runs the migrations that the schema on the search path lacks. The caller keeps others from
    /// doing so at the same time.
    ///
    /// # Errors
    /// The schema is newer than this program, or was made by another one.
    pub(crate) async fn migrate(&mut self, migrations: &refinery::Runner) -> Result<()> {
        migrations.run_async(&mut self.client).await.map_err(|error| {
            use refinery::error::Kind;
            let refused =
                matches!(error.kind(), Kind::DivergentVersion(..) | Kind::MissingVersion(_));
            match refused {
                true => Error::refused(format!(
                    "the status schema `deltacompare` was made by another version of this program \
                     ({error}): end its recoveries with that version, then remove them, and the \
                     events in the delta table, with deltacompare cleanup --yes"
                )),
                false => Error::recovery(format!(
                    "the status schema `deltacompare` could not be brought up to date: {error}"
                )),
            }
            .because(error)
        })?;
        Ok(())
    }

    /// The server that it is on.
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether a statement's end was not seen: its caller has gone.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Ends the session, and waits until the server was told so.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            let busy = self.is_busy();
            let (token, tls) = (self.client.cancel_token(), self.tls.clone());
            drop(self);
            if busy {
                stop::cancel(token, tls, connection).await;
            } else {
                let _ = connection.await;
            }
        }
    }

    fn begin_statement(&self) -> Statement<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Statement { side: self.side, under_way: Some(&self.under_way) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let busy = self.is_busy();
        if let Some(connection) = self.connection.take().filter(|_| busy) {
            stop::cancel_soon(self.client.cancel_token(), self.tls.clone(), connection);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

fn typed<'a>(
    parameters: Parameters<'a>,
) -> impl ExactSizeIterator<Item = (&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|&parameter| (parameter as &(dyn ToSql + Sync), parameter.sql_type()))
}

/// A statement that was begun, until its end. One that is dropped before counts as under way.
struct Statement<'a> {
    side: Side,
    under_way: Option<&'a AtomicUsize>,
}

impl Statement<'_> {
    fn ended(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn failed(&mut self, error: tokio_postgres::Error) -> Error {
        self.ended();
        Error::on_server(self.side, error)
    }

    fn ended_with<T>(mut self, outcome: Result<T, tokio_postgres::Error>) -> Result<T> {
        self.ended();
        outcome.map_err(|error| Error::on_server(self.side, error))
    }
}

/// Lets a session go on when the stream of rows that held it up is dropped.
struct HoldsUp<'a>(&'a ReadAhead);

impl Drop for HoldsUp<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

/// Rows as they come.
pub(crate) struct Rows<'a, T> {
    rows: Pin<Box<RowStream>>,
    statement: Statement<'a>,
    read_ahead: HoldsUp<'a>,
    read: fn(super::Row) -> Result<T>,
}

impl<T> Stream for Rows<'_, T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let read_ahead = self.read_ahead.0;
        let bytes_of =
            |row: &Result<super::Row, _>| row.as_ref().map_or(0, |row| row.raw_size_bytes());
        let next =
            ready!(poll_rows(read_ahead, bytes_of, || self.rows.as_mut().poll_next(context)));
        Poll::Ready(match next {
            Some(Ok(row)) => Some((self.read)(row)),
            Some(Err(error)) => Some(Err(self.statement.failed(error))),
            None => {
                self.statement.ended();
                None
            }
        })
    }
}

/// Rows as COPY writes them, each a line.
pub(crate) struct CopiedRows<'a> {
    rows: Pin<Box<CopyOutStream>>,
    statement: Statement<'a>,
    read_ahead: HoldsUp<'a>,
}

impl Stream for CopiedRows<'_> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let read_ahead = self.read_ahead.0;
        let bytes_of = |line: &Result<Bytes, _>| line.as_ref().map_or(0, Bytes::len);
        let next =
            ready!(poll_rows(read_ahead, bytes_of, || self.rows.as_mut().poll_next(context)));
        Poll::Ready(match next {
            Some(Ok(line)) => Some(Ok(line)),
            Some(Err(error)) => Some(Err(self.statement.failed(error))),
            None => {
                self.statement.ended();
                None
            }
        })
    }
}

/// A transaction of a session. Dropped, it is rolled back before anything else happens in the
/// session.
#[derive(Debug)]
pub(crate) struct Transaction<S: Deref<Target = Session>> {
    session: S,
    open: bool,
}

impl<S: Deref<Target = Session>> Transaction<S> {
    pub(super) async fn begin(session: S, sql: &str) -> Result<Self> {
        // Open from now on: whoever drops this future may have begun it.
        let transaction = Self { session, open: true };
        transaction.batch_execute(sql).await?;
        Ok(transaction)
    }

    /// Commits it.
    pub(crate) async fn commit(self) -> Result<()> {
        self.end("commit").await
    }

    /// Rolls it back.
    pub(crate) async fn rollback(self) -> Result<()> {
        self.end("rollback").await
    }

    async fn end(mut self, sql: &str) -> Result<()> {
        self.batch_execute(sql).await?;
        self.open = false;
        Ok(())
    }
}

impl<S: Deref<Target = Session>> Deref for Transaction<S> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl<S: Deref<Target = Session>> Drop for Transaction<S> {
    fn drop(&mut self) {
        if self.open {
            // The first poll sends it; nobody waits for the answer.
            let _ = self.session.client.batch_execute("rollback").now_or_never();
        }
    }
}
