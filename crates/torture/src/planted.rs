//! Planted bugs: mistakes of other stores, put back one at a time; each must be noticed by the family named for it.
//!
//! The mistakes lie in the crates of the engine, behind [`base::planted::is`]. They are hunted with a program built with
//! `--cfg planted`, so that what does not compile is never taken for what was noticed; with nothing alive it must
//! pass. `docs/planted.md` has the figures.

mod table;

use crate::child::{self, End, now};
use crate::{Config, Failure, Family, Figure, Report, pool};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
pub use table::{Planted, TABLE};

const NAME: &str = "planted";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "bugs of other stores, put back one by one", run };

/// A run where a bug was noticed before takes no longer, on a busy machine.
const RECORDED_LIMIT: Duration = Duration::from_secs(300);
/// Nor does the `change` size of the family.
const SEARCH_LIMIT: Duration = Duration::from_secs(1_500);
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// An id that no place asks for.
const NOTHING: u32 = 0;

enum Part {
    /// With nothing alive the family must pass.
    Control(&'static Planted),
    Bug(&'static Planted),
}

/// How a bug was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noticed {
    /// Where it was before.
    AsRecorded,
    /// In a run of the whole family.
    BySearch,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let wants = |bug: &&Planted| config.wants(&bug.id.to_string());
    let bugs: Vec<&Planted> = TABLE.iter().filter(wants).collect();
    let bugs = match config.size {
        // One of each family.
        crate::Size::Quick if config.is_complete() => one_of_each_family(&bugs),
        _ => bugs,
    };
    let failed = |detail| Failure::new(NAME, config, 1, None, detail);
    config.progress.note("compiling with all bugs");
    let program = build().map_err(failed)?;
    if bugs.iter().any(|bug| bug.family == crate::schedule::FAMILY.name) {
        // Not in the time of a hunt.
        crate::schedule::build().map_err(failed)?;
    }
    let mut parts: Vec<Part> = one_of_each_family(&bugs).into_iter().map(Part::Control).collect();
    parts.extend(bugs.iter().map(|bug| Part::Bug(bug)));
    // One more than there are processors for: a bug that hangs needs none.
    let hunters = Config { threads: config.threads + 1, ..config.clone() };
    let noticed = pool::share(NAME, &hunters, &parts, |part| {
        let (bug, tried) = match part {
            Part::Control(bug) => (bug, control(&program, bug).map(|()| None)),
            Part::Bug(bug) => (bug, hunt(config, &program, bug).map(Some)),
        };
        let noticed = tried.map_err(|detail| {
            Failure::new(NAME, config, bug.seed, Some(&bug.id.to_string()), detail)
        })?;
        Ok((noticed, 1))
    })?;
    let count = |how| noticed.iter().filter(|noticed| **noticed == Some(how)).count() as u64;
    let (recorded, searched) = (count(Noticed::AsRecorded), count(Noticed::BySearch));
    let all = bugs.len() as u64;
    Ok(Report {
        seeds: all,
        figures: vec![
            Figure::new("bugs noticed by their families", recorded + searched, all),
            Figure::new("of these at the recorded seed", recorded, 0),
            Figure::new("of these by a search", searched, 0),
        ],
        skipped: None,
    })
}

fn one_of_each_family(bugs: &[&'static Planted]) -> Vec<&'static Planted> {
    let mut first: Vec<&'static Planted> = Vec::new();
    for bug in bugs {
        if first.iter().all(|other| other.family != bug.family) {
            first.push(bug);
        }
    }
    first
}

/// Builds `xtask` with all bugs in it.
fn build() -> Result<PathBuf, String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = target.join("planted");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--profile", "torture", "--package", "xtask"])
        .env("RUSTFLAGS", "--cfg planted")
        .env("CARGO_TARGET_DIR", &target);
    let ran = child::run(&mut cargo, BUILD_LIMIT, "cargo")?;
    if ran.end != End::Passed {
        return Err(format!("does not compile with --cfg planted\n{}", ran.tail()));
    }
    Ok(target.join("torture").join(format!("xtask{}", std::env::consts::EXE_SUFFIX)))
}

/// The run that notices `bug` must pass with nothing alive.
fn control(program: &Path, bug: &Planted) -> Result<(), String> {
    let ran = child::run(&mut recorded(program, bug, NOTHING), SEARCH_LIMIT, bug.family)?;
    match ran.end {
        End::Passed => Ok(()),
        _ => Err(format!("{} fails with nothing alive\n{}", bug.family, ran.tail())),
    }
}

/// Looks where the bug was noticed before, then everywhere its family looks in size `change`.
fn hunt(config: &Config<'_>, program: &Path, bug: &Planted) -> Result<Noticed, String> {
    let id = if config.canary { NOTHING } else { bug.id };
    let (place, start) = (format!("bug {}", bug.id), now());
    let told = |how: &str, text: &str| {
        let seconds = start.elapsed().as_secs_f64();
        let Planted { id, family, what, .. } = bug;
        let seed = failed_seed(text).unwrap_or(bug.seed);
        config
            .progress
            .note(&format!("{id:>3} {family:8} {how} {seconds:>6.1} s, seed {seed}: {what}"));
    };
    let ran = child::run(&mut recorded(program, bug, id), RECORDED_LIMIT, &place)?;
    if is_noticed(&ran)? {
        told("as recorded", &ran.text);
        return Ok(Noticed::AsRecorded);
    }
    if config.canary {
        return Err("nothing was alive, and nobody noticed".into());
    }
    if ran.end == End::Hung {
        return Err(format!("takes longer than {RECORDED_LIMIT:?}\n{}", ran.tail()));
    }
    let mut search = family(program, bug, id);
    let ran = child::run(&mut search, SEARCH_LIMIT, &place)?;
    if is_noticed(&ran)? {
        told("by a search", &ran.text);
        // Where to look from now on.
        ran.text
            .lines()
            .filter(|l| l.contains("replay with"))
            .for_each(|l| config.progress.note(l));
        return Ok(Noticed::BySearch);
    }
    Err(format!("{} does not notice: {}", bug.family, bug.what))
}

/// The seed in the line that says how to see a failure again.
fn failed_seed(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("replay with: ")?;
    let (_, rest) = rest.split_once("--seed ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// A run that fails or aborts has noticed something, if it got as far as running; one that hangs ends itself.
fn is_noticed(ran: &child::Ran) -> Result<bool, String> {
    match ran.end {
        End::Passed | End::Hung => Ok(false),
        End::Aborted => Ok(true),
        End::Failed if ["FAILED", "hangs", "panicked"].iter().any(|w| ran.text.contains(w)) => {
            Ok(true)
        }
        End::Failed => Err(format!("a program did not run\n{}", ran.tail())),
    }
}

/// The family of `bug` in its `change` size, with bug `id` alive.
fn family(program: &Path, bug: &Planted, id: u32) -> Command {
    let mut command = Command::new(program);
    command.args(["torture", bug.family, "--size", "change", "--threads", "1", "--no-shrink"]);
    command.env("ESKER_PLANTED", id.to_string());
    command
}

/// Of this only the part where the bug was noticed before, at the seed that noticed it.
fn recorded(program: &Path, bug: &Planted, id: u32) -> Command {
    let mut command = family(program, bug, id);
    // What a seed does to threads changes with every change of the engine: there the whole part is looked at.
    if bug.family != crate::schedule::FAMILY.name {
        command.args(["--seed", &bug.seed.to_string()]);
    }
    if let Some(part) = bug.part {
        command.args(["--part", part]);
    }
    command
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seed_of_a_replay_is_read() {
        let text = "FAILED\nreplay with: cargo xtask torture schedule --size change --seed 14 --part close\n";
        assert_eq!(super::failed_seed(text), Some(14));
        assert_eq!(super::failed_seed("meta hangs: seed 3"), None);
    }
}
