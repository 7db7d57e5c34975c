//! A power cut after every operation that changes the disk, under every profile, again inside the recovery, and once more.
//!
//! One run gives the image after each operation; each is opened and compared with the commit order: a prefix of it
//! without a hole, no shorter than what was promised, no longer than what was issued. Then the power is cut again at some
//! operation of that recovery, which must show the same.

mod drive;
mod explore;
mod workloads;

use crate::caught::caught;
use crate::store::show;
use crate::{Config, Failure, Family, Figure, Report, pool};
use drive::Driver;
use explore::{Counts, Effort, Explorer};
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use vfs::{MemFs, Snapshot};
use workloads::{WORKLOADS, Workload};

const NAME: &str = "crash";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "a power cut after every operation on the disk", run };

/// Slices of a workload's images, so that threads share one.
const SLICES: usize = 8;

struct Part {
    workload: &'static Workload,
    seed: u64,
    slice: usize,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let seeds = config.seeds(config.size.pick(1, 1, 16));
    let mut parts = Vec::new();
    for &seed in &seeds {
        for workload in WORKLOADS.iter().filter(|w| config.wants(w.name)) {
            let slices = config.size.pick(2, SLICES, SLICES);
            parts.extend((0..slices).map(|slice| Part { workload, seed, slice }));
        }
    }
    let all = pool::share(NAME, config, &parts, |part| {
        let counts = one_part(config, part).map_err(|detail| {
            Failure::new(NAME, config, part.seed, Some(part.workload.name), detail)
        })?;
        Ok((counts, counts.images + counts.nested + counts.third))
    })?;
    let mut sum = Counts::default();
    all.into_iter().for_each(|counts| sum += counts);
    let goal = |quick, change, night| config.size.pick(quick, change, night);
    Ok(Report {
        seeds: seeds.len() as u64 * WORKLOADS.len() as u64,
        figures: vec![
            Figure::new("workloads", WORKLOADS.len() as u64, 12),
            Figure::new("operations cut", sum.operations, goal(5_000, 9_000, 140_000)),
            Figure::new("images", sum.images, goal(5_000, 40_000, 800_000)),
            Figure::new("nested images", sum.nested, goal(4_000, 50_000, 500_000)),
            Figure::new("third crashes", sum.third, goal(4, 100, 1_000)),
            Figure::new("copies opened", sum.copies, 1),
            Figure::new("refusals of a full disk", sum.refused, 1),
            Figure::new("lies refused", sum.lying_refused, 1),
        ],
        skipped: None,
    })
}

fn one_part(config: &Config<'_>, part: &Part) -> Result<Counts, String> {
    let workload = part.workload;
    let driven = caught(|| drive(workload, part.seed))?;
    let (run, history) = driven?;
    let every = config.size.pick((part.slice * 2, 4), (part.slice, SLICES), (part.slice, SLICES));
    let open_options = workload.reopened.map_or_else(workload.options, |options| options());
    let mut explorer = Explorer {
        options: &open_options,
        effort: Effort {
            nest_every: config.size.pick(40, 30, 20),
            nested_images: 10,
            profiles: config.size.pick(1, 7, 7),
            every,
        },
        rng: Rng::new(part.seed ^ 0xc4a5 ^ ((part.slice as u64) << 32)),
        counts: Counts {
            refused: if part.slice == 0 { run.refused } else { 0 },
            ..Counts::default()
        },
        canary: config.canary,
    };
    explorer.all(&run, &history)?;
    Ok(explorer.counts)
}

/// Runs a workload and keeps the disk after every operation.
fn drive(workload: &Workload, seed: u64) -> Result<(Driver, Vec<Snapshot>), String> {
    let fs = MemFs::new();
    fs.start_recording();
    let options = (workload.options)();
    let failed = |e: lsm::Error| format!("while it ran: {}", show(&e));
    let mut run = Driver::open(fs, &options, Oracle::new(), seed).map_err(failed)?;
    run.large_value = workload.large_value;
    run.alternatives = workload.alternatives.map_or_else(Vec::new, |all| all());
    for step in 0..workload.steps {
        if let Some(room) = workload.room {
            tighten(&run, room, step);
        }
        match run.act(&workload.mix) {
            Err(e) if workload.room.is_some() && e.is_no_space() => run.refused += 1,
            done => done.map_err(failed)?,
        }
        if step % 16 == 0 {
            run.check_now().map_err(failed)?;
        }
    }
    run.fs.set_capacity(None);
    run.executor.tick();
    run.reopen().map_err(failed)?;
    run.check_now().map_err(failed)?;
    let history = run.fs.take_history();
    Ok((run, history))
}

/// Leaves `room` bytes in the middle of every 40 steps, and plenty elsewhere.
fn tighten(run: &Driver, room: u64, step: usize) {
    match step % 40 {
        10 => run.fs.set_capacity(Some(run.fs.total_bytes() + room)),
        30 => {
            run.fs.set_capacity(None);
            run.executor.tick();
        }
        _ => {}
    }
}
