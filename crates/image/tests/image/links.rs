//! Layers with hard links to files of layers beneath, as builders write them that put only what
//! has changed into a layer.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Registry, Root, Tar, gzip, is_root, name, pull, reopen, run};
use image::{Image, InUse, Store};
use serde_json::json;

/// What tells one file from another: mode, owner, group, time, names, content or target.
type Told = (u32, u32, u32, i64, u64, String);

/// Everything below a directory, without the directory.
fn listing(dir: &Path) -> BTreeMap<String, Told> {
    let paths = run(Command::new("find").arg(dir).args(["-mindepth", "1"]));
    let entry = |path: &str| {
        let stat = fs::symlink_metadata(path).unwrap();
        let content = match stat.is_symlink() {
            true => fs::read_link(path).unwrap().display().to_string(),
            false if stat.is_file() => fs::read_to_string(path).unwrap(),
            false => String::new(),
        };
        // A directory's count of names is each file system's own.
        let names = if stat.is_dir() { 0 } else { stat.nlink() };
        let told = (
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            names,
            content,
        );
        (path[dir.as_os_str().len()..].to_owned(), told)
    };
    paths.lines().map(entry).collect()
}

fn inode(root: &Root, path: &str) -> u64 {
    fs::symlink_metadata(root.path.join(path)).unwrap().ino()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

async fn pulled(registry: &Registry, dir: &Path, image: &str, layers: &[Vec<u8>]) -> Image {
    registry.push(image, layers, json!({}));
    let store = Store::open(dir, registry.registries()).unwrap();
    pull(&store, image).await.unwrap()
}

/// As GNU tar writes it where the target belongs to another layer, against what GNU tar makes of
/// both archives, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_file_beneath_is_what_tar_makes_of_it() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let (lower, upper) = (room.path().join("1.tar"), room.path().join("2.tar"));
    let tree = room.path().join("tree");
    let script = "set -e; mkdir -p tree/usr/bin tree/opt; cd tree; echo tool > usr/bin/tool; \
        chown 12:34 usr/bin/tool; chmod 4711 usr/bin/tool; ln -s tool usr/bin/alias; \
        touch -h -d @1000000000 usr/bin/tool usr/bin/alias; chown 5:6 usr/bin; \
        chmod 2750 usr/bin; echo other > other; touch -d @1100000000 usr/bin usr opt other; \
        tar -cf ../1.tar usr opt other; \
        ln usr/bin/tool opt/tool; ln usr/bin/alias opt/alias; \
        touch -d @1200000000 opt; \
        tar -cf ../2.tar usr/bin/tool usr/bin/alias opt; \
        tar --delete -f ../2.tar usr/bin/tool usr/bin/alias";
    let mut shell = Command::new("sh");
    run(shell.args(["-c", script]).current_dir(room.path()));
    let entries = run(Command::new("tar").arg("-tvf").arg(&upper));
    assert_eq!(entries.matches(" link to ").count(), 2, "{entries}");

    fs::rename(&tree, room.path().join("source")).unwrap();
    fs::create_dir(&tree).unwrap();
    for archive in [&lower, &upper] {
        let mut tar = Command::new("tar");
        let tar = tar.args(["--same-owner", "-xpf"]).arg(archive);
        run(tar.arg("-C").arg(&tree));
    }
    let layers = [fs::read(&lower).unwrap(), gzip(&fs::read(&upper).unwrap())];
    let store = room.path().join("store");
    let image = pulled(&registry, &store, "links:1", &layers).await;
    let root = Root::mount(&image);
    assert_eq!(listing(&root.path), listing(&tree));
    for file in ["tool", "alias"] {
        let paths = [format!("usr/bin/{file}"), format!("opt/{file}")];
        assert_eq!(inode(&root, &paths[0]), inode(&root, &paths[1]));
    }
}

/// As setcap writes it for CAP_NET_BIND_SERVICE.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn base(content: &str) -> Vec<u8> {
    Tar::default()
        .entry('5', "data/", "", b"", |h| {
            h.set_mode(0o1777);
            h.set_uid(7);
        })
        .attribute("user.colour", b"blue")
        .entry('0', "data/file", "", content.as_bytes(), |h| {
            h.set_mode(0o640);
            h.set_uid(8);
        })
        .file("data/second", "second")
        .entry('6', "data/fifo", "", b"", |h| h.set_mode(0o620))
        .dir("usr/")
        .dir("usr/lib/")
        .attribute("security.capability", &CAPABILITY)
        .file("usr/lib/so", "so")
        .symlink("lib", "usr/lib")
        .dir("gone/")
        .file("gone/file", "gone")
        .end()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_layer_above_two_others_is_two_layers() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let middle = Tar::default().file("between", "b").end();
    let link = Tar::default()
        .hard_link("link", "data/file")
        .hard_link("pipe", "data/fifo")
        .hard_link("so", "lib/so")
        .end();
    // And one above it that links to what it has brought.
    let again = Tar::default().hard_link("again", "/link").end();
    for (image, content) in [("one:1", "one"), ("two:1", "two")] {
        let layers = [base(content), middle.clone(), link.clone(), again.clone()];
        registry.push(image, &layers, json!({}));
    }
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let (mut progress, mut images) = (Vec::new(), Vec::new());
    for image in ["one:1", "two:1", "one:1"] {
        let told = |told| progress.push(told);
        let pulled = store.pull(&name(image), image::Policy::Always, told).await;
        images.push(pulled.unwrap());
        let last = progress.pop().unwrap();
        let size = images.last().map_or(0, |image: &Image| image.size);
        assert_eq!((last.done, last.total), (size, size));
    }
    assert_eq!(images[0], images[2], "found where it was put");
    let count = || fs::read_dir(room.path().join("layers")).unwrap().count();
    assert_eq!(count(), 7, "only the layer between is shared");
    for (image, content) in images.iter().zip(["one", "two"]) {
        let root = Root::mount(image);
        for path in ["data/file", "link", "again"] {
            assert_eq!(root.read(path), content);
        }
        // The upper layer's two names are one file; its third name is the lower layer's alone, as
        // after every copy-up.
        assert_eq!(inode(&root, "again"), inode(&root, "link"));
        let stat = |path: &str| fs::metadata(root.path.join(path)).unwrap();
        let file = stat("again");
        assert_eq!((file.mode() & 0o7777, file.uid()), (0o640, 8));
        assert_eq!((file.nlink(), file.mtime()), (2, 1_000_000_000));
        let pipe = fs::symlink_metadata(root.path.join("pipe")).unwrap();
        assert_eq!(
            (pipe.mode(), pipe.ino()),
            (0o010620, inode(&root, "data/fifo"))
        );
        let capability = attribute(&root.path.join("so"), "security.capability");
        assert_eq!(capability.unwrap(), CAPABILITY);
        // Its directory came with it as it was.
        let data = stat("data");
        assert_eq!((data.mode() & 0o7777, data.uid()), (0o1777, 7));
        assert_eq!(data.mtime(), 1_000_000_000);
        let colour = attribute(&root.path.join("data/file"), "user.colour");
        assert_eq!(colour.unwrap(), b"blue");
    }
    drop(store);
    let store = reopen(room.path(), registry.registries());
    assert_eq!(store.find(&name("two:1")), Some(images[1].clone()));
    while store
        .remove_oldest(|| {
            Ok(Some(InUse {
                names: [name("two:1")].into(),
                ..InUse::default()
            }))
        })
        .unwrap()
        .is_some()
    {}
    assert_eq!(count(), 4);
    assert_eq!(Root::mount(&images[1]).read("again"), "two");
}

/// A name, the top layer, the words of its refusal or "", and what files hold then.
type Case = (
    &'static str,
    Tar,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// The archive's order counts, and what the layer itself hides.
#[tokio::test(flavor = "multi_thread")]
async fn entries_before_and_after_a_link_mean_what_they_say() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let absent = "neither this layer nor one beneath it holds";
    let cases: [Case; 13] = [
        (
            "target-replaced-later",
            Tar::default()
                .hard_link("l", "data/file")
                .file("data/file", "new"),
            "",
            &[
                ("l", "old"),
                ("data/file", "new"),
                ("data/second", "second"),
            ],
        ),
        (
            "target-hidden-later",
            Tar::default()
                .hard_link("l", "data/file")
                .file("data/.wh.file", ""),
            "",
            &[("l", "old"), ("data/second", "second")],
        ),
        (
            "directory-hidden-later",
            Tar::default()
                .hard_link("l", "data/file")
                .file(".wh.data", ""),
            "",
            &[("l", "old")],
        ),
        (
            "link-replaced-later",
            Tar::default().hard_link("l", "data/file").file("l", "new"),
            "",
            &[("l", "new"), ("data/file", "old")],
        ),
        (
            "link-of-a-link",
            Tar::default()
                .hard_link("l", "data/file")
                .hard_link("m", "l")
                .hard_link("n", "data/file"),
            "",
            &[("l", "old"), ("m", "old"), ("n", "old")],
        ),
        (
            "to-itself",
            Tar::default().hard_link("data/file", "data/file"),
            "",
            &[("data/file", "old"), ("data/second", "second")],
        ),
        (
            "through-a-link-beneath",
            Tar::default().hard_link("l", "lib/so"),
            "",
            &[("l", "so"), ("lib/so", "so"), ("usr/lib/so", "so")],
        ),
        (
            "through-a-link-of-its-own",
            Tar::default()
                .symlink("way", "usr/../lib")
                .hard_link("l", "way/so"),
            "",
            &[("l", "so"), ("way/so", "so"), ("lib/so", "so")],
        ),
        (
            "hidden-before",
            Tar::default()
                .file("data/.wh.file", "")
                .hard_link("l", "data/file"),
            absent,
            &[],
        ),
        (
            "opaque-before",
            Tar::default()
                .dir("data/")
                .file("data/.wh..wh..opq", "")
                .hard_link("l", "data/file"),
            absent,
            &[],
        ),
        (
            "made-anew-before",
            Tar::default()
                .file(".wh.data", "")
                .dir("data/")
                .hard_link("l", "data/file"),
            absent,
            &[],
        ),
        (
            "nowhere",
            Tar::default().hard_link("l", "no/such"),
            absent,
            &[],
        ),
        (
            "a-directory",
            Tar::default().hard_link("l", "data"),
            "it links to a directory",
            &[],
        ),
    ];
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let gone = Tar::default().file(".wh.gone", "").end();
    for (case, tar, refusal, content) in cases {
        let image = format!("{case}:1");
        registry.push(&image, &[base("old"), gone.clone(), tar.end()], json!({}));
        match pull(&store, &image).await {
            Err(words) => assert!(
                !refusal.is_empty() && words.contains(refusal),
                "{case}: {words}"
            ),
            Ok(image) => {
                assert_eq!(refusal, "", "{case} was accepted");
                let root = Root::mount(&image);
                for (path, expected) in content {
                    assert_eq!(root.read(path), *expected, "{case}: {path}");
                }
                let lib = fs::symlink_metadata(root.path.join("lib")).unwrap();
                assert!(lib.is_symlink(), "{case}");
                let hidden = case.ends_with("hidden-later");
                assert_eq!(root.path.join("data/file").exists(), !hidden, "{case}");
            }
        }
    }
    let hidden = Tar::default().hard_link("l", "gone/file").end();
    registry.push("gone:1", &[base("old"), gone, hidden], json!({}));
    let words = pull(&store, "gone:1").await.unwrap_err();
    assert!(words.contains(absent), "{words}");
    assert_eq!(fs::read_dir(room.path().join("tmp")).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(room.path().to_str().unwrap()), "{mounts}");
}
