//! Whether the ports that a cluster needs on the machine are free.

use crate::error::{Doing, Refusal, Result};
use model::spec::Protocol;
use std::net::Ipv4Addr;

/// Refuses if somebody listens on `port` at one of `addresses`, or at all of them.
pub(crate) fn check_free(addresses: &[Ipv4Addr], port: u16) -> Result<()> {
    let listeners = network::listeners(Protocol::Tcp).doing(|| "read who listens".into())?;
    let taken = listeners.into_iter().find_map(|listener| {
        let serves = |address: &Ipv4Addr| listener.serves(*address);
        let address = addresses.iter().copied().find(serves)?;
        (listener.port == port).then_some((address, listener))
    });
    match taken {
        None => Ok(()),
        Some((address, listener)) => Err(Refusal::PortTaken {
            address,
            port,
            holder: listener.holder(),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::net::TcpListener;

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
