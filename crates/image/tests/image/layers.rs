//! What layers hold, honest and hostile, through a real registry and overlayfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::{Registry, Root, Tar, gzip, is_root, pull, run};
use image::{Limits, Store};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn layers_hide_replace_and_keep_all_metadata() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    // As setcap writes it for CAP_DAC_OVERRIDE and CAP_FOWNER: the value holds a newline.
    let capability = [
        1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let bottom = Tar::default()
        .entry('5', "./", "", b"", |h| h.set_mode(0o751))
        .dir("etc/")
        .file("etc/old", "old")
        .file("etc/kept", "kept")
        .dir("opaque/")
        .file("opaque/below", "x")
        .dir("again/")
        .file("again/below", "x")
        .file("becomes-dir", "x")
        .dir("becomes-file/")
        .file("becomes-file/x", "x")
        .entry('0', "bin/su", "", b"su", |h| {
            h.set_mode(0o4755);
            h.set_uid(1234);
            h.set_gid(5678);
        })
        .attribute("security.capability", &capability)
        .file("bin/capable", "c")
        .attribute("user.colour", b"blue")
        .attribute("trusted.overlay.opaque", b"y")
        .dir("marked/")
        .hard_link("bin/su-too", "/bin/su")
        .symlink("abs", "/etc/kept")
        .entry('6', "fifo", "", b"", |h| h.set_mode(0o600))
        .entry('3', "null", "", b"", |h| {
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
        })
        .entry('3', "whiteout", "", b"", |_| ())
        .symlink("etc/dangling", "/no/such")
        .end();
    let top = Tar::default()
        .file("etc/.wh.old", "")
        .file("opaque/above", "y")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh.again", "")
        .dir("again/")
        .file("again/new", "n")
        .dir("becomes-dir/")
        .file("becomes-dir/x", "in dir")
        .file("becomes-file", "file")
        .file("twice", "first")
        .file("twice", "second")
        .file("no/parents/here", "p")
        .file("etc/.wh..wh.plnk", "")
        .end();
    registry.push("web:1", &[bottom, gzip(&top)], json!({"Cmd": ["sh"]}));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(room.path(), registry.registries()).unwrap();
    let image = pull(&store, "web:1").await.unwrap();
    let root = Root::mount(&image);

    assert_eq!(
        image::mounted_image(root.dir()).unwrap(),
        Some(image.id.clone())
    );
    assert_eq!(
        (root.read("etc/kept"), root.path.join("etc/old").exists()),
        ("kept".into(), false)
    );
    assert_eq!(names(&root.path.join("opaque")), ["above"]);
    assert_eq!(names(&root.path.join("again")), ["new"]);
    assert_eq!(
        (
            root.read("becomes-dir/x"),
            root.read("becomes-file"),
            root.read("twice")
        ),
        ("in dir".into(), "file".into(), "second".into())
    );
    assert_eq!(root.read("no/parents/here"), "p");
    assert!(
        !names(&root.path)
            .iter()
            .any(|name| name.starts_with(".wh") || name == "whiteout")
    );

    let stat = |path: &str| fs::symlink_metadata(root.path.join(path)).unwrap();
    let su = stat("bin/su");
    assert_eq!(
        (
            su.mode() & 0o7777,
            su.uid(),
            su.gid(),
            su.mtime(),
            su.nlink()
        ),
        (0o4755, 1234, 5678, 1_000_000_000, 2)
    );
    assert_eq!(su.ino(), stat("bin/su-too").ino());
    assert_eq!(stat("").mode() & 0o7777, 0o751);
    assert_eq!((stat("bin").mode() & 0o7777, stat("bin").uid()), (0o755, 0));
    assert_eq!(stat("marked").mtime(), 1_000_000_000);
    assert_eq!(
        (stat("null").mode() & 0o170000, stat("null").rdev()),
        (0o020000, 0x103)
    );
    assert_eq!(stat("fifo").mode() & 0o170777, 0o010600);
    assert_eq!(
        attribute(&root.path.join("bin/capable"), "security.capability").unwrap(),
        capability
    );
    assert_eq!(
        attribute(&root.path.join("marked"), "user.colour").unwrap(),
        b"blue"
    );
    assert_eq!(
        fs::read_link(root.path.join("abs")).unwrap(),
        Path::new("/etc/kept")
    );

    fs::write(root.path.join("etc/kept"), "changed").unwrap();
    let again = Root::mount(&image);
    assert_eq!(
        again.read("etc/kept"),
        "kept",
        "instances do not see one another"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

/// Everything below a directory, with what would tell a change.
fn listing(dir: &Path) -> BTreeMap<String, (u32, u32, u64, i64, Option<String>)> {
    let paths = run(std::process::Command::new("find").arg(dir));
    let entry = |path: &str| {
        let stat = fs::symlink_metadata(path).unwrap();
        (
            path.to_owned(),
            (
                stat.mode(),
                stat.uid(),
                stat.nlink(),
                stat.mtime_nsec(),
                fs::read_to_string(path).ok(),
            ),
        )
    };
    paths.lines().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_layers_change_nothing_outside() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let outside = room.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    fs::create_dir(outside.join("dir")).unwrap();
    let before = listing(&outside);
    let far = outside.to_str().unwrap();
    let store = Store::open(&room.path().join("store"), registry.registries()).unwrap();

    // Name, layer, and the words of the refusal; "" where the layer is harmless
    // because the kernel resolves it inside.
    let cases = [
        (
            "dotdot",
            Tar::default().file("../outside/victim", "x"),
            "it leads upward",
        ),
        (
            "dotdot-deep",
            Tar::default().file("a/../../../outside/victim", "x"),
            "it leads upward",
        ),
        (
            "absolute",
            Tar::default().file(&format!("{far}/victim"), "x"),
            "",
        ),
        (
            "symlink-abs",
            Tar::default().symlink("a", far).file("a/victim", "x"),
            "link to nowhere",
        ),
        (
            "symlink-up",
            Tar::default()
                .symlink("a", "../../../../../outside")
                .file("a/victim", "x"),
            "link to nowhere",
        ),
        (
            "symlink-root",
            Tar::default().symlink("a", "/").file("a/victim", "x"),
            "",
        ),
        (
            "symlink-file",
            Tar::default()
                .symlink("victim", &format!("{far}/victim"))
                .file("victim", "x"),
            "",
        ),
        (
            "symlink-dir",
            Tar::default()
                .symlink("d", &format!("{far}/dir"))
                .entry('5', "d/", "", b"", |h| h.set_mode(0o777)),
            "",
        ),
        (
            "symlink-chmod",
            Tar::default().entry('2', "l", &format!("{far}/victim"), b"", |h| {
                h.set_mode(0o7777)
            }),
            "",
        ),
        (
            "hard-link-abs",
            Tar::default().hard_link("l", &format!("{far}/victim")),
            "neither this layer nor one beneath it holds",
        ),
        (
            "hard-link-up",
            Tar::default().hard_link("l", "../../outside/victim"),
            "it leads upward",
        ),
        (
            "hard-link-through",
            Tar::default()
                .symlink("s", &format!("{far}/victim"))
                .hard_link("l", "s")
                .file("l", "x"),
            "",
        ),
        (
            "whiteout-up",
            Tar::default().file("a/.wh...", ""),
            "it hides no name",
        ),
        (
            "whiteout-dot",
            Tar::default().file("a/.wh..", ""),
            "it hides no name",
        ),
        (
            "whiteout-nothing",
            Tar::default().file("a/.wh.", ""),
            "it hides no name",
        ),
        (
            "swap",
            Tar::default()
                .dir("d/")
                .file("d/x", "1")
                .symlink("d", far)
                .file("d/victim", "x"),
            "link to nowhere",
        ),
        (
            "opaque-through",
            Tar::default().symlink("d", far).file("d/.wh..wh..opq", ""),
            "link to nowhere",
        ),
        (
            "magic",
            Tar::default()
                .symlink("d", "/proc/self/root")
                .file("d/victim", "x"),
            "link to nowhere",
        ),
        (
            "proc-fd",
            Tar::default()
                .symlink("d", "/proc/self/cwd")
                .file("d/victim", "x"),
            "link to nowhere",
        ),
        (
            "file-as-dir",
            Tar::default().file("f", "x").file("f/victim", "x"),
            "its parent is no directory",
        ),
        (
            "root-link",
            Tar::default().symlink("./", far).file("victim", "x"),
            "root must be a directory",
        ),
        (
            "strange-kind",
            Tar::default().entry('Z', "z", "", b"", |_| ()),
            "unknown kind",
        ),
        (
            "long-name",
            Tar::default()
                .entry('L', "x", "", &[b'a'; 300], |_| ())
                .file("y", "x"),
            "255 bytes",
        ),
        (
            "device",
            Tar::default().entry('4', "disk", "", b"", |h| h.set_device_major(8).unwrap()),
            "",
        ),
    ];
    for (case, tar, refusal) in cases {
        registry.push(&format!("{case}:1"), &[tar.end()], json!({}));
        match pull(&store, &format!("{case}:1")).await {
            Ok(_) => assert_eq!(refusal, "", "{case} was accepted"),
            Err(words) => assert!(
                !refusal.is_empty() && words.contains(refusal),
                "{case}: {words}"
            ),
        }
        assert_eq!(listing(&outside), before, "{case}");
    }
    assert_eq!(
        fs::read_dir(room.path().join("store/tmp")).unwrap().count(),
        0,
        "refused layers leave nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_stopped_at_its_cap() {
    let registry = Registry::start();
    let zeros = vec![0; 64 << 20];
    let bomb = Tar::default().entry('0', "big", "", &zeros, |_| ()).end();
    registry.push("bomb:1", &[gzip(&bomb)], json!({}));
    let many = (0..2000)
        .fold(Tar::default(), |tar, i| tar.dir(&format!("d{i}/")))
        .end();
    registry.push("many:1", &[many], json!({}));
    let room = tempfile::tempdir().unwrap();
    let by_ratio = Limits {
        ratio: 10,
        ratio_from: 1 << 20,
        entries: 1000,
        ..Limits::default()
    };
    let store =
        Store::open_limited(&room.path().join("a"), registry.registries(), by_ratio).unwrap();
    let words = pull(&store, "bomb:1").await.unwrap_err();
    assert!(
        words.contains("layer sha256:") && words.contains("bytes when inflated"),
        "{words}"
    );
    let words = pull(&store, "many:1").await.unwrap_err();
    assert!(words.contains("more than 1000 entries"), "{words}");

    let by_size = Limits {
        bytes: 8 << 20,
        ..Limits::default()
    };
    let store =
        Store::open_limited(&room.path().join("b"), registry.registries(), by_size).unwrap();
    assert!(
        pull(&store, "bomb:1")
            .await
            .unwrap_err()
            .contains("8388608 bytes when inflated")
    );
    let used = run(std::process::Command::new("du").arg("-sm").arg(room.path()));
    assert!(
        used.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            < 4,
        "{used}"
    );
}
