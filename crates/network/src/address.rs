//! What follows from an id or an address alone: MAC addresses and device names.
//!
//! Nothing here has to be agreed upon or remembered: every node computes the same.

use std::net::Ipv4Addr;

use model::{InstanceId, NetworkKind};

/// The MAC address of the interface that has `address`.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x54, a, b, c, d]
}

/// The MAC address of the bridge of a network on the node whose overlay address is `own`.
///
/// On the network of fixed addresses the node has no address; its bridge still needs a MAC of
/// its own, or it would take over one of its ports' and change with them.
pub(crate) fn bridge_mac(kind: NetworkKind, own: Ipv4Addr) -> [u8; 6] {
    let mut mac = mac(own);
    if kind == NetworkKind::Fixed {
        mac[1] = 0x55;
    }
    mac
}

/// The address behind a MAC of ours.
pub(crate) fn address_of(mac: &[u8]) -> Option<Ipv4Addr> {
    match mac {
        [0x02, 0x54, a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => None,
    }
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// All our veths on the node's side begin like this, and nothing else of ours does.
pub(crate) const PORT_PREFIX: &str = "tv";

/// The node's end of an instance's veth. Births are unique for ever, so names are too; eleven
/// digits hold any birth, and 14 characters are one fewer than the kernel takes.
pub(crate) fn port_name(id: InstanceId, kind: NetworkKind) -> String {
    let kind = match kind {
        NetworkKind::Overlay => 'o',
        NetworkKind::Fixed => 'f',
    };
    format!("{PORT_PREFIX}{kind}{}", base62(id.birth))
}

fn base62(mut number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut digits = Vec::new();
    loop {
        digits.push(DIGITS[(number % 62) as usize] as char);
        number /= 62;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// The instance's end.
pub(crate) fn interface_name(kind: NetworkKind) -> &'static str {
    match kind {
        NetworkKind::Overlay => "eth0",
        NetworkKind::Fixed => "ethwe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_its_address_and_leads_back_to_it() {
        let address = Ipv4Addr::new(10, 32, 0, 255);
        assert_eq!(mac_text(mac(address)), "02:54:0a:20:00:ff");
        assert_eq!(address_of(&mac(address)), Some(address));
        assert_eq!(
            address_of(&bridge_mac(NetworkKind::Fixed, address)),
            None,
            "a bridge on the fixed network must not look like an instance"
        );
    }

    #[test]
    fn port_names_fit_the_kernel_and_differ_by_birth_and_network() {
        let last = InstanceId {
            birth: u64::MAX,
            slot: u32::MAX,
        };
        let first = InstanceId { birth: 0, slot: 9 };
        assert_eq!(port_name(last, NetworkKind::Overlay), "tvolYGhA16ahyf");
        assert_eq!(port_name(first, NetworkKind::Fixed), "tvf0");
    }
}
