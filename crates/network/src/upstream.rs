//! Asking the machine's own resolvers, word for word.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

/// A resolver that says nothing for so long is passed over; clients wait five seconds.
const ATTEMPT: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 3;
/// How long the list of resolvers is believed.
const FRESH: Duration = Duration::from_secs(5);
const MAIN: &str = "/etc/resolv.conf";
/// Where those who put themselves on a loopback address write down whom they ask.
const BEHIND_LOOPBACK: [&str; 3] = [
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/resolvconf/interface/systemd-resolved",
];

/// Whom to ask for names that are not ours.
#[derive(Debug)]
pub struct Upstreams {
    /// Our own address, which must never be asked.
    own: Option<Ipv4Addr>,
    cached: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    fixed: Option<Vec<SocketAddr>>,
}

impl Upstreams {
    /// The resolvers in the machine's `resolv.conf`, read anew as it changes. Loopback ones are
    /// replaced by those that they ask themselves.
    pub fn of_machine(own: Ipv4Addr) -> Self {
        Self {
            own: Some(own),
            cached: Mutex::new(None),
            fixed: None,
        }
    }

    /// These and no others.
    pub fn fixed(servers: Vec<SocketAddr>) -> Self {
        Self {
            own: None,
            cached: Mutex::new(None),
            fixed: Some(servers),
        }
    }

    /// Whom it would ask now. A node whose view of the machine's files is not the machine's is
    /// given these by somebody who sees them.
    pub fn servers(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((read, servers)) if read.elapsed() < FRESH => servers.clone(),
            _ => {
                let servers = self.read();
                *cached = Some((Instant::now(), servers.clone()));
                servers
            }
        }
    }

    fn read(&self) -> Vec<SocketAddr> {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let behind = BEHIND_LOOPBACK.map(text);
        choose(&text(MAIN), &behind)
            .into_iter()
            .filter(|server| self.own.is_none_or(|own| *server != IpAddr::from(own)))
            .map(|server| SocketAddr::new(server, 53))
            .collect()
    }

    /// The answer of the first resolver that gives one; `None` after a bounded wait.
    pub(crate) async fn ask(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        let servers = self.servers();
        for server in servers.iter().cycle().take(ATTEMPTS) {
            let answer = async {
                match stream {
                    true => ask_by_stream(*server, query).await,
                    false => ask_by_datagram(*server, query).await,
                }
            };
            match timeout(ATTEMPT, answer).await {
                Ok(Ok(answer)) => return Some(answer),
                // Refused at once: another try a little later may find it back.
                Ok(Err(_)) => sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
        }
        None
    }
}

/// A socket of its own per question, connected, so that only the resolver can answer it.
async fn ask_by_datagram(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].get(..2) == query.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_stream(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, query).await?;
    read_framed(&mut stream).await
}

pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

pub(crate) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The resolvers of `main`, or, if all of these are loopback addresses, the first others that
/// `behind` knows. A loopback resolver without known upstreams is better than none.
fn choose(main: &str, behind: &[String]) -> Vec<IpAddr> {
    let remote = |text: &str| -> Vec<IpAddr> {
        nameservers(text)
            .filter(|server| !server.is_loopback())
            .collect()
    };
    std::iter::once(remote(main))
        .chain(behind.iter().map(|text| remote(text)))
        .find(|servers| !servers.is_empty())
        .unwrap_or_else(|| nameservers(main).collect())
}

fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_replaced_by_those_behind_them() {
        let stub = "# stub\nnameserver 127.0.0.53\noptions edns0\n";
        let real = "nameserver 192.0.2.1\nnameserver 2001:db8::1\n".to_owned();
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let both = vec![parse("192.0.2.1"), parse("2001:db8::1")];
        assert_eq!(choose(stub, &[String::new(), real.clone()]), both);
        assert_eq!(choose(&real, &[]), both);
        assert_eq!(choose(stub, &[]), vec![parse("127.0.0.53")]);
        assert_eq!(
            choose("search x\nnameserver\nnameserver %\n", &[]),
            Vec::<IpAddr>::new()
        );
    }
}
