//! Small images under the very names that the wild app definitions use, built by `image` on a base
//! of this machine's own busybox, curl and Redis: a few seconds and no package to fetch. What they do is
//! in their directories below `tests/system/images`; nothing here runs them.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use image::{Build, Builder};

/// A directory below `tests/system/images`, and the name that its image is pushed under.
pub const IMAGES: [(&str, &str); 7] = [
    ("mongo", "mongo"),
    ("todo", "binocarlos/powerstrip-mesosphere-demo:latest"),
    ("interfaces", "binocarlos/powerstrip-weave-example:latest"),
    // Asked for as `192.168.58.201:5000/myapp:latest`, which a mirror setting maps to this.
    ("myapp", "myapp:latest"),
    ("mongo", "application/db/mongo:1"),
    ("todo", "application/app/nodeapp:1"),
    ("nginx", "application/web/nginx:1"),
];

const BUSYBOX: &str = "/bin/busybox";
const PROGRAMS: [&str; 3] = [
    "/usr/bin/curl",
    "/usr/bin/redis-server",
    "/usr/bin/redis-cli",
];

/// Builds all images in `room`, a directory of the caller's, and pushes them to the registry at
/// `HOST:PORT`. Afterwards the builder holds nothing in `room` that is still mounted.
///
/// # Errors
/// When busybox-static, curl or redis-server is not installed, or buildah fails.
pub async fn push(room: &Path, registry: &str) -> anyhow::Result<()> {
    let builder = Builder::new(&room.join("builder"), registry)?;
    let pushed = push_with(&builder, room).await;
    builder.clear().await?;
    pushed
}

async fn push_with(builder: &Builder, room: &Path) -> anyhow::Result<()> {
    let base = room.join("base");
    tiny_root(&base.join("root"))?;
    fs::write(base.join("Dockerfile"), "FROM scratch\nCOPY root /\n")?;
    build(builder, &base, "base/tiny:1").await?;
    let directories = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
    for (directory, name) in IMAGES {
        build(builder, &directories.join(directory), name).await?;
    }
    Ok(())
}

async fn build(builder: &Builder, context: &Path, tag: &str) -> anyhow::Result<()> {
    let build = Build {
        context,
        tag,
        push: true,
    };
    let built = builder.build(&build, |_| ()).await;
    built
        .map(drop)
        .with_context(|| format!("make the image {tag}"))
}

/// Busybox with its applets, and curl and Redis with the libraries that they are linked to.
fn tiny_root(root: &Path) -> anyhow::Result<()> {
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    copy(Path::new(BUSYBOX), root)?;
    for applet in said(Command::new(BUSYBOX).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    let mut files = BTreeSet::from(PROGRAMS.map(PathBuf::from));
    for program in PROGRAMS {
        // Lines such as `name => /path (0x…)`, and `/path (0x…)` for the loader.
        let linked = said(Command::new("ldd").arg(program))?;
        let words = linked.split_whitespace();
        files.extend(
            words
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    files.iter().try_for_each(|file| copy(file, root))
}

/// Copies a file of this machine to the same path below `root`, as a file of its own.
fn copy(file: &Path, root: &Path) -> anyhow::Result<()> {
    let target = root.join(file.strip_prefix("/")?);
    let directory = target
        .parent()
        .with_context(|| format!("{} is no file", file.display()))?;
    fs::create_dir_all(directory)?;
    fs::copy(file, target).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
