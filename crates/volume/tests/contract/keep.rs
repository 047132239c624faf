//! Volumes that stay where they are.

use std::fs;
use std::process::Command;

use model::Generation;
use model::volume::RoleFile;
use volume::{Error, Role, Volumes};

use crate::bench::{Bench, EDQUOT, MIB, fill, name, noise, volume};

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

    let role = Role::from(RoleFile::live(Generation(1)));
    volumes.persist_role(&pg, role.clone()).await.unwrap();
    volumes
        .persist_role(&volume("gone"), role.clone())
        .await
        .unwrap();
    let copies = volumes.list().await.unwrap();
    assert!(copies[&pg].role == Some(role.clone()) && copies[&pg].found.is_some());
    assert!(copies[&volume("gone")].role == Some(role) && copies[&volume("gone")].found.is_none());
    assert_eq!(volumes.roles().await.unwrap().len(), 2);
    volumes.remove(&volume("gone")).await.unwrap();

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_stays_until_it_is_named() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let pg = volume("pg");
    volumes.create(&pg, 64 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    fs::write(path.join("rows"), noise(1, 3 * MIB)).unwrap();
    volumes.set_aside(&pg, &name("pg.g3"), None).await.unwrap();
    volumes.set_aside(&pg, &name("pg.g3"), None).await.unwrap();
    assert!(!path.exists());
    let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
    assert!(!found.live);
    assert_eq!(found.asides.len(), 1);
    assert_eq!(found.asides[0].name, name("pg.g3"));
    assert!(found.asides[0].bytes >= 3 * MIB);

    volumes.retire(&pg).await.unwrap();
    volumes.delete_aside(&pg, &name("other")).await.unwrap();
    let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
    assert_eq!(found.asides.len(), 1);
    volumes.delete_aside(&pg, &name("pg.g3")).await.unwrap();
    let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
    assert!(found.asides.is_empty());
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_a_live_copy_is_set_aside_too() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let pg = volume("pg");
    volumes.create(&pg, 64 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    fs::write(path.join("rows"), noise(1, 3 * MIB)).unwrap();
    volumes.snapshot(&pg, &name("move-1.2")).await.unwrap();
    volumes.retire(&pg).await.unwrap();
    let missing = volumes.set_aside(&pg, &name("pg.g1"), None).await;
    assert!(matches!(missing, Err(Error::NoVolume { .. })));
    let last = name("move-1.2");
    for _ in 0..2 {
        volumes
            .set_aside(&pg, &name("pg.g1"), Some(&last))
            .await
            .unwrap();
    }
    let found = volumes.list().await.unwrap()[&pg].found.clone().unwrap();
    assert_eq!(found.asides[0].name, name("pg.g1"));
    assert!(found.asides[0].bytes >= 3 * MIB);
    volumes.remove(&pg).await.unwrap();
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subvolumes_inside_a_volume_are_never_silently_left_out() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    let pg = volume("pg");
    volumes.create(&pg, 64 * MIB).await.unwrap();
    let inner = volumes.path(&pg).await.unwrap().join("inner");
    for path in [&inner, &inner.join("deeper")] {
        let made = Command::new("btrfs")
            .args(["subvolume", "create"])
            .arg(path)
            .output()
            .unwrap();
        assert!(made.status.success());
    }
    let error = volumes.snapshot(&pg, &name("one")).await.unwrap_err();
    assert!(
        error.to_string().ends_with(": volumes/pg/live/inner"),
        "{error}"
    );
    volumes.remove(&pg).await.unwrap();
    assert!(volumes.list().await.unwrap().is_empty());
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_became_read_only_says_so() {
    let Some(bench) = Bench::new() else { return };
    let volumes = bench.node("a").await;
    volumes.create(&volume("pg"), 64 * MIB).await.unwrap();
    let pool = bench.dir("a").join("pool");
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&pool)
        .status()
        .unwrap();
    assert!(remounted.success());
    for error in [
        volumes.create(&volume("new"), MIB).await.unwrap_err(),
        volumes.path(&volume("pg")).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    drop(volumes);
    bench.forget("a");
    let volumes = bench.node("a").await;
    assert!(volumes.check().await.is_err());
    assert_eq!(volumes.list().await.unwrap().len(), 1);
    bench.close("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_btrfs_directory_serves_as_the_pool() {
    let Some(bench) = Bench::new() else { return };
    bench
        .node("a")
        .await
        .create(&volume("x"), MIB)
        .await
        .unwrap();
    let given = bench.dir("a").join("pool/given");
    fs::create_dir(&given).unwrap();
    let volumes = bench.node_in("b", &given).await;
    let pg = volume("pg");
    volumes.create(&pg, 20 * MIB).await.unwrap();
    let path = volumes.path(&pg).await.unwrap();
    assert!(path.starts_with(&given));
    assert_eq!(fill(&path).1, Some(EDQUOT));
    assert_eq!(volumes.list().await.unwrap().len(), 1);

    let elsewhere = bench.dir("plain");
    fs::create_dir(&elsewhere).unwrap();
    let refused = volume::Pool::open(volume::PoolConfig {
        dir: bench.dir("c"),
        size: MIB,
        btrfs: Some(elsewhere),
    });
    // Unless the machine's own temporary directory is on btrfs.
    if let Err(error) = refused {
        assert!(matches!(error, Error::NotBtrfs { .. }), "{error}");
    }
    bench.close("b").await;
    bench.close("a").await;
}
