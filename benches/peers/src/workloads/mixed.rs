//! Workloads that read and write: `readwhilewriting` and those of YCSB (Cooper et al., SoCC 2010).

use super::Workload;
use super::drive::{Load, drive};
use super::write::check_count;
use crate::cell::{Bench, Outcome};
use crate::data::{FIRST, Rng, SECOND, Zipfian, mix};
use crate::engine::Engine;
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Puts a second beside the readers of `readwhilewriting`.
const WRITES_PER_SECOND: f64 = 50_000.0;
/// Zipfian ranks drawn beforehand, so that no logarithm is measured.
const RANKS: usize = 1 << 19;
/// Longest scan of YCSB E.
const SCAN_MAX: u64 = 100;

/// Random gets while one thread puts at a steady rate.
pub fn read_while_writing<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut writing = Duration::ZERO;
    let reads = bench.reads(1);
    let mut outcome = bench.measure_writes(|| {
        std::thread::scope(|scope| {
            let readers = scope.spawn(|| {
                let done = drive(
                    reads,
                    |thread| bench.rng(thread),
                    |rng: &mut Rng, _| bench.get(rng.below(pairs)),
                );
                stop.store(true, Ordering::Relaxed);
                done
            });
            // The writer is the thread that opened the database: some engines care.
            let start = Instant::now();
            let result = write_steadily(bench, &stop, &written);
            writing = start.elapsed();
            let driven = readers.join().ok().context("a reader panicked")?;
            result.and(driven)
        })
    })?;
    check_count(bench, pairs)?;
    let written = written.load(Ordering::Relaxed);
    outcome.bytes_logical = written * bench.pair_bytes();
    let rate = written as f64 / writing.as_secs_f64();
    outcome.extra.insert("writes_per_second".into(), rate);
    Ok(outcome)
}

fn write_steadily<E: Engine>(
    bench: &Bench<'_, E>,
    stop: &AtomicBool,
    written: &AtomicU64,
) -> Result<()> {
    let pairs = bench.settings().pairs;
    let (mut rng, mut value) = (bench.rng(1000), Vec::new());
    let start = Instant::now();
    let mut done = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * WRITES_PER_SECOND) as u64;
        // A writer that was held up looks at the clock again before it has caught up.
        let now = due.saturating_sub(done).min(1000);
        for _ in 0..now {
            let index = rng.below(pairs);
            bench.values.fill(index, SECOND, &mut value);
            let put = bench.db().put(&bench.keys.key(index), &value);
            if put.is_err() {
                stop.store(true, Ordering::Relaxed);
                return put;
            }
        }
        done += now;
        if done >= due {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    written.store(done, Ordering::Relaxed);
    Ok(())
}

/// One client of YCSB. Its inserts go to indexes that no other client uses, so that it knows what is there.
struct Client {
    rng: Rng,
    ranks: Vec<u32>,
    at: usize,
    thread: u64,
    inserted: u64,
    value: Vec<u8>,
}

impl Client {
    fn rank(&mut self) -> u64 {
        self.at = (self.at + 1) % self.ranks.len();
        u64::from(self.ranks[self.at])
    }
}

/// What YCSB does with a key.
enum Step {
    Read,
    Update,
    ReadModifyWrite,
    Insert,
    Scan,
    ReadLatest,
}

/// The mix of `workload` at a number out of 100.
fn step(workload: Workload, percent: u64) -> Result<Step> {
    Ok(match workload {
        Workload::YcsbA if percent < 50 => Step::Update,
        Workload::YcsbB if percent < 5 => Step::Update,
        Workload::YcsbF if percent < 50 => Step::ReadModifyWrite,
        Workload::YcsbD | Workload::YcsbE if percent < 5 => Step::Insert,
        Workload::YcsbD => Step::ReadLatest,
        Workload::YcsbE => Step::Scan,
        Workload::YcsbA | Workload::YcsbB | Workload::YcsbC | Workload::YcsbF => Step::Read,
        other => anyhow::bail!("{other:?} is not of YCSB"),
    })
}

/// Runs the YCSB workload of the cell.
pub fn ycsb<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let (pairs, threads) = (bench.settings().pairs, bench.spec.threads as u64);
    let workload = bench.spec.workload;
    let zipfian = Zipfian::new(pairs);
    let inserted = AtomicU64::new(0);
    let written = AtomicU64::new(0);
    let client = |thread| {
        let mut rng = bench.rng(thread);
        let ranks = (0..RANKS).map(|_| zipfian.rank(&mut rng) as u32).collect();
        Client { rng, ranks, at: 0, thread, inserted: 0, value: Vec::new() }
    };
    // Popular keys lie scattered over the key space.
    let scattered = |rank: u64| mix(rank) % pairs;
    let put = |client: &mut Client, index, version| {
        bench.values.fill(index, version, &mut client.value);
        written.fetch_add(1, Ordering::Relaxed);
        bench.db().put(&bench.keys.key(index), &client.value)
    };
    let call = |client: &mut Client, _| {
        let rank = client.rank();
        match step(workload, client.rng.below(100))? {
            Step::Read => bench.get(scattered(rank)),
            Step::Update => put(client, scattered(rank), SECOND),
            Step::ReadModifyWrite => {
                let index = scattered(rank);
                bench.get(index)?;
                put(client, index, SECOND)
            }
            Step::Insert => {
                let index = pairs + client.inserted * threads + client.thread;
                client.inserted += 1;
                inserted.fetch_add(1, Ordering::Relaxed);
                put(client, index, FIRST)
            }
            Step::Scan => {
                let (start, n) = (scattered(rank), 1 + client.rng.below(SCAN_MAX));
                bench.scan_known(start, n as usize)
            }
            // Rank 0 is the client's own last insert; before its first come the pairs of the load.
            Step::ReadLatest if rank < client.inserted => {
                bench.get(pairs + (client.inserted - 1 - rank) * threads + client.thread)
            }
            Step::ReadLatest => bench.get(pairs - 1 - (rank - client.inserted).min(pairs - 1)),
        }
    };
    let warm = |seconds: f64| -> Result<()> {
        let load = Load { time_max: Duration::from_secs_f64(seconds), ..bench.reads(1) };
        check_count(bench, pairs)?;
        drive(load, client, |client, _| {
            let rank = client.rank();
            bench.get(scattered(rank))
        })
        .map(drop)
    };
    if bench.settings().warmup_seconds > 0.0 {
        warm(bench.settings().warmup_seconds)?;
    }
    let mut outcome = bench.measure_writes(|| drive(bench.reads(1), client, call))?;
    check_count(bench, pairs + inserted.load(Ordering::Relaxed))?;
    outcome.bytes_logical = written.load(Ordering::Relaxed) * bench.pair_bytes();
    Ok(outcome)
}

impl<E: Engine> Bench<'_, E> {
    /// A scan among the pairs of the load; behind their end there may be inserts, not all of them in a row.
    fn scan_known(&self, start: u64, n: usize) -> Result<()> {
        let pairs = self.settings().pairs;
        let mut at = start;
        let count = self.db().scan_from(&self.keys.key(start), n, |_, value| {
            if at < pairs {
                self.values.check(at, value)?;
            }
            at += 1;
            Ok(())
        })?;
        let expected = (pairs - start).min(n as u64);
        ensure!(count as u64 >= expected, "{count} pairs from {start} on, not {expected}");
        Ok(())
    }
}
