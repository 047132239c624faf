//! An IPv4 subnet: an address and how many of its leading bits count.

use std::fmt;
use std::net::Ipv4Addr;

/// Always normalised: the bits behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The subnet that `address` is in. A prefix above 32 counts as 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            network: Ipv4Addr::from(u32::from(address) & mask(prefix)),
            prefix,
        }
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.network)
    }

    /// Whether they share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        Self::new(self.network, prefix) == Self::new(other.network, prefix)
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_holds_what_shares_its_prefix() {
        let overlay = Subnet::new(Ipv4Addr::new(10, 32, 7, 9), 12);
        assert_eq!(overlay.to_string(), "10.32.0.0/12");
        assert!(overlay.contains(Ipv4Addr::new(10, 47, 255, 255)));
        assert!(!overlay.contains(Ipv4Addr::new(10, 48, 0, 0)));
        assert!(overlay.overlaps(Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 8)));
        assert!(overlay.overlaps(Subnet::new(Ipv4Addr::new(10, 40, 1, 0), 24)));
        assert!(!overlay.overlaps(Subnet::new(Ipv4Addr::new(10, 0, 15, 0), 24)));
        assert!(Subnet::new(Ipv4Addr::LOCALHOST, 0).contains(Ipv4Addr::BROADCAST));
    }
}
