//! Who uses a volume.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use volume::users::How;
use volume::{Error, foreign_users};

use crate::bench::{Bench, MIB, until, volume};

struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Waits until it is seen to use the volume, and how.
    async fn seen(&self, path: &Path, how: How) {
        until(&format!("it is seen as {how:?}"), || {
            let users = foreign_users(path, &BTreeSet::new()).unwrap();
            users
                .iter()
                .any(|user| user.pid == self.pid() && user.how == how)
        })
        .await;
        assert_eq!(
            foreign_users(path, &BTreeSet::from([self.pid()])).unwrap(),
            []
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A library that every program can be made to load, of this machine.
fn library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so")).unwrap();
    PathBuf::from(line.split_ascii_whitespace().last().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_could_write_is_seen_and_keeps_the_copy() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let (pg, other) = (volume("pg"), volume("other"));
    volumes.create(&pg, 64 * MIB).await.unwrap();
    volumes.create(&other, 64 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    let beside = volumes.path(&other).await.unwrap();
    fs::copy(library(), path.join("library.so")).unwrap();
    let inside = path.join("inside");
    fs::create_dir(&inside).unwrap();

    let open = || Program::start(Command::new("sleep").arg("1000").current_dir(&inside));
    let mapped = || {
        Program::start(
            Command::new("sleep")
                .arg("1000")
                .env("LD_PRELOAD", path.join("library.so")),
        )
    };
    let target = bench.dir("target");
    fs::create_dir(&target).unwrap();
    let mounted = || {
        let script = format!(
            "mount --bind {} {} && exec sleep 1000",
            inside.display(),
            target.display()
        );
        let mut command = Command::new("unshare");
        Program::start(command.args(["--mount", "sh", "-c", &script]))
    };
    for (start, how) in [
        (&open as &dyn Fn() -> Program, How::Open),
        (&mapped, How::Mapped),
        (&mounted, How::Mounted),
    ] {
        let program = start();
        program.seen(&path, how).await;
        assert_eq!(foreign_users(&beside, &BTreeSet::new()).unwrap(), []);
        for refused in [volumes.remove(&pg).await, volumes.retire(&pg).await] {
            assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        }
    }
    volumes.remove(&pg).await.unwrap();
    bench.close("a").await;
}
