//! TCP between containers on two nodes, beside a VXLAN link with nothing else between the very same
//! network namespaces: what bridge, locks and published ports cost.

use crate::cluster::{Cluster, Process, image, json_of, sh, wait_for, with};
use crate::sample;
use serde_json::json;
use std::process::{Child, Command, Stdio};

const ROUNDS: usize = 5;
const SECONDS: &str = "2";

pub fn tcp(cluster: &Cluster) {
    cluster.up(&[]);
    cluster.push_images();
    let ends = ["n1", "n2"].map(|node| end(cluster, node));
    raw(&ends);
    for round in 0..=ROUNDS {
        let ours = throughput(&ends, &ends[1].address);
        let raw = throughput(&ends, "192.168.77.2");
        // The first fills caches.
        if round > 0 {
            sample("tcp", "ours", ours);
            sample("tcp", "vxlan", raw);
        }
    }
    cluster.down();
}

/// A container, the first process of its node, and that node's address.
struct End {
    first: Process,
    node: Process,
    underlay: String,
    address: String,
}

fn end(cluster: &Cluster, node: &str) -> End {
    let underlay = node.replace('n', "10.0.15.1");
    let id = format!("/end/{node}");
    let pinned = json!({ "constraints": [["hostname", "LIKE", underlay]] });
    cluster.put(&id, &with(image("10.0.15.10:5000/myapp:latest"), pinned));
    let instances = cluster.running(&id, 1);
    End {
        first: cluster.processes_of(&instances).remove(0),
        node: cluster.init_of(node),
        underlay,
        address: instances[0].address.unwrap().to_string(),
    }
}

/// Gives both containers one end of a VXLAN link of their own. A device remembers the namespace
/// that it was made in: its packets go out there.
fn raw(ends: &[End; 2]) {
    for (n, (here, there)) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])]
        .iter()
        .enumerate()
    {
        let (node, first, remote) = (here.node.pid, here.first.pid, &there.underlay);
        sh(&format!(
            "nsenter -t {node} -n ip link add raw0 type vxlan id 77 remote {remote} dstport 4790 dev eth0 \
             && nsenter -t {node} -n ip link set raw0 mtu 1450 netns /proc/{first}/ns/net \
             && nsenter -t {first} -n ip address add 192.168.77.{}/24 dev raw0 \
             && nsenter -t {first} -n ip link set raw0 up",
            n + 1
        ));
    }
}

/// Bytes a second from the first end to an address of the second.
fn throughput(ends: &[End; 2], address: &str) -> f64 {
    let mut server = iperf(&ends[1], &["--server"]);
    let bits = wait_for("an answer of iperf3", || {
        let client = &["--client", address, "--time", SECONDS, "--json"];
        let output = iperf(&ends[0], client).wait_with_output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        // It ends well also where nobody listens yet.
        let bits = json_of(&text)["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.ok_or(text)
    });
    server.kill().unwrap();
    server.wait().unwrap();
    bits / 8.0
}

fn iperf(end: &End, arguments: &[&str]) -> Child {
    Command::new("nsenter")
        .args(["-t", &end.first.pid.to_string(), "-n", "--", "iperf3"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
