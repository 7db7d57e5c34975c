//! Replays the kept inputs of every fuzz target, and its seeds, on stable. `WRITE_SEEDS=1` writes the seeds into the corpora.
#![expect(clippy::disallowed_methods, reason = "reads the source tree, not a store")]

use fuzz_targets::{TARGETS, seeds};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What all corpora together may take in the repository.
const CORPORA_BYTES_MAX: u64 = 2 << 20;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus_of(target: &str) -> PathBuf {
    fuzz_dir().join("corpus").join(target)
}

fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(corpus_of(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| (path.display().to_string(), fs::read(path).expect("readable"));
    paths.iter().map(read).collect()
}

fn write_seeds(target: &str) {
    let dir = corpus_of(target);
    fs::create_dir_all(&dir).expect("writable");
    for (at, seed) in seeds::seeds(target).iter().enumerate() {
        fs::write(dir.join(format!("seed-{at:03}")), seed).expect("writable");
    }
}

/// Runs every input of a target; the names of those that fail.
fn replay(target: &str, run: fn(&[u8])) -> Vec<String> {
    if std::env::var_os("WRITE_SEEDS").is_some() {
        write_seeds(target);
    }
    let mut inputs = kept(target);
    let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
    println!("{target}: {} inputs kept, {bytes} bytes", inputs.len());
    let seeds = seeds::seeds(target).into_iter().enumerate();
    inputs.extend(seeds.map(|(at, seed)| (format!("{target} seed {at}"), seed)));
    inputs.push((format!("{target} without bytes"), Vec::new()));
    let fails = |(name, input): (String, Vec<u8>)| {
        catch_unwind(AssertUnwindSafe(|| run(&input))).is_err().then_some(name)
    };
    inputs.into_iter().filter_map(fails).collect()
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                let failed = replay(stringify!($target), fuzz_targets::$target);
                assert!(failed.is_empty(), "{failed:#?}");
            }
        )*
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}
replays!(log_record log_replay data_block index_block filter table manifest_edit manifest_replay batch properties database picker topology message agreement);

#[test]
fn every_target_is_replayed_and_has_its_file() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, REPLAYED);
    for name in names {
        let path = fuzz_dir().join("fuzz_targets").join(format!("{name}.rs"));
        let text = fs::read_to_string(&path).expect("a target has its file");
        assert!(text.contains(&format!("fuzz_targets::{name}(data)")), "{}", path.display());
    }
}

#[test]
fn the_corpora_stay_small() {
    let size =
        |(name, _): &(&str, _)| kept(name).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
    let total: u64 = TARGETS.iter().map(size).sum();
    println!("corpora: {total} bytes");
    assert!(
        total <= CORPORA_BYTES_MAX,
        "{total} bytes; minimise with `cargo +nightly fuzz cmin <target>`"
    );
}

#[test]
#[should_panic(expected = "one allocation of")]
fn an_allocation_over_the_limit_is_noticed() {
    fuzz_targets::cap::limited(1 << 20, || drop(std::hint::black_box(vec![1u8; 2 << 20])));
}
