//! Regard for others: for another cluster's things, and for what runs when it has to stop.

use crate::machine::{Machine, kill, wait_until};
use local::{Error, Options, Refusal};
use std::fs::{self, File};
use std::time::{Duration, Instant};

pub fn a_machine_has_one_cluster_and_another_leaves_it_alone(machine: &Machine) {
    let before = machine.listing();
    let mut other = Machine {
        options: Options {
            nodes: 1,
            state_dir: machine.options.state_dir.with_file_name("other"),
            machine: "10.0.16.10/24".parse().unwrap(),
            overlay: "10.64.0.0/12".parse().unwrap(),
            cgroup: "other".into(),
            ready: None,
            ..machine.options.clone()
        },
    };
    other.options.ports.api += 1;
    other.options.ports.registry += 1;
    other.options.ports.agents += 1;
    let supervisor = machine.up();
    machine.wait_for_nodes(1..=3);
    let running = at_rest(machine);
    // Neither up nor down touch what is not theirs, in whatever cgroup it runs.
    for cgroup in ["other", &machine.options.cgroup] {
        let options = Options {
            cgroup: cgroup.into(),
            ..other.options.clone()
        };
        for refused in [
            local::up(&options, true).map(|_| ()),
            local::down(&options, false).map(|_| ()),
        ] {
            let Err(Error::Refused(Refusal::OtherCluster { state_dir, pid })) = refused else {
                panic!("should be refused: {refused:?}")
            };
            assert_eq!(state_dir, machine.options.state_dir);
            assert_eq!(i32::try_from(pid).unwrap(), supervisor);
        }
        fs::remove_dir_all(&options.state_dir).unwrap();
        assert!(local::down(&options, false).is_err(), "without a directory");
    }
    assert_eq!(machine.listing(), running);
    machine.wait_for_nodes(1..=3);

    // What a killed one leaves is for that one to take away. The link goes with the switch, soon,
    // unless somebody still looks into that.
    let switch = namespaces_of(supervisor);
    kill(supervisor);
    wait_until("everything to end", || {
        machine.members("n1/init").is_empty()
    });
    let left = local::up(&other.options, true);
    assert!(
        matches!(left, Err(Error::Refused(Refusal::LinkTaken { .. }))),
        "{left:?}"
    );
    machine.down();
    drop(switch);
    assert_eq!(machine.listing(), before);
    other.up();
    wait_until("the other's node", || other.init_of("n1").is_some());
    other.down();
    assert_eq!(other.listing(), before);
}

/// Network namespaces that a process holds; they live as long as what is returned.
fn namespaces_of(pid: i32) -> Vec<File> {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let paths = held.map(|entry| entry.unwrap().path()).filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
    });
    let namespaces: Vec<File> = paths.map(|path| File::open(path).unwrap()).collect();
    assert!(!namespaces.is_empty(), "it holds the switch's");
    namespaces
}

/// A listing, once it stays what it is.
fn at_rest(machine: &Machine) -> String {
    wait_until("the machine to be at rest", || {
        let before = machine.listing();
        std::thread::sleep(Duration::from_millis(200));
        machine.listing() == before
    });
    machine.listing()
}

pub fn down_gives_nodes_time_to_stop_what_runs_and_not_too_much(machine: &Machine) {
    let before = machine.listing();
    let with_agent = |on_power: &str| {
        let mut options = machine.options.clone();
        let script =
            format!("trap '{on_power}' PWR; echo up > {{state}}/up; while :; do sleep 0.05; done");
        options.roles.agent.argv = vec!["/bin/sh".into(), "-c".into(), script];
        Machine { options }
    };
    let orderly = with_agent("sleep 1; echo stopped > {state}/stopped; exit 0");
    orderly.up();
    wait_until("the agents", || {
        ["n1", "n2", "n3"]
            .iter()
            .all(|node| orderly.noted(node, "up").is_some())
    });
    orderly.down();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(orderly.noted(node, "stopped").as_deref(), Some("stopped"));
        fs::remove_file(
            orderly
                .options
                .state_dir
                .join("nodes")
                .join(node)
                .join("up"),
        )
        .unwrap();
    }
    assert_eq!(machine.listing(), before);

    let deaf = with_agent("");
    deaf.up();
    wait_until("the agents", || deaf.noted("n1", "up").is_some());
    let began = Instant::now();
    deaf.down();
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < Duration::from_secs(35),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(machine.listing(), before);
}
