//! The memory budget holds, whatever is written and read, and what gives way is what should.
#![expect(clippy::unwrap_used, reason = "a test")]

use lsm::executor::ManualExecutor;
use lsm::{BlockCache, Db, Leveled, Metrics, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfs::MemFs;

const BUDGET: usize = 4 << 20;
const VALUE: usize = 500;

fn options() -> Options {
    Options::default()
        .memory_budget_bytes(BUDGET)
        .memtable_size_bytes(256 << 10)
        .compaction(Leveled {
            l0_trigger: 4,
            base_bytes: 1 << 20,
            multiplier: 8,
            target_table_bytes: 512 << 10,
            tombstone_percent: 50,
        })
        .log_segment_bytes(1 << 20)
        .disk_reserve_bytes(0)
}

fn open(options: Options) -> (Db, Arc<ManualExecutor>) {
    let executor = ManualExecutor::new();
    let builder = Db::builder("/db").options(options).fs(Arc::new(MemFs::new())).seed(3);
    (builder.executor(executor.clone()).open().unwrap(), executor)
}

fn key(i: usize) -> [u8; 8] {
    ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()
}

#[track_caller]
fn within(metrics: &Metrics) {
    let parts = [
        ("memtables", metrics.memtable_bytes),
        ("block cache", metrics.block_cache_bytes),
        ("tables", metrics.table_memory_bytes),
        ("buffers", metrics.buffer_bytes),
        ("pinned", metrics.pinned_bytes),
    ];
    assert_eq!(parts.iter().map(|p| p.1).sum::<usize>(), metrics.memory_bytes());
    assert!(metrics.memory_bytes() <= BUDGET + BUDGET / 10, "{parts:?}");
}

/// Writes five times the budget and reads it all, twice; returns how many keys.
fn fill_and_read(db: &Db, look: impl Fn(&Metrics)) -> usize {
    let count = 5 * BUDGET / VALUE;
    for i in 0..count {
        db.put(key(i), [i as u8; VALUE]).unwrap();
        if i % 64 == 0 {
            look(&db.metrics());
        }
    }
    for i in (0..count).chain((0..count).rev()) {
        assert_eq!(db.get(key(i)).unwrap().unwrap()[0], i as u8);
        if i % 64 == 0 {
            look(&db.metrics());
        }
    }
    count
}

#[test]
fn the_parts_stay_within_the_budget_together() {
    let (db, executor) = open(options());
    let before = db.metrics();
    assert_eq!(before.memory_budget_bytes, Some(BUDGET));
    let count = fill_and_read(&db, within);
    db.wait_idle().unwrap();
    executor.tick();
    (0..count).for_each(|i| assert!(db.get(key(i)).unwrap().is_some()));
    let full = db.metrics();
    within(&full);
    assert!(full.block_cache_bytes > full.block_cache_capacity_bytes / 2, "{full:?}");
    assert!(full.table_memory_bytes > 0);
    let sum = full.block_cache_capacity_bytes + full.table_memory_bytes;
    assert!(full.block_cache_capacity_bytes < before.block_cache_capacity_bytes, "tables came");
    assert!(sum <= BUDGET - 2 * (256 << 10) + BUDGET / 50, "{sum}");

    // Blocks that iterators hold are taken from the block cache.
    let mut cursors: Vec<_> = (0..150).map(|_| db.cursor().unwrap()).collect();
    for (i, cursor) in cursors.iter_mut().enumerate() {
        cursor.seek(key(i * 7 % count)).unwrap();
    }
    executor.tick();
    let pinned = db.metrics();
    assert!(pinned.pinned_bytes >= 150 << 10, "{}", pinned.pinned_bytes);
    within(&pinned);
    let shrunk = full.block_cache_capacity_bytes - pinned.block_cache_capacity_bytes;
    assert!(shrunk > pinned.pinned_bytes / 3, "{shrunk}");
    drop(cursors);
    executor.tick();
    let after = db.metrics();
    assert_eq!(after.pinned_bytes, 0);
    assert!(after.block_cache_capacity_bytes > pinned.block_cache_capacity_bytes);
}

/// With threads: flushes and compactions run while it is looked at.
#[test]
fn the_budget_holds_while_jobs_run() {
    let dir = "/db";
    let builder = Db::builder(dir).options(options()).fs(Arc::new(MemFs::new()));
    let db = builder.open().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                let metrics = db.metrics();
                within(&metrics);
                most = most.max(metrics.buffer_bytes);
                std::thread::yield_now();
            }
            most
        });
        fill_and_read(&db, within);
        done.store(true, Ordering::Release);
        assert!(looks.join().unwrap() > 0, "buffers of jobs were seen");
    });
    db.close().unwrap();
}

#[test]
fn a_cache_of_a_given_size_and_a_shared_one() {
    let (db, _executor) = open(options().block_cache_bytes(1usize << 20));
    assert_eq!(db.metrics().block_cache_capacity_bytes, 1 << 20);
    fill_and_read(&db, |metrics| {
        within(metrics);
        assert!(metrics.block_cache_capacity_bytes <= 1 << 20);
    });
    let shared = Arc::new(BlockCache::new(2 << 20));
    let builder = Db::builder("/db").options(options()).fs(Arc::new(MemFs::new()));
    let executor = ManualExecutor::new();
    let db = builder.block_cache(shared.clone()).executor(executor).open().unwrap();
    fill_and_read(&db, within);
    assert_eq!(shared.capacity_bytes(), 2 << 20, "others use it too");
}

#[test]
fn without_a_budget_nothing_changes() {
    let mut options = options();
    options.memory_budget_bytes = None;
    let (db, executor) = open(options);
    let before = db.metrics().block_cache_capacity_bytes;
    assert_eq!(before, 256 << 20);
    for i in 0..2000 {
        db.put(key(i), [0; VALUE]).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(db.iter().count(), 2000);
    executor.tick();
    let metrics = db.metrics();
    assert_eq!((metrics.block_cache_capacity_bytes, metrics.memory_budget_bytes), (before, None));
}
