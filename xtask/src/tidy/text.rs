//! What a file says: its opening, its length, promises instead of work, and names of the machine
//! that it was written on.
//!
//! The words are put together from halves here, so that this file passes its own rules.

use super::Finding;
use super::tree::File;

const LINES_MAX: usize = 600;
/// Files whose words are not ours.
const FOREIGN: &[&str] = &["Cargo.lock", "LICENSE"];

/// Marks of work left undone, as whole words.
const UNDONE: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
const UNDONE_MACROS: &[&str] = &[concat!("to", "do!"), concat!("unimpl", "emented!")];

/// Absolute paths that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp", "/wt"),
    concat!("/tmp", "/target-"),
];
/// Tools of that machine.
const MACHINE_TOOLS: &[&str] = &[
    concat!("`iss", "ues`"),
    concat!("`iss", "ues "),
    concat!("issues", " show"),
    concat!("`dupli", "cates`"),
    concat!("fa", "rm-"),
];
/// Hosts of package registries: where packages come from is the machine's own setting.
const HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("proxy.", "golang.org"),
    concat!("registry.", "npmjs.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("deb.", "debian.org"),
];

const CURE_OPENING: &str =
    "open it with //! and say what it is and what it deliberately does not do";
const CURE_LENGTH: &str = "look for the room hiding in it (tests count too)";
const CURE_UNDONE: &str = "do it, or refuse clearly";
const CURE_MACHINE: &str = "take it from a setting, or leave it out";

/// Findings in one file.
pub fn check(file: &File) -> Vec<Finding> {
    if FOREIGN.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if file.is_rust() && !file.text.starts_with("//!") {
        findings.push(file.finding(1, "no module documentation at the top", CURE_OPENING));
    }
    let length = file.text.lines().count();
    if length > LINES_MAX && (file.is_rust() || file.path.starts_with("scripts/")) {
        findings.push(file.finding(
            LINES_MAX + 1,
            format!("{length} lines, more than {LINES_MAX}"),
            CURE_LENGTH,
        ));
    }
    for (number, line) in file.lines() {
        findings.extend(
            undone(line).map(|word| file.finding(number, format!("says {word}"), CURE_UNDONE)),
        );
        findings.extend(machine(line).map(|name| {
            let what = format!(
                "names {}, which is one machine's own",
                name.trim_matches('`').trim()
            );
            file.finding(number, what, CURE_MACHINE)
        }));
    }
    findings
}

/// The first mark of undone work in a line.
fn undone(line: &str) -> Option<&'static str> {
    let word = UNDONE.iter().find(|word| has(line, word, is_word, is_word));
    word.or_else(|| {
        UNDONE_MACROS
            .iter()
            .find(|word| has(line, word, is_word, |_| false))
    })
    .copied()
}

/// The first name of a machine in a line.
fn machine(line: &str) -> Option<&'static str> {
    let path = MACHINE_PATHS
        .iter()
        .find(|path| has(line, path, is_path, |_| false));
    let named = || {
        MACHINE_TOOLS
            .iter()
            .chain(HOSTS)
            .find(|name| has(line, name, is_word, |_| false))
    };
    path.or_else(named).copied()
}

/// Whether the line has the word, with no character before or after it that would make it part
/// of another.
fn has(
    line: &str,
    word: &str,
    joins_before: fn(char) -> bool,
    joins_after: fn(char) -> bool,
) -> bool {
    line.match_indices(word).any(|(start, _)| {
        !line[..start].ends_with(joins_before)
            && !line[start + word.len()..].starts_with(joins_after)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// What may stand before a slash inside a longer path.
fn is_path(character: char) -> bool {
    is_word(character) || "./-}{)".contains(character)
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{file, places};
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        places(&check(&file(path, text)))
    }

    #[test]
    fn a_source_file_opens_with_its_documentation() {
        assert_eq!(found("a.rs", "//! What it is.\n"), [""; 0]);
        assert_eq!(found("a.rs", "// What it is.\n"), ["a.rs:1"]);
        assert_eq!(found("a.rs", ""), ["a.rs:1"]);
        assert_eq!(found("a.toml", "[package]\n"), [""; 0]);
    }

    #[test]
    fn six_hundred_lines_pass_and_one_more_does_not() {
        let lines = |count| "//! line\n".repeat(count);
        assert_eq!(found("tests/a.rs", &lines(LINES_MAX)), [""; 0]);
        assert_eq!(
            found("tests/a.rs", &lines(LINES_MAX + 1)),
            ["tests/a.rs:601"]
        );
        assert_eq!(found("scripts/a", &lines(LINES_MAX + 1)), ["scripts/a:601"]);
        assert_eq!(found("cases/a.txt", &lines(LINES_MAX + 1)), [""; 0]);
    }

    #[test]
    fn each_mark_of_undone_work_is_found() {
        for word in UNDONE.iter().chain(UNDONE_MACROS) {
            assert_eq!(
                found("a.md", &format!("well\n({word}) later\n")),
                ["a.md:2"],
                "{word}"
            );
            assert_eq!(found("a.md", &format!("my_{word}\n")), [""; 0], "{word}");
        }
        assert_eq!(
            found("a.md", &format!("mktemp a.{}\n", UNDONE[2].repeat(2))),
            [""; 0]
        );
    }

    #[test]
    fn each_name_of_a_machine_is_found() {
        for name in MACHINE_PATHS.iter().chain(MACHINE_TOOLS).chain(HOSTS) {
            assert_eq!(
                found("a.md", &format!("well\nsee {name}x\n")),
                ["a.md:2"],
                "{name}"
            );
        }
    }

    #[test]
    fn the_same_letters_inside_another_path_or_word_pass() {
        let text = concat!(
            "{}/wo",
            "rk/ overlay/wo",
            "rk/ it issues certificates, duplicates none"
        );
        assert_eq!(found("a.md", text), [""; 0]);
        assert_eq!(found("LICENSE", UNDONE[0]), [""; 0]);
    }
}
