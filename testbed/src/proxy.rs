//! Trouble in the network between a program and a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy in front of a server of this machine. At first everything goes through.
///
/// It cannot lose single packets, nor deliver them late or twice: TCP would hide that anyway.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
    connections: Arc<Connections>,
    task: JoinHandle<()>,
}

/// How the network is.
#[derive(Clone, Copy, Debug)]
struct Network {
    flow: Flow,
    /// Counts the cuts: a connection lives in the one it was opened in.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Through,
    /// Nothing arrives any more, and nobody is told: as with a firewall that forgot a connection.
    Stalled,
    /// Connections break, and new ones are refused.
    Cut,
}

#[derive(Debug, Default)]
struct Connections {
    opened: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Proxy {
    /// A proxy to this port of the loopback address, on a free port.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let network = watch::Sender::new(Network { flow: Flow::Through, epoch: 0 });
        let connections = Arc::<Connections>::default();
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let task =
            tokio::spawn(accept(listener, target, network.clone(), Arc::clone(&connections)));
        Ok(Self { port: own, network, connections, task })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing goes through, in neither direction, and nobody is told.
    pub fn stall(&self) {
        self.network.send_modify(|network| network.flow = Flow::Stalled);
    }

    /// Breaks all connections, and refuses new ones from now on.
    pub fn cut(&self) {
        self.network.send_modify(|network| {
            *network = Network { flow: Flow::Cut, epoch: network.epoch + 1 };
        });
    }

    /// Breaks all connections; new ones go through. What was stalled is lost with them.
    pub fn drop_connections(&self) {
        self.network.send_modify(|network| {
            *network = Network { flow: Flow::Through, epoch: network.epoch + 1 };
        });
    }

    /// Everything goes through again, what was held back too.
    pub fn heal(&self) {
        self.network.send_modify(|network| network.flow = Flow::Through);
    }

    /// How many connections there were so far.
    pub fn opened(&self) -> usize {
        self.connections.opened.load(Ordering::Relaxed)
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }

    /// How many connections there were at most at one time.
    pub fn most(&self) -> usize {
        self.connections.most.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    network: watch::Sender<Network>,
    connections: Arc<Connections>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let mut network = network.subscribe();
        let Network { flow, epoch } = *network.borrow_and_update();
        if flow == Flow::Cut {
            continue;
        }
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            connections.opened.fetch_add(1, Ordering::Relaxed);
            let open = connections.open.fetch_add(1, Ordering::Relaxed) + 1;
            connections.most.fetch_max(open, Ordering::Relaxed);
            let mut epochs = network.clone();
            tokio::select! {
                () = connect(client, target, network) => {}
                _ = epochs.wait_for(|network| network.epoch != epoch) => {}
            }
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn connect(client: TcpStream, target: SocketAddr, mut network: watch::Receiver<Network>) {
    if network.wait_for(|network| network.flow != Flow::Stalled).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pump(from_client, to_server, network.clone()),
        pump(from_server, to_client, network)
    );
}

/// Passes on what comes until one side ends.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if network.wait_for(|network| network.flow != Flow::Stalled).await.is_err() {
            return;
        }
        if length == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
