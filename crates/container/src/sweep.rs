//! Clearing away: one ended instance, or everything that nobody claims.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::create::joined;
use crate::{Dir, Error};

/// The node's own groups beside the instances': its init, where it has one of ours, its agent, its
/// shims.
const OWN: [&str; 3] = ["init", "agent", "shims"];

/// Removes an ended instance's directory, logs included, and whatever is left of its cgroup.
/// Refuses while something is mounted in it: removing would reach into volumes and images.
pub async fn remove(dir: &Dir) -> Result<(), Error> {
    let dir = dir.clone();
    joined(tokio::task::spawn_blocking(move || {
        let path = dir.path();
        if let Some(mounted) =
            mounted_below(path).map_err(Error::file("look for mounts in", path))?
        {
            let source = io::Error::other(format!("{mounted} is still mounted"));
            return Err(Error::File {
                what: "remove",
                path: path.to_owned(),
                source,
            });
        }
        if let Ok(spec) = dir.spec() {
            clear(&Cgroup::new(&spec.cgroup)?)?;
        }
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }))
    .await
}

/// Kills every task in the groups below `base` (`tandem/n1`) whose name is neither known nor the
/// node's own, removes these groups, and returns their names.
pub async fn sweep(base: &str, known: BTreeSet<String>) -> Result<Vec<String>, Error> {
    let base = base.to_owned();
    joined(tokio::task::spawn_blocking(move || {
        let children = Cgroup::new(&base)?.children();
        let stray = |name: &String| !known.contains(name) && !OWN.contains(&name.as_str());
        let strays: Vec<String> = children.into_iter().filter(stray).collect();
        for name in &strays {
            clear(&Cgroup::new(&format!("{base}/{name}"))?)?;
        }
        Ok(strays)
    }))
    .await
}

fn clear(group: &Cgroup) -> Result<(), Error> {
    if group.exists() {
        group.kill()?;
        group.remove()?;
    }
    Ok(())
}

fn mounted_below(path: &Path) -> io::Result<Option<String>> {
    let Ok(path) = path.canonicalize() else {
        return Ok(None);
    };
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points
        .find(|point| Path::new(point).starts_with(&path))
        .map(str::to_owned))
}
