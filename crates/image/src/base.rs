//! Base images out of Debian packages, by mmdebstrap: for Dockerfiles that need
//! no outside registry. A recipe is made once; its hash names the result.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::process::Command;

use crate::child::{self, Tool};
use crate::digest::Digest;
use crate::lock;
use crate::trash;

const MMDEBSTRAP: Tool = Tool {
    name: "mmdebstrap",
    package: "mmdebstrap",
};
/// Raised when the way of making changes, so that cached results are made anew.
const FORMAT: u32 = 1;

/// What a base image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// Debian release, such as `bookworm`.
    pub suite: String,
    pub packages: Vec<String>,
    /// Paths that dpkg leaves out, such as `/usr/share/man/*`.
    pub exclude: Vec<String>,
    /// Shell lines run at the end; `$1` is the root.
    pub finish: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make base image of {packages}")]
    Make {
        packages: String,
        source: child::Error,
    },
    #[error("base images cannot be kept in {dir}")]
    Cache { dir: PathBuf, source: io::Error },
}

impl Recipe {
    /// The packages on a small bookworm without documentation and translations.
    pub fn bookworm<const N: usize>(packages: [&str; N]) -> Recipe {
        Recipe {
            suite: "bookworm".into(),
            packages: packages.map(str::to_owned).into(),
            exclude: ["man", "doc", "locale", "info"]
                .map(|part| format!("/usr/share/{part}/*"))
                .into(),
            finish: vec![r#"rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*"#.into()],
        }
    }

    /// Names the result in the cache.
    pub fn hash(&self) -> String {
        let recipe = serde_json::to_vec(&(FORMAT, self)).expect("strings have a JSON form");
        Digest::of(&recipe).hex()[..32].to_owned()
    }
}

/// The tar of the recipe's root filesystem in `cache`, made now if it is not
/// there. Whoever comes second waits for the first, in other processes too; one
/// killed half-way leaves nothing that would be taken for whole.
pub async fn make(
    recipe: &Recipe,
    cache: &Path,
    on_line: impl FnMut(&str),
) -> Result<PathBuf, Error> {
    let failed = |source| Error::Cache {
        dir: cache.to_owned(),
        source,
    };
    let path = cache.join(format!("{}.tar", recipe.hash()));
    fs::create_dir_all(cache).map_err(failed)?;
    let alone = lock::alone(path.with_extension("lock"))
        .await
        .map_err(failed)?;
    if path.is_file() {
        return Ok(path);
    }
    // What a killed attempt left, its root filesystem under construction included.
    let (partial, room) = (
        path.with_extension("partial.tar"),
        path.with_extension("room"),
    );
    let clear = || trash::remove(&partial).and_then(|_| trash::remove(&room));
    clear()
        .and_then(|_| fs::create_dir(&room))
        .map_err(failed)?;
    let mut command = command(recipe, &partial);
    command.env("TMPDIR", &room);
    // The lock is the child's input too: when we alone are killed, the next one waits
    // for the child rather than work in its room.
    let held = alone.try_clone().map_err(failed)?;
    let made = child::run_with(MMDEBSTRAP, &mut command, held.into(), on_line).await;
    made.map_err(|source| Error::Make {
        packages: recipe.packages.join(" "),
        source,
    })?;
    let keep = || -> io::Result<()> {
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &path)?;
        clear()?;
        File::open(cache)?.sync_all()
    };
    keep().map_err(failed)?;
    Ok(path)
}

fn command(recipe: &Recipe, tar: &Path) -> Command {
    let mut command = Command::new(MMDEBSTRAP.name);
    command.args([
        "--variant=apt",
        "--format=tar",
        "--aptopt=APT::Install-Recommends \"false\"",
    ]);
    if !recipe.packages.is_empty() {
        command.arg(format!("--include={}", recipe.packages.join(",")));
    }
    for pattern in &recipe.exclude {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    for line in &recipe.finish {
        command.arg(format!("--customize-hook={line}"));
    }
    command
        .arg(&recipe.suite)
        .arg(tar)
        .args(sources(Path::new("/etc/apt"), &recipe.suite));
    command
}

/// apt's own source files, those that know the suite: the machine's mirrors, not
/// a third party's. Without any, mmdebstrap takes Debian's.
fn sources(apt: &Path, suite: &str) -> Vec<PathBuf> {
    let parts = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> = [apt.join("sources.list")]
        .into_iter()
        .chain(parts)
        .filter(|path| knows(path, suite))
        .collect();
    files.sort();
    files
}

fn knows(path: &Path, suite: &str) -> bool {
    let kind = path
        .extension()
        .is_some_and(|extension| extension == "list" || extension == "sources");
    let text = if kind {
        fs::read_to_string(path).unwrap_or_default()
    } else {
        String::new()
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .any(|word| word == suite || word == format!("{suite}-security"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_known_by_all_that_it_says() {
        let recipe = Recipe::bookworm(["nginx-light"]);
        assert_eq!(recipe.hash(), Recipe::bookworm(["nginx-light"]).hash());
        assert_ne!(recipe.hash(), Recipe::bookworm(["nginx"]).hash());
        let other = Recipe {
            finish: vec!["true".into()],
            ..recipe.clone()
        };
        assert_ne!(recipe.hash(), other.hash());
    }

    #[test]
    fn only_sources_of_the_suite_are_taken() {
        let apt = tempfile::tempdir().unwrap();
        let parts = apt.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        for (name, text) in [
            (
                "debian.sources",
                "Types: deb\nURIs: mirror\nSuites: bookworm bookworm-updates\n",
            ),
            ("security.list", "deb mirror bookworm-security main\n"),
            ("vendor.list", "deb vendor cloud-bookworm main\n"),
            ("comment.list", "# deb vendor bookworm main\n"),
            ("debian.sources.save", "Suites: bookworm\n"),
        ] {
            fs::write(parts.join(name), text).unwrap();
        }
        assert_eq!(
            sources(apt.path(), "bookworm"),
            [parts.join("debian.sources"), parts.join("security.list")]
        );
    }
}
