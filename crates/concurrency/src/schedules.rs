//! Whole databases under schedules drawn at random: what is run, how often, and how a failure is named.
//!
//! A scenario is a handful of threads that draw operations by its weights, beside the engine's own flush, compaction and
//! tick threads. Every thread checks what it reads; afterwards the database is reopened and checked, and so are
//! images of its disk as a power cut or a kill would have left it.

mod client;
mod fs;
mod model;
mod world;

use client::Op;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// What the threads of a scenario do.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What it is asked for by.
    pub name: &'static str,
    /// Threads of the user.
    pub threads: u64,
    /// Operations of each.
    pub ops: u64,
    /// Bytes of a value, at least and at most.
    pub value: (u64, u64),
    /// Operations and how often they are drawn.
    weights: &'static [(Op, u64)],
}

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    // Two flushes or checkpoints back to back while commits roll and recycle the log: SQLite's WAL-reset race.
    Scenario {
        name: "log-reset",
        threads: 3,
        ops: 14,
        value: (300, 1400),
        weights: &[
            (Op::PutSync, 6),
            (Op::Put, 4),
            (Op::FlushTwice, 2),
            (Op::CheckpointTwice, 1),
            (Op::Get, 2),
            (Op::Crash, 1),
        ],
    },
    Scenario {
        name: "group-commit",
        threads: 4,
        ops: 12,
        value: (8, 60),
        weights: &[
            (Op::PutSync, 6),
            (Op::Put, 4),
            (Op::Batch, 3),
            (Op::Get, 3),
            (Op::Sync, 1),
            (Op::Crash, 1),
        ],
    },
    Scenario {
        name: "snapshots",
        threads: 3,
        ops: 14,
        value: (60, 240),
        weights: &[
            (Op::Batch, 5),
            (Op::PutSync, 1),
            (Op::Delete, 2),
            (Op::DeleteRange, 1),
            (Op::Snapshot, 4),
            (Op::Iterate, 2),
            (Op::Flush, 1),
            (Op::Compact, 1),
        ],
    },
    Scenario {
        name: "swap",
        threads: 3,
        ops: 12,
        value: (60, 200),
        weights: &[
            (Op::Swap, 8),
            (Op::PutSync, 2),
            (Op::Flush, 2),
            (Op::Compact, 1),
            (Op::Ingest, 1),
            (Op::Crash, 1),
        ],
    },
    Scenario {
        name: "keyspaces",
        threads: 3,
        ops: 12,
        value: (60, 400),
        weights: &[
            (Op::Keyspace, 4),
            (Op::Put, 3),
            (Op::Batch, 2),
            (Op::Flush, 1),
            (Op::Compact, 1),
            (Op::Checkpoint, 1),
            (Op::Crash, 1),
        ],
    },
    Scenario {
        name: "ingest",
        threads: 3,
        ops: 12,
        value: (60, 300),
        weights: &[
            (Op::Ingest, 4),
            (Op::Contend, 3),
            (Op::Put, 3),
            (Op::PutSync, 2),
            (Op::Get, 2),
            (Op::Iterate, 1),
            (Op::Compact, 1),
            (Op::Checkpoint, 1),
            (Op::Crash, 1),
        ],
    },
    // What an ingest finds at the bottom may be changed by a compaction that begins meanwhile.
    Scenario {
        name: "placing",
        threads: 3,
        ops: 12,
        value: (60, 300),
        weights: &[
            (Op::IngestNew, 6),
            (Op::Ingest, 1),
            (Op::Compact, 6),
            (Op::Put, 2),
            (Op::Get, 1),
        ],
    },
    Scenario {
        name: "close",
        threads: 3,
        ops: 12,
        value: (60, 400),
        weights: &[
            (Op::Put, 4),
            (Op::PutSync, 2),
            (Op::Batch, 2),
            (Op::Swap, 1),
            (Op::Flush, 1),
            (Op::Compact, 2),
            (Op::Ingest, 2),
            (Op::Keyspace, 1),
            (Op::Checkpoint, 1),
            (Op::CloseAndReopen, 1),
        ],
    },
    Scenario {
        name: "mix",
        threads: 4,
        ops: 30,
        value: (20, 500),
        weights: &[
            (Op::Put, 8),
            (Op::PutSync, 6),
            (Op::Batch, 5),
            (Op::Get, 5),
            (Op::Delete, 3),
            (Op::DeleteRange, 2),
            (Op::Snapshot, 4),
            (Op::Iterate, 3),
            (Op::Swap, 3),
            (Op::Flush, 2),
            (Op::FlushTwice, 1),
            (Op::Compact, 2),
            (Op::Sync, 1),
            (Op::Checkpoint, 2),
            (Op::Keyspace, 2),
            (Op::Ingest, 2),
            (Op::Crash, 2),
        ],
    },
];

/// How the next thread is chosen.
#[derive(Debug, Clone, Copy)]
enum Order {
    Random,
    /// Priorities with three changes: finds each bug that needs so few with a known probability (Burckhardt et al., "A
    /// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010).
    Pct,
}

/// Schedules from one seed. PCT learns from the first one how long a schedule is.
const BATCH: u64 = 25;

/// Runs about `total` schedules of all scenarios, or of the one named, half of them in each [`Order`].
///
/// # Panics
/// At the first schedule that fails, after having said how to run it again.
pub fn run(total: u64, only: Option<&str>, seed: u64) {
    let chosen: Vec<_> =
        SCENARIOS.iter().filter(|s| only.is_none_or(|name| name == s.name)).collect();
    assert!(!chosen.is_empty(), "no scenario {only:?}");
    let batches = total.div_ceil(BATCH * 2 * chosen.len() as u64);
    let (mut all, mut time) = (0, Duration::ZERO);
    for scenario in chosen {
        for order in [Order::Random, Order::Pct] {
            let start = now();
            let count: u64 = (seed..seed + batches).map(|s| batch(scenario, order, s)).sum();
            let took = now() - start;
            let rate = count as f64 / took.as_secs_f64();
            println!(
                "{:<14} {order:<8?} {count:>7} schedules {took:>9.1?} {rate:>7.0}/s",
                scenario.name
            );
            (all, time) = (all + count, time + took);
        }
    }
    println!("{all} schedules in {time:.1?}, {:.0}/s", all as f64 / time.as_secs_f64());
}

#[expect(clippy::disallowed_methods, reason = "measures the checker, not a store")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

fn batch(scenario: &'static Scenario, order: Order, seed: u64) -> u64 {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.max_steps = MaxSteps::FailAfter(2_000_000);
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let body = move || world::run(scenario);
    let schedules = BATCH as usize;
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| match order {
        Order::Random => {
            Runner::new(RandomScheduler::new_from_seed(seed, schedules), config).run(body)
        }
        Order::Pct => {
            Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config).run(body)
        }
    }));
    match ran {
        Ok(count) => count as u64,
        Err(panic) => {
            eprintln!(
                "FAILED: scenario {} order {order:?} seed {seed}; again: \
                 cargo xtask torture schedule --seed {seed} --part {}",
                scenario.name, scenario.name
            );
            std::panic::resume_unwind(panic)
        }
    }
}
