//! One list of operations under many option sets against a map: all must give the answers of the map, and so the same.
//!
//! Every second list has power cuts and a disk that fails for a while. A failing list is cut down, and its options are
//! made plain, as far as it still fails.

mod config;
mod ops;
mod reads;
mod shrink;
mod state;
mod world;

use crate::caught::caught;
use crate::{Config, Failure, Family, Figure, Report, pool};
use config::{OptionSet, SETS};
use ops::{Generator, Op};
use shrink::Shrunk;
use std::cell::Cell;
use world::{Tally, World};

const NAME: &str = "meta";

pub(crate) const FAMILY: Family = Family {
    name: NAME,
    about: "one list of operations under many option sets, against a map",
    run,
};

/// Operations of a list.
const OPS: usize = 2_000;

/// One run of a list.
#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u64,
    set: OptionSet,
    canary: bool,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let seeds = config.seeds(config.size.pick(14, 300, 14_000));
    let tallies = pool::share(NAME, config, &seeds, |&seed| {
        let tally = one_seed(config, seed)?;
        Ok((tally, tally.ops))
    })?;
    let mut sum = Tally::default();
    tallies.iter().for_each(|tally| sum.add(tally));
    let hostile = seeds.iter().filter(|seed| ops::is_hostile(**seed)).count() as u64;
    let goal = config.size.pick(200_000, 4_800_000, 224_000_000);
    Ok(Report {
        seeds: seeds.len() as u64,
        figures: vec![
            Figure::new("option sets of each list", SETS as u64, 8),
            Figure::new("operations checked", sum.ops, goal),
            Figure::new("lists with faults and crashes", hostile, seeds.len() as u64 / 2),
            Figure::new("power cuts", sum.crashes, goal / 2_000),
            Figure::new("times the disk failed", sum.episodes, goal / 1_000),
            Figure::new("faults met", sum.fired, goal / 1_000),
            Figure::new("reopened since writes stopped", sum.restarts, 1),
        ],
        skipped: None,
    })
}

fn one_seed(config: &Config<'_>, seed: u64) -> Result<Tally, Failure> {
    let mut generator = Generator::new(seed);
    let list: Vec<Op> = (0..OPS).map(|_| generator.op()).collect();
    let mut sum = Tally::default();
    for number in 0..SETS {
        let case = Case { seed, set: OptionSet::new(number), canary: config.canary };
        match run_list(&case, &list) {
            Ok(tally) => sum.add(&tally),
            Err((begun, message)) => {
                let detail = format!("option set {number}, operation {begun} of {OPS}: {message}");
                let failure = Failure::new(NAME, config, seed, None, detail);
                if !config.shrink {
                    return Err(failure);
                }
                let shrunk = Shrunk::find(case, list[..begun].to_vec(), message);
                return Err(Failure { shrunk: Some(shrunk.text()), ..failure });
            }
        }
    }
    Ok(sum)
}

/// Runs `ops`; `Err` is the number of operations that were begun, and the message.
fn run_list(case: &Case, ops: &[Op]) -> Result<Tally, (usize, String)> {
    let begun = Cell::new(0);
    let done = caught(|| {
        let mut world = World::new(case);
        for op in ops {
            begun.set(begun.get() + 1);
            pool::beat(|| {
                format!("seed {} set {} operation {}", case.seed, case.set.number, begun.get())
            });
            world.run(op);
        }
        world.finish()
    });
    done.map_err(|message| (begun.get(), message))
}
