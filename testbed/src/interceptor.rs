//! Somebody between a program and a server, with a certificate of their own.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::database::trusting;
use crate::server::Server;
use crate::tls;

/// The message that asks for TLS (PostgreSQL manual, "Message Formats", SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Ends TLS sessions to a server of this machine under another certificate, and passes on all that
/// is said in them over TLS sessions of its own, reading along. It ends when it is dropped.
#[derive(Debug)]
pub struct Interceptor {
    port: u16,
    task: JoinHandle<()>,
}

impl Interceptor {
    /// In front of this server, which must speak TLS, on a free port of the loopback address.
    pub async fn before(server: &Server) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let acceptor = tls::acceptor(&folder.path().join("ca.pem"), "127.0.0.1")?;
        let connector = TlsConnector::from(Arc::new(trusting(server.ca_pem_path())?));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (port, to) = (listener.local_addr()?.port(), server.port());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                tokio::spawn(async move { intercept(stream, to, acceptor, connector).await });
            }
        });
        Ok(Self { port, task })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn intercept(
    mut client: TcpStream,
    to: u16,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
) -> Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    ensure!(request == SSL_REQUEST, "the client asks for no TLS");
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
    server.write_all(&SSL_REQUEST).await?;
    let answer = server.read_u8().await?;
    ensure!(answer == b'S', "the server speaks no TLS");
    let name = ServerName::try_from("127.0.0.1").context("no name")?;
    let mut server = connector.connect(name, server).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
