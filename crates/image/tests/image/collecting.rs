//! What goes when the disk asks for it, and what never does.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{Registry, Root, Tar, gzip, is_root, name, pull, reopen};
use image::{Image, InUse, Store};
use serde_json::json;

/// A layer of one file of so many bytes, that no other seed has.
fn layer(seed: u8, bytes: usize) -> Vec<u8> {
    let data = vec![seed; bytes];
    let tar = Tar::default().entry('0', &format!("file-{seed}"), "", &data, |_| ());
    gzip(&tar.end())
}

fn in_use(names: &[&str], images: &[&Image]) -> InUse {
    InUse {
        names: names.iter().map(|text| name(text)).collect(),
        images: images.iter().map(|image| image.id.clone()).collect(),
        lately: Duration::ZERO,
    }
}

/// The short names of the image that goes next; `None`: none does.
fn next(store: &Store, in_use: &InUse) -> Option<Vec<String>> {
    let removed = store.remove_oldest(|| Ok(Some(in_use.clone()))).unwrap()?;
    Some(removed.names.iter().map(|name| name.short()).collect())
}

fn layers(store: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(store.join("layers")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_unused_for_longest_goes_first_and_shared_layers_stay() {
    let registry = Registry::start();
    let shared = layer(1, 1 << 20);
    for (image, own) in [("a:1", 2), ("b:1", 3), ("c:1", 4), ("d:1", 5)] {
        registry.push(image, &[shared.clone(), layer(own, 2 << 20)], json!({}));
    }
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let mut images = Vec::new();
    for image in ["a:1", "b:1", "c:1", "d:1"] {
        images.push(pull(&store, image).await.unwrap());
    }
    // The first is used again: held, as when it is mounted.
    drop(store.hold(&name("a:1")).unwrap());
    let named = in_use(&["d:1"], &[]);
    let removed = store.remove_oldest(|| Ok(Some(named.clone()))).unwrap();
    let removed = removed.unwrap();
    assert_eq!(removed.names, [name("b:1")]);
    assert_eq!(removed.image.as_ref(), Some(&images[1]));
    let two = 2 << 20;
    assert!(
        (two..two + (64 << 10)).contains(&removed.freed.bytes) && removed.freed.files == 2,
        "its own layer, and not the shared one: {:?}",
        removed.freed
    );
    assert!(layers(room.path()).contains(images[0].layers[0].hex()));

    // The order outlives the process.
    drop(store);
    let store = reopen(room.path(), registry.registries());
    let gone: Vec<_> = std::iter::from_fn(|| next(&store, &named)).collect();
    assert_eq!(gone, [["c:1"], ["a:1"]]);
    let kept: BTreeSet<String> = images[3].layers.iter().map(|l| l.hex().into()).collect();
    assert_eq!(layers(room.path()), kept);
    assert_eq!(store.images().len(), 1);
    assert_eq!(store.find(&name("a:1")), None);
    assert_eq!(fs::read_dir(room.path().join("gone")).unwrap().count(), 0);
    pull(&store, "a:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_mounted_or_held_stays_and_nothing_goes_while_that_is_unknown() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("web:1", &[Tar::default().file("v", "1").end()], json!({}));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let image = pull(&store, "docker.io/library/web:1").await.unwrap();
    assert_eq!(store.remove_oldest(|| Ok(None)).unwrap(), None);
    let failed = store.remove_oldest(|| Err(io::Error::other("no list")));
    assert!(failed.is_err());
    assert_eq!(next(&store, &in_use(&["web:1"], &[])), None);
    let held = store.hold(&name("web:1")).unwrap();
    assert_eq!(next(&store, &InUse::default()), None);
    let root = Root::mount(&held);
    drop(held);
    let mounted = image::mounted_image(root.dir()).unwrap();
    assert_eq!(mounted.as_ref(), Some(&image.id));
    assert_eq!(next(&store, &in_use(&[], &[&image])), None);
    assert_eq!(root.read("v"), "1");
    let lost = InUse {
        images: [image::Digest::of(b"lost")].into(),
        ..InUse::default()
    };
    assert_eq!(next(&store, &lost), None, "whose layers nobody knows");
    drop(root);
    assert_eq!(next(&store, &InUse::default()), Some(vec!["web:1".into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_lately_stays() {
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    for (image, own) in [("a:1", 1), ("b:1", 2)] {
        registry.push(image, &[layer(own, 4096)], json!({}));
        pull(&store, image).await.unwrap();
    }
    let image = store.find(&name("b:1")).unwrap();
    let described = room.path().join("images").join(image.id.hex());
    let described = fs::File::open(described.with_extension("json")).unwrap();
    let ago = |span| SystemTime::now() - span;
    let hour = Duration::from_secs(3600);
    described.set_modified(ago(hour)).unwrap();
    let lately = |lately| InUse {
        lately,
        ..InUse::default()
    };
    assert_eq!(next(&store, &lately(2 * hour)), None);
    assert_eq!(next(&store, &lately(hour)), Some(vec!["b:1".into()]));
    assert_eq!(next(&store, &lately(hour)), None);
    assert_eq!(next(&store, &InUse::default()), Some(vec!["a:1".into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_a_pull_counts_on_stay_and_those_of_a_failed_pull_go() {
    let registry = Registry::start();
    let whole = layer(1, 1 << 20);
    let manifest = registry.push("web:1", &[whole.clone(), layer(2, 1 << 20)], json!({}));
    let blob = registry.blob_path(manifest["layers"][1]["digest"].as_str().unwrap());
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, b"other").unwrap();
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    pull(&store, "web:1").await.unwrap_err();
    assert_eq!(layers(room.path()).len(), 1, "the whole layer is kept");
    assert_eq!(next(&store, &InUse::default()), Some(vec![]));
    assert_eq!(layers(room.path()).len(), 0);

    fs::write(&blob, bytes).unwrap();
    // Whatever is removed meanwhile, a pull ends well and its image is whole.
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (remover, over) = (store.clone(), ended.clone());
    let remover = std::thread::spawn(move || {
        while !over.load(std::sync::atomic::Ordering::SeqCst) {
            next(&remover, &in_use(&["web:1"], &[]));
        }
    });
    for _ in 0..20 {
        let image = pull(&store, "web:1").await.unwrap();
        for layer in &image.lower_dirs() {
            assert!(layer.is_dir());
        }
        while next(&store, &InUse::default()).is_some() {}
    }
    ended.store(true, std::sync::atomic::Ordering::SeqCst);
    remover.join().unwrap();
}

const CHILD: &str = "IMAGE_TEST_REMOVE_FROM";

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn child_that_removes() {
    if let Ok(dir) = std::env::var(CHILD) {
        let store = reopen(dir.as_ref(), image::Registries::default());
        while next(&store, &in_use(&["kept:1"], &[])).is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_removes_a_store_is_whole() {
    let registry = Registry::start();
    let shared = layer(1, 4096);
    let many = |seed: u8| {
        let files = (0..400).fold(Tar::default(), |tar, n| {
            tar.file(&format!("d{seed}/f{n}"), "content")
        });
        gzip(&files.end())
    };
    registry.push("kept:1", &[shared.clone(), layer(2, 4096)], json!({}));
    for seed in 10..14 {
        registry.push(
            &format!("spare{seed}:1"),
            &[shared.clone(), many(seed)],
            json!({}),
        );
    }
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("store");
    let (mut cut_short, mut wait) = (0, Duration::from_millis(20));
    for _ in 0..12 {
        let store = reopen(&dir, registry.registries());
        pull(&store, "kept:1").await.unwrap();
        for seed in 10..14 {
            pull(&store, &format!("spare{seed}:1")).await.unwrap();
        }
        drop(store);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "collecting::child_that_removes"])
            .env(CHILD, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        let images = || fs::read_dir(dir.join("images")).unwrap().count();
        while images() == 5 {
            assert!(Instant::now() < patience, "nothing was removed");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Each time at another moment after the first image lost its name.
        std::thread::sleep(wait);
        wait = wait.mul_f32(0.7);
        cut_short += i32::from(images() > 1);
        child.kill().unwrap();
        child.wait().unwrap();

        let store = reopen(&dir, registry.registries());
        for left in ["gone", "tmp"] {
            assert_eq!(fs::read_dir(dir.join(left)).unwrap().count(), 0);
        }
        for listed in store.images() {
            let spare = listed.names[0].short().starts_with("spare");
            let layer = listed.image.lower_dirs().remove(0);
            let files = run_find(&layer);
            assert_eq!(files, if spare { 400 } else { 1 }, "{:?}", listed.names);
        }
        assert!(store.find(&name("kept:1")).is_some());
        for layer in layers(&dir) {
            let files = run_find(&dir.join("layers").join(layer));
            assert!([1, 400].contains(&files), "a layer with {files} files");
        }
    }
    println!("{cut_short} of 12 were killed before the last image went");
}

const OPENER: &str = "IMAGE_TEST_OPEN_AFTER";

/// Not a test of its own: a process with a mount namespace, and an id that names its leavings.
#[tokio::test]
async fn child_that_opens() {
    let Ok(dir) = std::env::var(OPENER) else {
        return;
    };
    let dir = Path::new(&dir);
    let open = || reopen(dir, image::Registries::default());
    let gone = dir.join("gone");
    let left = || fs::read_dir(&gone).unwrap().count();
    let own = gone.join(format!("removing-{}-0", std::process::id()));
    fs::create_dir_all(own.join("usr/bin")).unwrap();
    drop(open());
    assert_eq!(left(), 0);

    let busy = gone.join("0/busy");
    fs::create_dir_all(&busy).unwrap();
    let mount = ["-t", "tmpfs", "none"];
    crate::common::run(Command::new("mount").args(mount).arg(&busy));
    let store = open();
    fs::create_dir(dir.join("layers/spare")).unwrap();
    for _ in 0..2 {
        let removed = store.remove_oldest(|| Ok(Some(InUse::default())));
        assert!(removed.is_err(), "{removed:?}");
        assert_eq!((left(), layers(dir).len()), (1, 1), "nothing more goes");
    }
    crate::common::run(Command::new("umount").arg(&busy));
    assert_eq!(next(&store, &InUse::default()), Some(vec![]));
    assert_eq!((left(), layers(dir).len()), (0, 1), "what was begun");
    assert_eq!(next(&store, &InUse::default()), Some(vec![]));
    assert_eq!(layers(dir).len(), 0);
}

#[test]
fn a_store_opens_whatever_a_killed_process_of_the_same_id_has_left() {
    if !is_root() {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "collecting::child_that_opens"])
        .env(OPENER, room.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn run_find(dir: &Path) -> usize {
    let found = crate::common::run(Command::new("find").arg(dir).args(["-type", "f"]));
    found.lines().count()
}
