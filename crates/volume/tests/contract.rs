//! The contract of a driver, held by btrfs over real loop devices. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

mod bench;

use std::fs;
use std::path::Path;

use bench::{Bench, MIB, name, volume};
use volume::{Error, Volumes};

/// Writes until the limit refuses, in pieces of 1 MiB, and says how many went in.
fn fill(dir: &Path) -> (u64, Option<i32>) {
    use std::io::Write;
    let mut file = fs::File::create(dir.join("filler")).unwrap();
    let piece: Vec<u8> = (0..MIB as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect();
    for pieces in 0..1000 {
        if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_all()) {
            return (pieces, error.raw_os_error());
        }
    }
    (1000, None)
}

const EDQUOT: i32 = 122;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_made_twice_keeps_its_data_and_goes_when_removed() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let pg = volume("pg");
    assert!(matches!(
        volumes.path(&pg).await,
        Err(Error::NoVolume { .. })
    ));
    assert!(
        !bench.dir("a").join("pool.btrfs").exists(),
        "made too early"
    );

    volumes.create(&pg, 64 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    fs::write(path.join("row"), "1").unwrap();
    volumes.create(&pg, 32 * MIB).await.unwrap();
    assert_eq!(fs::read_to_string(path.join("row")).unwrap(), "1");
    let usage = volumes.usage(&pg).await.unwrap();
    assert_eq!(usage.limit, Some(32 * MIB));
    let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
    assert!(found.live && found.snapshots.is_empty() && found.asides.is_empty());

    volumes.snapshot(&pg, &name("one")).await.unwrap();
    volumes.remove(&pg).await.unwrap();
    volumes.remove(&pg).await.unwrap();
    assert!(volumes.list().await.unwrap().is_empty());
    assert!(!path.exists());
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_and_is_counted() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let pg = volume("pg");
    volumes.create(&pg, 20 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    let (pieces, error) = fill(&path);
    assert_eq!(error, Some(EDQUOT));
    assert!((17..=20).contains(&pieces), "{pieces} MiB went in");
    let usage = volumes.usage(&pg).await.unwrap();
    assert!(
        usage.bytes >= 17 * MIB && usage.bytes <= 20 * MIB,
        "{usage:?}"
    );

    volumes.set_limit(&pg, 40 * MIB).await.unwrap();
    let (pieces, error) = fill(&path);
    assert_eq!(error, Some(EDQUOT));
    assert!((36..=40).contains(&pieces), "{pieces} MiB went in");
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_room_says_how_much_is_missing() {
    let Some(bench) = Bench::new() else { return };
    let volumes: Volumes = bench.node_of_size("a", u64::MAX >> 2).await;
    let error = volumes.create(&volume("pg"), MIB).await.unwrap_err();
    let Error::NoRoom { free, needed, .. } = error else {
        panic!("{error}");
    };
    assert!(free > 0 && free < needed);
    assert!(!bench.dir("a").join("pool.btrfs.making").exists());
    bench.close("a").await;
}
