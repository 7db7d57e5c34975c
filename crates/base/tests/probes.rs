//! The lists of probes and of planted bugs agree with the sources of the family.
#![expect(clippy::disallowed_methods, reason = "reads the source tree, not a store")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The text of every source file of the family but those that define what is looked for.
fn sources() -> Vec<(PathBuf, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(crates).expect("crates are readable") {
        collect(&entry.expect("readable").path().join("src"), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("readable").path();
        let about_itself = ["probe", "probe.rs", "planted.rs"]
            .iter()
            .any(|n| path.ends_with(format!("base/src/{n}")));
        if path.is_dir() && !about_itself {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !about_itself {
            let text = std::fs::read_to_string(&path).expect("readable");
            found.push((path, text));
        }
    }
}

/// What follows `start` up to `end`, everywhere in `text`.
fn between<'a>(text: &'a str, start: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split_once(end).map(|(found, _)| found))
}

#[test]
fn every_probe_is_placed_once() {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (_, text) in sources() {
        for name in between(&text, "probe!(\"", '"') {
            *count.entry(name.to_string()).or_default() += 1;
        }
    }
    let twice: Vec<_> = count.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "used twice: {twice:?}");
    let placed: Vec<&str> = count.keys().map(String::as_str).collect();
    assert_eq!(placed, base::probe::ALL);
}

/// One row each in `docs/planted.md`, `| id | ..`, and at least one place in the sources.
#[test]
fn every_planted_bug_is_in_the_table() {
    let mut placed: Vec<u32> = sources()
        .iter()
        .flat_map(|(_, text)| {
            between(text, "planted::is(", ')').map(str::to_string).collect::<Vec<_>>()
        })
        .filter_map(|id| id.parse().ok())
        .collect();
    placed.sort_unstable();
    placed.dedup();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/planted.md");
    let table = std::fs::read_to_string(docs).expect("docs/planted.md");
    let row = |line: &str| line.strip_prefix("| ")?.split_once(' ')?.0.parse::<u32>().ok();
    let listed: Vec<u32> = table.lines().filter_map(row).collect();
    assert_eq!(listed, placed);
}
