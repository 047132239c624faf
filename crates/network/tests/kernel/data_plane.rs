//! Containers reach each other, and only as themselves, wherever they are.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use model::{Interface, NetworkKind};
use network::{Applied, Attachment, Network, connect_in};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};

use crate::lab::*;

fn fixed(last: u8) -> Interface {
    Interface {
        network: NetworkKind::Fixed,
        address: Ipv4Addr::new(10, 255, 0, last),
        prefix: 24,
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind")
}

fn ask_from(node: &Place, from: &Attachment, to: Ipv4Addr) -> String {
    node.inside(&from.namespace, move || greeting_over(&socket(), to, 7))
}

/// Everything that passes the switch as VXLAN, decoded.
struct Capture(Child);

impl Capture {
    fn start(lab: &Lab) -> Self {
        let path = lab.scratch().join("capture");
        let child = lab.switch.run(move |_| async move {
            let file = std::fs::File::create(path).expect("a file");
            Command::new("tcpdump")
                .args(["-i", "sw0", "-nelU", "udp port 4789"])
                .stdout(file)
                .stderr(Stdio::piped())
                .spawn()
                .expect("tcpdump runs")
        });
        let mut capture = Self(child);
        let mut said = capture.0.stderr.take().expect("piped");
        let mut text = Vec::new();
        let mut byte = [0];
        // To the end of the line: it must not meet a closed pipe while it speaks.
        while !(String::from_utf8_lossy(&text).contains("listening on") && text.ends_with(b"\n")) {
            io::Read::read_exact(&mut said, &mut byte).expect("tcpdump listens");
            text.push(byte[0]);
        }
        capture
    }

    fn read(lab: &Lab) -> String {
        std::fs::read_to_string(lab.scratch().join("capture")).expect("a capture")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn containers_on_different_nodes_talk_at_full_size_without_any_flooding() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let mut both = entry(1, 1);
    both.interfaces.push(fixed(10));
    let c1 = lab.start(1, 1, both);
    let mut both = entry(2, 2);
    both.interfaces.push(fixed(11));
    let c2 = lab.start(2, 2, both);
    let c3 = lab.start(1, 3, entry(1, 3));
    let _capture = Capture::start(&lab);
    let _greeter = Greeter::start(lab.node(2), &c2.namespace, "c2", 7);
    let _other = Greeter::start(lab.node(1), &c3.namespace, "c3", 7);

    until("c2 10.32.1.1".to_owned(), || {
        ask_from(lab.node(1), &c1, address(2))
    });
    until("c3 10.32.1.1".to_owned(), || {
        ask_from(lab.node(1), &c1, address(3))
    });
    until("c2 10.255.0.10".to_owned(), || {
        ask_from(lab.node(1), &c1, fixed(11).address)
    });
    // The node itself, and a node where neither is, under their own overlay addresses.
    until("c2 10.32.0.11".to_owned(), || {
        lab.node(1).here(|| greeting(address(2), 7))
    });
    until("c2 10.32.0.13".to_owned(), || {
        lab.node(3).here(|| greeting(address(2), 7))
    });

    let sizes = lab.node(1).inside(&c1.namespace, || {
        let socket = socket();
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).expect("don't fragment");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        let full = vec![0; 1450 - 28];
        socket
            .send_to(&full, (address(2), 7))
            .expect("the full size");
        let answered = socket.recv_from(&mut [0; 2000]).is_ok();
        let larger = vec![0; 1450 - 27];
        (answered, socket.send_to(&larger, (address(2), 7)).is_err())
    });
    assert_eq!(
        sizes,
        (true, true),
        "the full size arrives, more is refused at once"
    );

    // Fixed addresses have a network of their own. What is on the wire is told a moment later.
    until((true, true), || {
        let seen = Capture::read(&lab);
        (
            seen.matches("vni 4096").count() >= 4,
            seen.contains("vni 4097"),
        )
    });
    let seen = Capture::read(&lab);
    for flooded in ["ethertype ARP", "Broadcast", "ethertype IPv6"] {
        assert!(!seen.contains(flooded), "{flooded} on the wire:\n{seen}");
    }
}

#[test]
fn repeating_anything_changes_nothing() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    lab.start(2, 2, entry(2, 2));
    let node = lab.node(1);
    let state = || {
        node.shell(
            "ip -d link show; ip addr show; bridge fdb show; ip neigh show; nft list ruleset",
        )
        .lines()
        .filter(|line| !line.contains("counter"))
        .map(|line| {
            line.split(" hello_timer")
                .next()
                .unwrap_or_default()
                .to_owned()
                + "\n"
        })
        .filter(|line| line.contains("02:54") || line.contains("tnd"))
        .collect::<String>()
    };
    let before = state();
    assert_eq!(node.apply(&lab.directory), Applied::default());
    node.attach(&c1);
    assert_eq!(state(), before);
    // As an agent that died and came back.
    node.open();
    assert_eq!(node.apply(&lab.directory), Applied::default());
    node.attach(&c1);
    assert_eq!(state(), before);
    let applied = node.run(|context| async move { context.network().reconcile().await });
    assert_eq!(applied.expect("reconciles"), Applied::default());
    assert_eq!(state(), before);
}

#[test]
fn what_others_break_is_mended_without_touching_the_bridge() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let c2 = lab.start(2, 2, entry(2, 2));
    let _greeter = Greeter::start(lab.node(2), &c2.namespace, "c2", 7);
    let node = lab.node(1);
    let bridge = node.shell("cat /proc/net/dev_snmp6/tnd0 | head -1");
    node.shell(
        "ip link del tnd0vx; \
         ip link add tnd0vx type vxlan id 999 dev eth0 dstport 4789; ip link set tnd0vx up; \
         ip addr flush dev tnd0; nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward; \
         ip link set $(ip -br link show type veth | grep -o '^tvo[^@]*') type bridge_slave learning on locked off; \
         iptables-nft -N DOCKER-USER",
    );
    assert_eq!(ask_from(node, &c1, address(2)), "-");
    let applied = node.run(|context| async move { context.network().reconcile().await });
    assert!(applied.expect("reconciles").written > 0);
    until("c2 10.32.1.1".to_owned(), || {
        ask_from(node, &c1, address(2))
    });
    assert_eq!(node.shell("cat /proc/net/dev_snmp6/tnd0 | head -1"), bridge);
    node.shell(
        "ip -d link show tnd0vx | grep -q 'vxlan id 4096'; nft list table bridge tandem | grep -q tvo; \
         ip -d link show type veth | grep -A3 tvo | grep -q 'hairpin on.*learning off.*locked on'; \
         iptables-nft -C DOCKER-USER -i tnd+ -j ACCEPT; iptables-nft -C DOCKER-USER -o tnd+ -j ACCEPT; \
         grep -q 1 /proc/sys/net/ipv4/ip_forward",
    );
}

#[test]
fn a_container_can_speak_only_as_itself() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let c3 = lab.start(1, 3, entry(1, 3));
    let c2 = lab.start(2, 2, entry(2, 2));
    let _near = Greeter::start(lab.node(1), &c3.namespace, "c3", 7);
    let _far = Greeter::start(lab.node(2), &c2.namespace, "c2", 7);
    let node = lab.node(1);
    let dropped = || {
        let chain = node.shell("nft list chain bridge tandem guard");
        let count = chain
            .split("packets ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        count
            .and_then(|count| count.parse::<u64>().ok())
            .expect("a counter")
    };
    until("c3 10.32.1.1".to_owned(), || {
        ask_from(node, &c1, address(3))
    });
    until("c2 10.32.1.1".to_owned(), || {
        ask_from(node, &c1, address(2))
    });

    // Another's address, first as a question by ARP, then as a packet.
    let forge = |neighbour: &'static str| {
        node.inside(&c1.namespace, move || {
            shell(&format!(
                "ip addr replace 10.32.1.99/12 dev eth0; {neighbour}"
            ));
            let socket = UdpSocket::bind((address(99), 0)).expect("bind");
            (
                greeting_over(&socket, address(3), 7),
                greeting_over(&socket, address(2), 7),
            )
        })
    };
    let silence = ("-".to_owned(), "-".to_owned());
    let start = dropped();
    assert_eq!(forge("ip neigh flush all"), silence);
    until(true, || dropped() > start);
    let arp = dropped();
    let known = "ip neigh replace 10.32.1.3 lladdr 02:54:0a:20:01:03 dev eth0; \
                 ip neigh replace 10.32.1.2 lladdr 02:54:0a:20:01:02 dev eth0";
    assert_eq!(forge(known), silence);
    until(true, || dropped() > arp);

    // Another's MAC and address; the port is locked to its own.
    node.inside(&c1.namespace, || {
        shell(
            "ip addr flush dev eth0; ip link set eth0 address 02:54:0a:20:01:02; \
             ip addr add 10.32.1.2/12 dev eth0",
        )
    });
    assert_eq!(ask_from(node, &c1, address(3)), "-");
    let (n2, n3) = (lab.node(2), lab.node(3));
    until("c2 10.32.0.12".to_owned(), || {
        n2.here(|| greeting(address(2), 7))
    });
    until("c2 10.32.0.13".to_owned(), || {
        n3.here(|| greeting(address(2), 7))
    });

    // Itself again.
    node.inside(&c1.namespace, || {
        shell(
            "ip addr flush dev eth0; ip link set eth0 address 02:54:0a:20:01:01; \
             ip addr add 10.32.1.1/12 dev eth0",
        )
    });
    until("c3 10.32.1.1".to_owned(), || {
        ask_from(node, &c1, address(3))
    });
}

#[test]
fn a_stranger_cannot_speak_vxlan_to_a_node() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let _greeter = Greeter::start(lab.node(1), &c1.namespace, "c1", 7);
    lab.machine.shell(
        "ip link add vx type vxlan id 4096 remote 10.0.15.11 dev eth0 dstport 4789 nolearning; \
         ip link set vx address 02:54:0a:20:00:0d; ip addr add 10.32.0.13/12 dev vx; \
         ip link set vx up; ip neigh replace 10.32.1.1 lladdr 02:54:0a:20:01:01 dev vx",
    );
    lab.node(1).shell(
        "nft insert rule inet tandem tunnel ip saddr 10.0.15.10 udp dport 4789 counter; \
         nft add rule inet tandem tunnel ip saddr 10.0.15.10 udp dport 4789 counter",
    );
    assert_eq!(
        lab.machine.here(|| greeting_over(&socket(), address(1), 7)),
        "-"
    );
    let chain = lab.node(1).shell("nft list chain inet tandem tunnel");
    let counts: Vec<&str> = chain
        .split("packets ")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert!(
        matches!(counts.as_slice(), [came, "0"] if *came != "0"),
        "{chain}"
    );
}

#[test]
fn an_address_moves_to_a_prepared_heir_by_a_flip_on_each_node() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let asker = lab.start(3, 3, entry(3, 3));
    let source = lab.start(1, 1, entry(1, 1));
    let heir = lab.attachment(2, &[overlay(1)]);
    lab.node(2).attach(&heir);
    let _old = Greeter::start(lab.node(1), &source.namespace, "source", 7);
    let _new = Greeter::start(lab.node(2), &heir.namespace, "heir", 7);
    until("source 10.32.1.3".to_owned(), || {
        ask_from(lab.node(3), &asker, address(1))
    });
    lab.apply();
    assert_eq!(
        answer(|| ask_from(lab.node(3), &asker, address(1))),
        "source 10.32.1.3"
    );
    assert_eq!(
        answer(|| lab.node(2).here(|| greeting(address(1), 7))),
        "source 10.32.0.12",
        "the heir is silent even on its own node"
    );

    let prober = lab.node(3).inside(&asker.namespace, socket);
    prober
        .set_read_timeout(Some(Duration::from_millis(1)))
        .expect("a timeout");
    let probing = thread::spawn(move || {
        let (started, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut buffer = [0; 2000];
        while started.elapsed() < LIMIT {
            drop(prober.send_to(b"who?", (address(1), 7)));
            if let Ok((length, _)) = prober.recv_from(&mut buffer) {
                gap = gap.max(last.elapsed());
                last = Instant::now();
                if buffer[..length].starts_with(b"heir") {
                    return gap;
                }
            }
        }
        panic!("the heir never answered");
    });
    thread::sleep(Duration::from_millis(100));
    let handed_over = entry(2, 1);
    for node in [2, 1, 3] {
        let (id, entry) = (heir.id, handed_over.clone());
        lab.node(node).run(move |context| async move {
            context.network().flip(id, &entry).await.expect("flip");
        });
    }
    println!(
        "longest silence of a prober: {:?}",
        probing.join().expect("the heir answers")
    );

    // The directory that follows says the same.
    lab.directory.instances.remove(&source.id);
    lab.directory.instances.insert(heir.id, handed_over);
    for node in 1..=3 {
        assert_eq!(
            lab.node(node).apply(&lab.directory),
            Applied::default(),
            "node {node}"
        );
    }
    until("heir 10.32.0.11".to_owned(), || {
        lab.node(1).here(|| greeting(address(1), 7))
    });
    until("heir 10.32.1.3".to_owned(), || {
        ask_from(lab.node(3), &asker, address(1))
    });
}

#[test]
fn fifty_instances_are_plugged_in_at_once() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let attachments: Vec<Attachment> = (1..=50)
        .map(|last| lab.attachment(u64::from(last), &[overlay(last)]))
        .collect();
    let all = attachments.clone();
    let took = lab.node(1).run(move |context| async move {
        let started = Instant::now();
        let network = context.network();
        let attaching = all.iter().map(|attachment| network.attach(attachment));
        futures::future::try_join_all(attaching)
            .await
            .expect("attached");
        started.elapsed()
    });
    println!("fifty attached in {took:?}");
    // None is in a directory yet, and each can speak already.
    let _greeter = Greeter::start(lab.node(1), &attachments[0].namespace, "first", 7);
    for (attachment, last) in attachments.iter().zip(1..).skip(1) {
        assert_eq!(
            answer(|| ask_from(lab.node(1), attachment, address(1))),
            format!("first {}", address(last))
        );
    }
    for (attachment, last) in attachments.iter().zip(1..) {
        lab.directory
            .instances
            .insert(attachment.id, entry(1, last));
    }
    assert_eq!(lab.node(1).apply(&lab.directory), Applied::default());
    assert_eq!(lab.node(3).apply(&lab.directory).written, 50);
    until("first 10.32.0.13".to_owned(), || {
        lab.node(3).here(|| greeting(address(1), 7))
    });
}

#[test]
fn nothing_is_plugged_in_before_a_directory_is_known() {
    if !privileged() {
        return;
    }
    let lab = Lab::new();
    lab.node(1).open();
    let attachment = lab.attachment(1, &[overlay(1)]);
    let path = attachment.namespace.clone();
    let refused = lab.node(1).run(move |context| async move {
        context
            .network()
            .attach(&attachment)
            .await
            .err()
            .map(|error| error.to_string())
    });
    let said = "no directory has been applied yet, so nothing may be attached";
    assert_eq!(refused.as_deref(), Some(said));
    assert!(!path.exists());
}

#[test]
fn an_overlay_that_the_machine_routes_elsewhere_is_refused() {
    if !privileged() {
        return;
    }
    let lab = Lab::new();
    let node = lab.node(1);
    node.shell("ip route add 10.40.0.0/16 via 10.0.15.10");
    let refused = node.run(|context| async move {
        let opened = Network::open(context.settings.clone()).await;
        opened.err().map(|error| error.to_string())
    });
    let said =
        "the overlay 10.32.0.0/12 overlaps 10.40.0.0/16, which this machine routes elsewhere";
    assert_eq!(refused.as_deref(), Some(said));
}

#[test]
fn detached_and_swept_instances_leave_nothing_behind() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let c3 = lab.start(1, 3, entry(1, 3));
    let c4 = lab.start(1, 4, entry(1, 4));
    let _greeter = Greeter::start(lab.node(1), &c3.namespace, "c3", 7);
    let (id, path) = (c1.id, c1.namespace.clone());
    for _ in 0..2 {
        let path = path.clone();
        lab.node(1).run(move |context| async move {
            context.network().detach(id, &path).await.expect("detach");
        });
    }
    let claimed = BTreeMap::from([(c3.id, c3.namespace.clone())]);
    // Things of other people that happen to look like ours.
    lab.node(1)
        .shell("ip link add tvx type veth peer name other");
    let scratch = c1.namespace.parent().expect("a parent").to_owned();
    let gone = lab.node(1).run(move |context| async move {
        context
            .network()
            .sweep(&claimed, &scratch)
            .await
            .expect("sweep")
    });
    assert_eq!(gone, 2, "the veth and the namespace of the fourth");
    assert!(!c1.namespace.exists() && !c4.namespace.exists());
    let left = lab.node(1).shell("ip -br link show type veth | grep -c '^tvo'; nft list set bridge tandem bound; bridge fdb show");
    assert!(left.starts_with("1\n"), "{left}");
    for address in [
        "10.32.1.1",
        "10.32.1.4",
        "02:54:0a:20:01:01",
        "02:54:0a:20:01:04",
    ] {
        assert!(!left.contains(address), "{address} is still there: {left}");
    }
    lab.node(1).shell("ip link show tvx");

    // Checks dial from inside an instance, where its own loopback is.
    let path = c3.namespace.clone();
    let peer = lab.node(1).run(move |_| async move {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 7));
        connect_in(&path, own)
            .await
            .and_then(|stream| stream.peer_addr())
    });
    assert_eq!(
        peer.expect("connected"),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 7))
    );
    let dead = lab.scratch().join("nobody");
    let refused = lab.node(1).run(move |_| async move {
        connect_in(&dead, SocketAddr::from((Ipv4Addr::LOCALHOST, 7)))
            .await
            .is_err()
    });
    assert!(refused);
}
