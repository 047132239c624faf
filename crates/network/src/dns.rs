//! The name server of a node's containers.
//!
//! Answers for our own zones come from a snapshot of names that is swapped whole; everything else
//! goes to the machine's resolvers as it came. It never caches: what it knows is the newest.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Result, system};
use crate::message::{Reply, Transport, failure, reply};
use crate::names::Names;
use crate::upstream::{Upstreams, read_framed, write_framed};

/// Questions upstream and connections, each: beyond that, clients ask again.
const AT_ONCE: usize = 256;
const IDLE: Duration = Duration::from_secs(10);

pub struct Dns {
    udp: UdpSocket,
    tcp: TcpListener,
    names: RwLock<Arc<Names>>,
    upstreams: Upstreams,
    /// Rises with every question, so that answers are ordered differently.
    seed: AtomicU64,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Dns {
    /// Binds to `address` itself, the gateway's port 53: from the wildcard, answers could leave
    /// with another source. The network must be open already. Knows no names until
    /// [`Dns::publish`].
    ///
    /// # Errors
    /// When the address is not there or taken.
    pub async fn bind(address: SocketAddr, upstreams: Upstreams) -> Result<Self> {
        let what = || system::<io::Error>(format!("bind the name server to {address}"));
        let seed = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Ok(Self {
            udp: UdpSocket::bind(address).await.map_err(what())?,
            tcp: TcpListener::bind(address).await.map_err(what())?,
            names: RwLock::default(),
            upstreams,
            seed: AtomicU64::new(seed),
            questions: Arc::new(Semaphore::new(AT_ONCE)),
            connections: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Answers by these names from now on.
    pub fn publish(&self, names: Names) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// Serves until a socket fails.
    ///
    /// # Errors
    /// The failure.
    pub async fn serve(self: Arc<Self>) -> Result<Infallible> {
        let datagrams = Arc::clone(&self).serve_datagrams();
        tokio::select! {
            ended = datagrams => ended.map_err(system("receive questions")),
            ended = Arc::clone(&self).serve_streams() => ended.map_err(system("accept questions")),
        }
    }

    async fn serve_datagrams(self: Arc<Self>) -> io::Result<Infallible> {
        let mut buffer = vec![0; 65535];
        loop {
            let (length, client) = match self.udp.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(fault) => return Err(fault),
            };
            let query = &buffer[..length];
            match self.reply(client, query, Transport::Datagram) {
                Reply::Bytes(bytes) => self.send(&bytes, client).await,
                Reply::Silence => {}
                Reply::Elsewhere => {
                    let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
                        continue;
                    };
                    tokio::spawn(Arc::clone(&self).relay(query.to_vec(), client, permit));
                }
            }
        }
    }

    async fn relay(
        self: Arc<Self>,
        query: Vec<u8>,
        client: SocketAddr,
        _permit: OwnedSemaphorePermit,
    ) {
        if let Some(answer) = self.elsewhere(&query, false).await {
            self.send(&answer, client).await;
        }
    }

    /// A lost answer is asked for again.
    async fn send(&self, bytes: &[u8], client: SocketAddr) {
        if let Err(fault) = self.udp.send_to(bytes, client).await {
            tracing::debug!("Could not answer {client}: {fault}");
        }
    }

    async fn serve_streams(self: Arc<Self>) -> io::Result<Infallible> {
        loop {
            let permit = Arc::clone(&self.connections)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, client) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(fault) => return Err(fault),
            };
            tokio::spawn(Arc::clone(&self).converse(stream, client, permit));
        }
    }

    async fn converse(
        self: Arc<Self>,
        mut stream: TcpStream,
        client: SocketAddr,
        _permit: OwnedSemaphorePermit,
    ) {
        while let Ok(Ok(query)) = timeout(IDLE, read_framed(&mut stream)).await {
            let answer = match self.reply(client, &query, Transport::Stream) {
                Reply::Bytes(bytes) => Some(bytes),
                Reply::Elsewhere => self.elsewhere(&query, true).await,
                Reply::Silence => None,
            };
            let Some(answer) = answer else { return };
            if !matches!(
                timeout(IDLE, write_framed(&mut stream, &answer)).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
    }

    fn reply(&self, client: SocketAddr, query: &[u8], transport: Transport) -> Reply {
        let names = Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner));
        let asker = match client.ip() {
            IpAddr::V4(asker) => asker,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        reply(&names, asker, query, transport, seed)
    }

    async fn elsewhere(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        match self.upstreams.ask(query, stream).await {
            Some(answer) => Some(answer),
            None => failure(query),
        }
    }
}
