//! What must hold, one claim a function.

pub mod orderly;

use crate::machine::room::skip;
use crate::machine::{Machine, get, kill, lives, sh, wait_until};
use local::{Error, Options, Refusal, Up};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

fn route(to: &str) -> String {
    sh(&format!("ip route show {to}"))
}

pub fn nodes_reach_each_other_the_machine_and_outside_and_down_leaves_nothing(machine: &Machine) {
    let before = machine.listing();
    for round in ["first", "second"] {
        machine.up();
        machine.wait_for_nodes(1..=3);
        assert_eq!(
            machine.inside("n1", "busybox wget -qO- http://10.0.15.13:9000/hostname"),
            "10.0.15.13"
        );
        assert_eq!(
            machine.inside("n2", "busybox wget -qO- http://10.0.15.10:8080/ping"),
            "pong"
        );
        assert_eq!(get("127.0.0.1:5000", "/v2/").as_deref(), Some("{}"));
        assert!(
            route("10.32.0.0/12").starts_with("10.32.0.0/12 via 10.0.15.11 dev tandem0"),
            "{}",
            route("")
        );

        // Outside sees the machine's own address, and no process of another node is seen in a node.
        let outside = TcpListenerOutside::start();
        assert_eq!(
            machine.inside("n3", "busybox nc 192.0.2.1 7000 < /dev/null"),
            "192.0.2.2"
        );
        drop(outside);
        assert_eq!(machine.inside("n2", "hostname"), "10.0.15.12");
        let seen = machine.inside("n2", "sh -c 'cat /proc/[0-9]*/comm'");
        assert!(!seen.contains("docker-regist"), "{seen}");
        assert!(
            machine
                .inside("n2", "cat /proc/1/cmdline")
                .contains("node-init")
        );
        assert!(!machine.inside("n1", "ls /sys/fs/cgroup").is_empty());

        assert!(machine.down().was_running);
        assert_eq!(machine.listing(), before, "after the {round} down");
        assert!(!machine.down().was_running, "down twice is fine");
    }
    assert!(
        machine.options.state_dir.join("registry.secret").exists(),
        "the state is kept"
    );
    assert!(
        fs::read_to_string(machine.options.log_dir.join("up.log"))
            .unwrap()
            .contains("the cluster is up")
    );
}

/// A server outside that answers with the address it was called from.
struct TcpListenerOutside(std::process::Child);

impl TcpListenerOutside {
    fn start() -> Self {
        let server = "ip netns exec outside python3 -c '
import socket
s = socket.create_server((\"192.0.2.1\", 7000))
while True:
    c, who = s.accept()
    c.sendall(who[0].encode())
    c.close()'";
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {server}")])
            .spawn()
            .unwrap();
        wait_until("the outside to listen", || get_raw("192.0.2.1:7000"));
        TcpListenerOutside(child)
    }
}

fn get_raw(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

impl Drop for TcpListenerOutside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn an_agent_is_started_again_and_what_it_started_lives_on(machine: &Machine) {
    machine.up();
    machine.wait_for_nodes(1..=3);
    let kept = machine.noted("n2", "kept").unwrap();
    let init = machine.init_of("n2").unwrap();
    for _ in 0..3 {
        let agent = machine.noted("n2", "agent").unwrap();
        machine.inside("n2", &format!("kill -9 {agent}"));
        wait_until("another agent", || {
            machine.noted("n2", "agent").is_some_and(|now| now != agent) && machine.answers(2)
        });
    }
    assert_eq!(machine.init_of("n2"), Some(init));
    assert_eq!(
        machine.inside("n2", &format!("cat /proc/{kept}/comm")),
        "sleep"
    );
    machine.down();
}

pub fn a_node_dies_with_everything_in_it_and_comes_back(machine: &Machine) {
    machine.up();
    machine.wait_for_nodes(1..=3);
    let everything: Vec<i32> = ["n1/init", "n1/agent"]
        .iter()
        .flat_map(|group| machine.members(group))
        .collect();
    assert!(everything.len() >= 3, "init, agent, sleep: {everything:?}");
    let first = machine.init_of("n1").unwrap();
    kill(first);
    wait_until("all of the node to be gone", || {
        !everything.iter().any(|pid| lives(*pid))
    });
    wait_until("the node to be back", || {
        machine.init_of("n1").is_some_and(|init| init != first) && machine.answers(1)
    });
    let log = || fs::read_to_string(machine.options.log_dir.join("up.log")).unwrap();
    wait_until("the supervisor to say so", || {
        log().matches("n1 is up").count() == 2
    });
    assert!(log().contains("n1 ended (signal: 9 (SIGKILL)"), "{}", log());
    assert!(route("10.32.0.0/12").contains("via 10.0.15.11"));

    // While it is away, the overlay is reached by another.
    sh("ip monitor route > /run/routes 2>&1 < /dev/null &");
    wait_until("the monitor to tell of routes", || {
        sh("ip route add 198.51.100.0/24 via 192.0.2.1; ip route del 198.51.100.0/24");
        fs::metadata("/run/routes").is_ok_and(|told| told.len() > 0)
    });
    kill(machine.init_of("n1").unwrap());
    wait_until("the route to have moved", || {
        fs::read_to_string("/run/routes")
            .unwrap()
            .contains("via 10.0.15.12")
    });
    wait_until("the node to be up again", || {
        log().matches("n1 is up").count() == 3
    });
    let back = Instant::now();
    machine.wait_for_nodes(1..=3);
    // Neighbours remember for half a minute where the node was.
    assert!(
        back.elapsed() < Duration::from_secs(20),
        "{:?}",
        back.elapsed()
    );

    let master = machine.members("master");
    kill(master[0]);
    wait_until("another master", || {
        get("10.0.15.10:8080", "/ping").is_some() && machine.members("master") != master
    });
    machine.down();
}

pub fn a_node_with_frozen_tasks_still_dies(machine: &Machine) {
    let freezer = format!(
        "/sys/fs/cgroup/freezer/{}/n1/frozen",
        machine.options.cgroup
    );
    if !fs::exists("/sys/fs/cgroup/freezer/tasks").unwrap() {
        skip("no version 1 freezer here");
    }
    let before = machine.listing();
    for end in ["node", "supervisor"] {
        let supervisor = machine.up();
        machine.wait_for_nodes(1..=3);
        fs::create_dir(&freezer).unwrap();
        let sleeper = machine
            .members("n1/agent")
            .into_iter()
            .find(|pid| comm(*pid) == "sleep")
            .unwrap();
        fs::write(format!("{freezer}/cgroup.procs"), sleeper.to_string()).unwrap();
        fs::write(format!("{freezer}/freezer.state"), "FROZEN").unwrap();
        let first = machine.init_of("n1").unwrap();
        if end == "node" {
            kill(first);
            wait_until("the node to be back", || {
                !lives(sleeper) && machine.init_of("n1").is_some_and(|init| init != first)
            });
        } else {
            kill(supervisor);
            wait_until("the node to be gone", || {
                !lives(sleeper) && machine.members("n1/init").is_empty()
            });
        }
        machine.down();
        assert_eq!(machine.listing(), before);
    }
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_string()
}

pub fn everything_ends_with_the_supervisor_and_down_or_up_clean_up_after_it(machine: &Machine) {
    let before = machine.listing();
    for next in ["down", "up"] {
        let supervisor = machine.up();
        machine.wait_for_nodes(1..=3);
        let groups = [
            "n1/init", "n1/agent", "n2/init", "n3/agent", "master", "registry",
        ];
        let everything: Vec<i32> = groups
            .iter()
            .flat_map(|group| machine.members(group))
            .collect();
        assert!(everything.len() >= 9, "{everything:?}");
        kill(supervisor);
        wait_until("everything to end", || {
            !everything.iter().any(|pid| lives(*pid))
        });
        assert_ne!(
            machine.listing(),
            before,
            "the machine's own namespace is still changed"
        );
        if next == "up" {
            machine.up();
            machine.wait_for_nodes(1..=3);
        }
        machine.down();
        assert_eq!(machine.listing(), before, "after kill -9 and {next}");
        machine.down();
        assert_eq!(machine.listing(), before, "twice");
    }
}

pub fn a_second_up_says_that_it_runs_or_adds_what_is_missing(machine: &Machine) {
    let two = Machine {
        options: Options {
            nodes: 2,
            attributes: vec!["n1=disk:ssd".parse().unwrap()],
            ..machine.options.clone()
        },
    };
    let pid = u32::try_from(two.up()).unwrap();
    two.wait_for_nodes(1..=2);
    let again = |options: &Options| match local::up(options, true) {
        Ok(Up::Running(running)) => running,
        other => panic!("second up: {other:?}"),
    };
    let same = again(&two.options);
    assert_eq!((same.pid, same.nodes.len(), same.added.len()), (pid, 2, 0));
    let four = Options {
        nodes: 4,
        attributes: vec!["n4=disk:hdd".parse().unwrap()],
        ..two.options.clone()
    };
    let more = again(&four);
    assert_eq!(
        (more.pid, more.added),
        (pid, vec!["n3".to_string(), "n4".to_string()])
    );
    assert!(more.nodes.iter().all(|node| node.up), "{:?}", more.nodes);
    two.wait_for_nodes(1..=4);
    assert_eq!(two.noted("n1", "attributes").as_deref(), Some("disk:ssd"));
    assert_eq!(two.noted("n4", "attributes").as_deref(), Some("disk:hdd"));
    assert!(matches!(
        local::up(&Options { nodes: 250, ..four }, true),
        Err(Error::Refused(Refusal::TooManyNodes { .. }))
    ));
    two.down();
}

pub fn what_is_in_the_way_is_named_and_nothing_is_changed(machine: &Machine) {
    let refused = || match local::up(&machine.options, true) {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("should be refused: {other:?}"),
    };
    let before = machine.listing();
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    let refusal = refused();
    assert!(
        refusal.to_string().starts_with(&format!(
            "port 8080 is taken by exe (process {})",
            std::process::id()
        )),
        "{refusal}"
    );
    assert!(
        refusal.cure().contains(&std::process::id().to_string()),
        "{}",
        refusal.cure()
    );
    drop(listener);

    let typo = Options {
        attributes: vec!["n9=disk:ssd".parse().unwrap()],
        ..machine.options.clone()
    };
    let unknown = local::up(&typo, true).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "attribute n9=disk:ssd is for none of the 3 nodes"
    );

    for (route, subnet) in [
        ("10.0.0.0/16", "10.0.15.0/24"),
        ("10.40.0.0/16", "10.32.0.0/12"),
    ] {
        sh(&format!("ip route add {route} via 192.0.2.1"));
        let refusal = refused();
        let expected = format!("{subnet} is already routed: {route} via 192.0.2.1 dev wan0");
        assert_eq!(refusal.to_string().trim(), expected);
        sh(&format!("ip route del {route}"));
    }
    assert_eq!(machine.listing(), before);

    // A role that cannot be started does not end the supervisor, which says why.
    let mut broken = machine.options.clone();
    broken.roles.master.argv[0] = "/nonexistent/master".into();
    broken.ready = None;
    local::up(&broken, true).unwrap();
    let log = || fs::read_to_string(broken.log_dir.join("up.log")).unwrap();
    wait_until("the reason", || {
        log().contains("start /nonexistent/master: No such file or directory")
    });
    machine.down();
    assert_eq!(machine.listing(), before);
}

pub fn docker_s_chain_lets_nodes_through_while_the_cluster_is_up(machine: &Machine) {
    for line in [
        "-P FORWARD DROP",
        "-N DOCKER-USER",
        "-A FORWARD -j DOCKER-USER",
        "-A DOCKER-USER -j RETURN",
    ] {
        sh(&format!("iptables-nft {line}"));
    }
    let before = machine.listing();
    assert!(
        before.contains("iptables-nft -A DOCKER-USER -j RETURN"),
        "{before}"
    );
    for end in ["down", "kill"] {
        let supervisor = machine.up();
        machine.wait_for_nodes(1..=3);
        assert!(
            machine
                .listing()
                .contains("iptables-nft -A DOCKER-USER -i tandem0 -j ACCEPT"),
            "{}",
            machine.listing()
        );
        let outside = TcpListenerOutside::start();
        assert_eq!(
            machine.inside("n1", "busybox nc 192.0.2.1 7000 < /dev/null"),
            "192.0.2.2"
        );
        drop(outside);
        if end == "kill" {
            kill(supervisor);
        }
        machine.down();
        assert_eq!(machine.listing(), before);
    }
}

pub fn loop_devices_and_mounts_of_a_node_go_with_the_cluster(machine: &Machine) {
    if !fs::exists("/dev/loop-control").unwrap() {
        skip("no loop devices here");
    }
    let before = machine.listing();
    machine.up();
    machine.wait_for_nodes(1..=3);
    let directory = machine
        .options
        .state_dir
        .join("nodes/n2")
        .display()
        .to_string();
    sh(&format!(
        "truncate -s 16M {directory}/pool && mkfs.ext4 -q {directory}/pool && mkdir {directory}/mnt"
    ));
    let device = machine.inside("n2", &format!("losetup --show -f {directory}/pool"));
    machine.inside("n2", &format!("mount {device} {directory}/mnt"));
    machine.inside("n2", &format!("sh -c 'echo kept > {directory}/mnt/file'"));
    assert!(
        machine
            .listing()
            .contains(&format!("loop {device} {directory}/pool"))
    );
    assert!(
        !fs::exists(format!("{directory}/mnt/file")).unwrap(),
        "the mount is the node's alone"
    );
    machine.down();
    assert_eq!(machine.listing(), before);
}

pub fn the_registry_answers_on_both_addresses(machine: &Machine) {
    machine.up();
    let directory = machine.options.log_dir.with_file_name("image");
    let (image, directory) = ("dir:", directory.display().to_string());
    sh(&format!(
        "mkdir {directory} && cd {directory} && printf 'Directory Transport Version: 1.1\n' > version \
         && printf hello > hello && tar cf layer hello && gzip -n layer \
         && d=$(gzip -dc layer.gz | sha256sum | cut -d' ' -f1) && l=$(sha256sum < layer.gz | cut -d' ' -f1) && ls=$(stat -c %s layer.gz) && mv layer.gz $l \
         && printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $d > config \
         && c=$(sha256sum < config | cut -d' ' -f1) && cs=$(stat -c %s config) && mv config $c \
         && printf '{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:%s\",\"size\":%s}},\"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:%s\",\"size\":%s}}]}}' $c $cs $l $ls > manifest.json"
    ));
    sh(&format!(
        "skopeo --insecure-policy copy --dest-tls-verify=false {image}{directory} docker://10.0.15.10:5000/hello:1"
    ));
    let config = sh("skopeo inspect --tls-verify=false --config docker://127.0.0.1:5000/hello:1");
    assert!(config.contains("amd64"), "{config}");
    // A delete by one is seen by the other.
    sh("skopeo delete --tls-verify=false docker://127.0.0.1:5000/hello:1");
    assert!(get("10.0.15.10:5000", "/v2/hello/manifests/1").is_none());
    machine.wait_for_nodes(1..=1);
    assert!(
        machine
            .inside("n1", "busybox wget -qO- http://10.0.15.10:5000/v2/_catalog")
            .contains("hello")
    );
    machine.down();
}

pub fn term_in_the_foreground_is_down_and_purge_takes_only_our_directory(machine: &Machine) {
    let before = machine.listing();
    let options = serde_json::to_string(&machine.options).unwrap();
    let mut child = Command::new("/proc/self/exe")
        .args(["foreground", &options])
        .spawn()
        .unwrap();
    machine.wait_for_nodes(1..=3);
    sh(&format!("kill -TERM {}", child.id()));
    assert!(child.wait().unwrap().success());
    assert_eq!(machine.listing(), before);

    let foreign = machine.options.log_dir.with_file_name("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("precious"), "").unwrap();
    let wrong = Options {
        state_dir: foreign.clone(),
        ..machine.options.clone()
    };
    for refused in [
        local::down(&wrong, true).map(|_| ()),
        local::up(&wrong, true).map(|_| ()),
    ] {
        assert!(
            matches!(refused, Err(Error::Refused(Refusal::NotOurs { .. }))),
            "{refused:?}"
        );
    }
    assert!(foreign.join("precious").exists());

    machine.up();
    assert_eq!(
        local::down(&machine.options, true).unwrap(),
        local::Down {
            was_running: true,
            purged: true
        }
    );
    assert!(!machine.options.state_dir.exists());
    assert_eq!(machine.listing(), before);
    assert_eq!(
        local::down(&machine.options, true).unwrap(),
        local::Down {
            was_running: false,
            purged: false
        }
    );
}

/// This binary as `tandem up` in the foreground.
pub fn foreground(options: &str) -> ExitCode {
    let options = serde_json::from_str(options).unwrap();
    match local::up(&options, false) {
        Ok(Up::Stopped) => ExitCode::SUCCESS,
        other => {
            println!("{other:?}");
            ExitCode::FAILURE
        }
    }
}
