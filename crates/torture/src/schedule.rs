//! Thread schedules: whole databases and small pieces of the engine under the checkers of `crates/concurrency`, which are
//! built with other names for locks and threads, and so in processes and target directories of their own.

use crate::child::{self, End};
use crate::probes::noted;
use crate::{Config, Failure, Family, Figure, Report, pool};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NAME: &str = "schedule";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "drawn and enumerated thread schedules", run };

/// Schedules that one seed stands for, in each scenario: 25 drawn at random, 25 by priorities.
const SCHEDULES_OF_SEED: u64 = 50;
/// The part that is the models.
const MODELS: &str = "models";
/// Compiling takes no longer, nor does a part.
const LIMIT: Duration = Duration::from_secs(900);
/// A planted bug that every run of a few schedules notices: half a batch is seen.
const CANARY: u32 = 37;

enum Part {
    /// Every model to its completion.
    Models(PathBuf),
    /// Schedules of a scenario, from this seed on, of so many seeds.
    Scenario { name: String, first: u64, seeds: u64 },
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    if !root().join("crates/concurrency/Cargo.toml").exists() {
        let skipped = Some("there is no crates/concurrency".into());
        return Ok(Report { skipped, ..Report::default() });
    }
    let failed = |detail| Failure::new(NAME, config, config.seed.unwrap_or(1), None, detail);
    config.progress.note("compiling crates/concurrency for its checkers");
    let program = build_schedules().map_err(failed)?;
    let seeds = config.seeds(config.size.pick(1, 50, 5_000));
    let scenarios = scenarios(&program).map_err(failed)?;
    let mut parts = Vec::new();
    if config.wants(MODELS) && !config.canary {
        parts.push(Part::Models(build_models().map_err(failed)?));
    }
    for chunk in seeds.chunks(5) {
        for name in scenarios.iter().filter(|name| config.wants(name)) {
            let (first, seeds) = (chunk[0], chunk.len() as u64);
            parts.push(Part::Scenario { name: name.clone(), first, seeds });
        }
    }
    let done = pool::share(NAME, config, &parts, |part| {
        let counted = match part {
            Part::Models(program) => models(config, program)?,
            Part::Scenario { name, first, seeds } => {
                schedules(config, &program, name, *first, *seeds)?
            }
        };
        Ok(((matches!(part, Part::Models(_)), counted), counted))
    })?;
    let sum = |models| done.iter().filter(|(m, _)| *m == models).map(|(_, count)| count).sum();
    Ok(Report {
        seeds: seeds.len() as u64,
        figures: vec![
            Figure::new("scenarios", scenarios.len() as u64, 8),
            Figure::new("schedules", sum(false), config.size.pick(400, 20_000, 2_000_000)),
            Figure::new("models run to completion", sum(true), 13),
        ],
        skipped: None,
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo for another name of locks and threads. Planted bugs are compiled in, none of them alive.
fn cargo(checker: &str) -> (Command, PathBuf) {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let target = target.join(checker);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root())
        .env("RUSTFLAGS", format!("--cfg {checker} --cfg planted"))
        .env("CARGO_TARGET_DIR", &target);
    (cargo, target)
}

/// Compiles both programs.
pub(crate) fn build() -> Result<(), String> {
    build_schedules()?;
    build_models().map(drop)
}

fn build_schedules() -> Result<PathBuf, String> {
    let (mut cargo, target) = cargo("shuttle");
    cargo.args(["build", "--quiet", "--profile", "torture", "--package", "esker-concurrency"]);
    cargo.args(["--features", "probes"]);
    compiled(&mut cargo)?;
    Ok(target.join("torture").join(format!("esker-concurrency{}", std::env::consts::EXE_SUFFIX)))
}

fn build_models() -> Result<PathBuf, String> {
    let (mut cargo, _) = cargo("loom");
    cargo.args(["test", "--no-run", "--message-format", "json", "--profile", "torture"]);
    cargo.args(["--package", "esker-concurrency", "--test", "loom"]);
    let said = compiled(&mut cargo)?;
    // The program of the package is built beside its test.
    let found = said.lines().filter(|line| line.contains("\"kind\":[\"test\"]")).find_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    found.ok_or_else(|| "cargo does not say where the models are".into())
}

fn compiled(cargo: &mut Command) -> Result<String, String> {
    let ran = child::run(cargo, LIMIT, "cargo")?;
    if ran.end == End::Passed { Ok(ran.text) } else { Err(ran.tail()) }
}

fn scenarios(program: &Path) -> Result<Vec<String>, String> {
    let ran = child::run(Command::new(program).arg("list"), LIMIT, "list of scenarios")?;
    if ran.end != End::Passed {
        return Err(ran.tail());
    }
    Ok(ran.text.lines().map(String::from).collect())
}

fn models(config: &Config<'_>, program: &Path) -> Result<u64, Failure> {
    let failed = |detail| Failure::new(NAME, config, 1, Some(MODELS), detail);
    let mut command = Command::new(program);
    command.args(["--nocapture", "--test-threads", "1"]);
    let ran = child::run(&mut command, LIMIT, MODELS).map_err(failed)?;
    let count = ran.text.matches(" executions").count() as u64;
    if ran.end == End::Passed && count > 0 { Ok(count) } else { Err(failed(ran.tail())) }
}

fn schedules(
    config: &Config<'_>,
    program: &Path,
    scenario: &str,
    first: u64,
    seeds: u64,
) -> Result<u64, Failure> {
    let count = seeds * SCHEDULES_OF_SEED;
    let mut command = Command::new(program);
    command.args([&count.to_string(), scenario, &first.to_string()]);
    if config.canary {
        command.env("ESKER_PLANTED", CANARY.to_string());
    }
    let place = format!("{scenario} seed {first}");
    let failed = |seed, detail| Failure::new(NAME, config, seed, Some(scenario), detail);
    let ran = child::run(noted(&mut command), LIMIT, &place).map_err(|e| failed(first, e))?;
    match ran.end {
        End::Passed => Ok(count),
        End::Failed | End::Aborted => {
            Err(failed(failed_seed(&ran.text).unwrap_or(first), ran.tail()))
        }
        End::Hung => Err(failed(first, format!("hangs\n{}", ran.tail()))),
    }
}

/// The seed in the line that says which schedule failed.
fn failed_seed(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("FAILED: scenario")?;
    let (_, rest) = rest.split_once(" seed ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seed_of_a_failure_is_read() {
        let text = "x\nFAILED: scenario close order Pct seed 17; again: cargo run";
        assert_eq!(super::failed_seed(text), Some(17));
        assert_eq!(super::failed_seed("thread panicked"), None);
    }
}
