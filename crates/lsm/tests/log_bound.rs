//! The log stays within its bound, whatever the memtables say.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::{Db, Options};
use std::sync::Arc;
use support::{DIR, small_options};
use vfs::MemFs;

const SEGMENT: u64 = 4 << 10;
const BOUND: u64 = 24 << 10;

/// No memtable comes near its limit.
fn large_memtables() -> Options {
    small_options().memtable_size_bytes(4 << 20).log_segment_bytes(SEGMENT).log_bytes_max(BOUND)
}

fn write(db: &Db, n: u64) {
    db.put(n.to_be_bytes(), vec![b'v'; SEGMENT as usize / 4]).unwrap();
}

#[track_caller]
fn check_bound(db: &Db, most: u64) {
    let bytes = db.metrics().log_bytes;
    assert!(bytes <= most, "a log of {bytes} bytes, the bound is {BOUND}");
}

/// Found by `meta`, seed 96: the bound was looked at after flushes only, and none was due.
#[test]
fn no_flush_is_needed_to_keep_the_bound() {
    let (db, executor) = support::open(Arc::new(MemFs::new()), DIR, &large_memtables(), 1).unwrap();
    for n in 0..200 {
        write(&db, n);
        executor.run_all();
        // The segment that is written, and a spare one.
        check_bound(&db, BOUND + 2 * SEGMENT);
    }
    assert!(db.metrics().flushes > 0);
    assert_eq!(db.iter().count(), 200);
}

/// The job that makes segments may wait behind others for long: the tick makes them then, and looks at the bound.
#[test]
fn the_tick_keeps_the_bound_where_jobs_have_to_wait() {
    let (db, executor) = support::open(Arc::new(MemFs::new()), DIR, &large_memtables(), 1).unwrap();
    let mut n = 0;
    while db.metrics().log_bytes <= BOUND + SEGMENT {
        write(&db, n);
        n += 1;
        executor.tick();
    }
    assert!(executor.waiting().contains(&"flush"), "{:?}", executor.waiting());
    executor.run_all();
    check_bound(&db, BOUND);
}
