//! (E) The overlay under many containers.

use crate::cluster::{Cluster, Instance, image, sh, wait_for, with};
use nix::sched::{CloneFlags, setns};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const COUNT: usize = 30;
/// What Ethernet leaves of 1500 bytes for a packet in a VXLAN packet.
const MTU: usize = 1450;
const HEADERS: usize = 28;

pub fn thirty_containers_reach_each_other_by_name_and_address(cluster: &Cluster) {
    cluster.up(&[]);
    cluster.push_images();
    let app = |n: usize| {
        let node = format!("10.0.15.1{}", 1 + n % 3);
        let more =
            json!({ "id": format!("/mesh/c{n}"), "constraints": [["hostname", "LIKE", node]] });
        with(image("10.0.15.10:5000/myapp:latest"), more)
    };
    let apps: Value = (0..COUNT).map(app).collect();
    let captures: Vec<Capture> = ["n1", "n2", "n3"]
        .map(|node| Capture::start(cluster, node))
        .into();
    let began = Instant::now();
    cluster.put("", &apps);
    let instances: Vec<Instance> = (0..COUNT)
        .map(|n| cluster.running(&format!("/mesh/c{n}"), 1).remove(0))
        .collect();
    println!(
        "{COUNT} containers run after {:.1} s",
        began.elapsed().as_secs_f32()
    );

    let began = Instant::now();
    std::thread::scope(|scope| {
        for part in instances.chunks(COUNT.div_ceil(3)) {
            let instances = &instances;
            scope.spawn(move || {
                part.iter()
                    .for_each(|from| reaches_all(cluster, from, instances))
            });
        }
    });
    println!(
        "{} fetches in {:.1} s",
        2 * COUNT * COUNT,
        began.elapsed().as_secs_f32()
    );

    full_size_crosses(cluster, &instances[0], &instances[1]);
    for capture in captures {
        capture.judge();
    }
    cluster.down();
}

/// Every page says which address it came from. One shell in the container asks for all of them, as
/// often as it takes for the last name to have come around.
fn reaches_all(cluster: &Cluster, from: &Instance, instances: &[Instance]) {
    let of = |(n, instance): (usize, &Instance)| {
        let address = instance.address.unwrap();
        format!(
            "for h in c{n}.mesh.tandem.local {address}; do got=$(curl -sSf -m 5 http://$h/) || got=nothing; \
             [ \"$got\" = {address} ] || {{ echo $h gave $got; exit 1; }}; done"
        )
    };
    let script: Vec<String> = instances.iter().enumerate().map(of).collect();
    wait_for(&format!("{} to reach all", from.task), || {
        cluster.within(from, &script.join("\n"))
    });
}

/// A packet of the whole MTU that must not be fragmented.
fn full_size_crosses(cluster: &Cluster, from: &Instance, to: &Instance) {
    assert_ne!(from.node, to.node);
    let socket_of = |instance: &Instance| {
        let processes = cluster.processes_of(std::slice::from_ref(instance));
        let namespace = File::open(format!("/proc/{}/ns/net", processes[0].pid)).unwrap();
        // The thread alone goes there; its socket stays there.
        let open = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7000)).unwrap();
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).unwrap();
            socket
        };
        std::thread::spawn(open).join().unwrap()
    };
    let (sender, receiver) = (socket_of(from), socket_of(to));
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let target = SocketAddrV4::new(to.address.unwrap(), 7000);
    let payload = vec![7; MTU - HEADERS];
    wait_for("a packet of full size", || {
        sender
            .send_to(&payload, target)
            .map_err(|error| error.to_string())?;
        let mut buffer = [0; 4096];
        let length = receiver
            .recv(&mut buffer)
            .map_err(|error| error.to_string())?;
        (length == payload.len())
            .then_some(())
            .ok_or(format!("{length} bytes"))
    });
    let too_long = sender.send_to(&vec![7; payload.len() + 1], target);
    assert!(too_long.is_err(), "it was sent in pieces");
}

/// Everything that a node's port on the switch sees of the overlay, frames for others included.
struct Capture {
    node: String,
    file: String,
    program: Child,
}

impl Capture {
    fn start(cluster: &Cluster, node: &str) -> Self {
        let file = cluster
            .path("work")
            .join(format!("{node}.pcap"))
            .display()
            .to_string();
        let log = cluster.path("work").join(format!("{node}.tcpdump"));
        let init = cluster.init_of(node).pid.to_string();
        let program = Command::new("nsenter")
            .args([
                "-t",
                &init,
                "-n",
                "--",
                "tcpdump",
                "-Z",
                "root",
                "-n",
                "-i",
                "eth0",
                "-s",
                "96",
                "-U",
                "-w",
                &file,
                "udp port 4789",
            ])
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        wait_for("tcpdump to listen", || {
            let said = std::fs::read_to_string(&log).unwrap();
            said.contains("listening on").then_some(()).ok_or(said)
        });
        Capture {
            node: node.into(),
            file,
            program,
        }
    }

    /// Of a packet, 8 bytes of UDP and 8 of VXLAN come before the inner frame, then 14 of that
    /// before its IP header.
    fn judge(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.program.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.program.wait().unwrap();
        let own = self.node.replace('n', "10.0.15.1");
        let seen = |what: &str| {
            sh(&format!(
                "tcpdump -n -r {} '{what}' 2> /dev/null",
                self.file
            ))
        };
        let packets = seen("udp").lines().count();
        assert!(packets > 1000, "{}: only {packets} packets", self.node);
        for (what, filter) in [
            ("ARP", "udp[28:2] = 0x0806"),
            ("broadcasts and multicasts", "udp[16] & 1 = 1"),
            ("packets for others", &format!("not host {own}")),
            ("fragments", "ip[6:2] & 0x3fff != 0"),
        ] {
            assert_eq!(seen(filter), "", "{}: {what} on the switch", self.node);
        }
        println!("{}: {packets} packets, all of them meant for it", self.node);
    }
}
