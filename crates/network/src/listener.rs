//! Who listens on the ports of this network namespace: what is there already is left alone and named.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use model::spec::Protocol;

/// A socket that takes what arrives at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: IpAddr,
    pub port: u16,
    inode: u64,
}

/// The process behind one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.command, self.pid)
    }
}

/// All of the calling thread's network namespace, in both families.
///
/// # Errors
/// When `/proc/net` cannot be read.
pub fn listeners(protocol: Protocol) -> io::Result<Vec<Listener>> {
    let (files, state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTENS),
        Protocol::Udp => (["udp", "udp6"], UNCONNECTED),
    };
    let mut found = Vec::new();
    for file in files {
        match fs::read_to_string(Path::new("/proc/thread-self/net").join(file)) {
            Ok(text) => found.extend(text.lines().filter_map(|line| parse(line, state))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The kernel's numbers of socket states.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

impl Listener {
    /// Whether it takes what is sent to an address.
    pub fn serves(&self, asked: Ipv4Addr) -> bool {
        match self.address.to_canonical() {
            IpAddr::V4(address) => address.is_unspecified() || address == asked,
            // By default a socket on `::` takes IPv4 as well.
            IpAddr::V6(address) => address.is_unspecified(),
        }
    }

    /// The first process that has the socket open; none if it is in a foreign pid namespace.
    pub fn holder(&self) -> Option<Holder> {
        let wanted = format!("socket:[{}]", self.inode);
        let has_it = |process: &Path| {
            let Ok(files) = fs::read_dir(process.join("fd")) else {
                return false;
            };
            files.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&wanted))
            })
        };
        fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let command = || fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            has_it(&process.path()).then(|| Holder {
                pid,
                command: command().trim().to_owned(),
            })
        })
    }
}

/// `sl local_address rem_address st … inode`.
fn parse(line: &str, wanted: &str) -> Option<Listener> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == wanted).then_some(Listener {
        address: address_of(address)?,
        port,
        inode,
    })
}

/// Each group of four octets is printed as a number in this machine's byte order.
fn address_of(digits: &str) -> Option<IpAddr> {
    let mut octets = Vec::new();
    for group in digits.as_bytes().chunks(8) {
        let number = u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok()?;
        octets.extend(number.to_ne_bytes());
    }
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn lines_that_listen_are_read_in_both_families() {
        let v4 = "   0: 0A0F000A:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let v6 = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0";
        let connected = v4.replace(" 0A ", " 01 ");
        let address = Ipv4Addr::new(10, 0, 15, 10).into();
        assert_eq!(
            parse(v4, LISTENS),
            Some(Listener {
                address,
                port: 5000,
                inode: 4711
            })
        );
        assert_eq!(
            parse(v6, LISTENS),
            Some(Listener {
                address: Ipv6Addr::UNSPECIFIED.into(),
                port: 8080,
                inode: 4712
            })
        );
        assert_eq!(parse(&connected, LISTENS), None);
        assert_eq!(
            parse("  sl  local_address rem_address   st tx_queue", LISTENS),
            None
        );
    }

    #[test]
    fn a_socket_is_found_with_its_process() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = socket.local_addr().expect("an address").port();
        let all = listeners(Protocol::Udp).expect("read them");
        let found = all.iter().find(|listener| listener.port == port);
        let found = found.expect("it is there");
        assert!(found.serves(Ipv4Addr::LOCALHOST));
        assert!(!found.serves(Ipv4Addr::new(10, 0, 15, 10)));
        let pid = found.holder().map(|holder| holder.pid);
        assert_eq!(pid, Some(std::process::id()));
    }
}
