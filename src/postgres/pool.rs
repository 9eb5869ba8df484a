//! Sessions that are kept for many short transactions.

use std::time::Duration;

use bytes::Bytes;
use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult, Timeouts};

use super::Server;
use super::parameter::Parameters;
use super::row::FromRow;
use super::session::{Session, Transaction};
use crate::error::{Error, ErrorKind, Result};

/// How long a session of a pool may be waited for.
const WITHIN: Duration = Duration::from_secs(30);

/// A pool of sessions with the pinned settings. Each logs in with the password of its time. Cheap to
/// clone. Its methods are those of [`Session`], in a session of its own each.
#[derive(Clone, Debug)]
pub(crate) struct Pool(managed::Pool<Sessions>);

/// A session out of a pool, which gets it back.
pub(crate) type Pooled = Object<Sessions>;

impl Server {
    /// Opens a pool of at most so many sessions.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub(crate) async fn pool(&self, application_name: &str, sessions: usize) -> Result<Pool> {
        let pool = self.lazy_pool(application_name, sessions)?;
        // Says what is wrong, before anybody counts on it.
        drop(pool.0.get().await.map_err(read)?);
        Ok(pool)
    }

    /// The same, without opening any session yet.
    pub(crate) fn lazy_pool(&self, application_name: &str, sessions: usize) -> Result<Pool> {
        let manager =
            Sessions { server: self.clone(), application_name: application_name.to_owned() };
        let pool = managed::Pool::builder(manager)
            .max_size(sessions)
            // Logging in has a limit of its own.
            .timeouts(Timeouts { wait: Some(WITHIN), create: None, recycle: None })
            .runtime(Runtime::Tokio1)
            .build();
        pool.map(Pool).map_err(|error| Error::recovery("a pool has no runtime").because(error))
    }
}

impl Pool {
    pub(crate) async fn query<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<T>> {
        self.session().await?.query(sql, parameters).await
    }

    pub(crate) async fn query_one<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<T> {
        self.session().await?.query_one(sql, parameters).await
    }

    pub(crate) async fn query_opt<T: FromRow>(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Option<T>> {
        self.session().await?.query_opt(sql, parameters).await
    }

    pub(crate) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64> {
        self.session().await?.execute(sql, parameters).await
    }

    pub(crate) async fn copy_in(
        &self,
        sql: &str,
        pieces: impl IntoIterator<Item = Bytes>,
    ) -> Result<u64> {
        self.session().await?.copy_in(sql, pieces).await
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<Pooled>> {
        Transaction::begin(self.session().await?, "begin").await
    }

    /// Runs two statements as one transaction, in one round trip. Yields the rows of the second one,
    /// which sees what others had committed when the first one ended.
    pub(crate) async fn lock_and_query<T: FromRow>(
        &self,
        (lock, lock_parameters): (&str, Parameters<'_>),
        (query, parameters): (&str, Parameters<'_>),
    ) -> Result<Vec<T>> {
        let session = self.session().await?;
        // Each is sent when it is first polled.
        let (begun, locked, found, committed) = tokio::join!(
            biased;
            session.batch_execute("begin"),
            session.execute(lock, lock_parameters),
            session.query(query, parameters),
            session.batch_execute("commit"),
        );
        begun?;
        locked?;
        let found = found?;
        committed?;
        Ok(found)
    }

    /// Ends its sessions; those that are in use once they come back.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    async fn session(&self) -> Result<Pooled> {
        self.0.get().await.map_err(|error| {
            let error = read(error);
            match error.kind() {
                // It could log in before: its password is being changed, or sessions are full.
                ErrorKind::Refused => error.with_kind(ErrorKind::Transient),
                _ => error,
            }
        })
    }
}

fn read(error: PoolError<Error>) -> Error {
    match error {
        PoolError::Backend(error) => error,
        error => Error::new(
            ErrorKind::Transient,
            format!("no session of the status store is free: {error}"),
        )
        .because(error),
    }
}

/// Opens a pool's sessions and looks at those that come back.
#[derive(Debug)]
pub(crate) struct Sessions {
    server: Server,
    application_name: String,
}

impl managed::Manager for Sessions {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session> {
        self.server.connect(&self.application_name).await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        if session.is_closed() || session.is_busy() {
            return Err(RecycleError::message("it is closed or in the middle of a statement"));
        }
        Ok(())
    }
}
