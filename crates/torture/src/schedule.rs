//! Thread schedules: whole databases under the checker of `crates/concurrency`, which is built with another name for
//! locks and threads, and so in a process and a target directory of its own.

use crate::{Config, Failure, Family, Figure, Report, Size};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NAME: &str = "schedule";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "whole databases under drawn thread schedules", run };

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let skipped = |why: &str| Ok(Report { skipped: Some(why.into()), ..Report::default() });
    if !root().join("crates/concurrency/Cargo.toml").exists() {
        return skipped("there is no crates/concurrency");
    }
    if config.size == Size::Quick {
        return skipped("needs a build of its own: a part of change and night");
    }
    if config.canary {
        return skipped("has its own, in crates/concurrency");
    }
    let schedules: u64 = config.size.pick(0, 20_000, 2_000_000);
    let processes = config.threads.max(1) as u64;
    let seeds = match config.seed {
        Some(seed) => vec![seed],
        None => (1..=processes).collect(),
    };
    config.progress.begin(NAME, 1 + seeds.len() as u64);
    let built = cargo("build", &[]);
    check(config, seeds[0], built)?;
    config.progress.part_done(0);
    let each = schedules / processes;
    let scenario = config.part.as_deref().unwrap_or("all");
    std::thread::scope(|scope| {
        let start = |&seed: &u64| {
            scope.spawn(move || {
                let ran = cargo("run", &[&each.to_string(), scenario, &seed.to_string()]);
                let checked = check(config, seed, ran);
                config.progress.part_done(each);
                checked
            })
        };
        let running: Vec<_> = seeds.iter().map(start).collect();
        running
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let done = each * seeds.len() as u64;
    Ok(Report {
        seeds: done,
        figures: vec![Figure::new("schedules", done, schedules)],
        skipped: None,
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cargo(verb: &str, args: &[&str]) -> std::io::Result<Output> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([verb, "--quiet", "--release", "--package", "esker-concurrency"])
        .args(if args.is_empty() { &[][..] } else { &["--"] })
        .args(args)
        .current_dir(root())
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("CARGO_TARGET_DIR", target.join("shuttle"))
        .output()
}

/// The end of what a failed process said.
fn check(config: &Config<'_>, seed: u64, done: std::io::Result<Output>) -> Result<(), Failure> {
    let text = match done {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(e) => e.to_string().into_bytes(),
    };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(60)..].join("\n");
    Err(Failure::new(NAME, config, seed, config.part.as_deref(), end))
}
