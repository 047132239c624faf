//! Who listens on a TCP port of this machine.

use crate::error::{Doing, Holder, Refusal, Result};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// One line of `/proc/net/tcp` that listens.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Refuses if somebody listens on `port` at one of `addresses`, or at all of them.
pub(crate) fn check_free(addresses: &[Ipv4Addr], port: u16) -> Result<()> {
    let taken = listeners()?.into_iter().find(|listener| {
        listener.port == port && addresses.iter().any(|address| listener.serves(*address))
    });
    match taken {
        None => Ok(()),
        Some(listener) => {
            let address = addresses
                .iter()
                .copied()
                .find(|a| listener.serves(*a))
                .unwrap_or(Ipv4Addr::UNSPECIFIED);
            Err(Refusal::PortTaken {
                address,
                port,
                holder: holder(listener.inode),
            }
            .into())
        }
    }
}

impl Listener {
    fn serves(&self, asked: Ipv4Addr) -> bool {
        match self.address.to_canonical() {
            IpAddr::V4(address) => address.is_unspecified() || address == asked,
            // By default a socket on `::` takes IPv4 as well.
            IpAddr::V6(address) => address.is_unspecified(),
        }
    }
}

fn listeners() -> Result<Vec<Listener>> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if fs::exists(file).unwrap_or(false) {
            let text = fs::read_to_string(file).doing(|| format!("read {file}"))?;
            found.extend(text.lines().filter_map(parse));
        }
    }
    Ok(found)
}

/// `sl local_address rem_address st … inode`; state 0A listens.
fn parse(line: &str) -> Option<Listener> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == "0A").then_some(Listener {
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

/// The first process that has the socket open; none if it is in a foreign namespace.
fn holder(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let Ok(files) = fs::read_dir(process.join("fd")) else {
            return false;
        };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&wanted)))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let command = || {
            fs::read_to_string(process.path().join("comm"))
                .unwrap_or_default()
                .trim()
                .to_string()
        };
        has_it(&process.path()).then(|| Holder {
            pid,
            command: command(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::net::TcpListener;

    #[test]
    fn lines_that_listen_are_read_in_both_families() {
        let v4 = "   0: 0A0F000A:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let v6 = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0";
        let connected = v4.replace(" 0A ", " 01 ");
        let address = Ipv4Addr::new(10, 0, 15, 10).into();
        assert_eq!(
            parse(v4),
            Some(Listener {
                address,
                port: 5000,
                inode: 4711
            })
        );
        assert_eq!(
            parse(v6),
            Some(Listener {
                address: Ipv6Addr::UNSPECIFIED.into(),
                port: 8080,
                inode: 4712
            })
        );
        assert_eq!(parse(&connected), None);
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn a_taken_port_is_named_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = check_free(&[Ipv4Addr::LOCALHOST], port).unwrap_err();
        let Error::Refused(Refusal::PortTaken {
            holder: Some(holder),
            ..
        }) = error
        else {
            panic!("{error}")
        };
        assert_eq!(holder.pid, std::process::id());
        assert!(
            check_free(&[Ipv4Addr::new(10, 0, 15, 10)], port).is_ok(),
            "another address is free"
        );
    }
}
