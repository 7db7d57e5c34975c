//! Planted bugs: mistakes of other stores, put back one at a time; each must be noticed.
//!
//! The mistakes lie in the crates of the engine, behind [`base::planted::is`]. [`hunt`] wants a program built with
//! `--cfg planted`, so that what does not compile is never taken for what was noticed, and first sees to it that
//! the family passes with nothing alive. `docs/planted.md` has the figures.

use crate::Size;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Who must notice a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catcher {
    /// A family of this crate.
    Family(&'static str),
    /// The tests of a package: its name, and more arguments of `cargo test`.
    Tests(&'static str, &'static [&'static str]),
}

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planted {
    /// What `ESKER_PLANTED` is set to.
    pub id: u32,
    /// Entries of the catalogue of real bugs that it is modelled on.
    pub catalogue: &'static [u32],
    /// The mistake.
    pub what: &'static str,
    /// Who must notice it.
    pub catcher: Catcher,
}

const fn bug(id: u32, catalogue: &'static [u32], catcher: Catcher, what: &'static str) -> Planted {
    Planted { id, catalogue, what, catcher }
}

const CRASH: Catcher = Catcher::Family("crash");
const FAULT: Catcher = Catcher::Family("fault");
const CORRUPT: Catcher = Catcher::Family("corrupt");
const META: Catcher = Catcher::Family("meta");
const WAL: Catcher = Catcher::Tests("esker-wal", &[]);
const MANIFEST: Catcher = Catcher::Tests("esker-manifest", &[]);
const TABLES: Catcher = Catcher::Tests("esker-sstable", &[]);
const MERGES: Catcher = Catcher::Tests("esker-compaction", &[]);
const THREADS: Catcher = Catcher::Tests("esker-lsm", &["--test", "threads"]);
const DURABLE: Catcher = Catcher::Tests("esker-lsm", &["--test", "durable"]);
const MULTI: Catcher = Catcher::Tests("esker-lsm", &["--test", "multi_get"]);

/// All of them, by id. A test of `base` compares them with the sources by way of `docs/planted.md`.
pub const TABLE: &[Planted] = &[
    bug(1, &[1, 31], FAULT, "appends go on behind a failed one, which leaves a hole"),
    bug(2, &[2, 23], FAULT, "the error of a log sync is swallowed"),
    bug(
        3,
        &[20, 8],
        CRASH,
        "records are not bound to their segment: a recycled one replays its former life",
    ),
    bug(4, &[15, 8], WAL, "damage below the synced position passes for a torn tail"),
    bug(5, &[9], CRASH, "only the newest two listed segments are replayed"),
    bug(6, &[27], WAL, "a follower returns after a sync that began before its record"),
    bug(7, &[16], CRASH, "a flush does not sync the log first: a hole across keyspaces"),
    bug(8, &[32], CRASH, "a segment that was rolled out of is not synced"),
    bug(9, &[31, 42], CRASH, "a log segment is used without being listed"),
    bug(10, &[10, 11], CRASH, "a table is installed unsynced"),
    bug(11, &[11, 17], CRASH, "the names of new tables are not synced"),
    bug(12, &[23, 66], CRASH, "an edit counts before it is synced"),
    bug(13, &[17], CRASH, "the directory is not synced after CURRENT was renamed"),
    bug(14, &[13], MANIFEST, "the replay of the manifest stops silently at a bad checksum"),
    bug(15, &[33, 44], DURABLE, "an open after a kill shows what it has not made durable"),
    bug(16, &[4], META, "dropping a keyspace is not logged"),
    bug(17, &[7], THREADS, "an idle keyspace pins the log without bound"),
    bug(18, &[6], META, "memory once counted is never given back: writes halt for ever"),
    bug(19, &[45], MERGES, "two compactions take the same tables"),
    bug(20, &[59, 48], MERGES, "a merge drops versions that snapshots read"),
    bug(21, &[75], MERGES, "a tombstone goes although older data lies below"),
    bug(22, &[49], MERGES, "a range tombstone goes although older data lies below"),
    bug(23, &[51], MERGES, "range tombstones are not clipped where outputs are cut"),
    bug(24, &[52], META, "the filter denies one key in 4,096"),
    bug(25, &[53, 62], TABLES, "the tag of a key is taken for the key"),
    bug(26, &[61, 63], CORRUPT, "a length read from disk is believed"),
    bug(27, &[14], TABLES, "a block checksum is not bound to table and offset"),
    bug(28, &[46, 54], TABLES, "a separator is smaller than the last entry of its block"),
    bug(29, &[60], FAULT, "an iterator skips the table that it cannot read"),
    bug(30, &[48], THREADS, "a snapshot reads its moment before it takes the lock"),
    bug(31, &[82], META, "a table is deleted while a reader needs it"),
    bug(32, &[47], FAULT, "a merge goes on after a read error with what it has"),
    bug(33, &[21], FAULT, "edits are written behind a failed append"),
    bug(34, &[35, 24], FAULT, "a close after a failed flush forgets the log"),
    bug(35, &[46], CRASH, "an ingest goes to the bottom whatever lies above"),
    bug(36, &[48], META, "newer runs of level 0 count as older"),
    bug(37, &[67], THREADS, "a batch becomes visible before it is all there"),
    bug(38, &[66], FAULT, "a Sync write is visible before its sync"),
    bug(39, &[3], CRASH, "the replay skips one write too many behind a flush"),
    bug(40, &[53], MULTI, "a multi-get has a mask of twelve bits"),
    bug(41, &[26], DURABLE, "the background sync does nothing"),
    bug(42, &[28], CRASH, "the checksum of log records is not looked at"),
    bug(43, &[14], TABLES, "the checksum of blocks is not looked at"),
    bug(44, &[18], CRASH, "a legal torn tail is refused as damage"),
    bug(45, &[64], CRASH, "files that a crash left behind are never removed"),
    bug(46, &[43], THREADS, "compare-and-swap does not look again under the lock"),
    bug(47, &[24], CRASH, "the log goes while a frozen memtable still needs it"),
    bug(48, &[11], CRASH, "inputs are deleted before the edit that replaces them"),
];

/// What came of one bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was noticed by this many seeds, the last of which failed, in this time.
    Noticed {
        /// Seeds tried; 1 for tests without seeds.
        seeds: u64,
        /// All of them together.
        time: Duration,
    },
    /// It hung, and the watch ended it: noticed too, but slowly.
    Hung,
    /// Nobody noticed.
    Missed,
}

/// Runs programs with a bug alive.
#[derive(Debug, Clone)]
pub struct Hunter {
    /// `xtask`, built with `--cfg planted`.
    pub xtask: PathBuf,
    /// How much of a family may be run for one seed.
    pub size: Size,
    /// Seeds to try before a bug counts as missed.
    pub seeds_max: u64,
    /// After this a run counts as hung.
    pub patience: Duration,
}

/// Builds `xtask` with all bugs in it; returns where it is.
///
/// # Errors
/// If it does not compile: no verdict on any bug.
pub fn build(workspace: &Path) -> Result<PathBuf, String> {
    let target = workspace.join("target").join("planted");
    let built = cargo(&target)
        .current_dir(workspace)
        .args(["build", "--profile", "torture", "--package", "xtask"])
        .status()
        .map_err(|e| format!("cargo does not run: {e}"))?;
    let program = target.join("torture").join("xtask");
    if built.success() { Ok(program) } else { Err("does not compile with --cfg planted".into()) }
}

fn cargo(target: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env("RUSTFLAGS", "--cfg planted").env("CARGO_TARGET_DIR", target);
    cargo
}

/// Runs what must notice `bug`, seed after seed.
///
/// # Errors
/// If it fails with nothing alive, or cannot be run: no verdict.
pub fn hunt(bug: &Planted, hunter: &Hunter) -> Result<Verdict, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let seeds = match bug.catcher {
        Catcher::Family(_) => hunter.seeds_max,
        Catcher::Tests(..) => 1,
    };
    if hunter.run(bug.catcher, 0, 1, &workspace)? != End::Passed {
        return Err(format!("{:?} fails with nothing alive", bug.catcher));
    }
    let start = now();
    for seed in 1..=seeds {
        match hunter.run(bug.catcher, bug.id, seed, &workspace)? {
            End::Passed => {}
            End::Failed => return Ok(Verdict::Noticed { seeds: seed, time: start.elapsed() }),
            End::Hung => return Ok(Verdict::Hung),
        }
    }
    Ok(Verdict::Missed)
}

#[expect(clippy::disallowed_methods, reason = "times of programs, for people")]
fn now() -> Instant {
    Instant::now()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Hung,
}

impl Hunter {
    fn run(&self, catcher: Catcher, id: u32, seed: u64, workspace: &Path) -> Result<End, String> {
        let mut command = match catcher {
            Catcher::Family(family) => {
                let mut command = Command::new(&self.xtask);
                let (size, seed) = (self.size.to_string(), seed.to_string());
                command.args(["torture", family, "--size", &size, "--seed", &seed]);
                command
            }
            Catcher::Tests(package, more) => {
                // Compiled first, so that a failure is one of the tests.
                self.tests(package, more, workspace)
                    .arg("--no-run")
                    .status()
                    .map_err(shown)
                    .and_then(|built| {
                        if built.success() {
                            Ok(())
                        } else {
                            Err(format!("{package} does not compile"))
                        }
                    })?;
                self.tests(package, more, workspace)
            }
        };
        command.env("ESKER_PLANTED", id.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        self.wait(command.spawn().map_err(shown)?)
    }

    fn tests(&self, package: &str, more: &[&str], workspace: &Path) -> Command {
        let mut cargo = cargo(&workspace.join("target").join("planted"));
        cargo.current_dir(workspace).args(["test", "--package", package]).args(more);
        cargo
    }

    #[expect(clippy::disallowed_methods, reason = "a program of its own has no event to wait on")]
    fn wait(&self, mut child: std::process::Child) -> Result<End, String> {
        let start = now();
        loop {
            if let Some(status) = child.try_wait().map_err(shown)? {
                return Ok(if status.success() { End::Passed } else { End::Failed });
            }
            if start.elapsed() > self.patience {
                child.kill().map_err(shown)?;
                child.wait().map_err(shown)?;
                return Ok(End::Hung);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn shown(e: std::io::Error) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_families_are_known() {
        assert!(TABLE.is_sorted_by(|a, b| a.id < b.id));
        for bug in TABLE {
            if let Catcher::Family(name) = bug.catcher {
                assert!(crate::family(name).is_some(), "{name}");
            }
            assert!(!bug.what.is_empty() && bug.catalogue.iter().all(|n| (1..=84).contains(n)));
        }
        assert!(TABLE.len() >= 25);
    }
}
