//! Dependencies between the workspace's packages, and of pure ones on the outside, against the
//! table.
//!
//! cargo's own description of the workspace is read, so that renamed, optional and
//! platform-dependent dependencies count too. Only direct ones are looked at: what an outside
//! crate of the allow-list brings was judged when it was put there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::Finding;
use super::table::{self, Kind, Room};
use super::tree::{File, Tree};

const CURE_EDGE: &str = "go through a crate that may know both, or change xtask/src/tidy/table.rs in a commit that says why";
const CURE_OUTSIDE: &str =
    "keep it out of the deciding crates, or add it to the allow-list in a commit that says why";
const CURE_ROOM: &str = "fold it into a crate of the table, or add it to xtask/src/tidy/table.rs in a commit that says why";

/// The part of `cargo metadata` that the rule reads.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    workspace_root: String,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
    /// Given for packages of this workspace only.
    path: Option<String>,
}

impl Workspace {
    /// Asks cargo; nothing is resolved or downloaded.
    ///
    /// # Errors
    /// When cargo fails, or answers what cannot be understood.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--no-deps",
                "--offline",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(root.join("Cargo.toml"))
            .output()
            .context("start cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("understand cargo metadata")
    }

    /// Names of the packages under `crates/`.
    pub fn crates(&self) -> BTreeSet<&str> {
        self.packages
            .iter()
            .filter(|package| self.manifest(package).starts_with("crates/"))
            .map(|package| package.name.as_str())
            .collect()
    }

    /// A package's manifest, from the workspace's root.
    fn manifest<'a>(&self, package: &'a Package) -> &'a str {
        let path = package
            .manifest_path
            .strip_prefix(&self.workspace_root)
            .unwrap_or(&package.manifest_path);
        path.trim_start_matches('/')
    }
}

/// Findings of every package of the workspace.
pub fn check(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let Some(manifest) = tree.file(workspace.manifest(package)) else {
            continue;
        };
        match table::room(&package.name) {
            Some(room) => findings.extend(check_package(manifest, room, package)),
            None => findings.push(manifest.finding(
                1,
                format!("package {} is not in the table", package.name),
                CURE_ROOM,
            )),
        }
    }
    findings
}

fn check_package(manifest: &File, room: &Room, package: &Package) -> Vec<Finding> {
    let refused = package
        .dependencies
        .iter()
        .filter_map(|dependency| Some((dependency, refusal(room, dependency)?)));
    refused
        .map(|(dependency, (what, cure))| {
            let line = manifest.line_where(|line| is_key(line, &dependency.name));
            manifest.finding(line, what, cure)
        })
        .collect()
}

/// Why a room may not have this dependency, and the cure; nothing when it may.
fn refusal(room: &Room, dependency: &Dependency) -> Option<(String, &'static str)> {
    let in_tests = dependency.kind.as_deref() == Some("dev");
    let name = dependency.name.as_str();
    let user = if in_tests {
        format!("tests of {}", room.name)
    } else {
        room.name.to_owned()
    };
    if dependency.path.is_some() {
        let listed = room.may_use.contains(&name) || in_tests && room.tests_may_use.contains(&name);
        let all = room.kind == Kind::Binary
            && table::room(name).is_some_and(|used| used.kind != Kind::Binary);
        return (!listed && !all).then(|| (format!("{user} may not depend on {name}"), CURE_EDGE));
    }
    let Kind::Pure { outside } = room.kind else {
        return None;
    };
    let listed = outside.contains(&name) || in_tests && table::PURE_TESTS_OUTSIDE.contains(&name);
    (!listed).then(|| {
        (
            format!("{user}, which is pure, may not depend on {name}"),
            CURE_OUTSIDE,
        )
    })
}

/// Whether a manifest's line gives the key: `name = ...` or `name.workspace = ...`.
fn is_key(line: &str, name: &str) -> bool {
    line.trim_start()
        .strip_prefix(name)
        .is_some_and(|rest| rest.starts_with([' ', '=', '.']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tree::tests::tree;
    use super::*;

    fn whats(name: &str, dependencies: serde_json::Value) -> Vec<String> {
        let manifest = format!("crates/{name}/Cargo.toml");
        let workspace = serde_json::from_value(json!({
            "workspace_root": "/r",
            "packages": [{ "name": name, "manifest_path": format!("/r/{manifest}"), "dependencies": dependencies }],
        }))
        .unwrap();
        let text =
            "[package]\n[dependencies]\nmodel.workspace = true\nstore = { workspace = true }\n";
        check(&tree(&[(manifest.as_str(), text)]), &workspace)
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    fn ours(name: &str, kind: Option<&str>) -> serde_json::Value {
        json!({ "name": name, "kind": kind, "path": format!("/r/crates/{name}") })
    }

    fn outside(name: &str, kind: Option<&str>) -> serde_json::Value {
        json!({ "name": name, "kind": kind })
    }

    #[test]
    fn an_edge_of_the_table_passes_and_another_is_found_at_its_line() {
        assert_eq!(
            whats("agent", json!([ours("model", None)])),
            Vec::<String>::new()
        );
        assert_eq!(
            whats("agent", json!([ours("model", None), ours("store", None)])),
            ["4: agent may not depend on store"]
        );
    }

    #[test]
    fn an_edge_of_tests_and_of_build_scripts_is_found_too() {
        assert_eq!(
            whats("image", json!([ours("store", Some("dev"))])),
            ["4: tests of image may not depend on store"]
        );
        assert_eq!(
            whats("image", json!([ours("store", Some("build"))])),
            ["4: image may not depend on store"]
        );
    }

    #[test]
    fn a_binary_may_use_every_crate_but_not_another_binary() {
        assert_eq!(
            whats("tandem", json!([ours("store", None), ours("sim", None)])),
            Vec::<String>::new()
        );
        assert_eq!(
            whats("system", json!([ours("tandem", None)])),
            ["1: system may not depend on tandem"]
        );
    }

    #[test]
    fn a_pure_crate_has_only_its_listed_outside_crates() {
        assert_eq!(
            whats(
                "model",
                json!([outside("imbl", None), outside("proptest", Some("dev"))])
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            whats("planner", json!([outside("imbl", None)])),
            ["1: planner, which is pure, may not depend on imbl"]
        );
        assert_eq!(
            whats("model", json!([outside("tokio", Some("dev"))])),
            ["1: tests of model, which is pure, may not depend on tokio"]
        );
        assert_eq!(
            whats("store", json!([outside("tokio", None)])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_package_that_the_table_does_not_know_is_found() {
        assert_eq!(
            whats("attic", json!([])),
            ["1: package attic is not in the table"]
        );
    }
}
