//! How long an open takes: after a close, and after a kill.

use crate::cell::{Bench, Figures, open_options};
use crate::data::{FIRST, Permutation};
use crate::engine::{Direction, Engine};
use crate::measure::{Latency, histogram, peak_memory_bytes};
use crate::spec::CellSpec;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Opens measured; the median counts.
const OPENS: usize = 9;

/// Opens a full database that was closed, several times; a get after each shows that it is open.
pub fn reopen<E: Engine>(spec: &CellSpec) -> Result<Figures> {
    let mut times = Vec::new();
    let mut latency = histogram();
    for _ in 0..OPENS {
        let start = Instant::now();
        let db = E::open(&spec.dir, &open_options(spec))?;
        let took = start.elapsed();
        let bench = Bench::new(spec, &db);
        bench.get(spec.settings.pairs / 2)?;
        drop(bench);
        latency.saturating_record(took.as_nanos() as u64);
        times.push(took);
        db.close()?;
    }
    let first = times[0];
    times.sort();
    let mut figures = figures_of(spec, times[OPENS / 2], Latency::of(&latency))?;
    figures.extra.insert("first_open_ms".into(), first.as_secs_f64() * 1e3);
    Ok(figures)
}

/// Puts the records and dies without closing.
pub fn crash<E: Engine>(spec: &CellSpec) -> Result<()> {
    let db = E::open(&spec.dir, &open_options(spec))?;
    let bench = Bench::new(spec, &db);
    let records = spec.settings.replay_records;
    let order = Permutation::new(records, spec.run);
    let mut value = Vec::new();
    for i in 0..records {
        let index = order.at(i);
        bench.values.fill(index, FIRST, &mut value);
        db.put(&bench.keys.key(index), &value)?;
    }
    // No destructor, no handler: what is not with the operating system by now is lost.
    std::process::abort()
}

/// Opens what `crash` left, and counts what is still there.
pub fn replay<E: Engine>(spec: &CellSpec) -> Result<Figures> {
    let records = spec.settings.replay_records;
    let start = Instant::now();
    let db = E::open(&spec.dir, &open_options(spec))?;
    let took = start.elapsed();
    let bench = Bench::new(spec, &db);
    let mut count = 0;
    db.scan(Direction::Forward, |key, value| {
        bench.values.check_pair(bench.keys, key, value)?;
        count += 1;
        Ok(())
    })?;
    ensure!(count <= records, "{count} pairs are there, of {records}");
    drop(bench);
    let mut latency = histogram();
    latency.saturating_record(took.as_nanos() as u64);
    let mut figures = figures_of(spec, took, Latency::of(&latency))?;
    figures.extra.insert("lost_records".into(), (records - count) as f64);
    db.close()?;
    Ok(figures)
}

fn figures_of(spec: &CellSpec, took: Duration, latency: Latency) -> Result<Figures> {
    let mut figures = Figures::new(spec);
    figures.value = took.as_secs_f64() * 1e3;
    figures.seconds = took.as_secs_f64();
    figures.operations = 1;
    figures.latency = latency;
    figures.peak_memory_bytes = peak_memory_bytes()?;
    Ok(figures)
}
