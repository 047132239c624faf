//! What the lock file must not hold: a second TLS provider, or a crate from anywhere but crates.io.
//!
//! cargo-deny checks the same and more; this works where it is not installed.

use super::Finding;
use super::tree::File;

const BANNED: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "native-tls",
    "openssl",
    "openssl-sys",
];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const CURE_BANNED: &str =
    "find who brings it with cargo tree -i, and turn off that crate's default features";
const CURE_SOURCE: &str = "depend on a release from crates.io";

/// Findings in `Cargo.lock`.
pub fn check(file: &File) -> Vec<Finding> {
    file.lines()
        .filter_map(|(number, line)| check_line(file, number, line))
        .collect()
}

fn check_line(file: &File, number: usize, line: &str) -> Option<Finding> {
    if let Some(name) = value(line, "name") {
        return BANNED
            .contains(&name)
            .then(|| file.finding(number, format!("{name} is in the tree"), CURE_BANNED));
    }
    let source = value(line, "source")?;
    (source != REGISTRY)
        .then(|| file.finding(number, "a crate from elsewhere than crates.io", CURE_SOURCE))
}

/// The string of a line `key = "string"`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?
        .strip_prefix(" = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{file, places};
    use super::*;

    #[test]
    fn ring_from_the_registry_passes() {
        let text = format!(
            "[[package]]\nname = \"ring\"\nsource = \"{REGISTRY}\"\ndependencies = [\n \"openssl-probe\",\n]\n"
        );
        assert_eq!(check(&file("Cargo.lock", &text)), []);
    }

    #[test]
    fn each_banned_crate_is_found() {
        for name in BANNED {
            let text = format!("[[package]]\nname = \"{name}\"\n");
            assert_eq!(
                places(&check(&file("Cargo.lock", &text))),
                ["Cargo.lock:2"],
                "{name}"
            );
        }
    }

    #[test]
    fn a_crate_from_git_or_another_registry_is_found() {
        let text = "name = \"a\"\nsource = \"git+https://example.org/a\"\nsource = \"registry+https://example.org/\"\n";
        assert_eq!(
            places(&check(&file("Cargo.lock", text))),
            ["Cargo.lock:2", "Cargo.lock:3"]
        );
    }
}
