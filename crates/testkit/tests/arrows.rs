//! Keeps the direction of dependencies, the ban on unsafe code and the ban on C, by reading the
//! manifests and what cargo makes of them.
#![expect(clippy::disallowed_methods, reason = "reads the source tree, not a store")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, io};

/// Folder, level, and the crates of the family that it may depend on. An arrow never points up.
const CRATES: &[(&str, u32, &[&str])] = &[
    ("base", 0, &[]),
    ("vfs", 0, &[]),
    ("bloom", 0, &[]),
    ("ring", 0, &[]),
    ("memtable", 1, &["base"]),
    ("wal", 1, &["base", "vfs"]),
    ("sstable", 2, &["base", "vfs", "bloom"]),
    ("manifest", 2, &["base", "vfs", "wal"]),
    ("compaction", 3, &["base", "vfs", "sstable", "manifest"]),
    ("lsm", 4, &["base", "vfs", "bloom", "memtable", "wal", "sstable", "manifest", "compaction"]),
    ("cluster", 5, &["base", "lsm", "ring"]),
    ("raft", 6, &["cluster", "lsm"]),
    ("grpc", 6, &["cluster"]),
    ("server", 6, &["cluster", "raft", "grpc"]),
    (
        "cli",
        6,
        &[
            "base",
            "vfs",
            "bloom",
            "ring",
            "memtable",
            "wal",
            "sstable",
            "manifest",
            "compaction",
            "lsm",
            "cluster",
            "raft",
            "grpc",
            "server",
            "esker",
        ],
    ),
    ("esker", 7, &["lsm", "cluster", "raft", "grpc"]),
    ("concurrency", 7, &["base", "vfs", "memtable", "wal", "sstable", "manifest", "lsm"]),
    (TESTKIT, 0, &[]),
    (
        FUZZ_TARGETS,
        8,
        &[
            "base",
            "vfs",
            "bloom",
            "ring",
            "wal",
            "sstable",
            "manifest",
            "compaction",
            "lsm",
            "cluster",
            TESTKIT,
        ],
    ),
    (GUARDS, 8, &["base", "vfs", "bloom", "memtable", "wal", "sstable", "lsm"]),
    (
        TORTURE,
        9,
        &["base", "vfs", "ring", "sstable", "manifest", "lsm", "cluster", TESTKIT, FUZZ_TARGETS],
    ),
];
/// For tests only: whoever depends on it does so in `dev-dependencies`.
const TESTKIT: &str = "testkit";
/// Bodies of the fuzz targets, never published: nothing depends on it.
const FUZZ_TARGETS: &str = "fuzz-targets";
/// What instructions are counted of, never published: nothing depends on it.
const GUARDS: &str = "guards";
/// The reliability programme, never published: only `xtask` depends on it.
const TORTURE: &str = "torture";
/// What the umbrella has behind a feature.
const OPTIONAL_IN_ESKER: &[&str] = &["cluster", "raft", "grpc"];
/// May hold unsafe code, in one module each; the fuzz targets have an allocator.
const MAY_BE_UNSAFE: &[&str] = &["base", "memtable", "vfs", FUZZ_TARGETS];
/// Level from which an async runtime is allowed.
const ASYNC_FROM_LEVEL: u32 = 5;
const ASYNC_RUNTIMES: &[&str] =
    &["tokio", "async-std", "smol", "futures", "async-executor", "glommio", "monoio"];
/// Crates that build or bind C.
const C_BUILDERS: &[&str] =
    &["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "autotools", "nasm-rs", "cxx-build"];
/// Named like bindings but plain Rust: constants and declarations of the operating system.
const PURE_SYS: &[&str] = &["linux-raw-sys", "windows-sys", "js-sys", "web-sys"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Dev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    name: String,
    kind: Kind,
    optional: bool,
}

// ---- rules ----

fn broken_arrows(manifests: &BTreeMap<String, String>) -> Vec<String> {
    manifests.iter().flat_map(|(folder, manifest)| broken_arrows_of(folder, manifest)).collect()
}

fn broken_arrows_of(folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, level, allowed)) = CRATES.iter().find(|(name, ..)| *name == folder) else {
        return vec![format!("{folder}: not in the table of levels")];
    };
    let fault = |dependency: &Dependency| {
        let name = dependency.name.as_str();
        if dependency.kind == Kind::Normal
            && ASYNC_RUNTIMES.contains(&name)
            && *level < ASYNC_FROM_LEVEL
        {
            return Some(format!(
                "{folder} -> {name}: no async runtime below level {ASYNC_FROM_LEVEL}"
            ));
        }
        let (_, to_level, _) = CRATES.iter().find(|(known, ..)| *known == name)?;
        match dependency.kind {
            _ if folder == TESTKIT => {
                Some(format!("{folder} -> {name}: it depends on no crate of the family"))
            }
            Kind::Dev if name == TESTKIT || to_level <= level => None,
            Kind::Dev => Some(format!("{folder} -> {name}: points up, in tests")),
            Kind::Normal if !allowed.contains(&name) => {
                Some(format!("{folder} -> {name}: not an arrow of the design"))
            }
            Kind::Normal
                if folder == "esker"
                    && OPTIONAL_IN_ESKER.contains(&name)
                    && !dependency.optional =>
            {
                Some(format!("{folder} -> {name}: must be optional"))
            }
            Kind::Normal => None,
        }
    };
    dependencies(manifest).iter().filter_map(fault).collect()
}

fn forbids_unsafe(root_source: &str) -> bool {
    root_source.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]")
}

/// Names in the output of `cargo tree --prefix none` that build or bind C.
fn c_dependencies(tree: &str) -> Vec<&str> {
    let mut names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            C_BUILDERS.contains(name) || (name.ends_with("-sys") && !PURE_SYS.contains(name))
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

// ---- manifests ----

/// All dependencies of a manifest, crates of the family by their folder. Reads the subset of TOML
/// that manifests use: sections, one key a line, values that may span lines in brackets.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let (mut found, mut section, mut depth): (Vec<Dependency>, Option<Section>, usize) =
        (Vec::new(), None, 0);
    for line in manifest.lines() {
        let line = without_comment(line).trim();
        if depth == 0 && line.starts_with('[') {
            section = section_of(line.trim_matches(['[', ']']));
            if let Some(Section::One(kind, name)) = &section {
                found.push(Dependency { name: name.clone(), kind: *kind, optional: false });
            }
            continue;
        }
        if let (0, Some((key, value))) = (depth, line.split_once('=')) {
            match &section {
                Some(Section::All(kind)) => found.push(dependency(*kind, key.trim(), value.trim())),
                Some(Section::One(..)) => {
                    if let Some(last) = found.last_mut() {
                        refine(last, key.trim(), value.trim());
                    }
                }
                None => {}
            }
        }
        let count = |brackets: [char; 2]| line.matches(brackets).count();
        depth = (depth + count(['[', '{'])).saturating_sub(count([']', '}']));
    }
    // `name.workspace = true` and `name.optional = true` are two lines of one dependency.
    found.sort_by(|a, b| (&a.name, a.kind as u8).cmp(&(&b.name, b.kind as u8)));
    found.dedup_by(|next, kept| {
        let same = (&next.name, next.kind) == (&kept.name, kept.kind);
        kept.optional |= same && next.optional;
        same
    });
    found
}

enum Section {
    /// `[dependencies]`: every key is a dependency.
    All(Kind),
    /// `[dependencies.name]`: every key describes one.
    One(Kind, String),
}

/// Also `[target.'cfg(..)'.dependencies]` and build dependencies, which bind like normal ones.
fn section_of(title: &str) -> Option<Section> {
    for (word, kind) in [
        ("dev-dependencies", Kind::Dev),
        ("build-dependencies", Kind::Normal),
        ("dependencies", Kind::Normal),
    ] {
        if title == word || (title.starts_with("target.") && title.ends_with(&format!(".{word}"))) {
            return Some(Section::All(kind));
        }
        if let Some((before, name)) = title.split_once(&format!("{word}.")) {
            let ours = before.is_empty() || before.starts_with("target.");
            return ours.then(|| Section::One(kind, folder_of(name.trim())));
        }
    }
    None
}

fn dependency(kind: Kind, key: &str, value: &str) -> Dependency {
    let (name, attribute) = key.split_once('.').unwrap_or((key, ""));
    let mut dependency = Dependency { name: folder_of(name), kind, optional: false };
    if !attribute.is_empty() {
        refine(&mut dependency, attribute.trim(), value);
    }
    let inside = value.trim_start_matches('{').trim_end_matches('}');
    for (key, value) in inside.split(',').filter_map(|pair| pair.split_once('=')) {
        refine(&mut dependency, key.trim(), value.trim());
    }
    dependency
}

fn refine(dependency: &mut Dependency, key: &str, value: &str) {
    match key {
        "package" => dependency.name = folder_of(value),
        "optional" => dependency.optional = value == "true",
        _ => {}
    }
}

/// `"esker-wal"` and `wal` are both the folder `wal`.
fn folder_of(name: &str) -> String {
    let name = name.trim_matches(['"', '\'', ' ']);
    name.strip_prefix("esker-").unwrap_or(name).to_string()
}

fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(code, _)| code)
}

// ---- the tree as it is ----

fn crates_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folder and text of every manifest beside this crate's.
fn manifests() -> BTreeMap<String, String> {
    let entries = fs::read_dir(crates_dir()).expect("crates are readable");
    let manifest_of = |path: PathBuf| {
        let text = fs::read_to_string(path.join("Cargo.toml")).ok()?;
        Some((path.file_name()?.to_string_lossy().into_owned(), text))
    };
    entries.filter_map(|entry| manifest_of(entry.ok()?.path())).collect()
}

fn cargo_tree(more: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO"))
        .args(["tree", "-p", "esker", "-e", "normal,build", "--prefix", "none"])
        .args(more)
        .current_dir(crates_dir())
        .output()
}

#[test]
fn no_arrow_points_up() {
    let manifests = manifests();
    assert!(manifests.contains_key(TESTKIT), "looked in the wrong place: {:?}", manifests.keys());
    let faults = broken_arrows(&manifests);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn unsafe_code_is_forbidden() {
    let root_source = |folder: &str| {
        let src = crates_dir().join(folder).join("src");
        let read = |file: &str| fs::read_to_string(src.join(file)).ok();
        read("lib.rs").or_else(|| read("main.rs")).unwrap_or_default()
    };
    let faults: Vec<String> = manifests()
        .into_keys()
        .filter(|folder| {
            !MAY_BE_UNSAFE.contains(&folder.as_str()) && !forbids_unsafe(&root_source(folder))
        })
        .collect();
    assert!(faults.is_empty(), "without #![forbid(unsafe_code)]: {faults:?}");
}

#[test]
fn the_default_build_has_no_c() {
    // Offline first; a fresh checkout may not have every manifest of the registry yet.
    let output = match cargo_tree(&["--offline"]) {
        Ok(output) if !output.status.success() => cargo_tree(&[]),
        result => result,
    };
    let output = match output {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: cargo does not run: {error}"),
    };
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.starts_with("esker "), "unexpected answer: {tree}");
    assert_eq!(c_dependencies(&tree), Vec::<&str>::new());
}

// ---- the rules on made-up manifests ----

fn faults_of(folder: &str, manifest: &str) -> Vec<String> {
    broken_arrows(&BTreeMap::from([(folder.to_string(), manifest.to_string())]))
}

#[test]
fn the_table_itself_never_points_up() {
    let level_of =
        |name: &str| CRATES.iter().find(|(known, ..)| *known == name).map(|(_, level, _)| *level);
    for (folder, level, allowed) in CRATES {
        for name in *allowed {
            let to_level = level_of(name).expect("listed");
            // Within the top level, binaries stand on services; elsewhere arrows go strictly down.
            assert!(to_level < *level || *level == 6, "{folder} -> {name}");
        }
    }
}

#[test]
fn allowed_arrows_pass() {
    assert_eq!(
        faults_of("wal", "[dependencies]\nbase.workspace = true\nvfs = { path = \"../vfs\" }\n"),
        [""; 0]
    );
    assert_eq!(
        faults_of(
            "base",
            "[dependencies]\ncrc32fast = \"1\"\n[dev-dependencies]\ntestkit.workspace = true\n"
        ),
        [""; 0]
    );
    assert_eq!(faults_of("sstable", "[dev-dependencies]\nmanifest.workspace = true\n"), [""; 0]);
    assert_eq!(
        faults_of(
            "esker",
            "[dependencies]\nlsm.workspace = true\nraft = { workspace = true, optional = true }\n"
        ),
        [""; 0]
    );
    assert_eq!(
        faults_of("cluster", "[dependencies]\ntokio = \"1\"\nlsm.workspace = true\n"),
        [""; 0]
    );
}

#[test]
fn refused_arrows_are_named() {
    let one = |folder: &str, manifest: &str, arrow: &str| {
        let faults = faults_of(folder, manifest);
        assert!(
            faults.len() == 1 && faults[0].starts_with(arrow),
            "{folder}: {manifest:?} gave {faults:?}"
        );
    };
    one("base", "[dependencies]\nlsm.workspace = true\n", "base -> lsm");
    one("memtable", "[dependencies]\nvfs = { workspace = true }\n", "memtable -> vfs");
    one(
        "wal",
        "[dependencies]\nlog = { package = \"esker-manifest\", path = \"../manifest\" }\n",
        "wal -> manifest",
    );
    one("wal", "[dependencies.esker-lsm]\npath = \"../lsm\"\n", "wal -> lsm");
    one("wal", "[dependencies.x]\nversion = \"1\"\npackage = \"esker-lsm\"\n", "wal -> lsm");
    one("wal", "[target.'cfg(unix)'.dependencies]\nsstable.workspace = true\n", "wal -> sstable");
    one("wal", "[build-dependencies]\nsstable.workspace = true\n", "wal -> sstable");
    one("wal", "[dev-dependencies]\nlsm.workspace = true\n", "wal -> lsm: points up, in tests");
    one("lsm", "[dependencies]\ntestkit.workspace = true\n", "lsm -> testkit");
    one("testkit", "[dev-dependencies]\nbase.workspace = true\n", "testkit -> base");
    one("esker", "[dependencies]\nraft.workspace = true\n", "esker -> raft: must be optional");
    one("lsm", "[dependencies]\ntokio = { version = \"1\" }\n", "lsm -> tokio");
    one("novel", "", "novel: not in the table");
}

#[test]
fn manifests_are_read_past_what_does_not_matter() {
    let manifest = "[package]\nname = \"esker-wal\"\nbase = \"no dependency\"\n\n[dependencies] # lsm = \"1\"\n# lsm = \"1\"\n\
        serde = { version = \"1\", features = [\n    \"lsm\",\n] }\nbase.workspace = true\nbase.optional = true\n\
        [features]\nlsm = []\n[workspace.dependencies]\nlsm = \"1\"\n";
    let found: Vec<(String, bool)> =
        dependencies(manifest).into_iter().map(|found| (found.name, found.optional)).collect();
    assert_eq!(found, [("base".to_string(), true), ("serde".to_string(), false)]);
}

#[test]
fn c_and_missing_bans_are_seen() {
    let tree = "esker v0.1.0 (/x)\nlz4_flex v0.14.0\nlinux-raw-sys v0.9.0\nzstd-sys v2.0.0\ncc v1.2.0\ncc v1.2.0 (*)\n";
    assert_eq!(c_dependencies(tree), ["cc", "zstd-sys"]);
    assert!(forbids_unsafe("//! doc\n#![forbid(unsafe_code)]\n"));
    assert!(!forbids_unsafe("//! #![forbid(unsafe_code)]\n#![deny(unsafe_code)]\n"));
}
