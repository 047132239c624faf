//! `WEAVE_CIDR`: addresses that follow the app.

use std::net::Ipv4Addr;

use model::spec::{AppSpec, Container, FixedAddress, Network};

use crate::fault::Faults;

const VARIABLE: &str = "WEAVE_CIDR";

pub(super) fn read(spec: &mut AppSpec, faults: &mut Faults) {
    let parameter = match &spec.container {
        Container::Image(image) => image.options.env.get(VARIABLE),
        Container::None | Container::Mesos => None,
    };
    let Some(text) = spec.env.get(VARIABLE).or(parameter) else {
        return;
    };
    if spec.network == Network::Host {
        faults.at(
            format!("/env/{VARIABLE}"),
            "a fixed address needs a bridge or container network, this app is on the host's",
        );
        return;
    }
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let mut addresses: Vec<FixedAddress> = Vec::new();
    for word in words {
        match address(word) {
            None => faults.at(
                format!("/env/{VARIABLE}"),
                format!("'{word}' is not an address with a prefix like 10.255.0.10/24"),
            ),
            Some(fixed) if addresses.iter().any(|a| a.address == fixed.address) => faults.at(
                format!("/env/{VARIABLE}"),
                format!("{} is given twice", fixed.address),
            ),
            Some(fixed) => addresses.push(fixed),
        }
    }
    spec.fixed_addresses = addresses;
}

fn address(word: &str) -> Option<FixedAddress> {
    let (address, prefix) = word.strip_prefix("ip:").unwrap_or(word).split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|prefix| (1..=32).contains(prefix))?;
    let usable = !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] >= 240);
    usable.then_some(FixedAddress { address, prefix })
}
