//! Real processes on a real disk, killed again and again on the same directory; and a disk that is really full.
//!
//! The child reports each acknowledgement after the call has returned. After the kill every acknowledged write must be
//! there, whole, and nothing that came later without what came before.

mod child;
mod full;
mod parent;

use crate::caught::caught;
use crate::{Config, Failure, Family, Figure, Report, pool};
use parent::Counts;
use std::path::Path;

const NAME: &str = "kill";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "real processes killed, and a disk that is really full", run };

/// Holds the directory on which a child is to write.
const CHILD: &str = "ESKER_KILL_DIR";
/// The test of the same binary that becomes the child, where the binary is one of tests.
const TEST: &str = "child_writer";

/// Becomes the writer that is to be killed, if this process was started as one; else returns at once.
///
/// To be called before anything else by every program that runs the family `kill`, and by a test named `child_writer`.
pub fn child_if_asked() {
    if let Some(dir) = std::env::var_os(CHILD) {
        child::write_on(Path::new(&dir));
    }
}

/// What the writer is about to do when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Open,
    Write,
    Rotate,
    Compact,
    Close,
}

impl Aim {
    const ALL: [Aim; 5] = [Aim::Open, Aim::Write, Aim::Rotate, Aim::Compact, Aim::Close];

    /// How its line begins.
    fn word(self) -> &'static str {
        match self {
            Aim::Open => "hello",
            Aim::Write => "opened",
            Aim::Rotate => "rotate",
            Aim::Compact => "compact",
            Aim::Close => "close",
        }
    }

    /// The kill comes within so many microseconds.
    fn micros_max(self) -> u64 {
        match self {
            Aim::Open => 8_000,
            Aim::Write => 30_000,
            Aim::Rotate => 2_000,
            Aim::Compact | Aim::Close => 6_000,
        }
    }
}

enum Part {
    Chain(u64),
    Full(u64),
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let (chains, kills) = config.size.pick((4, 28), (20, 55), (200, 105));
    let seeds = config.seeds(chains);
    let mut parts = Vec::new();
    if config.wants("chain") {
        parts.extend(seeds.iter().map(|seed| Part::Chain(*seed)));
    }
    if config.wants("full") {
        let rounds = config.size.pick(1, 8, 60);
        parts.extend(config.seeds(rounds).into_iter().map(Part::Full));
    }
    let done = pool::share(NAME, config, &parts, |part| match part {
        Part::Chain(seed) => {
            let counts = caught(|| {
                let parent = tempfile::tempdir().expect("a directory for a while");
                parent::chain(&parent.path().join("db"), *seed, kills, config.canary)
            });
            let counts = counts.map_err(|e| failure(config, *seed, "chain", e))?;
            let kills = counts.kills;
            Ok((Done::Killed(counts), kills))
        }
        Part::Full(seed) => {
            let filled =
                caught(|| full::fill(*seed)).map_err(|e| failure(config, *seed, "full", e))?;
            Ok((Done::Filled(filled), 1))
        }
    })?;
    Ok(report(config, seeds.len() as u64, &done))
}

enum Done {
    Killed(Counts),
    Filled(full::Filled),
}

fn failure(config: &Config<'_>, seed: u64, part: &str, detail: String) -> Failure {
    Failure::new(NAME, config, seed, Some(part), detail)
}

fn report(config: &Config<'_>, seeds: u64, done: &[Done]) -> Report {
    let (mut sum, mut refused, mut on_disk, mut rounds) = (Counts::default(), 0, 0, 0);
    for one in done {
        match one {
            Done::Killed(counts) => {
                sum.kills += counts.kills;
                sum.writes += counts.writes;
                sum.checks += counts.checks;
                sum.hits.iter_mut().zip(counts.hits).for_each(|(all, one)| *all += one);
            }
            Done::Filled(filled) => {
                refused += filled.refused;
                rounds += 1;
                on_disk += u64::from(filled.is_mounted);
            }
        }
    }
    if on_disk == 0 && rounds > 0 {
        config.progress.note("no file system can be mounted here: the full disk was one in memory");
    }
    let kills = config.size.pick(100, 1_000, 20_000);
    let aimed = config.size.pick(5, 100, 2_000);
    Report {
        seeds,
        figures: vec![
            Figure::new("kills", sum.kills, kills),
            Figure::new("in recovery", sum.hits[0], aimed),
            Figure::new("while writing", sum.hits[1], aimed),
            Figure::new("in a rotation of the log", sum.hits[2], aimed),
            Figure::new("in a compaction", sum.hits[3], aimed),
            Figure::new("in a close", sum.hits[4], aimed),
            Figure::new("writes acknowledged", sum.writes, kills),
            Figure::new("states checked", sum.checks, kills / 3),
            Figure::new("full disks", rounds, 1),
            Figure::new("of these mounted", on_disk, 0),
            Figure::new("writes refused for space", refused, 1),
        ],
        skipped: None,
    }
}
