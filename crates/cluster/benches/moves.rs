//! What it costs a node to receive partitions: time, bytes that are sent and bytes that it writes, through its log and as table files.
//!
//! `cargo bench -p esker-cluster --bench moves [-- MIB [THROTTLE]]`: so many MiB (default 1,024) move to a node that joins one other, in a
//! keyspace of one replica, 16 + 992 bytes a pair, one in eight of them written twice; at most THROTTLE MiB a second, by default without
//! one. The directory of temporary files (`TMPDIR`) needs six times as much room.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "waits for background work, in real time")]

use base::clock::{Clock, SystemClock};
use base::rng::Rng;
use cluster::{Cluster, Error, NodeId, NodeOptions};
use lsm::Metrics;
use std::time::Duration;

const VALUE_BYTES: usize = 992;
const PAIR_BYTES: u64 = 16 + VALUE_BYTES as u64;
const BATCH: usize = 256;
const THREADS: u64 = 8;
/// One in so many pairs is written once more: what was replaced must not move.
const REWRITTEN: usize = 8;
/// Also for one request: a machine may be stopped for minutes.
const PATIENCE_MICROS: u64 = 3_600_000_000;

fn main() -> Result<(), Error> {
    // Cargo adds `--bench`.
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (mib, throttle) = (numbers.next().unwrap_or(1024), numbers.next().unwrap_or(0));
    println!(
        "{:16} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>8}",
        "MiB", "moved", "sent", "seconds", "log", "flushed", "ingested", "compacted", "written"
    );
    receive("through the log", Some(u64::MAX), mib, throttle << 20)?;
    receive("as table files", None, mib, throttle << 20)
}

/// Moves `mib` MiB to a node that joins; into table files from so many bytes on, by default from as many as is the default.
fn receive(
    name: &str,
    tables_from_bytes: Option<u64>,
    mib: u64,
    throttle: u64,
) -> Result<(), Error> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut builder = Cluster::builder()
        .nodes(1)
        .replication(1)
        .partitions(16)
        .bytes_per_second(throttle)
        .timeout_micros(PATIENCE_MICROS)
        .rebalance_by_itself(false);
    if let Some(bytes) = tables_from_bytes {
        builder = builder.tables_from_bytes(bytes);
    }
    let store = builder.open(dir.path())?;
    // Half of it moves.
    let pairs = ((2 * mib) << 20) / PAIR_BYTES;
    fill(&store, (0..pairs).collect())?;
    fill(&store, (0..pairs).step_by(REWRITTEN).collect())?;
    quiet(&store, NodeId(1))?;
    let receiver = store.add_node(&NodeOptions::new())?;
    let clock = SystemClock::new();
    let (start, sent_before) = (clock.monotonic_micros(), store.network().counts().bytes_sent);
    let rebalance = store.rebalance();
    rebalance.start()?;
    rebalance.wait(PATIENCE_MICROS)?;
    let seconds = (clock.monotonic_micros() - start) as f64 / 1e6;
    let sent = store.network().counts().bytes_sent - sent_before;
    let after = quiet(&store, receiver)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name:16} {:8.1} {:8.1} {seconds:8.1} {:8.0} {:8.0} {:9.0} {:10.0} {:8.0}",
        mib(moved_to(&store, receiver, pairs)?),
        mib(sent),
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

fn key_of(n: u64) -> String {
    format!("{n:016}")
}

/// Bytes of the pairs that `node` owns: what has to be moved to it.
fn moved_to(store: &Cluster, node: NodeId, pairs: u64) -> Result<u64, Error> {
    let view = store.view()?;
    let keyspace = view.keyspaces().next().expect("the default one").0;
    let partition_of = |n| view.ring().partition_of(key_of(n).as_bytes());
    let owned = (0..pairs).filter(|n| view.is_owner(node, keyspace, partition_of(*n)));
    Ok(owned.count() as u64 * PAIR_BYTES)
}

/// Writes these pairs, from several threads: each write is synced, and syncs are shared.
fn fill(store: &Cluster, pairs: Vec<u64>) -> Result<(), Error> {
    let pairs = &pairs[..];
    std::thread::scope(|scope| {
        let fillers =
            (0..THREADS).map(|thread| scope.spawn(move || fill_share(store, pairs, thread)));
        let fillers: Vec<_> = fillers.collect();
        fillers.into_iter().try_for_each(|filler| filler.join().expect("it does not panic"))
    })
}

fn fill_share(store: &Cluster, pairs: &[u64], thread: u64) -> Result<(), Error> {
    let mut rng = Rng::new(thread);
    // Half of it is random, so that it can be compressed to about a half.
    let mut value = || -> Vec<u8> {
        let words = (0..VALUE_BYTES / 16).map(|_| u128::from(rng.next_u64()) << 64);
        words.flat_map(u128::to_be_bytes).collect()
    };
    for batch in pairs.chunks(BATCH).skip(thread as usize).step_by(THREADS as usize) {
        let batch = batch.iter().map(|n| (key_of(*n), value()));
        for put in store.multi_put(batch)? {
            put?;
        }
    }
    Ok(())
}

/// Waits until a node has had nothing to do for two seconds: neither flushes nor compactions, nor records from which it takes out what
/// all owners have seen by now.
fn quiet(store: &Cluster, node: NodeId) -> Result<Metrics, Error> {
    let (mut before, mut logged, mut since) = (0, 0, 0);
    loop {
        let now = store.metrics(node)?;
        let busy = now.memtables_frozen + now.compactions_running > 0;
        let written = now.flushed_bytes + now.compaction_bytes_written;
        // What nodes know of each other is written all the time.
        let writes = now.log_bytes_written > logged + (64 << 10);
        since = if busy || writes || written != before { 0 } else { since + 1 };
        if since == 20 {
            return Ok(now);
        }
        before = written;
        if since == 0 {
            logged = now.log_bytes_written;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
