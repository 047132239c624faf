//! Published ports, from everywhere, and what happens to flows when they change.

use std::net::{Ipv4Addr, UdpSocket};

use model::spec::Protocol;

use crate::lab::*;

#[test]
fn a_published_port_answers_from_everywhere() {
    if privileged() {
        answers_from_everywhere(Lab::new());
    }
}

#[test]
fn a_published_port_answers_where_bridged_frames_pass_iptables() {
    if privileged() {
        let lab = Lab::of_machines();
        lab.node(1)
            .shell("grep -q 1 /proc/sys/net/bridge/bridge-nf-call-iptables");
        answers_from_everywhere(lab);
    }
}

#[test]
fn a_published_port_answers_beside_dockerd() {
    if !privileged() {
        return;
    }
    let lab = Lab::of_machines();
    for node in &lab.nodes {
        // What dockerd does to a machine.
        node.shell(
            "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; \
             iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -P FORWARD DROP",
        );
        node.run(|context| async move { context.network().reconcile().await })
            .expect("reconciles");
    }
    answers_from_everywhere(lab);
}

fn answers_from_everywhere(mut lab: Lab) {
    let mut served = entry(1, 1);
    served.ports = vec![port(Protocol::Tcp, 80, 8080)];
    let c1 = lab.start(1, 1, served);
    let c3 = lab.start(1, 3, entry(1, 3));
    let c2 = lab.start(2, 2, entry(2, 2));
    let _greeter = Greeter::start(lab.node(1), &c1.namespace, "c1", 80);
    let n1 = underlay(1);
    let ask = move || greeting(n1, 8080);

    until("c1 10.0.15.10".to_owned(), || lab.machine.here(ask));
    until("c1 10.0.15.12".to_owned(), || lab.node(2).here(ask));
    until("c1 10.32.0.11".to_owned(), || {
        lab.node(1).here(|| greeting(Ipv4Addr::LOCALHOST, 8080))
    });
    until("c1 10.32.0.11".to_owned(), || {
        lab.node(1).inside(&c1.namespace, ask)
    });
    until("c1 10.32.0.11".to_owned(), || {
        lab.node(1).inside(&c3.namespace, ask)
    });
    until(true, || {
        lab.node(2).inside(&c2.namespace, ask).starts_with("c1 ")
    });
    // A container's connection to a like-numbered port elsewhere is not ours to touch.
    assert_eq!(lab.machine.here(|| greeting(underlay(2), 8080)), "-");

    // An agent that comes back finds the port, and takes it away with the instance.
    lab.node(1).open();
    lab.node(1).apply(&lab.directory);
    assert_eq!(answer(|| lab.machine.here(ask)), "c1 10.0.15.10");
    lab.node(1).open();
    lab.directory.instances.remove(&c1.id);
    lab.apply();
    until("-".to_owned(), || lab.machine.here(ask));
}

#[test]
fn a_flow_follows_its_published_port() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let c3 = lab.start(1, 3, entry(1, 3));
    let _first = Greeter::start(lab.node(1), &c1.namespace, "c1", 53);
    let _second = Greeter::start(lab.node(1), &c3.namespace, "c3", 53);
    let client = lab
        .machine
        .here(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind"));
    let ask = || greeting_over(&client, underlay(1), 9001);

    // Older than the publication, and never pausing: one flow throughout.
    assert_eq!(ask(), "-");
    for (holder, other, said) in [(&c1, &c3, "c1 10.0.15.10"), (&c3, &c1, "c3 10.0.15.10")] {
        let of = |lab: &mut Lab, id, ports| {
            lab.directory
                .instances
                .entry(id)
                .and_modify(|entry| entry.ports = ports);
        };
        of(&mut lab, other.id, Vec::new());
        of(&mut lab, holder.id, vec![port(Protocol::Udp, 53, 9001)]);
        lab.apply();
        until(said.to_owned(), ask);
    }
}

#[test]
fn containers_reach_the_outside_under_their_nodes_address() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    // An address beyond the nodes' own subnet.
    lab.machine.shell("ip addr add 192.0.2.1/32 dev lo");
    let beyond = lab.machine.run(|_| async {
        std::net::TcpListener::bind((Ipv4Addr::new(192, 0, 2, 1), 80)).expect("listen")
    });
    let serving = std::thread::spawn(move || {
        let (mut stream, peer) = beyond.accept().expect("a client");
        drop(std::io::Write::write_all(
            &mut stream,
            peer.ip().to_string().as_bytes(),
        ));
    });
    let said = lab
        .node(1)
        .inside(&c1.namespace, || greeting(Ipv4Addr::new(192, 0, 2, 1), 80));
    assert_eq!(said, "10.0.15.11");
    serving.join().expect("served");
}
