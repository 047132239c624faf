//! One set of dependencies and one set of lints: each package takes both from the workspace.

use toml::{Table, Value};

use super::Finding;
use super::tree::File;

const CURE_LINTS: &str = "add [lints] with workspace = true";
const CURE_DEPENDENCY: &str =
    "give version and features in the root's [workspace.dependencies], and workspace = true here";
const CURE_BROKEN: &str = "mend the TOML";

/// Findings in one `Cargo.toml`; the root's own, which has no package, has none.
pub fn check(file: &File) -> Vec<Finding> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => {
            let error: toml::de::Error = error;
            return vec![file.finding(1, format!("not TOML: {}", error.message()), CURE_BROKEN)];
        }
    };
    if !manifest.contains_key("package") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !manifest.get("lints").is_some_and(from_workspace) {
        findings.push(file.finding(1, "the workspace's lints are not used", CURE_LINTS));
    }
    for (name, dependency) in dependencies(&manifest) {
        if !from_workspace(dependency) {
            let line = file.line_where(|line| line.starts_with(name.as_str()));
            findings.push(file.finding(
                line,
                format!("{name} does not come from the workspace"),
                CURE_DEPENDENCY,
            ));
        }
    }
    findings
}

fn from_workspace(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// All dependencies, those of tests, build scripts and single platforms included.
fn dependencies(manifest: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flatten();
    let sections = targets
        .filter_map(|(_, target)| target.as_table())
        .chain([manifest]);
    sections.flat_map(|section| {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|kind| section.get(kind)?.as_table())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{file, places};
    use super::*;

    const HEAD: &str = "[package]\nname = \"x\"\n[lints]\nworkspace = true\n";

    fn found(text: &str) -> Vec<String> {
        places(&check(&file("crates/x/Cargo.toml", text)))
    }

    #[test]
    fn what_comes_from_the_workspace_passes_and_so_does_the_root() {
        assert_eq!(
            found(&format!(
                "{HEAD}[dependencies]\na.workspace = true\nb = {{ workspace = true }}\n"
            )),
            [""; 0]
        );
        assert_eq!(
            found("[workspace]\n[workspace.dependencies]\na = \"1\"\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_version_of_its_own_is_found_in_every_section() {
        for section in [
            "dependencies",
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            assert_eq!(
                found(&format!("{HEAD}[{section}]\na = \"1\"\n")),
                ["crates/x/Cargo.toml:6"],
                "{section}"
            );
        }
    }

    #[test]
    fn lints_of_its_own_are_found() {
        assert_eq!(
            found("[package]\nname = \"x\"\n"),
            ["crates/x/Cargo.toml:1"]
        );
        assert_eq!(found("not toml"), ["crates/x/Cargo.toml:1"]);
    }
}
