//! Agents that are killed and machines that lose power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncReadExt;
use volume::transfer::Transfer;
use volume::{Error, Pool, PoolConfig, Volumes};

use crate::bench::{Bench, MIB, POOL, name, noise, until, volume};
use crate::travel::{Silence, stream};

/// The disk as a power cut at this moment would leave it: what was written to the device, and
/// nothing of what the filesystem still held in memory.
fn copy_disk(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .args([from.join("pool.btrfs"), to.join("pool.btrfs")])
        .status()
        .unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_reported_survives_a_power_cut() {
    let Some(bench) = Bench::new() else { return };
    let (a, b) = (bench.node("a").await, bench.node("b").await);
    let (pg, s1) = (volume("pg"), name("s1"));
    let rows = noise(4, 24 * MIB);
    a.create(&pg, 64 * MIB).await.unwrap();
    let path = a.path(&pg).await.unwrap();
    fs::write(path.join("rows"), &rows).unwrap();
    a.snapshot(&pg, &s1).await.unwrap();
    copy_disk(&bench.dir("a"), &bench.dir("a-cut"));

    let (bytes, sent) = stream(&a, &pg, &s1).await;
    let landing = b.receive(&pg, &s1, &bytes[..], Transfer::default()).await;
    landing.unwrap().keep(&sent).await.unwrap();
    copy_disk(&bench.dir("b"), &bench.dir("b-cut"));
    drop((a, b));

    // A filesystem and its copy must not be mounted together.
    for (node, cut) in [("a", "a-cut"), ("b", "b-cut")] {
        bench.close(node).await;
        let volumes = bench.node(cut).await;
        let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
        assert_eq!(found.snapshots, std::slice::from_ref(&s1));
        volumes.retire(&pg).await.unwrap();
        volumes.promote(&pg, &s1, 64 * MIB).await.unwrap();
        let path = volumes.path(&pg).await.unwrap();
        assert!(fs::read(path.join("rows")).unwrap() == rows, "{cut}");
        drop(volumes);
        bench.close(cut).await;
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const RECEIVER: &str = "TANDEM_TEST_VOLUME_RECEIVER";

/// The process that the test below kills: receives half of a stream and waits for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn helper_that_receives_half() {
    let Some(dir) = std::env::var_os(RECEIVER).map(PathBuf::from) else {
        return;
    };
    let config = PoolConfig {
        dir: dir.clone(),
        size: POOL,
        btrfs: None,
    };
    let volumes = Volumes::on_btrfs(config).await.unwrap();
    let half = fs::read(dir.join("half")).unwrap();
    let _ = volumes
        .receive(
            &volume("pg"),
            &name("s1"),
            half.chain(Silence),
            Transfer::default(),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_receiving_leaves_nothing_behind() {
    let Some(bench) = Bench::new() else { return };
    let a = bench.node("a").await;
    let (pg, s1) = (volume("pg"), name("s1"));
    let rows = noise(5, 8 * MIB);
    a.create(&pg, 64 * MIB).await.unwrap();
    fs::write(a.path(&pg).await.unwrap().join("rows"), &rows).unwrap();
    a.snapshot(&pg, &s1).await.unwrap();
    let (bytes, sent) = stream(&a, &pg, &s1).await;

    let dir = bench.dir("b");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("half"), &bytes[..bytes.len() / 2]).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::helper_that_receives_half"])
        .env(RECEIVER, &dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    let landing = dir.join("pool/volumes/pg/landing");
    let partial = landing.join("s1.0/data/rows");
    let arrived = || {
        // The receiver writes to a temporary name until it knows the file's own.
        let found = fs::read_dir(landing.join("s1.0/data"));
        partial.exists() || found.is_ok_and(|entries| entries.count() > 0)
    };
    until("half of it arrived", arrived).await;
    drop(child);

    let b = bench.node("b").await;
    assert_eq!(fs::read_dir(&landing).unwrap().count(), 0);
    let found = b.list().await.unwrap()[&pg].found.clone().unwrap();
    assert!(found.snapshots.is_empty() && !found.live);
    let landing = b.receive(&pg, &s1, &bytes[..], Transfer::default()).await;
    landing.unwrap().keep(&sent).await.unwrap();
    b.promote(&pg, &s1, 64 * MIB).await.unwrap();
    let path = b.path(&pg).await.unwrap();
    assert!(fs::read(path.join("rows")).unwrap() == rows);
    bench.close("a").await;
    bench.close("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_pool_and_a_half_made_volume_count_as_never_begun() {
    let Some(bench) = Bench::new() else { return };
    let dir = bench.dir("a");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("pool.btrfs.making"), vec![1; 1000]).unwrap();
    let volumes = bench.node("a").await;
    volumes.create(&volume("pg"), 64 * MIB).await.unwrap();
    assert!(!dir.join("pool.btrfs.making").exists());

    // A live copy that never got its limit.
    let other = dir.join("pool/volumes/other");
    fs::create_dir(&other).unwrap();
    let making = Command::new("btrfs")
        .args(["subvolume", "create"])
        .arg(other.join("making"))
        .output()
        .unwrap();
    assert!(making.status.success());
    drop(volumes);
    bench.forget("a");
    let volumes = bench.node("a").await;
    assert!(!other.join("making").exists());
    let path = volumes.path(&volume("pg")).await.unwrap();
    assert!(path.is_dir());
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_at_a_time_has_a_pool_and_the_mount_outlives_it() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    volumes.create(&volume("pg"), 64 * MIB).await.unwrap();
    let path = volumes.path(&volume("pg")).await.unwrap();
    let config = PoolConfig {
        dir: bench.dir("a"),
        size: POOL,
        btrfs: None,
    };
    assert!(matches!(
        Pool::open(config.clone()),
        Err(Error::Taken { .. })
    ));
    drop(volumes);
    bench.forget("a");
    fs::write(path.join("row"), "1").unwrap();
    let volumes = bench.node("a").await;
    assert_eq!(volumes.path(&volume("pg")).await.unwrap(), path);
    assert_eq!(fs::read_to_string(path.join("row")).unwrap(), "1");
    bench.close("a").await;
}
