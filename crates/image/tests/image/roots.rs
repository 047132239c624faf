//! What runs in a root filesystem, by an image's configuration and its files.

use std::fs;
use std::os::unix::fs::MetadataExt;

use image::{Arguments, Overrides, Store, prepare_volume, process, unmount_root};
use serde_json::json;

use crate::common::{Registry, Root, Tar, is_root, pull};

fn database() -> Vec<u8> {
    Tar::default()
        .file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\npostgres:x:999:998::/var/lib/postgresql:/bin/sh\n",
        )
        .file("etc/group", "postgres:x:998:\nssl:x:101:postgres\n")
        .entry('5', "var/lib/data/", "", b"", |h| {
            h.set_mode(0o2700);
            h.set_uid(999);
            h.set_gid(998);
        })
        .entry('0', "var/lib/data/conf", "", b"on", |h| {
            h.set_mode(0o600);
            h.set_uid(999);
        })
        .attribute("user.kept", b"yes")
        .file("var/lib/data/marked", "m")
        .hard_link("var/lib/data/marked-too", "var/lib/data/marked")
        .symlink("var/lib/data/link", "/etc/passwd")
        .symlink("data", "/var/lib/data")
        .end()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_configuration_becomes_a_process() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let config = json!({
        "User": "postgres", "Env": ["PATH=/usr/lib/bin", "PGDATA=/var/lib/data"], "Entrypoint": ["/entry"], "Cmd": ["postgres"],
        "WorkingDir": "/made/here", "Volumes": {"/var/lib/data": {}, "/data/": {}}, "StopSignal": "SIGINT", "ExposedPorts": {"5432/tcp": {}},
    });
    registry.push("db:1", &[database()], config);
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(&room.path().join("store"), registry.registries()).unwrap();
    let image = pull(&store, "db:1").await.unwrap();
    let root = Root::mount(&image);
    let overrides = Overrides {
        arguments: Some(Arguments::List(vec!["-c".into(), "x=1".into()])),
        given_env: vec![("PORT0".into(), "31000".into())],
        hostname: "db".into(),
        ..Overrides::default()
    };
    let got = process(&image.config, &overrides, &root.path).unwrap();
    let want = image::Process {
        args: ["/entry", "-c", "x=1"].map(str::to_owned).into(),
        env: [
            "PATH=/usr/lib/bin",
            "PGDATA=/var/lib/data",
            "PORT0=31000",
            "HOME=/var/lib/postgresql",
            "HOSTNAME=db",
        ]
        .map(str::to_owned)
        .into(),
        uid: 999,
        gid: 998,
        groups: vec![101, 998],
        cwd: "/made/here".into(),
        stop_signal: 2,
        volumes: vec!["/data".into(), "/var/lib/data".into()],
    };
    assert_eq!(got, want);
    assert!(root.path.join("made/here").is_dir());
    let stranger = Overrides {
        user: Some("nobody".into()),
        ..overrides
    };
    assert_eq!(
        process(&image.config, &stranger, &root.path)
            .unwrap_err()
            .to_string(),
        "unable to find user nobody"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_volume_begins_with_the_images_content() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("db:1", &[database()], json!({}));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(&room.path().join("store"), registry.registries()).unwrap();
    let root = Root::mount(&pull(&store, "db:1").await.unwrap());
    // `/data` is a link to an absolute path, which is the image's and not ours.
    for path in ["/var/lib/data", "/data"] {
        let volume = room.path().join(path.replace('/', "_"));
        fs::create_dir(volume.with_extension("partial")).unwrap();
        prepare_volume(&root.path, path, &volume).unwrap();
        let stat = |name: &str| fs::symlink_metadata(volume.join(name)).unwrap();
        assert_eq!(
            (stat("").mode() & 0o7777, stat("").uid(), stat("").gid()),
            (0o2700, 999, 998)
        );
        assert_eq!(
            (stat("conf").mode() & 0o7777, stat("conf").uid()),
            (0o600, 999)
        );
        assert_eq!(stat("marked").ino(), stat("marked-too").ino());
        assert!(stat("link").is_symlink());
        fs::write(volume.join("conf"), "changed").unwrap();
        prepare_volume(&root.path, path, &volume).unwrap();
        assert_eq!(
            fs::read_to_string(volume.join("conf")).unwrap(),
            "changed",
            "filled once only"
        );
        assert_eq!(root.read("var/lib/data/conf"), "on");
    }
    let fresh = room.path().join("fresh");
    prepare_volume(&root.path, "/not/there", &fresh).unwrap();
    assert_eq!(fs::read_dir(&fresh).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_comes_back_with_what_was_written() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    registry.push("db:1", &[database()], json!({}));
    let room = tempfile::tempdir().unwrap();
    let store = Store::open(&room.path().join("store"), registry.registries()).unwrap();
    let image = pull(&store, "db:1").await.unwrap();
    let root = Root::mount(&image);
    fs::write(root.path.join("etc/group"), "mine").unwrap();
    unmount_root(root.dir()).unwrap();
    unmount_root(root.dir()).unwrap();
    assert_eq!(fs::read_dir(&root.path).unwrap().count(), 0);
    image::mount_root(&image, root.dir()).unwrap();
    assert_eq!(root.read("etc/group"), "mine");
}
