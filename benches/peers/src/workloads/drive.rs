//! Client threads, their clocks and their histograms.

use crate::measure::histogram;
use anyhow::Result;
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How much the clients do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Client threads.
    pub threads: usize,
    /// Calls of all threads together.
    pub calls: u64,
    /// The clients stop after this time.
    pub time_max: Duration,
}

/// What the clients did.
#[derive(Debug)]
pub struct Driven {
    /// Calls of each thread. Thread `t` of `T` made the calls `t`, `t + T`, `t + 2 T` and so on, without a gap.
    pub calls_of: Vec<u64>,
    /// From the first call to the last answer.
    pub elapsed: Duration,
    /// Latencies of all calls, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The time ran out before all calls were made.
    pub capped: bool,
}

impl Driven {
    /// Calls of all threads.
    pub fn calls(&self) -> u64 {
        self.calls_of.iter().sum()
    }

    /// True if call `i` was made.
    pub fn was_made(&self, i: u64) -> bool {
        let threads = self.calls_of.len() as u64;
        i / threads < self.calls_of[(i % threads) as usize]
    }
}

/// Makes the calls `0..load.calls`; thread `t` makes every `threads`th, from `t` on. `client` makes the state of a
/// thread, `call` one call.
///
/// # Errors
/// The first fault of a call; the other clients then stop.
pub fn drive<C>(
    load: Load,
    client: impl Fn(u64) -> C + Sync,
    call: impl Fn(&mut C, u64) -> Result<()> + Sync,
) -> Result<Driven> {
    let barrier = Barrier::new(load.threads);
    let failed = AtomicBool::new(false);
    let run = |thread: u64| -> Result<(u64, Instant, Instant, Histogram<u64>)> {
        let mut client = client(thread);
        let mut latency = histogram();
        barrier.wait();
        let start = Instant::now();
        let (mut last, mut made) = (start, 0);
        for i in (thread..load.calls).step_by(load.threads) {
            if let Err(e) = call(&mut client, i) {
                failed.store(true, Ordering::Relaxed);
                return Err(e);
            }
            let now = Instant::now();
            latency.saturating_record((now - last).as_nanos() as u64);
            (last, made) = (now, made + 1);
            if now - start > load.time_max || failed.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok((made, start, last, latency))
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> =
            (1..load.threads as u64).map(|thread| scope.spawn(move || run(thread))).collect();
        // The first client is the thread that opened the database: some engines care.
        let first = run(0);
        let others = others.into_iter().map(|t| t.join().expect("a client does not panic"));
        std::iter::once(first).chain(others).collect()
    });
    let mut driven = Driven {
        calls_of: Vec::new(),
        elapsed: Duration::ZERO,
        latency: histogram(),
        capped: false,
    };
    let (mut first, mut last) = (None::<Instant>, None::<Instant>);
    for result in results {
        let (made, start, end, latency) = result?;
        driven.calls_of.push(made);
        driven.latency.add(latency).expect("the same bounds");
        first = Some(first.map_or(start, |first| first.min(start)));
        last = Some(last.map_or(end, |last| last.max(end)));
    }
    if let (Some(first), Some(last)) = (first, last) {
        driven.elapsed = last - first;
    }
    driven.capped = driven.calls() < load.calls;
    Ok(driven)
}
