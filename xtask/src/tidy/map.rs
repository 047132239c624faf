//! A newcomer finds every crate on the map: `README.md` and `ARCHITECTURE.md` together name each.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::{File, Tree};

const MAP: &str = "ARCHITECTURE.md";
const CURE: &str = "say in a line what it is for";

/// Findings for crates that neither page names, at the map's first line.
pub fn check(tree: &Tree, crates: &BTreeSet<&str>) -> Vec<Finding> {
    let absent = File {
        path: MAP.to_owned(),
        text: String::new(),
    };
    let map = tree.file(MAP).unwrap_or(&absent);
    let pages = [Some(map), tree.file("README.md")];
    let named = |name: &str| pages.iter().flatten().any(|page| names(page, name));
    crates
        .iter()
        .filter(|name| !named(name))
        .map(|name| map.finding(1, format!("crate {name} is not on the map"), CURE))
        .collect()
}

/// Whether a page names the crate as code: the word alone would find `node` everywhere.
fn names(page: &File, name: &str) -> bool {
    page.text.contains(&format!("`{name}`")) || page.text.contains(&format!("crates/{name}"))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::tree;
    use super::*;

    #[test]
    fn a_crate_is_named_on_either_page_as_code() {
        let crates = BTreeSet::from(["model", "node", "store"]);
        let tree = tree(&[
            ("README.md", "Each node has a `model`."),
            (MAP, "see crates/store"),
        ]);
        let whats: Vec<String> = check(&tree, &crates)
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert_eq!(whats, ["crate node is not on the map"]);
    }

    #[test]
    fn without_a_map_every_crate_is_missing() {
        assert_eq!(
            check(&tree(&[]), &BTreeSet::from(["model", "node"])).len(),
            2
        );
    }
}
