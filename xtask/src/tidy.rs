//! Holds the repository against the rules that neither rustc nor clippy knows.
//!
//! One rule, one function from text to findings, so that each is tested on a few lines that break
//! it. The crate table is data in [`table`]; nothing else in the repository repeats it. What
//! clippy, rustfmt and cargo-deny check is left to them.

use std::fmt;
use std::path::Path;

use anyhow::Context;

mod api;
mod clippy;
mod edges;
mod lock;
mod manifests;
mod map;
mod table;
mod text;
mod tree;

use tree::{File, Tree};

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the repository's root.
    file: String,
    /// From 1 on.
    line: usize,
    what: String,
    cure: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            file,
            line,
            what,
            cure,
        } = self;
        write!(out, "{file}:{line}: {what}; {cure}")
    }
}

/// Every finding in the repository at `root`, by file and line.
///
/// # Errors
/// When the tree cannot be read, or cargo cannot describe the workspace.
pub fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let workspace = edges::Workspace::read(root)?;
    let mut findings = edges::check(&tree, &workspace);
    findings.extend(clippy::check(&tree));
    findings.extend(map::check(&tree, &workspace.crates()));
    findings.extend(lock::check(
        tree.file("Cargo.lock")
            .context("no Cargo.lock; run cargo check")?,
    ));
    for file in tree.files() {
        findings.extend(check_file(file));
    }
    findings.sort();
    Ok(findings)
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = text::check(file);
    if file.name() == "Cargo.toml" {
        findings.extend(manifests::check(file));
    }
    if file.path.starts_with("crates/api/") && file.is_rust() {
        findings.extend(api::check(file));
    }
    findings
}
