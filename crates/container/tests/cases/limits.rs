//! What a container may and may not do.

use super::*;

pub async fn defaults_are_dockers(world: World) {
    let script = "cat /proc/self/status; unshare -m true; echo unshare $?; unshare -U true; \
        echo userns $?; echo 1 > /proc/sys/kernel/hostname; echo sys $?; hostname; \
        cat /proc/kcore | head -c 1; echo; ls -a /dev; trap";
    let named = |spec: &mut Spec| spec.hostname = Some("shop-1".into());
    let (exit, log) = world.result("a", named, script).await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    for wanted in [
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapInh:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "unshare 1",
        "userns 1",
        "sys 1",
        "\nshop-1\n",
        "SigIgn:\t0000000000000000",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
    let add = |spec: &mut Spec| {
        spec.capabilities_add = vec!["SYS_ADMIN".into()];
        spec.capabilities_drop = vec!["MKNOD".into()];
        spec.read_only_root = true;
    };
    let script =
        "unshare -m true; echo unshare $?; touch /new; echo touch $?; cat /proc/self/status";
    let (_, log) = world.result("b", add, script).await;
    assert!(
        log.contains("unshare 0") && log.contains("touch 1"),
        "{log}"
    );
    assert!(log.contains("CapEff:\t00000000a02425fb"), "{log}");
}

pub async fn new_privileges_can_be_allowed(world: World) {
    let allow = |spec: &mut Spec| spec.no_new_privileges = false;
    let (exit, log) = world
        .result(
            "a",
            allow,
            "cat /proc/self/status; unshare -m true; echo unshare $?",
        )
        .await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    for wanted in ["NoNewPrivs:\t0", "Seccomp:\t2", "unshare 1"] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
}

pub async fn a_privileged_one_may_do_what_root_may(world: World) {
    let privileged = |spec: &mut Spec| {
        spec.privileged = true;
        spec.no_new_privileges = false;
    };
    let script = "cat /proc/self/status; unshare -m true; echo unshare $?; \
        mount -t tmpfs none /tmp; echo mount $?; ls /dev; cat /dev/loop-control; \
        touch /sys/kernel/x; echo 1 > /proc/sys/net/ipv4/ip_forward; echo sys $?; sleep 1000";
    let instance = world.run("a", privileged, script).await;
    until("its last word", || text(instance.dir()).contains("sys ")).await;
    let log = text(instance.dir());
    let own = fs::read_to_string("/proc/self/status").expect("our own");
    let bounding = own.lines().find(|line| line.starts_with("CapBnd:"));
    let bounding = bounding.expect("a set").replace("CapBnd", "CapEff");
    for wanted in [
        "NoNewPrivs:\t0",
        "Seccomp:\t0",
        &bounding,
        "unshare 0",
        "mount 0",
        "sys 0",
    ] {
        assert!(log.contains(wanted), "{wanted} is missing in {log}");
    }
    assert!(
        log.contains("\nloop-control\n") && !log.contains("not permitted"),
        "{log}"
    );
    let args = ["/bin/sh", "-c", "unshare -m true && cat /proc/self/status"].map(str::to_owned);
    let status = ExecSpec {
        args: args.to_vec(),
        ..ExecSpec::default()
    };
    let output = within(instance.run(&status, PATIENCE)).await;
    let output = output.expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("Seccomp:\t0") && said.contains(&bounding),
        "{said}"
    );
    within(instance.kill()).await.expect("kill");
}

pub async fn the_number_of_processes_is_limited(world: World) {
    let limit = |spec: &mut Spec| spec.limits.pids = 4;
    let script = "for i in 1 2 3 4 5 6; do sleep 1000 & done; echo forked";
    let (_, log) = world.result("a", limit, script).await;
    assert!(log.contains("can't fork"), "{log}");
}

pub async fn quota_and_memory_limits_are_written(world: World) {
    let limit = |spec: &mut Spec| {
        spec.limits.cpu_quota = Some(0.5);
        spec.limits.cpu_shares = Some(512);
        spec.limits.memory_bytes = Some(64 << 20);
        spec.limits.ulimits = vec![container::Ulimit {
            name: "nofile".into(),
            soft: 77,
            hard: 88,
        }];
    };
    let script = "ulimit -n; ulimit -Hn; cd /sys/fs/cgroup/memory 2>/dev/null && \
        cat memory.limit_in_bytes && ! echo 9 2>/dev/null > memory.limit_in_bytes && \
        echo read-only; echo end; sleep 1000";
    let instance = world.run("a", limit, script).await;
    until("the limits", || text(instance.dir()).contains("end\n")).await;
    let log = text(instance.dir());
    assert!(log.starts_with("77\n88\n"), "{log}");
    let read = |file: &str| {
        let (controller, _) = file.split_once('.').expect("a dot");
        let group = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&world.group);
        fs::read_to_string(group.join(instance.dir().id()).join(file)).unwrap_or_default()
    };
    if Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(read("cpu.cfs_quota_us"), "50000\n");
        assert_eq!(read("cpu.shares"), "512\n");
        assert_eq!(read("memory.limit_in_bytes"), "67108864\n");
        assert_eq!(read("pids.max"), "4096\n");
        assert_eq!(log, "77\n88\n67108864\nread-only\nend\n");
    }
    within(instance.kill()).await.expect("kill");
}
