//! Pulls that meet others, break, are killed, or find what they should not.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Registry, Root, Tar, gzip, is_root, name, pull, reopen, sentence};
use image::{Policy, Progress, Registries, Store, StoreError};
use serde_json::json;

/// Bytes that do not compress.
fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    let next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn big_layer(seed: u64) -> Vec<u8> {
    gzip(
        &Tar::default()
            .entry('0', "noise", "", &noise(3 << 20, seed), |_| ())
            .end(),
    )
}

/// A relay before a registry: counts requests for blobs, and after a number of
/// bytes cuts the connection once, or holds it for ever.
struct Relay {
    address: String,
    blob_requests: Arc<AtomicU64>,
    /// Bytes until the fault; negative when there is none (any more).
    fault: Arc<AtomicI64>,
}

#[derive(Clone, Copy)]
enum Fault {
    None,
    CutAfter(i64),
    HoldAfter(i64),
}

impl Relay {
    fn start(registry: &Registry, fault: Fault) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (limit, hold) = match fault {
            Fault::None => (-1, false),
            Fault::CutAfter(bytes) => (bytes, false),
            Fault::HoldAfter(bytes) => (bytes, true),
        };
        let relay = Relay {
            address: listener.local_addr().unwrap().to_string(),
            blob_requests: Arc::default(),
            fault: Arc::new(AtomicI64::new(limit)),
        };
        let (target, count, fault) = (
            registry.address.clone(),
            relay.blob_requests.clone(),
            relay.fault.clone(),
        );
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                let (count, fault) = (count.clone(), fault.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || upward(from, to, &count));
                std::thread::spawn(move || downward(server, client, &fault, hold));
            }
        });
        relay
    }

    fn registries(&self) -> Registries {
        Registries {
            cluster: Some(self.address.clone()),
            ..Registries::default()
        }
    }
}

fn upward(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]);
        count.fetch_add(
            text.lines()
                .filter(|line| line.starts_with("GET ") && line.contains("/blobs/"))
                .count() as u64,
            Ordering::SeqCst,
        );
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

fn downward(mut from: TcpStream, mut to: TcpStream, fault: &AtomicI64, hold: bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let left = fault.load(Ordering::SeqCst);
        if left >= 0 && left < n as i64 {
            if hold {
                loop {
                    std::thread::park();
                }
            }
            fault.store(-1, Ordering::SeqCst);
            break;
        }
        if left >= 0 {
            fault.fetch_sub(n as i64, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_waiters_make_one_pull() {
    let registry = Registry::start();
    registry.push("shop/web:1", &[big_layer(1), big_layer(2)], json!({}));
    let relay = Relay::start(&registry, Fault::None);
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), relay.registries()).unwrap();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let image = store
                    .pull(&name("shop/web:1"), Policy::IfAbsent, |progress| {
                        seen.push(progress)
                    })
                    .await;
                (image.unwrap(), seen)
            })
        })
        .collect();
    let mut images = Vec::new();
    for waiter in waiters {
        let (image, seen) = waiter.await.unwrap();
        assert!(seen.is_sorted_by_key(|progress: &Progress| progress.done));
        if let Some(last) = seen.last() {
            assert_eq!((last.done, last.total), (image.size, image.size));
        }
        images.push(image);
    }
    assert!(images.iter().all(|image| *image == images[0]));
    assert_eq!(
        relay.blob_requests.load(Ordering::SeqCst),
        3,
        "one configuration and two layers"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_gone_on_from() {
    let registry = Registry::start();
    registry.push("web:1", &[big_layer(3)], json!({}));
    let relay = Relay::start(&registry, Fault::CutAfter(2 << 20));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), relay.registries()).unwrap();
    pull(&store, "web:1").await.unwrap();
    assert_eq!(
        relay.blob_requests.load(Ordering::SeqCst),
        3,
        "configuration, layer, its rest"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_the_registrys_words_and_tell_whether_to_try_again() {
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(&room.path().join("a"), registry.registries()).unwrap();
    let error = store
        .pull(&name("misspelt:1"), Policy::IfAbsent, |_| ())
        .await
        .unwrap_err();
    let address = &registry.address;
    assert_eq!(
        sentence(&*error),
        format!("pull image misspelt:1: registry {address} answered 404: manifest unknown")
    );
    assert!(!error.is_transient());

    let gone = registry.registries();
    let (address, _) = (address.clone(), drop(registry));
    let store = Store::open(&room.path().join("b"), gone).unwrap();
    let error = store
        .pull(&name("misspelt:1"), Policy::IfAbsent, |_| ())
        .await
        .unwrap_err();
    assert!(
        sentence(&*error).starts_with(&format!(
            "pull image misspelt:1: registry {address} cannot be reached: Connection refused"
        )),
        "{error}"
    );
    assert!(error.is_transient());

    let store = Store::open(&room.path().join("c"), Registries::default()).unwrap();
    assert_eq!(
        pull(&store, "mongo").await.unwrap_err(),
        "pull image mongo:latest: no registry is set where it could be found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_layer_is_refused_by_name() {
    let registry = Registry::start();
    let manifest = registry.push("web:1", &[big_layer(4)], json!({}));
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let path = registry.blob_path(digest);
    let whole = fs::read(&path).unwrap();
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 1;
    fs::write(&path, corrupt).unwrap();
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let words = pull(&store, "web:1").await.unwrap_err();
    assert!(
        words.contains(&format!(
            "layer {digest} is refused: its bytes have the digest sha256:"
        )),
        "{words}"
    );
    assert_eq!(fs::read_dir(room.path().join("layers")).unwrap().count(), 0);
    fs::write(&path, whole).unwrap();
    pull(&store, "web:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_must_be_what_the_configuration_says() {
    let registry = Registry::start();
    let manifest = registry.push("web:1", &[big_layer(5)], json!({}));
    // Same blobs, another configuration: swap the configuration in the layout of
    // an image whose layer differs.
    let other = registry.push("other:1", &[big_layer(6)], json!({}));
    let mut forged = manifest.clone();
    forged["config"] = other["config"].clone();
    let url = |rest: &str| format!("http://{}/v2/web/{rest}", registry.address);
    let http = reqwest_plain();
    let digest = other["config"]["digest"].as_str().unwrap();
    let mount = format!("{}?mount={digest}&from=other", url("blobs/uploads/"));
    assert_eq!(
        http.post(mount)
            .header("content-length", "0")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        201
    );
    let put = http
        .put(url("manifests/forged"))
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .body(forged.to_string());
    assert_eq!(put.send().await.unwrap().status().as_u16(), 201);
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let words = pull(&store, "web:forged").await.unwrap_err();
    assert!(
        words.contains("but the image's configuration says"),
        "{words}"
    );
}

fn reqwest_plain() -> reqwest::Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_asked_for_again_only_when_told() {
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    registry.push("mongo:3", &[Tar::default().file("v", "1").end()], json!({}));
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let first = pull(&store, "docker.io/library/mongo:3").await.unwrap();
    fs::remove_dir_all(registry.room.path().join("layout-mongo-3")).unwrap();
    registry.push("mongo:3", &[Tar::default().file("v", "2").end()], json!({}));
    assert_eq!(pull(&store, "mongo:3").await.unwrap(), first);
    let second = store
        .pull(&name("mongo:3"), Policy::Always, |_| ())
        .await
        .unwrap();
    assert_ne!(second.id, first.id);
    let by_digest = pull(&store, &format!("mongo@{}", first.manifest))
        .await
        .unwrap();
    assert_eq!(by_digest.id, first.id);

    assert!(matches!(
        Store::open(room.path(), registry.registries()),
        Err(StoreError::InUse { .. })
    ));
    drop(store);
    let store = reopen(room.path(), registry.registries());
    assert_eq!(
        store.find(&name("mongo:3")),
        Some(second.clone()),
        "names survive a restart"
    );
    assert_eq!(store.images().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_and_zstd_write_is_read_too() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let plain = Tar::default().file("from", "zstd").end();
    let (first, second) = plain.split_at(512);
    // Several frames, as parallel compressors write them.
    let frames = [
        zstd::encode_all(first, 3).unwrap(),
        zstd::encode_all(second, 3).unwrap(),
    ]
    .concat();
    registry.push("z:1", &[frames], json!({}));
    registry.push(
        "g:1",
        &[Tar::default().file("from", "docker").end()],
        json!({"User": "7:8"}),
    );
    crate::common::run(
        Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--format",
                "v2s2",
            ])
            .args([
                format!("docker://{}/g:1", registry.address),
                format!("docker://{}/d:1", registry.address),
            ]),
    );
    registry.push("none:1", &[], json!({}));
    let repeated = Tar::default().file("from", "twice").end();
    registry.push(
        "twice:1",
        &[
            repeated.clone(),
            Tar::default().file(".wh.from", "").end(),
            repeated,
        ],
        json!({}),
    );
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    for (image, want) in [("z:1", "zstd"), ("d:1", "docker"), ("twice:1", "twice")] {
        assert_eq!(
            Root::mount(&pull(&store, image).await.unwrap()).read("from"),
            want
        );
    }
    let empty = Root::mount(&pull(&store, "none:1").await.unwrap());
    assert_eq!(fs::read_dir(&empty.path).unwrap().count(), 0);
}

const CHILD: &str = "IMAGE_TEST_PULL_FROM";

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn child_that_pulls() {
    if let Ok(from) = std::env::var(CHILD) {
        let (dir, registry) = from.split_once('|').unwrap();
        let registries = Registries {
            cluster: Some(registry.into()),
            ..Registries::default()
        };
        let store = Store::open(dir.as_ref(), registries).unwrap();
        let error = pull(&store, "web:1").await.unwrap_err();
        panic!("{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_leaves_no_garbage_and_succeeds_when_repeated() {
    let registry = Registry::start();
    registry.push("web:1", &[big_layer(7), big_layer(8)], json!({}));
    let relay = Relay::start(&registry, Fault::HoldAfter(4 << 20));
    let room = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulling::child_that_pulls"])
        .env(
            CHILD,
            format!("{}|{}", room.path().display(), relay.address),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    let under_way = || fs::read_dir(room.path().join("tmp")).is_ok_and(|tmp| tmp.count() > 0);
    while !(under_way() && relay.fault.load(Ordering::SeqCst) < (64 << 10)) {
        assert!(Instant::now() < patience, "the pull never got under way");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = reopen(room.path(), registry.registries());
    assert!(!under_way());
    assert_eq!(store.images(), []);
    pull(&store, "web:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_ends() {
    let registry = Registry::start();
    registry.push("web:1", &[big_layer(9)], json!({}));
    let relay = Relay::start(&registry, Fault::HoldAfter(1 << 20));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), relay.registries()).unwrap();
    let web = name("web:1");
    let pulling = store.pull(&web, Policy::IfAbsent, |_| ());
    assert!(
        tokio::time::timeout(Duration::from_millis(500), pulling)
            .await
            .is_err()
    );
    let patience = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(room.path().join("tmp")).unwrap().count() > 0 {
        assert!(
            Instant::now() < patience,
            "the abandoned pull still holds its room"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The next one begins anew, and may meet a registry that answers.
    relay.fault.store(-1, Ordering::SeqCst);
    if let Err(error) = store.pull(&name("web:1"), Policy::IfAbsent, |_| ()).await {
        panic!("{}", sentence(&*error));
    }
}
