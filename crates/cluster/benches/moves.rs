//! What it costs a node to receive a partition: time, and bytes that it writes, through its log and as table files.
//!
//! `cargo bench -p esker-cluster --bench moves [-- MIB]`: so many MiB (default 1,024) move to a node that joins one other, in keyspaces
//! of one replica, 16 + 992 bytes a pair, without a throttle. The directory of temporary files (`TMPDIR`) needs six times as much room.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "waits for background work, in real time")]

use base::clock::{Clock, SystemClock};
use base::rng::Rng;
use cluster::{Cluster, Error, NodeId, NodeOptions};
use lsm::Metrics;
use std::time::Duration;

const VALUE_BYTES: usize = 992;
const PAIR_BYTES: u64 = 16 + VALUE_BYTES as u64;
const BATCH: u64 = 256;
const THREADS: u64 = 8;
const PATIENCE_MICROS: u64 = 3_600_000_000;

fn main() -> Result<(), Error> {
    // Cargo adds `--bench`.
    let mib = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1024);
    println!(
        "{:16} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "MiB", "moved", "seconds", "log", "flushed", "ingested", "compacted", "written"
    );
    receive("through the log", u64::MAX, mib)?;
    receive("as table files", 1 << 20, mib)
}

/// Moves `mib` MiB to a node that joins.
fn receive(name: &str, tables_from_bytes: u64, mib: u64) -> Result<(), Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Cluster::builder()
        .nodes(1)
        .replication(1)
        .partitions(16)
        .bytes_per_second(0)
        .timeout_micros(60_000_000)
        .tables_from_bytes(tables_from_bytes)
        .rebalance_by_itself(false)
        .open(dir.path())?;
    // Half of it moves.
    fill(&store, ((2 * mib) << 20) / PAIR_BYTES)?;
    quiet(&store, NodeId(1))?;
    let receiver = store.add_node(&NodeOptions::new())?;
    let clock = SystemClock::new();
    let start = clock.monotonic_micros();
    let rebalance = store.rebalance();
    let moved = rebalance.plan()?.bytes;
    rebalance.start()?;
    rebalance.wait(PATIENCE_MICROS)?;
    let seconds = (clock.monotonic_micros() - start) as f64 / 1e6;
    let after = quiet(&store, receiver)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name:16} {:8.0} {seconds:8.1} {:10.0} {:10.0} {:10.0} {:10.0} {:10.0}",
        mib(moved),
        mib(after.log_bytes_written),
        mib(after.flushed_bytes),
        mib(after.ingested_bytes),
        mib(after.compaction_bytes_written),
        mib(after.log_bytes_written
            + after.flushed_bytes
            + after.ingested_bytes
            + after.compaction_bytes_written),
    );
    store.close()
}

/// Writes so many pairs, from several threads: each write is synced, and syncs are shared.
fn fill(store: &Cluster, pairs: u64) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let fillers =
            (0..THREADS).map(|thread| scope.spawn(move || fill_share(store, pairs, thread)));
        let fillers: Vec<_> = fillers.collect();
        fillers.into_iter().try_for_each(|filler| filler.join().expect("it does not panic"))
    })
}

fn fill_share(store: &Cluster, pairs: u64, thread: u64) -> Result<(), Error> {
    let mut rng = Rng::new(thread);
    // Half of it is random, so that it can be compressed to about a half.
    let mut value = || -> Vec<u8> {
        let words = (0..VALUE_BYTES / 16).map(|_| u128::from(rng.next_u64()) << 64);
        words.flat_map(u128::to_be_bytes).collect()
    };
    for first in (0..pairs).step_by(BATCH as usize).skip(thread as usize).step_by(THREADS as usize)
    {
        let batch = (first..pairs.min(first + BATCH)).map(|n| (format!("{n:016}"), value()));
        for put in store.multi_put(batch)? {
            put?;
        }
    }
    Ok(())
}

/// Waits until a node has had neither flush nor compaction to do for a second.
fn quiet(store: &Cluster, node: NodeId) -> Result<Metrics, Error> {
    let (mut before, mut since) = (0, 0);
    loop {
        let now = store.metrics(node)?;
        let busy = now.memtables_frozen + now.compactions_running > 0;
        let written = now.flushed_bytes + now.compaction_bytes_written;
        since = if busy || written != before { 0 } else { since + 1 };
        if since == 10 {
            return Ok(now);
        }
        before = written;
        std::thread::sleep(Duration::from_millis(100));
    }
}
