//! A fault at every operation of the file system: once, and from there on.
//!
//! Whatever fails: no panic, no hang, a typed error. What returned `Ok` stays true, what returned an error never
//! happened (but for a failed sync, which leaves it open), writes stop after a failed sync, and go on by themselves once a full
//! disk has space again.

mod run;

use crate::caught::caught;
use crate::store::{compressed, leveled, small_options};
use crate::{Config, Failure, Family, Figure, Report, pool};
use lsm::Options;
use run::Run;
use std::sync::Arc;
use vfs::{Fault, FaultPlan, OpKind, SyncOutcome};

const NAME: &str = "fault";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "an error at every operation of the file system", run };

/// What a run does, and with which options.
struct Shape {
    name: &'static str,
    options: fn() -> Options,
    rounds: u32,
    writes: u32,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "flushes",
        options: || compressed(small_options()).memtable_size_bytes(2048),
        rounds: 7,
        writes: 8,
    },
    Shape {
        name: "rotations",
        options: || small_options().manifest_rotate_bytes(0).log_bytes_max(8 << 10),
        rounds: 6,
        writes: 10,
    },
    Shape {
        name: "defaults",
        options: || {
            let options = Options::default().log_segment_bytes(16 << 10).block_cache_bytes(0);
            options.compaction(leveled())
        },
        rounds: 6,
        writes: 6,
    },
];

struct Kind {
    name: &'static str,
    fault: Fault,
    /// Another one behind it.
    then: Option<Fault>,
    /// Only these operations, if any are named.
    only: &'static [OpKind],
    /// Only files whose names end so.
    suffix: &'static str,
    is_full: bool,
    /// In place of an error, a panic in a background job.
    panics: bool,
}

const READS: &[OpKind] = &[OpKind::Read, OpKind::Open, OpKind::Len];

fn kinds() -> Vec<Kind> {
    use SyncOutcome::{ErrorOnceThenOk, PageCleanCacheNew, PageReverted};
    let kind = |name, fault| Kind {
        name,
        fault,
        then: None,
        only: &[],
        suffix: "",
        is_full: false,
        panics: false,
    };
    let sync = |name, outcome| kind(name, Fault::SyncFailed(outcome));
    vec![
        kind("eio", Fault::Eio),
        Kind { only: READS, ..kind("eio-on-read", Fault::Eio) },
        Kind { is_full: true, ..kind("no-space", Fault::NoSpace) },
        Kind { is_full: true, ..kind("quota", Fault::QuotaExceeded) },
        kind("emfile", Fault::TooManyOpenFiles),
        kind("short-write", Fault::ShortWrite),
        kind("short-read", Fault::ShortRead),
        kind("interrupted", Fault::Interrupted),
        // A wrong bit in what was never synced passes for a torn end, so only tables have some.
        Kind { suffix: ".sst", ..kind("bit-rot", Fault::BitRot) },
        Kind { panics: true, ..kind("panic", Fault::Slow(Arc::new(run::panic_in_a_job))) },
        sync("sync-pages-clean", PageCleanCacheNew),
        sync("sync-pages-reverted", PageReverted),
        sync("sync-reported-once", ErrorOnceThenOk),
        // What closes off a torn record cannot be made durable.
        Kind {
            then: Some(Fault::SyncFailed(PageReverted)),
            ..kind("short-write-and-sync", Fault::ShortWrite)
        },
    ]
}

impl Kind {
    fn plans(&self, at: u64, once: bool) -> Vec<FaultPlan> {
        let faults = std::iter::once(&self.fault).chain(&self.then);
        let plan = |fault: &Fault| {
            // The first operation from there on that the fault fits.
            let plan = FaultPlan::from(at, fault.clone()).kinds(self.only).suffix(self.suffix);
            if once { plan.times(1) } else { plan }
        };
        faults.map(plan).collect()
    }
}

fn part_name(shape: &Shape, kind: &Kind) -> String {
    format!("{}/{}", shape.name, kind.name)
}

struct Part<'a> {
    shape: &'static Shape,
    seed: u64,
    kind: &'a Kind,
    once: bool,
    first: u64,
    step: u64,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let kinds = kinds();
    let step = config.size.pick(29, 2, 1);
    let seeds = config.seeds(config.size.pick(1, 1, 7));
    let mut parts = Vec::new();
    for &seed in &seeds {
        for shape in SHAPES {
            let wanted =
                |kind: &Kind| config.wants(shape.name) || config.wants(&part_name(shape, kind));
            for (number, kind) in kinds.iter().enumerate().filter(|(_, kind)| wanted(kind)) {
                let ways: &[bool] = match kind {
                    Kind { panics: true, .. } => &[false],
                    // All that fails from there on is what the first fault does alone.
                    Kind { then: Some(_), .. } => &[true],
                    _ => &[true, false],
                };
                for &once in ways {
                    let first = (number as u64 * 3 + u64::from(once)) % step;
                    parts.push(Part { shape, seed, kind, once, first, step });
                }
            }
        }
    }
    let fired = pool::share(NAME, config, &parts, |part| {
        let fired = one_part(config, part).map_err(|detail| {
            let name = part_name(part.shape, part.kind);
            Failure::new(NAME, config, part.seed, Some(&name), detail)
        })?;
        Ok((fired, fired))
    })?;
    let goal = config.size.pick(1_000, 20_000, 400_000);
    Ok(Report {
        seeds: seeds.len() as u64 * SHAPES.len() as u64,
        figures: vec![
            Figure::new("kinds of faults", kinds.len() as u64, 14),
            Figure::new("positions that fired", fired.into_iter().sum(), goal),
        ],
        skipped: None,
    })
}

/// Tries the positions of a part; returns how many fired.
fn one_part(config: &Config<'_>, part: &Part<'_>) -> Result<u64, String> {
    let Part { shape, seed, kind, once, .. } = part;
    let options = (shape.options)();
    let operations = caught(|| {
        let mut healthy = Run::new(&options, *seed, Vec::new(), false, false);
        healthy.script(shape);
        let operations = healthy.fs.op_count();
        assert!(healthy.is_healthy(), "a healthy run stops");
        healthy.check();
        operations
    })
    .map_err(|e| format!("without a fault: {e}"))?;
    let mut fired = 0;
    for at in (part.first..operations).step_by(part.step as usize) {
        let place = || format!("{} at operation {at}, once: {once}", kind.name);
        pool::beat(place);
        let tried = caught(|| {
            let plans = kind.plans(at, *once);
            let mut run = Run::new(&options, *seed, plans, kind.is_full, config.canary);
            run.script(shape);
            let fired = if kind.panics { run.has_panicked() } else { run.fs.fired() > 0 };
            run.check();
            fired
        });
        fired += u64::from(tried.map_err(|e| format!("{}: {e}", place()))?);
    }
    Ok(fired)
}
