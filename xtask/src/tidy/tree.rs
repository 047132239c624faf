//! The repository's text files, read once.
//!
//! Files that git does not know yet are read too: a rule is best broken before the commit. Build
//! output is left out by the tag that cargo puts into it, wherever it lies.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::Finding;

/// A text file and its path from the repository's root.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, from 1 on.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The number of the first line that `wanted` accepts; 1 when there is none.
    pub fn line_where(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.lines()
            .find(|(_, line)| wanted(line))
            .map_or(1, |(number, _)| number)
    }

    pub fn finding(&self, line: usize, what: impl Into<String>, cure: &'static str) -> Finding {
        Finding {
            file: self.path.clone(),
            line,
            what: what.into(),
            cure,
        }
    }
}

/// All text files by path.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads every text file beneath `root`; links are not followed.
    ///
    /// # Errors
    /// When a directory or a file cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Tree::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> anyhow::Result<()> {
        let about = || format!("read {}", directory.display());
        for entry in fs::read_dir(directory).with_context(about)? {
            let entry = entry.with_context(about)?;
            let kind = entry.file_type().with_context(about)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            // A directory, or in a second work tree a file that points to it.
            if name == ".git" {
                continue;
            }
            let path = format!("{prefix}{name}");
            if kind.is_dir() && !entry.path().join("CACHEDIR.TAG").exists() {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).with_context(|| format!("read {path}"))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    self.insert(path, text);
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: String, text: String) {
        self.files.insert(path.clone(), File { path, text });
    }

    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    pub fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.insert((*path).into(), (*text).into());
        }
        tree
    }

    /// The places of findings, as `path:line`.
    pub fn places(findings: &[Finding]) -> Vec<String> {
        findings
            .iter()
            .map(|finding| format!("{}:{}", finding.file, finding.line))
            .collect()
    }

    #[test]
    fn build_output_git_and_binary_files_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("src/a.rs", b"//! a\n");
        put(".ci/run", b"#!/bin/bash\n");
        put(".git/HEAD", b"ref\n");
        put("nested/.git", b"gitdir: elsewhere\n");
        put("anywhere/CACHEDIR.TAG", b"tag\n");
        put("anywhere/debug/b.rs", b"b\n");
        put("picture.png", &[0xff, 0xfe]);
        let tree = Tree::read(root.path()).unwrap();
        let paths: Vec<&str> = tree.files().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".ci/run", "src/a.rs"]);
    }
}
