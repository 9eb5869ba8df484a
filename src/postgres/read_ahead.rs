//! How far a session is read ahead of whoever consumes its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;

/// Rows from this size on hold their session up.
const LARGE_ROW_BYTES: usize = 1 << 20;

/// Holds up a session's connection while its consumer is busy with a large row.
///
/// The driver receives until three answers wait for their consumer, whatever their size. With rows
/// of hundreds of megabytes that is most of the memory that a recovery takes. While a connection is
/// held up nothing is received or sent, and the server waits.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadAhead(Arc<State>);

#[derive(Debug, Default)]
struct State {
    held_up: AtomicBool,
    connection: AtomicWaker,
}

impl ReadAhead {
    /// Polls a session's connection, unless it is held up.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        connection: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.0.held_up.load(Ordering::Acquire) {
            self.0.connection.register(context.waker());
            // It may have been let go in between, when nobody was there to be woken.
            if self.0.held_up.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        connection(context)
    }

    /// Holds the connection up if a row of so many bytes has come out of it.
    pub(super) fn took(&self, bytes: usize) {
        if bytes >= LARGE_ROW_BYTES {
            self.0.held_up.store(true, Ordering::Release);
        }
    }

    /// Lets the connection go on.
    pub(super) fn go_on(&self) {
        if self.0.held_up.swap(false, Ordering::AcqRel) {
            self.0.connection.wake();
        }
    }
}

/// Polls a stream of rows, and holds its session up for as long as a large one is in use.
pub(super) fn poll_rows<T>(
    read_ahead: &ReadAhead,
    bytes_of: impl FnOnce(&T) -> usize,
    poll: impl FnOnce() -> Poll<Option<T>>,
) -> Poll<Option<T>> {
    read_ahead.go_on();
    let next = ready!(poll());
    if let Some(row) = &next {
        read_ahead.took(bytes_of(row));
    }
    Poll::Ready(next)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_while_a_large_row_is_in_use() {
        let read_ahead = ReadAhead::default();
        let connection = |read_ahead: ReadAhead| {
            tokio::spawn(poll_fn(move |context| read_ahead.poll(context, |_| Poll::Ready(()))))
        };
        read_ahead.took(LARGE_ROW_BYTES - 1);
        connection(read_ahead.clone()).await.unwrap();
        read_ahead.took(LARGE_ROW_BYTES);
        let waiting = connection(read_ahead.clone());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // A small row of another stream does not let it go on; who asks for the next one does.
        read_ahead.took(1);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        read_ahead.go_on();
        waiting.await.unwrap();
    }
}
