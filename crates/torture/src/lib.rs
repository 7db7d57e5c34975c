//! The reliability programme: families of checks, each run from seeds in three sizes.
//!
//! | family | what it does |
//! | --- | --- |
//! | `crash` | a power cut after every operation on the disk, again inside the recovery, and once more |
//! | `fault` | an error at every operation of the file system, once and from there on |
//! | `meta` | one list of operations under eight option sets against a map, half of them with faults and power cuts |
//! | `corrupt` | every byte of every kind of file, and files as a whole, damaged |
//! | `fuzz` | the kept inputs of the fuzz targets, and mutations of them |
//! | `schedule` | thread schedules, drawn and enumerated |
//! | `cluster` | whole clusters on virtual time: cuts, lost messages, power cuts, wrong clocks, damage |
//! | `moves` | a power cut at every n-th step of a move of data |
//! | `kill` | a real process on a real disk, killed; and a disk that is really full |
//! | `planted` | known bugs put back one by one: the families above must notice each |
//!
//! `cargo xtask torture [FAMILY..] --size quick|change|night [--seed S]` runs them; the tests of this crate run `quick`.
//! A seed replays one run, but for `kill`, where the moment of the kill is up to the machine.
//!
//! Single allocations are watched by the allocator that comes with the fuzz targets: fresh memory is filled with one
//! byte and freed memory with another, in all families.
#![forbid(unsafe_code)]

mod caught;
mod child;
mod cluster;
mod corrupt;
mod crash;
mod fault;
mod fuzz;
mod kill;
mod meta;
pub mod planted;
mod pool;
mod probes;
mod schedule;
mod store;

pub use kill::child_if_asked;
pub use probes::probes;

use std::fmt;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// All families within 3 minutes: a part of `cargo test`.
    Quick,
    /// All families within 25 minutes on two cores: before a change is merged.
    Change,
    /// Up to 9 hours.
    Night,
}

impl Size {
    /// One of three by size.
    pub(crate) fn pick<T>(self, quick: T, change: T, night: T) -> T {
        match self {
            Size::Quick => quick,
            Size::Change => change,
            Size::Night => night,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("quick", "change", "night"))
    }
}

/// Told how far a family is; called from its threads.
pub trait Progress: Sync {
    /// A family begins that has so many parts.
    fn begin(&self, family: &str, parts: u64);
    /// Another part is done, with so many checks in it.
    fn part_done(&self, checks: u64);
    /// Something for people to read.
    fn note(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _family: &str, _parts: u64) {}
    fn part_done(&self, _checks: u64) {}
    fn note(&self, _text: &str) {}
}

/// What to run.
#[derive(Clone)]
pub struct Config<'a> {
    /// How much.
    pub size: Size,
    /// Only this seed; without one, those of the size, from 1.
    pub seed: Option<u64>,
    /// Only the workload, database or fault with this name.
    pub part: Option<String>,
    /// Threads to share the work.
    pub threads: usize,
    /// Expect what is wrong: the family must fail.
    pub canary: bool,
    /// Make a failing list of operations shorter before it is told.
    pub shrink: bool,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for Config<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("size", &self.size)
            .field("seed", &self.seed)
            .field("part", &self.part)
            .field("threads", &self.threads)
            .field("canary", &self.canary)
            .finish_non_exhaustive()
    }
}

impl Config<'_> {
    /// Everything of a size on two threads.
    #[must_use]
    pub fn new(size: Size) -> Config<'static> {
        Config {
            size,
            seed: None,
            part: None,
            threads: 2,
            canary: false,
            shrink: true,
            progress: &Silent,
        }
    }

    /// The seeds to run: those asked for, or the first `count`.
    pub(crate) fn seeds(&self, count: u64) -> Vec<u64> {
        self.seed.map_or_else(|| (1..=count).collect(), |seed| vec![seed])
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.part.as_deref().is_none_or(|wanted| wanted == part)
    }

    /// True if nothing was left out, so that the figures must reach their goals.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.seed.is_none() && self.part.is_none()
    }
}

/// Something counted, and how much of it there must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// How many.
    pub value: u64,
    /// At least so many in a complete run; 0 for what is told only.
    pub goal: u64,
}

impl Figure {
    pub(crate) fn new(name: &'static str, value: u64, goal: u64) -> Figure {
        Figure { name, value, goal }
    }

    /// True if there is enough of it.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.value >= self.goal
    }
}

/// What a family did without finding anything wrong.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Seeds, or what a family has in their place.
    pub seeds: u64,
    /// What was counted.
    pub figures: Vec<Figure>,
    /// Why it did less than it should, if it did.
    pub skipped: Option<String>,
}

/// Something wrong was found.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The family that found it.
    pub family: &'static str,
    /// The seed that shows it.
    pub seed: u64,
    /// What is wrong.
    pub detail: String,
    /// The shortest list of operations known to show it, and the options.
    pub shrunk: Option<String>,
    /// The command that shows it again.
    pub replay: String,
}

impl Failure {
    pub(crate) fn new(
        family: &'static str,
        config: &Config<'_>,
        seed: u64,
        part: Option<&str>,
        detail: String,
    ) -> Failure {
        let part = part.map(|part| format!(" --part {part}")).unwrap_or_default();
        let canary = if config.canary { " --canary" } else { "" };
        let size = config.size;
        let replay =
            format!("cargo xtask torture {family} --size {size} --seed {seed}{part}{canary}");
        Failure { family, seed, detail, shrunk: None, replay }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seed {}: {}", self.family, self.seed, self.detail)?;
        if let Some(shrunk) = &self.shrunk {
            writeln!(f, "{shrunk}")?;
        }
        write!(f, "replay with: {}", self.replay)
    }
}

/// A library of checks.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// How it is called.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Runs it; stops at the first failure.
    pub run: fn(&Config<'_>) -> Result<Report, Failure>,
}

/// All families.
pub const FAMILIES: &[Family] = &[
    crash::FAMILY,
    fault::FAMILY,
    meta::FAMILY,
    corrupt::FAMILY,
    fuzz::FAMILY,
    schedule::FAMILY,
    cluster::FAMILY,
    cluster::points::FAMILY,
    kill::FAMILY,
    planted::FAMILY,
];

/// The family of this name.
#[must_use]
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}
