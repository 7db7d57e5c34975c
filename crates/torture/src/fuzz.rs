//! The kept inputs of the fuzz targets, their seeds, and mutations of both, on stable and without a fuzzer.
//!
//! The fuzzer itself, which is guided by coverage, runs with `cargo fuzz`; see `fuzz/README.md`.

use crate::caught::caught;
use crate::{Config, Failure, Family, Figure, Report, Size, pool};
use fuzz_targets::{TARGETS, Target, seeds};
use std::path::{Path, PathBuf};
use testkit::rng::Rng;

const NAME: &str = "fuzz";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "inputs of the fuzz targets, and mutations of them", run };

struct Part {
    target: Target,
    seed: u64,
    /// Mutated inputs to try; 0 replays what is kept.
    mutations: u64,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let mut targets: Vec<Target> = TARGETS.to_vec();
    if config.canary {
        targets = vec![("canary", |data| assert!(data.len() < 8, "planted"))];
    }
    targets.retain(|(name, _)| config.wants(name));
    let rounds = config.seeds(config.size.pick(1, 8, 400));
    let mut parts = Vec::new();
    for &target in &targets {
        parts.push(Part { target, seed: 0, mutations: 0 });
        let mutations = if config.size == Size::Quick { 100 } else { 2_000 };
        parts.extend(rounds.iter().map(|&seed| Part { target, seed, mutations }));
    }
    let done = pool::share(NAME, config, &parts, |part| {
        let tried = one_part(part)
            .map_err(|detail| Failure::new(NAME, config, part.seed, Some(part.target.0), detail))?;
        Ok(((part.mutations > 0, tried), tried))
    })?;
    let sum = |mutated| done.iter().filter(|(m, _)| *m == mutated).map(|(_, n)| n).sum();
    Ok(Report {
        seeds: rounds.len() as u64,
        figures: vec![
            Figure::new("targets", targets.len() as u64, 10),
            Figure::new("inputs replayed", sum(false), 500),
            Figure::new("inputs mutated", sum(true), config.size.pick(1_000, 150_000, 8_000_000)),
        ],
        skipped: None,
    })
}

fn one_part(part: &Part) -> Result<u64, String> {
    let (name, body) = part.target;
    let inputs = inputs(name);
    let try_one = |input: &[u8], what: &str| {
        pool::beat(|| format!("{name} {what}"));
        caught(|| body(input)).map_err(|e| format!("{what}: {e}\ninput: {}", hex(input)))
    };
    if part.mutations == 0 {
        for (what, input) in &inputs {
            try_one(input, what)?;
        }
        return Ok(inputs.len() as u64);
    }
    let mut rng = Rng::new(part.seed);
    for number in 0..part.mutations {
        let mut input = rng.pick(&inputs).1.clone();
        mutate(&mut input, &inputs, &mut rng);
        try_one(&input, &format!("mutation {number}"))?;
    }
    Ok(part.mutations)
}

/// Kept inputs by name, then the seeds, then nothing at all.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = kept(&corpus().join(target));
    let seeds = seeds::seeds(target).into_iter().enumerate();
    all.extend(seeds.map(|(at, seed)| (format!("seed {at}"), seed)));
    all.push(("nothing".into(), Vec::new()));
    all
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[expect(clippy::disallowed_methods, reason = "reads the source tree, not a store")]
fn kept(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: PathBuf| Some((path.display().to_string(), std::fs::read(path).ok()?));
    paths.into_iter().filter_map(read).collect()
}

/// A few changes: bits, bytes, pieces taken out, doubled, or taken from another input.
fn mutate(input: &mut Vec<u8>, others: &[(String, Vec<u8>)], rng: &mut Rng) {
    for _ in 0..1 + rng.below(4) {
        let at = rng.index(input.len() + 1);
        let end = (at + rng.index(17)).min(input.len());
        match rng.below(6) {
            0 if at < input.len() => input[at] ^= 1 << rng.below(8),
            1 if at < input.len() => input[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let count = rng.index(9);
                let bytes = rng.bytes(count);
                input.splice(at..at, bytes);
            }
            _ => {
                let other = &rng.pick(others).1;
                let from = rng.index(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(1500);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
