//! Range deletes: their edges, and what reads beside many and huge ones cost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lsm::executor::ManualExecutor;
use lsm::{Db, Options, Range};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::time::Instant;
use vfs::MemFs;

fn open(fs: &MemFs, options: Options) -> Db {
    let executor = ManualExecutor::new();
    Db::builder("/db").fs(Arc::new(fs.clone())).executor(executor).options(options).open().unwrap()
}

/// A bound behind the longest key is longer than a key: log, tables and manifest have to take it.
#[test]
fn deletes_around_the_longest_keys_survive_flush_and_replay() {
    let (top, low) = (vec![0xff; 65_535], vec![b'm'; 65_535]);
    for flush in [false, true] {
        let fs = MemFs::new();
        let db = open(&fs, Options::default());
        for key in [&b"a"[..], &low, b"x", &top] {
            db.put(key, b"v").unwrap();
        }
        db.delete_range((Excluded(&top), Unbounded)).unwrap();
        db.delete_range((Included(&low), Included(&low))).unwrap();
        db.delete_range((Excluded(&low[..]), Included(&b"x"[..]))).unwrap();
        let mut batch = db.batch();
        batch.delete_range((Excluded(&top), Unbounded));
        batch.commit().unwrap();
        assert_eq!(db.iter().count(), 2);
        if flush {
            db.flush().unwrap();
        }
        drop(db);
        let db = open(&fs, Options::default());
        assert_eq!(db.iter().count(), 2);
        assert!(db.contains_key(&top).unwrap() && !db.contains_key(&low).unwrap());
        db.delete_range(..).unwrap();
        db.flush().unwrap();
        db.compact_range(..).unwrap();
        assert_eq!(db.iter().count(), 0);
        db.verify().unwrap();
        db.close().unwrap();
    }
}

const LIVE: u64 = 200_000;

fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// The best of a few tries, in seconds: the machine may be busy.
#[expect(clippy::disallowed_methods, reason = "a test that measures")]
fn time<R>(tries: usize, mut work: impl FnMut() -> R) -> f64 {
    let once = |_| {
        let start = Instant::now();
        drop(work());
        start.elapsed().as_secs_f64()
    };
    (0..tries).map(once).fold(f64::MAX, f64::min)
}

fn first(range: Range) -> Option<[u8; 8]> {
    let mut range = range;
    range.next().map(|kv| kv.unwrap().0[..].try_into().unwrap())
}

/// 200,000 live pairs in tables, the first tenth and the last tenth of the keys left when the rest is deleted at once.
#[test]
fn a_huge_delete_is_passed_over_not_walked() {
    let db = open(&MemFs::new(), Options::default().memtable_size_bytes(4usize << 20));
    for n in 0..LIVE {
        db.put(key(n), [7; 20]).unwrap();
    }
    db.flush().unwrap();
    let live = time(3, || assert_eq!(db.iter().count() as u64, LIVE));
    let live_back = time(3, || assert_eq!(db.iter().rev().count() as u64, LIVE));
    let get = time(5, || (0..100).for_each(|n| assert!(db.contains_key(key(n * 13)).unwrap())));
    let (from, to) = (LIVE / 10, LIVE / 10 * 9);
    db.delete_range(key(from)..key(to)).unwrap();
    for flushed in [false, true] {
        if flushed {
            db.flush().unwrap();
        }
        let over = time(3, || assert_eq!(first(db.range(key(from)..)), Some(key(to))));
        let back = time(3, || {
            let last = db.range(..key(to)).next_back().unwrap().unwrap().0;
            assert_eq!(last, key(from - 1));
        });
        let none = time(3, || assert_eq!(db.range(key(from)..key(to)).count(), 0));
        let gone = time(5, || {
            (0..100).for_each(|n| assert!(!db.contains_key(key(from + n * 13)).unwrap()));
        });
        println!(
            "flushed {flushed}: live {live:.6} back {live_back:.6}, over {over:.6} back {back:.6} none {none:.6}, \
             get {get:.6} gone {gone:.6}"
        );
        assert!(over < live * 0.05, "forwards {over} s of {live} s");
        assert!(none < live * 0.05, "an empty range {none} s of {live} s");
        assert!(back < live_back * 0.05, "backwards {back} s of {live_back} s");
        assert!(gone < get * 5.0, "deleted keys {gone} s, live ones {get} s");
    }
}

/// A key under many tombstones is found as fast as one under none, in memory and in tables.
#[test]
fn many_overlapping_tombstones_do_not_slow_down_a_point_read() {
    let db = open(&MemFs::new(), Options::default());
    for n in 0..20_000 {
        db.put(key(n), [7; 20]).unwrap();
    }
    let read =
        |n: u64| move |db: &Db| (0..100).filter(|i| db.contains_key(key(n + i)).unwrap()).count();
    db.flush().unwrap();
    let before = time(5, || assert_eq!(read(19_000)(&db), 100));
    // Each overlaps the twenty before it.
    let delete =
        time(1, || (0..10_000).for_each(|n| db.delete_range(key(n)..key(n + 20)).unwrap()));
    for state in ["in memory", "flushed", "compacted"] {
        match state {
            "flushed" => db.flush().unwrap(),
            "compacted" => db.compact_range(..).unwrap(),
            _ => {}
        }
        let after = time(5, || assert_eq!(read(19_000)(&db), 100));
        let under = time(5, || assert_eq!(read(5_000)(&db), 0));
        let scan = time(3, || assert_eq!(first(db.range(key(0)..)), Some(key(10_019))));
        println!(
            "{state}: before {before:.6} after {after:.6} under {under:.6} scan {scan:.6} deletes {delete:.3}"
        );
        assert!(after < before * 10.0 + 1e-4, "{state}: {after} s, without tombstones {before} s");
        assert!(under < before * 10.0 + 1e-4, "{state}: {under} s, without tombstones {before} s");
        assert!(scan < 1.0, "{state}: a short scan takes {scan} s");
    }
    assert!(delete < 10.0, "10,000 range deletes take {delete} s");
}
