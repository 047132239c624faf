//! Names, asked for by a real client inside containers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use model::{AppId, Entry, InstanceId};
use network::{Attachment, Dns, Names, Subnet, Upstreams};

use crate::lab::*;

/// Starts a name server on a node that knows the lab's directory.
fn serve(lab: &Lab, node: u32, upstream: SocketAddr) {
    let names = Names::of(&lab.directory, Subnet::new(address(0), 12));
    lab.node(node).run(move |_| async move {
        let dns = Dns::bind(
            SocketAddr::from((GATEWAY, 53)),
            Upstreams::fixed(vec![upstream]),
        );
        let dns = Arc::new(dns.await.expect("bind"));
        dns.publish(names);
        tokio::task::spawn_local(dns.serve());
    });
}

fn dig(node: &Place, from: &Attachment, arguments: &'static str) -> String {
    node.inside(&from.namespace, move || {
        let output = Command::new("dig")
            .arg(format!("@{GATEWAY}"))
            .args(arguments.split(' '))
            .output()
            .expect("dig runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

fn called(app: &str, node: u32, last: u8) -> Entry {
    Entry {
        app: AppId::parse(app).expect("a valid id"),
        ..entry(node, last)
    }
}

#[test]
fn containers_find_each_other_by_name_on_every_node() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, called("/shop/web", 1, 1));
    let c2 = lab.start(2, 2, called("/blog/web", 2, 2));
    lab.directory.instances.extend((0..100).map(|n| {
        (
            InstanceId {
                birth: 100 + n,
                slot: 0,
            },
            called("/many", 3, 100 + n as u8),
        )
    }));
    lab.directory.instances.insert(
        InstanceId {
            birth: 300,
            slot: 0,
        },
        called("/shop/db", 3, 90),
    );
    lab.directory.instances.insert(
        InstanceId {
            birth: 301,
            slot: 0,
        },
        called("/blog/db", 3, 91),
    );
    lab.apply();
    let nobody = SocketAddr::from((underlay(0), 53));
    serve(&lab, 1, nobody);
    serve(&lab, 2, nobody);

    let (n1, n2) = (lab.node(1), lab.node(2));
    assert_eq!(dig(n1, &c1, "+short db"), "10.32.1.90\n");
    assert_eq!(dig(n2, &c2, "+short db"), "10.32.1.91\n");
    assert_eq!(dig(n2, &c2, "+short db.shop.tandem.local"), "10.32.1.90\n");
    assert_eq!(
        dig(n1, &c1, "+short -x 10.32.1.2"),
        "web.blog.tandem.local.\n"
    );
    let empty = dig(n1, &c1, "db AAAA");
    assert!(
        empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"),
        "{empty}"
    );
    assert!(dig(n1, &c1, "nobody.tandem.local").contains("status: NXDOMAIN"));

    let cut = dig(n1, &c1, "+bufsize=512 +ignore many");
    assert!(cut.contains("flags: qr aa tc"), "{cut}");
    let retried = dig(n1, &c1, "+bufsize=512 +short many");
    assert_eq!(retried.lines().count(), 100);
    assert_eq!(dig(n1, &c1, "+tcp +short many").lines().count(), 100);
    assert_eq!(dig(n1, &c1, "+noedns +short many").lines().count(), 24);
    assert_ne!(
        dig(n1, &c1, "+tcp +short many"),
        dig(n1, &c1, "+tcp +short many")
    );
}

#[test]
fn other_names_are_asked_upstream_word_for_word() {
    if !privileged() {
        return;
    }
    let mut lab = Lab::new();
    let c1 = lab.start(1, 1, entry(1, 1));
    let upstream = SocketAddr::from((underlay(0), 53));
    serve(&lab, 1, upstream);

    // Nobody there: a bounded wait, then an honest answer.
    let started = Instant::now();
    let failed = dig(lab.node(1), &c1, "+tries=1 +time=20 example.com");
    assert!(failed.contains("status: SERVFAIL"), "{failed}");
    println!("failure took {:?}", started.elapsed());

    let socket = lab
        .machine
        .here(move || UdpSocket::bind(upstream).expect("bind"));
    let answering = thread::spawn(move || {
        let mut buffer = [0; 2000];
        let (length, client) = socket.recv_from(&mut buffer).expect("a question");
        let mut answer = buffer[..length].to_vec();
        // A response that nobody else would give: REFUSED.
        answer[2] |= 0x80;
        answer[3] = 0x05;
        socket.send_to(&answer, client).expect("answered");
        client.ip()
    });
    let relayed = dig(lab.node(1), &c1, "+tries=1 +time=20 example.com");
    assert!(relayed.contains("status: REFUSED"), "{relayed}");
    let asked_by = answering.join().expect("asked");
    assert_eq!(asked_by, Ipv4Addr::new(10, 0, 15, 11));
    let at_once = Instant::now();
    assert!(dig(lab.node(1), &c1, "nobody.weave.local").contains("NXDOMAIN"));
    assert!(at_once.elapsed() < LIMIT);
}
