//! Root filesystems and mounts.

use super::exec::sh;
use super::*;

pub async fn a_command_task_sees_the_node_and_owns_its_sandbox(world: World) {
    let sandbox = world.home.path().join("sandbox");
    fs::create_dir(&sandbox).expect("create");
    // Not below /tmp, which the task has one of its own of.
    let elsewhere = tempfile::tempdir_in("/var/tmp").expect("a temporary directory");
    let secret = elsewhere.path().to_owned();
    fs::write(secret.join("key"), "secret").expect("write");
    let host = |spec: &mut Spec| {
        spec.root = Root::Host {
            sandbox: sandbox.clone(),
            hidden: vec![secret.clone()],
        };
        spec.args[0] = "/bin/sh".into();
    };
    let script = format!(
        "pwd; echo data > mine; touch /root/x 2>/dev/null; echo touch $?; ls -A {} | wc -l; \
         ls -A /run | wc -l; ls /etc/debian_version; touch /tmp/x && echo tmp; ls -d /proc/1; \
         grep -c ' / ' /proc/self/mountinfo >/dev/null; cat /proc/1/comm",
        secret.display()
    );
    let (exit, log) = world.result("a", host, &script).await;
    assert_eq!(exit.how, How::Code(0), "{log}");
    let wanted = "/mnt/mesos/sandbox\ntouch 1\n0\n0\n/etc/debian_version\ntmp\n/proc/1\nsh\n";
    assert_eq!(log, wanted);
    assert_eq!(
        fs::read_to_string(sandbox.join("mine")).expect("read"),
        "data\n"
    );
    // The shim went back to our mount namespace: nothing stays mounted.
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!table.contains(&*world.home.path().to_string_lossy()));
    let instance = world
        .run("b", host_again(&sandbox, &secret), "sleep 1000")
        .await;
    let output = within(instance.run(&sh("pwd; ls"), PATIENCE))
        .await
        .expect("run");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "/mnt/mesos/sandbox\nmine\n"
    );
    within(instance.kill()).await.expect("kill");
}

fn host_again(sandbox: &Path, hidden: &Path) -> impl FnOnce(&mut Spec) {
    let root = Root::Host {
        sandbox: sandbox.to_owned(),
        hidden: vec![hidden.to_owned()],
    };
    move |spec| spec.root = root
}

pub async fn mounts_are_made_parents_first(world: World) {
    let data = world.home.path().join("data");
    fs::create_dir(&data).expect("create");
    fs::write(data.join("hosts"), "10.32.0.5 db\n").expect("write");
    let bind = |from: PathBuf, to: &str, read_only| Mount {
        source: Source::Bind(from),
        target: to.into(),
        read_only,
    };
    let change = |spec: &mut Spec| {
        spec.mounts = vec![
            bind(data.clone(), "/srv/a/b", true),
            Mount {
                source: Source::Tmpfs {
                    bytes: Some(1 << 20),
                },
                target: "/srv".into(),
                read_only: false,
            },
            bind(data.join("hosts"), "/etc/hosts", false),
        ];
        spec.cwd = Some("/made/on/demand".into());
        spec.shm_bytes = 3 << 20;
    };
    let script = "pwd; cat /etc/hosts; ls /srv/a/b; touch /srv/a/b/x 2>/dev/null; echo $?; \
        touch /srv/y; echo $?; mount | grep -c 'shm.*size=3072k'";
    let (_, log) = world
        .result("a", change, script.replace("grep", "busybox grep").as_str())
        .await;
    assert_eq!(log, "/made/on/demand\n10.32.0.5 db\nhosts\n1\n0\n1\n");
}
