//! Cutting flows loose from what a published port was before.
//!
//! NAT is decided at a flow's first packet. A UDP client that never pauses would stay with the
//! old container, or un-translated, for as long as it sends.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use model::spec::Protocol;

use crate::error::Result;
use crate::kernel::Kernel;
use crate::placement::Endpoint;
use crate::program::CONNTRACK;
use crate::ruleset::protocol_name;

/// The direction in which a flow was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    source: String,
    destination: Ipv4Addr,
    source_port: String,
    port: u16,
}

/// Deletes the entries of flows that were opened to these ports of the node itself. Flows that
/// merely pass through to a like-numbered port elsewhere keep theirs.
pub(crate) async fn forget(kernel: &Kernel, ports: &BTreeSet<Endpoint>) -> Result<()> {
    let own: BTreeSet<Ipv4Addr> = kernel
        .addresses()
        .await?
        .into_iter()
        .map(|address| address.address)
        .collect();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let numbers: BTreeSet<u16> = ports
            .iter()
            .filter(|(of, _)| *of == protocol)
            .map(|(_, port)| *port)
            .collect();
        if numbers.is_empty() {
            continue;
        }
        let name = protocol_name(protocol);
        let listing = CONNTRACK.output(&["-L", "-p", name], "").await?;
        let flows = listing.lines().filter_map(flow);
        for flow in flows.filter(|flow| numbers.contains(&flow.port) && is_own(&own, flow)) {
            delete(name, &flow).await?;
        }
    }
    Ok(())
}

fn is_own(own: &BTreeSet<Ipv4Addr>, flow: &Flow) -> bool {
    own.contains(&flow.destination) || flow.destination.is_loopback()
}

async fn delete(protocol: &str, flow: &Flow) -> Result<()> {
    let (destination, port) = (flow.destination.to_string(), flow.port.to_string());
    let arguments = [
        "-D",
        "-p",
        protocol,
        "-s",
        &flow.source,
        "-d",
        &destination,
        "--sport",
        &flow.source_port,
        "--dport",
        &port,
    ];
    // It fails when the entry ended by itself since the listing, which is as good.
    CONNTRACK.run(&arguments, "").await.map(drop)
}

/// Reads a line of `conntrack -L`. The first of each key belongs to the opening direction.
fn flow(line: &str) -> Option<Flow> {
    let first = |key: &str| {
        let value = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key))?;
        Some(value.to_owned())
    };
    Some(Flow {
        source: first("src=")?,
        destination: first("dst=")?.parse().ok()?,
        source_port: first("sport=")?,
        port: first("dport=")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_direction_of_a_flow_is_read() {
        let line = "udp      17 28 src=10.0.15.10 dst=10.0.15.11 sport=40001 dport=9001 \
                    [UNREPLIED] src=10.32.0.7 dst=10.0.15.10 sport=53 dport=40001 mark=0 use=1";
        let read = Flow {
            source: "10.0.15.10".to_owned(),
            destination: Ipv4Addr::new(10, 0, 15, 11),
            source_port: "40001".to_owned(),
            port: 9001,
        };
        assert_eq!(flow(line), Some(read));
        assert_eq!(
            flow("conntrack v1.4.7: 0 flow entries have been shown."),
            None
        );
    }
}
