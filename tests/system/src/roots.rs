//! Root filesystems of base images, made of this machine's own programs: no package to fetch, and
//! a second or two. What they hold is what the images built upon them run, and no more.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

const BUSYBOX: &str = "/bin/busybox";
const CURL_AND_REDIS: [&str; 3] = [
    "/usr/bin/curl",
    "/usr/bin/redis-server",
    "/usr/bin/redis-cli",
];
/// PostgreSQL, and what busybox lacks of what the example's start script calls.
const POSTGRESQL: [&str; 6] = [
    "/usr/lib/postgresql/15/bin/postgres",
    "/usr/lib/postgresql/15/bin/initdb",
    "/usr/lib/postgresql/15/bin/psql",
    "/usr/lib/postgresql/15/bin/pg_isready",
    "/usr/bin/setpriv",
    "/usr/bin/install",
];
const DASH: &str = "/bin/dash";
const EXTENSIONS: &str = "/usr/lib/postgresql/15/lib";
const SHARED: [&str; 2] = ["/usr/share/postgresql/15", "/usr/lib/locale/C.utf8"];

/// Busybox with its applets, curl and Redis.
///
/// # Errors
/// When busybox-static, curl or redis-server is not installed.
pub fn tiny(root: &Path) -> anyhow::Result<()> {
    busybox(root)?;
    programs(&CURL_AND_REDIS, root)
}

/// Busybox with its applets and a PostgreSQL server, as the `base/postgresql` of the examples has
/// it for what is built upon that.
///
/// # Errors
/// When busybox-static or postgresql-15 is not installed.
pub fn postgresql(root: &Path) -> anyhow::Result<()> {
    busybox(root)?;
    for (file, line) in [
        ("passwd", "postgres:x:70:70::/tmp:/bin/sh\n"),
        ("group", "postgres:x:70:\n"),
    ] {
        let path = root.join("etc").join(file);
        let text = fs::read_to_string(&path)? + line;
        fs::write(path, text)?;
    }
    programs(&POSTGRESQL, root)?;
    // Busybox' own shell prefers busybox' programs to those in the path.
    programs(&[DASH], root)?;
    fs::remove_file(root.join("bin/sh"))?;
    symlink("dash", root.join("bin/sh"))?;
    for entry in fs::read_dir(EXTENSIONS).with_context(|| format!("read {EXTENSIONS}"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The just-in-time compiler is larger than all the rest, and switched off.
        if name.ends_with(".so") && !name.starts_with("llvmjit") {
            copy(&path, root)?;
        }
    }
    SHARED
        .iter()
        .try_for_each(|tree| all(Path::new(tree), root))
}

fn busybox(root: &Path) -> anyhow::Result<()> {
    for directory in ["bin", "etc", "run", "tmp", "var"] {
        fs::create_dir_all(root.join(directory))?;
    }
    symlink("../run", root.join("var/run"))?;
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    copy(Path::new(BUSYBOX), root)?;
    for applet in said(Command::new(BUSYBOX).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}

/// Programs with the libraries that they are linked to.
fn programs(programs: &[&str], root: &Path) -> anyhow::Result<()> {
    let mut files: BTreeSet<PathBuf> = programs.iter().map(PathBuf::from).collect();
    for program in programs {
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

fn all(tree: &Path, root: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(tree).with_context(|| format!("read {}", tree.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => all(&path, root)?,
            false => copy(&path, root)?,
        }
    }
    Ok(())
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
