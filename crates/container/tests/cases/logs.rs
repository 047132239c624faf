//! What becomes of output.

use super::*;

pub async fn the_log_is_whole_when_shims_are_killed(world: World) {
    const LINES: usize = 30_000;
    const KILLS: usize = 4;
    // Goes on only after the next kill, however fast it is.
    let script = format!(
        "i=0; kill=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); \
        if [ $((i % {})) = 0 ]; then until [ -e /kill$kill ]; do sleep 0.01; done; \
        kill=$((kill+1)); fi; done; exit 7",
        LINES / KILLS
    );
    let small = |spec: &mut Spec| {
        spec.log = LogLimits {
            bytes: 200_000,
            files: 100,
        }
    };
    let instance = world.run("a", small, &script).await;
    let waiter = tokio::spawn({
        let instance = instance.clone();
        async move { instance.wait().await }
    });
    let mut reader = Reader::open(instance.dir(), From::Start).expect("a log");
    let mut followed = Vec::new();
    let mut kills = 0;
    while !waiter.is_finished() {
        let pid = shim_pid(instance.dir());
        if kills < KILLS && alive(pid) && followed.len() > kills * LINES / KILLS {
            let _ = Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
            fs::write(world.root().join(format!("kill{kills}")), "").expect("write");
            kills += 1;
        }
        followed.extend(reader.more().expect("more"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let exit = within(waiter).await.expect("no panic").expect("an exit");
    assert_eq!(exit.how, How::Code(7));
    assert_eq!(kills, KILLS);
    loop {
        let more = reader.more().expect("more");
        if more.is_empty() {
            break;
        }
        followed.extend(more);
    }
    let show = |line: &Line| line.text.clone() + if line.partial { "" } else { "\n" };
    let got: String = followed.iter().map(show).collect();
    let wanted: String = (0..LINES)
        .map(|number| format!("line {number}\n"))
        .collect();
    let differs = got.lines().zip(wanted.lines()).find(|(a, b)| a != b);
    assert!(
        got == wanted,
        "{} of {} bytes, first {differs:?}",
        got.len(),
        wanted.len()
    );
}

pub async fn a_user_may_open_standard_output_by_name(world: World) {
    let user = |spec: &mut Spec| {
        spec.user = container::User {
            uid: 1000,
            gid: 1001,
            additional_gids: vec![7],
        };
    };
    let (_, log) = world
        .result(
            "a",
            user,
            "id -u > /dev/stdout; id -G > /dev/stderr; cat /proc/self/status",
        )
        .await;
    assert!(log.contains("1000\n") && log.contains("1001 7\n"), "{log}");
    assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
}

pub async fn logs_rotate(world: World) {
    let small = |spec: &mut Spec| {
        spec.log = LogLimits {
            bytes: 20_000,
            files: 3,
        }
    };
    let script = "i=0; while [ $i -lt 60 ]; do dd if=/dev/zero bs=5000 count=1 2>/dev/null; echo; i=$((i+1)); sleep 0.01; done; echo end";
    let (_, log) = world.result("a", small, script).await;
    assert!(log.ends_with("end\n"));
    let dir = world.dir("a");
    let sizes: Vec<u64> = (0..)
        .map_while(|n| {
            let name = if n == 0 {
                "log".to_owned()
            } else {
                format!("log.{n}")
            };
            Some(fs::metadata(dir.path().join(name)).ok()?.len())
        })
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 120_000), "{sizes:?}");
}

pub async fn a_full_disk_neither_blocks_nor_hides_the_end(world: World) {
    let place = world.home.path().join("instances");
    fs::create_dir(&place).expect("create");
    let small = Mounted::tmpfs(&place, "size=400k");
    let script = "busybox head -c 1000000 /dev/zero | busybox tr '\\000' '\\012'; exit 5";
    let (exit, _) = world.result("a", nothing, script).await;
    assert_eq!(exit.how, How::Code(5));
    drop(small);
}

/// A mount that goes with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        assert!(mount.status().expect("mount").success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
