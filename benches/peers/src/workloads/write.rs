//! Workloads that only write, and the check that what they wrote is there.

use super::drive::{Driven, Load, drive};
use crate::cell::{Bench, Outcome};
use crate::data::{FIRST, Key, Permutation, Rng, SECOND};
use crate::engine::{Direction, Engine};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Instant;

/// Keys looked up after the clock has stopped.
const LOOKUPS: u64 = 20_000;
/// Pairs in one batch of `fillbatch`.
pub const BATCH: u64 = 100;

/// Puts all pairs in the order that `order` gives, then checks.
pub fn fill<E: Engine>(
    bench: &Bench<'_, E>,
    pairs: u64,
    order: impl Fn(u64) -> u64 + Sync,
) -> Result<Outcome> {
    put_all(bench, pairs, FIRST, order, E::put)
}

/// Puts with a sync each, for the time there is.
pub fn fill_sync<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let order = Permutation::new(pairs, bench.seed());
    put_all(bench, pairs, FIRST, |i| order.at(i), E::put_sync)
}

/// Puts every key of a full database again.
pub fn overwrite<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let order = Permutation::new(pairs, bench.seed());
    put_all(bench, pairs, SECOND, |i| order.at(i), E::put)
}

fn put_all<E: Engine>(
    bench: &Bench<'_, E>,
    pairs: u64,
    version: u64,
    order: impl Fn(u64) -> u64 + Sync,
    put: impl Fn(&E, &Key, &[u8]) -> Result<()> + Sync,
) -> Result<Outcome> {
    let client = |_| Vec::with_capacity(bench.values.len());
    let mut outcome = bench.measure_writes(|| {
        drive(bench.load(pairs), client, |value, i| {
            let index = order(i);
            bench.values.fill(index, version, value);
            put(bench.db(), &bench.keys.key(index), value)
        })
    })?;
    check_written(bench, &outcome.driven, pairs, version, &order)?;
    outcome.bytes_logical = outcome.driven.calls() * bench.pair_bytes();
    Ok(outcome)
}

/// Puts all pairs in random order, many in a batch. A call is a batch; an operation is a pair.
pub fn fill_batch<E: Engine>(bench: &Bench<'_, E>, per_batch: u64) -> Result<Outcome> {
    let pairs = bench.settings().pairs / per_batch * per_batch;
    let order = Permutation::new(pairs, bench.seed());
    let client = |_| vec![([0; 16], Vec::new()); per_batch as usize];
    let mut outcome = bench.measure_writes(|| {
        drive(bench.load(pairs / per_batch), client, |batch: &mut Vec<(Key, Vec<u8>)>, i| {
            for (slot, (key, value)) in (i * per_batch..).zip(batch.iter_mut()) {
                let index = order.at(slot);
                *key = bench.keys.key(index);
                bench.values.fill(index, FIRST, value);
            }
            bench.db().write_batch(batch)
        })
    })?;
    let driven = &outcome.driven;
    let made = |i| driven.was_made(i / per_batch);
    check_pairs(bench, pairs, |i| order.at(i), |i| made(i).then_some(FIRST))?;
    outcome.operations = driven.calls() * per_batch;
    check_count(bench, outcome.operations)?;
    outcome.bytes_logical = outcome.operations * bench.pair_bytes();
    Ok(outcome)
}

/// Deletes every key of a full database.
pub fn delete_random<E: Engine>(bench: &Bench<'_, E>) -> Result<Outcome> {
    let pairs = bench.settings().pairs;
    let order = Permutation::new(pairs, bench.seed());
    let mut outcome = bench.measure_writes(|| {
        drive(bench.load(pairs), |_| (), |(), i| bench.db().delete(&bench.keys.key(order.at(i))))
    })?;
    let driven = &outcome.driven;
    let left = |i| (!driven.was_made(i)).then_some(FIRST);
    check_pairs(bench, pairs, |i| order.at(i), left)?;
    check_count(bench, pairs - driven.calls())?;
    outcome.bytes_logical = driven.calls() * size_of::<Key>() as u64;
    Ok(outcome)
}

/// Loads all pairs in key order by the engine's own way. `None` if it has none.
pub fn ingest<E: Engine>(bench: &Bench<'_, E>, scratch: &Path) -> Result<Option<Outcome>> {
    let pairs = bench.settings().pairs;
    let mut can = true;
    let mut outcome = bench.measure_writes(|| {
        let start = Instant::now();
        can = bench.db().ingest(scratch, pairs, |i, value| {
            bench.values.fill(i, FIRST, value);
            bench.keys.key(i)
        })?;
        Ok(Driven {
            calls_of: vec![pairs],
            elapsed: start.elapsed(),
            latency: crate::measure::histogram(),
            capped: false,
        })
    })?;
    if !can {
        return Ok(None);
    }
    check_pairs(bench, pairs, |i| i, |_| Some(FIRST))?;
    check_count(bench, pairs)?;
    outcome.bytes_logical = pairs * bench.pair_bytes();
    Ok(Some(outcome))
}

/// Fills the database for others to copy.
pub fn load<E: Engine>(bench: &Bench<'_, E>) -> Result<()> {
    const PER_BATCH: u64 = 1000;
    let pairs = bench.settings().pairs;
    let order = Permutation::new(pairs, bench.seed());
    let mut batch = Vec::new();
    for i in 0..pairs {
        let index = order.at(i);
        let mut value = Vec::new();
        bench.values.fill(index, FIRST, &mut value);
        batch.push((bench.keys.key(index), value));
        if batch.len() as u64 == PER_BATCH || i + 1 == pairs {
            bench.db().write_batch(&batch)?;
            batch.clear();
        }
    }
    bench.db().settle()?;
    check_pairs(bench, pairs, |i| i, |_| Some(FIRST))?;
    check_count(bench, pairs)
}

fn check_written<E: Engine>(
    bench: &Bench<'_, E>,
    driven: &Driven,
    pairs: u64,
    version: u64,
    order: &impl Fn(u64) -> u64,
) -> Result<()> {
    let before = if version == FIRST { None } else { Some(FIRST) };
    let expected = |i| if driven.was_made(i) { Some(version) } else { before };
    check_pairs(bench, pairs, order, expected)?;
    let absent = if version == FIRST { pairs - driven.calls() } else { 0 };
    check_count(bench, pairs - absent)
}

/// Looks up a sample of the calls, half of it among the first, and expects the version that `expected` says.
fn check_pairs<E: Engine>(
    bench: &Bench<'_, E>,
    pairs: u64,
    order: impl Fn(u64) -> u64,
    expected: impl Fn(u64) -> Option<u64>,
) -> Result<()> {
    let mut rng = Rng::new(bench.seed() + 1);
    for lookup in 0..LOOKUPS.min(pairs) {
        let i = if lookup % 2 == 0 { rng.below(pairs) } else { lookup };
        let index = order(i);
        let mut version = None;
        bench.db().get(&bench.keys.key(index), |value| {
            version = Some(bench.values.check(index, value)?);
            Ok(())
        })?;
        let expected = expected(i);
        ensure!(version == expected, "key {index} is at version {version:?}, not {expected:?}");
    }
    Ok(())
}

/// Counts all pairs, and checks their order and one in 64 of them.
pub fn check_count<E: Engine>(bench: &Bench<'_, E>, expected: u64) -> Result<()> {
    let mut count = 0;
    let mut last: Key = [0; 16];
    bench.db().scan(Direction::Forward, |key, value| {
        if count % 64 == 0 {
            ensure!(count == 0 || *key > last[..], "pair {count} is out of order");
            bench.values.check_pair(bench.keys, key, value)?;
        }
        last.copy_from_slice(key);
        count += 1;
        Ok(())
    })?;
    ensure!(count == expected, "{count} pairs are there, not {expected}");
    Ok(())
}

impl<E: Engine> Bench<'_, E> {
    fn load(&self, calls: u64) -> Load {
        Load { threads: self.spec.threads, calls, time_max: self.time_max() }
    }
}
