//! An IPv4 address with the length of its network's prefix. Arithmetic only.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// `10.0.15.10/24`: an address in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    pub address: Ipv4Addr,
    prefix: u8,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no IPv4 network such as 10.0.15.0/24")]
pub struct NotASubnet(String);

impl Subnet {
    /// `prefix` is cut to 32.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Self {
        Subnet {
            address,
            prefix: if prefix > 32 { 32 } else { prefix },
        }
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The same network, by its lowest address.
    pub fn network(self) -> Subnet {
        Subnet {
            address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask()),
            ..self
        }
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        let mask = self.mask() & other.mask();
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }

    /// The address `count` above this one, if it is a host of the same network.
    pub fn above(self, count: u8) -> Option<Ipv4Addr> {
        let address = self.address.to_bits().checked_add(count.into())?;
        let broadcast = self.address.to_bits() | !self.mask();
        (address < broadcast).then(|| Ipv4Addr::from_bits(address))
    }

    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = NotASubnet;

    /// A bare address is a network of one.
    fn from_str(text: &str) -> Result<Self, NotASubnet> {
        let refuse = || NotASubnet(text.into());
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = prefix
            .parse()
            .ok()
            .filter(|p| *p <= 32)
            .ok_or_else(refuse)?;
        Ok(Subnet {
            address: address.parse().map_err(|_| refuse())?,
            prefix,
        })
    }
}

impl TryFrom<String> for Subnet {
    type Error = NotASubnet;
    fn try_from(text: String) -> Result<Self, NotASubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn networks_overlap_when_one_holds_the_other() {
        assert!(subnet("10.32.0.0/12").overlaps(subnet("10.40.0.0/16")));
        assert!(subnet("10.40.0.0/16").overlaps(subnet("10.32.0.0/12")));
        assert!(subnet("0.0.0.0/0").overlaps(subnet("10.0.15.0/24")));
        assert!(!subnet("10.0.15.0/24").overlaps(subnet("10.0.16.0/24")));
        assert!(subnet("10.0.15.9").overlaps(subnet("10.0.15.0/24")));
    }

    #[test]
    fn nodes_count_up_from_the_machine_and_stop_before_broadcast() {
        let machine = subnet("10.0.15.10/24");
        assert_eq!(machine.above(1), Some(Ipv4Addr::new(10, 0, 15, 11)));
        assert_eq!(machine.above(244), Some(Ipv4Addr::new(10, 0, 15, 254)));
        assert_eq!(machine.above(245), None);
        assert_eq!(machine.network(), subnet("10.0.15.0/24"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/", "a/8"] {
            assert_eq!(text.parse::<Subnet>(), Err(NotASubnet(text.into())));
        }
    }
}
