//! A relay before a server that counts what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::measured::Traffic;

/// Hands connections on to a local port. Understands as much of the protocol as it takes to count
/// rows; sessions must not ask for TLS.
pub(crate) struct Relay {
    port: u16,
    counts: Arc<Counts>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Relay {
    pub(crate) async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(hand_on(from_client, to_server, Arc::clone(&counting), None));
                let messages = Some(Messages::default());
                tokio::spawn(hand_on(from_server, to_client, Arc::clone(&counting), messages));
            }
        });
        Ok(Self { port, counts, listening })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            rows: self.counts.rows.load(Ordering::Relaxed),
            bytes: self.counts.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn forget(&self) {
        self.counts.rows.store(0, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn hand_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    counts: Arc<Counts>,
    mut messages: Option<Messages>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(messages) = &mut messages {
            counts.rows.fetch_add(messages.rows_in(bytes), Ordering::Relaxed);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Where in the server's stream of messages we are: a type byte, a length that counts itself, and
/// the rest. <https://www.postgresql.org/docs/15/protocol-message-formats.html>
#[derive(Default)]
struct Messages {
    /// Of the message that has begun.
    header: Vec<u8>,
    /// Bytes of it that are still to come.
    rest: usize,
}

impl Messages {
    /// How many rows begin in these bytes, be they `DataRow` (D) or `CopyData` (d).
    fn rows_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut rows = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                self.rest -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (5 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let [kind, a, b, c, d] = self.header[..] {
                let length = [a, b, c, d];
                rows += u64::from(matches!(kind, b'D' | b'd'));
                self.rest = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.header.clear();
            }
        }
        rows
    }
}
