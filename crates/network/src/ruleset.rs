//! Our nftables rules as text, from what should be true. Pure.
//!
//! `inet tandem` publishes ports, lets containers out and keeps strangers out of the VXLAN port;
//! `bridge tandem` lets a container send only as itself. Each text is one transaction for
//! `nft -f -`. Elements are always flushed and added whole: nft refuses the entire transaction
//! when one element exists with another value, or one to be deleted does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::net::Ipv4Addr;

use model::spec::Protocol;

use crate::address::{PORT_PREFIX, mac, mac_text};
use crate::placement::Endpoint;
use crate::subnet::Subnet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The overlay.
    pub subnet: Subnet,
    /// The subnet that the nodes share.
    pub underlay: Subnet,
    /// Who may send us VXLAN.
    pub nodes: BTreeSet<Ipv4Addr>,
    /// Ports of the instances that the directory places here.
    pub published: BTreeMap<Endpoint, (Ipv4Addr, u16)>,
    /// Port device and the one address that may be used there.
    pub bound: BTreeSet<(String, Ipv4Addr)>,
}

impl Rules {
    /// The published ports that lead to what is plugged in. Before that somebody else may serve
    /// there, and goes on with it.
    pub fn open(&self) -> BTreeMap<Endpoint, (Ipv4Addr, u16)> {
        let bound: BTreeSet<Ipv4Addr> = self.bound.iter().map(|(_, address)| *address).collect();
        let published = self.published.iter();
        published
            .filter(|(_, (address, _))| bound.contains(address))
            .map(|(endpoint, target)| (*endpoint, *target))
            .collect()
    }
}

/// Both tables, replacing whatever they were.
pub(crate) fn whole(rules: &Rules) -> String {
    let Rules {
        subnet, underlay, ..
    } = rules;
    // Hooked before Docker's and after nobody's; `dstnat` and `srcnat` are no names that every
    // hook knows, so priorities are numbers. Replies between nodes and containers keep their
    // source: masqueraded, they would reach a connection that nobody opened.
    let tables = format!(
        r#"add table inet tandem
delete table inet tandem
add table bridge tandem
delete table bridge tandem
table inet tandem {{
	map published {{
		type inet_proto . inet_service : ipv4_addr . inet_service
	}}
	set nodes {{
		type ipv4_addr
	}}
	set nets {{
		type ipv4_addr
		flags interval
		elements = {{ {subnet} }}
	}}
	chain prerouting {{
		type nat hook prerouting priority -110; policy accept;
		fib daddr type local dnat ip to meta l4proto . th dport map @published
	}}
	chain output {{
		type nat hook output priority -110; policy accept;
		fib daddr type local dnat ip to meta l4proto . th dport map @published
	}}
	chain postrouting {{
		type nat hook postrouting priority 90; policy accept;
		ip saddr @nets ip daddr {underlay} accept
		ip saddr 127.0.0.0/8 oifname "tnd*" masquerade
		ip saddr @nets oifname "tnd*" ct status dnat masquerade
		ip saddr @nets ip daddr != @nets oifname != "tnd*" masquerade
	}}
	chain clamp {{
		type filter hook forward priority 0; policy accept;
		ip saddr @nets oifname != "tnd*" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
	}}
	chain tunnel {{
		type filter hook input priority -10; policy accept;
		udp dport 4789 ip saddr != @nodes drop
	}}
}}
table bridge tandem {{
	set bound {{
		type ifname . ether_addr . ipv4_addr
	}}
	chain guard {{
		type filter hook prerouting priority -300; policy accept;
		iifname != "{PORT_PREFIX}*" accept
		ether type ip iifname . ether saddr . ip saddr @bound accept
		ether type arp iifname . arp saddr ether . arp saddr ip @bound accept
		counter drop
	}}
}}
"#
    );
    tables + &additions(rules)
}

/// The elements alone, for tables that stand already.
pub(crate) fn elements(rules: &Rules) -> String {
    let mut text = String::from(
        "flush map inet tandem published\n\
         flush set inet tandem nodes\n\
         flush set bridge tandem bound\n",
    );
    text.push_str(&additions(rules));
    text
}

fn additions(rules: &Rules) -> String {
    let open = rules.open();
    let published = open.iter().map(|((protocol, port), (address, target))| {
        format!(
            "{} . {port} : {address} . {target}",
            protocol_name(*protocol)
        )
    });
    let bound = rules
        .bound
        .iter()
        .map(|(port, address)| format!("\"{port}\" . {} . {address}", mac_text(mac(*address))));
    let mut text = String::new();
    add(&mut text, "inet tandem published", published);
    add(&mut text, "inet tandem nodes", rules.nodes.iter());
    add(&mut text, "bridge tandem bound", bound);
    text
}

fn add<T: Display>(text: &mut String, set: &str, elements: impl Iterator<Item = T>) {
    let mut elements = elements.peekable();
    if elements.peek().is_none() {
        return;
    }
    let _ = write!(text, "add element {set} {{");
    for element in elements {
        let _ = write!(text, "\n\t{element},");
    }
    text.push_str("\n}\n");
}

pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let address = |last| Ipv4Addr::new(10, 32, 0, last);
        Rules {
            subnet: Subnet::new(address(0), 12),
            underlay: Subnet::new(Ipv4Addr::new(10, 0, 15, 11), 24),
            nodes: [Ipv4Addr::new(10, 0, 15, 11), Ipv4Addr::new(10, 0, 15, 12)].into(),
            published: [
                ((Protocol::Tcp, 8080), (address(101), 80)),
                ((Protocol::Udp, 53), (address(102), 5353)),
            ]
            .into(),
            bound: [
                ("tvo1".to_owned(), address(101)),
                ("tvo2".to_owned(), address(102)),
            ]
            .into(),
        }
    }

    #[test]
    fn the_elements_are_flushed_and_added_whole() {
        assert_eq!(
            elements(&rules()),
            "flush map inet tandem published\n\
             flush set inet tandem nodes\n\
             flush set bridge tandem bound\n\
             add element inet tandem published {\n\
             \ttcp . 8080 : 10.32.0.101 . 80,\n\
             \tudp . 53 : 10.32.0.102 . 5353,\n\
             }\n\
             add element inet tandem nodes {\n\
             \t10.0.15.11,\n\
             \t10.0.15.12,\n\
             }\n\
             add element bridge tandem bound {\n\
             \t\"tvo1\" . 02:54:0a:20:00:65 . 10.32.0.101,\n\
             \t\"tvo2\" . 02:54:0a:20:00:66 . 10.32.0.102,\n\
             }\n"
        );
    }

    #[test]
    fn empty_sets_are_only_flushed() {
        let empty = Rules {
            nodes: BTreeSet::new(),
            published: BTreeMap::new(),
            bound: BTreeSet::new(),
            ..rules()
        };
        assert!(!elements(&empty).contains("add element"));
    }

    #[test]
    fn a_port_opens_when_its_instance_is_plugged_in() {
        let mut rules = rules();
        rules.bound.retain(|(name, _)| name == "tvo1");
        let open: Vec<Endpoint> = rules.open().into_keys().collect();
        assert_eq!(open, [(Protocol::Tcp, 8080)]);
    }

    #[test]
    fn the_whole_ruleset_is_as_agreed() {
        assert_eq!(whole(&rules()), include_str!("../tests/golden/ruleset.nft"));
    }
}
