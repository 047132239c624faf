//! `api` may know of `planner` only what answers a request.
//!
//! The table's edge says that `api` may use `planner`; which part of it is a matter of paths in
//! the source. Comments are left out, so that documents may point anywhere.

use super::Finding;
use super::tree::File;

const CRATE: &str = "planner";
const ALLOWED: &str = "request";
const CURE: &str = "use planner::request, and let the leader do the rest";

/// Findings in one source file of `api`.
pub fn check(file: &File) -> Vec<Finding> {
    let code = without_comments(&file.text);
    let mut findings = Vec::new();
    for (start, _) in code.match_indices(CRATE) {
        let before = &code[..start];
        let after = &code[start + CRATE.len()..];
        if !starts_path(before) || after.starts_with(is_word) {
            continue;
        }
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        for item in foreign(before, after) {
            findings.push(file.finding(line, format!("api uses {item}"), CURE));
        }
    }
    findings
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether a name that follows `before` is a path's first segment: neither the end of a longer
/// word nor a module of another path (`crate::planner`).
fn starts_path(before: &str) -> bool {
    match before.strip_suffix("::") {
        Some(global) => !global.ends_with(|last| is_word(last) || last == '>'),
        None => !before.ends_with(|last| is_word(last) || last == '.' || last == '"'),
    }
}

/// What is used of the crate besides the allowed module, given the code around its name.
fn foreign(before: &str, after: &str) -> Vec<String> {
    let after = after.trim_start();
    let Some(path) = after.strip_prefix("::") else {
        let imported =
            before.trim_end().ends_with("use") || before.trim_end().ends_with("extern crate");
        return if imported {
            vec![format!("{CRATE} whole")]
        } else {
            Vec::new()
        };
    };
    let items = match path.trim_start().strip_prefix('{') {
        Some(group) => group_items(group),
        None => vec![first_name(path)],
    };
    items
        .into_iter()
        .filter(|item| *item != ALLOWED)
        .map(|item| format!("{CRATE}::{item}"))
        .collect()
}

/// The first names of a `{...}` group's items, inner groups skipped.
fn group_items(group: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(first_name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
        if character == '}' && start == at + 1 {
            break;
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

/// The word that the text begins with, or its one sign (`*`).
fn first_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text
        .find(|character| !is_word(character))
        .unwrap_or(text.len());
    if end == 0 {
        text.get(..1).unwrap_or("")
    } else {
        &text[..end]
    }
}

/// The text with line comments blanked; line numbers stay.
fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.trim_start() {
        comment if comment.starts_with("//") => String::new(),
        _ => line.split(" //").next().unwrap_or_default().to_owned(),
    };
    text.lines().map(|line| code(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::file;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&file("crates/api/src/x.rs", text))
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    #[test]
    fn requests_comments_and_other_words_pass() {
        let text = "//! See [`planner::rollout`].\nuse planner::request;\nuse planner::request::{put_app, remove};\n\
                    use planner::{request::{a, b}, request};\nlet x = ::planner::request::put_app(d);\n\
                    crate::planner::x(); my_planner::y(); let planner = 1; f(planner); // planner::derive\n";
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn every_other_path_is_found_at_its_line() {
        assert_eq!(
            found("//! x\nuse planner::rollout::plan;\n"),
            ["2: api uses planner::rollout"]
        );
        assert_eq!(
            found("fn f() { ::planner::derive::assignment(s) }\n"),
            ["1: api uses planner::derive"]
        );
        assert_eq!(
            found(
                "\n\nuse planner::{\n    request::{put, get},\n    leader,\n    derive::{x},\n};\nfn leader() {}\n"
            ),
            ["3: api uses planner::leader", "3: api uses planner::derive"]
        );
    }

    #[test]
    fn importing_it_whole_or_by_star_is_found() {
        assert_eq!(found("use planner as p;\n"), ["1: api uses planner whole"]);
        assert_eq!(found("pub use planner;\n"), ["1: api uses planner whole"]);
        assert_eq!(found("use planner::*;\n"), ["1: api uses planner::*"]);
        assert_eq!(
            found("use planner::{self, request};\n"),
            ["1: api uses planner::self"]
        );
    }
}
