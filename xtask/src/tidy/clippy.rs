//! A crate's own `clippy.toml` replaces the root's: it must repeat the root's rules, and a pure
//! crate's must ban what pure crates may not touch.

use toml::{Table, Value};

use super::Finding;
use super::table;
use super::tree::{File, Tree};

const CURE_ABSENT: &str = "copy crates/model/clippy.toml";
const CURE_RULE: &str = "repeat it: clippy reads this file instead of the root's";
const CURE_BAN: &str = "ban it as crates/model/clippy.toml does";
const CURE_BROKEN: &str = "mend the TOML";

/// Findings of all `clippy.toml` under `crates/`.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let root = tree
        .file("clippy.toml")
        .map(|file| parse(file).unwrap_or_default())
        .unwrap_or_default();
    let mut findings = Vec::new();
    for manifest in tree.files().filter(|file| file.name() == "Cargo.toml") {
        let Some(name) = manifest
            .path
            .strip_prefix("crates/")
            .and_then(|rest| rest.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let pure = table::room(name).is_some_and(table::Room::is_pure);
        match tree.file(&format!("crates/{name}/clippy.toml")) {
            Some(file) => findings.extend(check_rules(file, &root, pure)),
            None if pure => {
                let what = format!("{name} is pure and has no clippy.toml of its own");
                findings.push(manifest.finding(1, what, CURE_ABSENT));
            }
            None => {}
        }
    }
    findings
}

fn parse(file: &File) -> Result<Table, toml::de::Error> {
    file.text.parse()
}

fn check_rules(file: &File, root: &Table, pure: bool) -> Vec<Finding> {
    let rules = match parse(file) {
        Ok(rules) => rules,
        Err(error) => {
            return vec![file.finding(1, format!("not TOML: {}", error.message()), CURE_BROKEN)];
        }
    };
    let lost = root
        .iter()
        .filter(|(key, value)| !repeats(rules.get(*key), value));
    let mut findings: Vec<Finding> = lost
        .map(|(key, _)| {
            let line = file.line_where(|line| line.starts_with(key.as_str()));
            file.finding(line, format!("the root's rule {key} is lost"), CURE_RULE)
        })
        .collect();
    if pure {
        let banned = bans(&rules);
        let free = table::PURE_BANS
            .iter()
            .filter(|path| !banned.contains(path));
        findings
            .extend(free.map(|path| file.finding(1, format!("{path} is not banned"), CURE_BAN)));
    }
    findings
}

/// Whether a crate's value says at least what the root's says.
fn repeats(own: Option<&Value>, root: &Value) -> bool {
    match (own, root) {
        (Some(Value::Array(own)), Value::Array(root)) => root.iter().all(|rule| own.contains(rule)),
        (own, root) => own == Some(root),
    }
}

/// The paths that `disallowed-types` and `disallowed-methods` name.
fn bans(rules: &Table) -> Vec<&str> {
    ["disallowed-types", "disallowed-methods"]
        .iter()
        .filter_map(|key| rules.get(*key)?.as_array())
        .flatten()
        .filter_map(|ban| ban.as_str().or_else(|| ban.get("path")?.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{places, tree};
    use super::*;

    const ROOT: &str = "allow-unwrap-in-tests = true\ndisallowed-names = [\"foo\"]\n";

    fn good() -> String {
        let bans: Vec<String> = table::PURE_BANS
            .iter()
            .map(|path| format!("{{ path = \"{path}\" }}"))
            .collect();
        format!(
            "disallowed-methods = [{}]\nallow-unwrap-in-tests = true\ndisallowed-names = [\"bar\", \"foo\"]\n",
            bans.join(", ")
        )
    }

    fn found(path: &str, text: &str) -> Vec<Finding> {
        let manifest = path.replace("clippy.toml", "Cargo.toml");
        check(&tree(&[
            ("clippy.toml", ROOT),
            (&manifest, ""),
            (path, text),
        ]))
    }

    #[test]
    fn a_file_that_repeats_the_root_and_bans_all_passes() {
        assert_eq!(found("crates/model/clippy.toml", &good()), []);
    }

    #[test]
    fn a_lost_or_changed_root_rule_is_found_in_any_crate() {
        let text = good()
            .replace(
                "allow-unwrap-in-tests = true",
                "allow-unwrap-in-tests = false",
            )
            .replace(", \"foo\"", "");
        assert_eq!(
            places(&found("crates/model/clippy.toml", &text)),
            ["crates/model/clippy.toml:2", "crates/model/clippy.toml:3"]
        );
        assert_eq!(found("crates/store/clippy.toml", "").len(), 2);
    }

    #[test]
    fn each_ban_that_is_missing_is_found() {
        for ban in table::PURE_BANS {
            let text = good().replace(&format!("\"{ban}\""), "\"nothing\"");
            let findings = found("crates/node/clippy.toml", &text);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].what, format!("{ban} is not banned"));
        }
    }

    #[test]
    fn a_pure_crate_without_the_file_and_a_broken_file_are_found() {
        let findings = check(&tree(&[
            ("clippy.toml", ROOT),
            ("crates/sim/Cargo.toml", ""),
            ("crates/store/Cargo.toml", ""),
        ]));
        assert_eq!(places(&findings), ["crates/sim/Cargo.toml:1"]);
        assert_eq!(found("crates/model/clippy.toml", "a = [").len(), 1);
    }
}
