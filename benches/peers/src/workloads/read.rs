//! Workloads that only read, from a full database that is at rest.

use super::drive::{Driven, Load, drive};
use crate::cell::{Bench, Outcome};
use crate::data::{Key, Rng};
use crate::engine::{Direction, Engine};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Keys of one call of `multireadrandom`.
const MULTI: usize = 100;
/// Pairs behind the sought one that `seekrandom` reads.
const NEXTS: usize = 10;
/// A scan is repeated until it has taken this long.
const SCAN_TIME_MIN: Duration = Duration::from_secs(2);

/// Reads everything once, and then as the workload does for a while, unmeasured: caches are warm and the tables open.
fn warm_up<E: Engine>(
    bench: &Bench<'_, E>,
    reads: impl FnOnce(Load) -> Result<Driven>,
) -> Result<()> {
    let seconds = bench.settings().warmup_seconds;
    if seconds > 0.0 {
        scan_once(bench, Direction::Forward)?;
        let time_max = Duration::from_secs_f64(seconds);
        reads(Load { time_max, ..bench.reads(1) })?;
    }
    Ok(())
}

/// Gets random keys.
pub fn random<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let run = |load| {
        drive(load, |thread| bench.rng(thread), |rng: &mut Rng, _| bench.get(rng.below(pairs)))
    };
    warm_up(bench, run)?;
    bench.measure_reads(|| run(bench.reads(1)))
}

/// Gets one key.
pub fn hot<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let index = bench.settings().pairs / 2;
    let run = |load| drive(load, |_| (), |(), _| bench.get(index));
    warm_up(bench, run)?;
    bench.measure_reads(|| run(bench.reads(1)))
}

/// Gets keys that are not there.
pub fn missing<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let run = |load| {
        drive(
            load,
            |thread| bench.rng(thread),
            |rng: &mut Rng, _| {
                let index = rng.below(pairs);
                let found = bench.db().get(&bench.keys.absent(index), |_| Ok(()))?;
                ensure!(!found, "the key behind {index} was never written");
                Ok(())
            },
        )
    };
    warm_up(bench, run)?;
    bench.measure_reads(|| run(bench.reads(1)))
}

/// Gets many random keys in one call. An operation is a key.
pub fn multi<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    struct Client {
        rng: Rng,
        indexes: [u64; MULTI],
        keys: [Key; MULTI],
    }
    let client =
        |thread| Client { rng: bench.rng(thread), indexes: [0; MULTI], keys: [[0; 16]; MULTI] };
    let pairs = bench.settings().pairs;
    let call = |client: &mut Client, _| {
        for (index, key) in client.indexes.iter_mut().zip(&mut client.keys) {
            *index = client.rng.below(pairs);
            *key = bench.keys.key(*index);
        }
        let indexes = &client.indexes;
        let found = bench
            .db()
            .multi_get(&client.keys, |i, value| bench.values.check(indexes[i], value).map(drop))?;
        ensure!(found == MULTI, "{found} of {MULTI} keys found");
        Ok(())
    };
    let run = |load| drive(load, client, call);
    warm_up(bench, |load| run(Load { calls: load.calls / MULTI as u64, ..load }))?;
    let mut outcome = bench.measure_reads(|| run(bench.reads(MULTI as u64)))?;
    outcome.operations = outcome.driven.calls() * MULTI as u64;
    Ok(outcome)
}

/// Reads all pairs, again and again for two seconds. No latencies: a clock for each pair would cost more than the pair.
pub fn scan<E: Engine>(bench: &Bench<'_, E>, direction: Direction) -> Result<Outcome> {
    if bench.settings().warmup_seconds > 0.0 {
        scan_once(bench, direction)?;
    }
    bench.measure_reads(|| {
        let start = Instant::now();
        let mut read = 0;
        while start.elapsed() < SCAN_TIME_MIN || read == 0 {
            read += scan_once(bench, direction)?;
        }
        Ok(Driven {
            calls_of: vec![read],
            elapsed: start.elapsed(),
            latency: crate::measure::histogram(),
            capped: false,
        })
    })
}

/// Reads all pairs; one in 64 is checked in order, key and value, the others in length.
fn scan_once<E: Engine>(bench: &Bench<'_, E>, direction: Direction) -> Result<u64> {
    let (pairs, value_len) = (bench.settings().pairs, bench.values.len());
    let (mut count, mut wrong) = (0u64, 0u64);
    bench.db().scan(direction, |key, value| {
        if count % 64 == 0 {
            let index = bench.values.check_pair(bench.keys, key, value)?;
            let expected = match direction {
                Direction::Forward => count,
                Direction::Reverse => pairs - 1 - count.min(pairs - 1),
            };
            ensure!(index == expected, "pair {index} where {expected} should be");
        }
        wrong += u64::from(key.len() != size_of::<Key>() || value.len() != value_len);
        count += 1;
        Ok(())
    })?;
    ensure!(wrong == 0, "{wrong} pairs of another length");
    ensure!(count == pairs, "{count} pairs are there, not {pairs}");
    Ok(count)
}

/// Seeks random keys and reads on.
pub fn seek<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let run = |load| {
        drive(
            load,
            |thread| bench.rng(thread),
            |rng: &mut Rng, _| bench.scan_from(rng.below(pairs), NEXTS + 1, pairs),
        )
    };
    warm_up(bench, run)?;
    bench.measure_reads(|| run(bench.reads(1)))
}

impl<E: Engine> Bench<'_, E> {
    /// As many calls as there are pairs, with `per_call` operations each.
    pub fn reads(&self, per_call: u64) -> Load {
        let calls = self.settings().pairs.div_ceil(per_call);
        Load { threads: self.spec.threads, calls, time_max: self.time_max() }
    }

    /// The random numbers of a client.
    pub fn rng(&self, thread: u64) -> Rng {
        Rng::new(self.seed() << 8 | thread)
    }

    /// Gets a key that is there.
    #[inline]
    pub fn get(&self, index: u64) -> Result<()> {
        let check = |value: &[u8]| self.values.check(index, value).map(drop);
        let found = self.db().get(&self.keys.key(index), check)?;
        ensure!(found, "key {index} is missing");
        Ok(())
    }

    /// Reads `n` pairs from `index` on, of which all below `present` are there.
    #[inline]
    pub fn scan_from(&self, index: u64, n: usize, present: u64) -> Result<()> {
        let mut at = index;
        let count = self.db().scan_from(&self.keys.key(index), n, |_, value| {
            self.values.check(at, value)?;
            at += 1;
            Ok(())
        })?;
        let expected = (present - index).min(n as u64);
        ensure!(count as u64 >= expected, "{count} pairs from {index} on, not {expected}");
        Ok(())
    }
}
