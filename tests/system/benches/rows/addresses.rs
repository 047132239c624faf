//! Answers a second of the nodes' DNS, beside dnsmasq in the same network with the same name. One
//! client on one socket keeps 64 questions under way.

use crate::cluster::{Cluster, image, wait_for, with};
use crate::sample;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const UNDER_WAY: u16 = 64;
const SPAN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

pub fn dns(cluster: &Cluster) {
    cluster.up(&[]);
    cluster.push_images();
    let pinned = json!({ "constraints": [["hostname", "LIKE", "10.0.15.11"]] });
    cluster.put("/web", &with(image("10.0.15.10:5000/myapp:latest"), pinned));
    cluster.running("/web", 1);
    let node = cluster.init_of("n1").pid.to_string();
    let mut other = Command::new("nsenter")
        .args([
            "-t",
            &node,
            "-n",
            "--",
            "dnsmasq",
            "--keep-in-foreground",
            "--no-hosts",
        ])
        .args([
            "--no-resolv",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--user=root",
        ])
        .args([
            "--pid-file=",
            "--conf-file=/dev/null",
            "--host-record=web.tandem.local,10.32.1.1",
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let namespace = File::open(format!("/proc/{node}/ns/net")).unwrap();
    let measured = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        for server in [OURS, THEIRS] {
            wait_for("an answer", || {
                (rate(server, Duration::from_millis(200)) > 0.0)
                    .then_some(())
                    .ok_or("none")
            });
        }
        for _ in 0..ROUNDS {
            sample("dns", "ours", rate(OURS, SPAN));
            sample("dns", "dnsmasq", rate(THEIRS, SPAN));
        }
    });
    let measured = measured.join();
    other.kill().unwrap();
    other.wait().unwrap();
    measured.unwrap();
    cluster.down();
}

/// Answers a second; only those that name an address count.
fn rate(server: Ipv4Addr, span: Duration) -> f64 {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    if socket.connect((server, 53)).is_err() {
        return 0.0;
    }
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let (mut number, mut good) = (0_u16, 0_u32);
    let mut ask = || {
        number = number.wrapping_add(1);
        // Nobody may listen yet: the answers tell.
        let _ = socket.send(&question(number));
    };
    (0..UNDER_WAY).for_each(|_| ask());
    let began = Instant::now();
    let mut answer = [0; 512];
    while began.elapsed() < span {
        match socket.recv(&mut answer) {
            Ok(length) if length > 12 && answer[3] & 15 == 0 && answer[7] > 0 => good += 1,
            Ok(_) => {}
            // Those under way are lost.
            Err(_) => (1..UNDER_WAY).for_each(|_| ask()),
        }
        ask();
    }
    f64::from(good) / began.elapsed().as_secs_f64()
}

fn question(number: u16) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for part in ["web", "tandem", "local"] {
        bytes.push(part.len() as u8);
        bytes.extend(part.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}
