//! Images built by buildah, on bases of our own.

use std::fs;
use std::path::Path;
use std::process::Command;

use image::{Build, BuildError, Builder, Store, base};

use crate::common::{Registry, Root, Tar, is_root, pull, run, sentence};

/// A root filesystem of static busybox.
fn busybox(tar: &Path) {
    let program = fs::read("/bin/busybox").unwrap();
    let applets = ["sh", "true", "false", "cat", "mkdir"];
    let with_program =
        Tar::default()
            .dir("bin/")
            .dir("tmp/")
            .entry('0', "bin/busybox", "", &program, |h| h.set_mode(0o755));
    let whole = applets.iter().fold(with_program, |tar, applet| {
        tar.symlink(&format!("bin/{applet}"), "busybox")
    });
    fs::write(tar, whole.end()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_on_an_imported_base_is_built_pushed_and_pulled() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let room = tempfile::tempdir().unwrap();
    let tar = room.path().join("base.tar");
    busybox(&tar);
    let builder = Builder::new(&room.path().join("builder"), &registry.address).unwrap();
    assert!(!builder.has_base("tiny").await.unwrap());
    // As a killed import leaves it.
    fs::create_dir_all(room.path().join("builder/import-tiny/tiny/blobs")).unwrap();
    builder.import_base("tiny", &tar).await.unwrap();
    assert!(builder.has_base("tiny").await.unwrap());
    assert!(!room.path().join("builder/import-tiny").exists());

    let context = room.path().join("web");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("page"), "hello").unwrap();
    let dockerfile = "FROM localhost/tiny\nCOPY page /srv/page\nRUN mkdir /made\nSTOPSIGNAL SIGQUIT\nCMD [\"cat\", \"/srv/page\"]\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let mut lines = Vec::new();
    let build = Build {
        context: &context,
        tag: "shop/web:1",
        push: true,
    };
    let image = builder
        .build(&build, |line| lines.push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(image, format!("{}/shop/web:1", registry.address));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("STEP 3/5: RUN mkdir /made")),
        "{lines:?}"
    );

    let store = Store::open(&room.path().join("store"), registry.registries()).unwrap();
    let pulled = pull(&store, "shop/web:1").await.unwrap();
    assert_eq!(pulled.config.stop_signal, "SIGQUIT");
    let root = Root::mount(&pulled);
    assert_eq!(root.read("srv/page"), "hello");
    let said = run(Command::new("chroot")
        .arg(&root.path)
        .args(&pulled.config.cmd));
    assert_eq!(said, "hello");

    // The next one begins from the registry, by its short name.
    fs::write(
        context.join("Dockerfile"),
        "FROM shop/web:1\nRUN true\nRUN echo why >&2; false\n",
    )
    .unwrap();
    let error = builder.build(&build, |_| ()).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Step { step, .. } if step.starts_with("3/3: RUN echo why")),
        "{}",
        sentence(&error)
    );

    let nothing = Build {
        context: room.path(),
        ..build
    };
    assert!(
        builder
            .build(&nothing, |_| ())
            .await
            .unwrap_err()
            .to_string()
            .ends_with("there is no Dockerfile")
    );
    builder.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches Debian packages for a minute"]
async fn a_base_of_debian_packages_is_made_once() {
    if !is_root() {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let recipe = base::Recipe::bookworm(["busybox-static"]);
    // As a killed attempt leaves it.
    fs::create_dir_all(
        room.path()
            .join(format!("{}.room/mmdebstrap.x/etc", recipe.hash())),
    )
    .unwrap();
    fs::write(
        room.path().join(format!("{}.partial.tar", recipe.hash())),
        "half",
    )
    .unwrap();
    let mut lines = 0;
    let tar = base::make(&recipe, room.path(), |_| lines += 1)
        .await
        .unwrap_or_else(|error| panic!("{}", sentence(&error)));
    let listed = run(Command::new("tar").arg("-tf").arg(&tar));
    assert!(
        listed
            .lines()
            .any(|line| line == "./usr/bin/busybox" || line == "./bin/busybox")
    );
    assert!(!listed.contains("/usr/share/man/man1/"));
    let before = lines;
    assert_eq!(
        base::make(&recipe, room.path(), |_| panic!("made twice"))
            .await
            .unwrap(),
        tar
    );
    assert!(before > 0);
    let left = fs::read_dir(room.path()).unwrap().count();
    assert_eq!(left, 2, "the tar and its lock");
}
