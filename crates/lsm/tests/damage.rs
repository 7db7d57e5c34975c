//! Damage in a database that is open: what is told, what stays readable, what is kept, and who looks for it.
#![expect(clippy::unwrap_used, reason = "a healthy disk in memory")]

mod support;

use lsm::clock::{Clock, ManualClock};
use lsm::executor::ManualExecutor;
use lsm::{Db, Error, Options, Slice, VerifyOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{DIR, small_options};
use vfs::MemFs;

/// In microseconds.
const SECOND: u64 = 1_000_000;

fn tables(fs: &MemFs) -> Vec<PathBuf> {
    let all = fs.files().into_iter().map(|(path, _)| path);
    all.filter(|path| path.extension().is_some_and(|e| e == "sst")).collect()
}

fn key(i: u32) -> String {
    format!("key{i:03}")
}

fn open(fs: &MemFs, options: Options) -> (Db, Arc<ManualExecutor>, Arc<ManualClock>) {
    let (executor, clock) = (ManualExecutor::new(), Arc::new(ManualClock::at(1)));
    let builder = Db::builder(DIR).options(options).fs(Arc::new(fs.clone())).seed(1);
    (builder.executor(executor.clone()).clock(clock.clone()).open().unwrap(), executor, clock)
}

/// A closed database of a hundred keys at the bottom, and the first block of its first table damaged.
fn damaged(options: &Options) -> (MemFs, PathBuf) {
    let fs = MemFs::new();
    let (db, _) = support::open(Arc::new(fs.clone()), DIR, options, 1).unwrap();
    (0..100).for_each(|i| db.put(key(i), [i as u8; 60]).unwrap());
    db.flush().unwrap();
    db.compact_range(..).unwrap();
    db.close().unwrap();
    let table = tables(&fs).into_iter().min().unwrap();
    fs.flip_bit(&table, 20, 1).unwrap();
    (fs, table)
}

fn options() -> Options {
    small_options().block_cache_bytes(0).disk_reserve_bytes(0)
}

#[test]
fn a_damaged_block_is_told_and_other_keys_stay_readable() {
    let (fs, table) = damaged(&options());
    let (db, _, _) = open(&fs, options());
    let Error::Corruption { path, offset, .. } = db.get(key(0)).unwrap_err() else {
        panic!("another error")
    };
    assert_eq!((&path, offset), (&table, 0));
    let lost = (0..100).filter(|&i| db.get(key(i)).is_err()).count();
    assert!((1..10).contains(&lost), "{lost}");
    assert!((lost as u32..100).all(|i| db.get(key(i)).unwrap().unwrap()[0] == i as u8));
    assert!(db.range(key(50)..).all(|pair| pair.is_ok()), "behind the damage");
    db.put("more", "writes").unwrap();
    assert!(db.health().is_healthy());
    let places = db.damage();
    assert_eq!(places.len(), 1, "each place once: {places:?}");
    assert_eq!((&places[0].path, places[0].offset), (&table, 0));
    assert_eq!(places[0].keyspace.as_deref(), Some("default"));
    assert_eq!(db.metrics().damaged_places, 1);
}

#[test]
fn a_compaction_neither_takes_a_damaged_table_nor_drops_what_hides_it() {
    let (fs, table) = damaged(&options());
    let (db, executor, _) = open(&fs, options());
    db.delete(key(0)).unwrap();
    db.delete_range(key(1)..key(3)).unwrap();
    db.put(key(3), "newer").unwrap();
    db.flush().unwrap();
    assert!(db.compact_range(..).unwrap_err().is_corruption());
    for i in 4..60 {
        db.put(key(i), [7; 200]).unwrap();
    }
    db.flush().unwrap();
    executor.run_all();
    executor.tick();
    executor.run_all();
    assert!(tables(&fs).contains(&table), "the damaged table is kept");
    assert!((0..3).all(|i| db.get(key(i)).unwrap().is_none()), "still deleted");
    assert_eq!(db.get(key(3)).unwrap().as_deref(), Some(&b"newer"[..]));
    db.put("more", "writes").unwrap();
    // The disk was wrong once only: what was kept is still right.
    fs.flip_bit(&table, 20, 1).unwrap();
    db.compact_range(..).unwrap();
    assert!((0..3).all(|i| db.get(key(i)).unwrap().is_none()));
    assert!((60..100).all(|i| db.get(key(i)).unwrap().unwrap()[0] == i as u8));
    db.verify().unwrap();
    assert!(db.health().is_healthy());
}

#[test]
fn a_damaged_table_outlives_a_reopen() {
    let (fs, table) = damaged(&options());
    for _ in 0..2 {
        let (db, executor, _) = open(&fs, options());
        db.put("x", "y").unwrap();
        db.flush().unwrap();
        executor.run_all();
        assert!(db.get(key(0)).is_err());
        db.close().unwrap();
        assert!(tables(&fs).contains(&table));
    }
}

/// Time goes on by itself, a little at every look.
#[derive(Debug, Default)]
struct RunningClock(AtomicU64);

impl Clock for RunningClock {
    fn monotonic_micros(&self) -> u64 {
        self.0.fetch_add(50, Ordering::SeqCst)
    }

    fn wall_micros(&self) -> u64 {
        0
    }
}

#[test]
fn a_verification_keeps_to_its_rate() {
    let (fs, table) = damaged(&options());
    fs.flip_bit(&table, 20, 1).unwrap();
    let clock = Arc::new(RunningClock::default());
    let builder = Db::builder(DIR).options(options()).fs(Arc::new(fs.clone())).seed(1);
    let db = builder.executor(ManualExecutor::new()).clock(clock.clone()).open().unwrap();
    let mut last = lsm::VerifyProgress::default();
    let begin = clock.0.load(Ordering::SeqCst);
    let rate = VerifyOptions::new().bytes_per_second(1 << 20);
    let report = db
        .verify_with(&rate, |at| {
            assert!(at.bytes >= last.bytes && at.tables >= last.tables);
            assert!(at.bytes <= at.bytes_total && at.tables <= at.tables_total);
            last = *at;
        })
        .unwrap();
    let took = clock.0.load(Ordering::SeqCst) - begin;
    assert_eq!((last.bytes, last.tables_total), (report.table_bytes, report.tables));
    let cost = (report.table_bytes * 1_000_000) >> 20;
    assert!(cost > 1000 && (cost..cost * 4).contains(&took), "{took} of {cost}");
    assert_eq!(db.verify().unwrap(), report);
}

#[test]
fn a_close_ends_a_verification() {
    let (fs, _) = damaged(&options());
    let (db, _, _) = open(&fs, options());
    let mut calls = 0;
    // The clock stands still: without the close it would wait for ever.
    let slow = VerifyOptions::new().bytes_per_second(1);
    let ended = db.verify_with(&slow, |_| {
        calls += 1;
        db.close().unwrap();
    });
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
    assert_eq!(calls, 1);
}

#[test]
fn a_scrub_finds_every_damaged_block_step_by_step() {
    let (fs, table) = damaged(&options());
    let hour = Duration::from_secs(3600);
    let options = options().scrub_interval(hour).scrub_bytes_per_second(4 << 10);
    // Not the last one, which may be too short for two damaged blocks.
    let other = tables(&fs).into_iter().nth(2).unwrap();
    assert_ne!(table, other);
    fs.flip_bit(&other, 30, 1).unwrap();
    fs.flip_bit(&other, 600, 1).unwrap();
    let (db, executor, clock) = open(&fs, options);
    let mut steps = 0;
    while db.metrics().scrub_passes == 0 {
        assert!(steps < 100, "{:?}", db.metrics());
        clock.advance(SECOND);
        executor.tick();
        if executor.waiting().contains(&"scrub") {
            steps += 1;
            let before = db.metrics().scrub_bytes_read;
            executor.run_all();
            let read = db.metrics().scrub_bytes_read - before;
            assert!(read < (4 << 10) + (16 << 10), "a step is small: {read}");
        }
    }
    assert!(steps >= 2, "{steps}");
    let metrics = db.metrics();
    assert_eq!(metrics.scrub_damaged_blocks, 3, "{:?}", db.damage());
    assert_eq!(metrics.damaged_places, 3);
    assert!(metrics.scrub_last_pass_micros > 0);
    let paths: Vec<_> = db.damage().into_iter().map(|place| place.path).collect();
    assert!(paths.contains(&table) && paths.contains(&other), "{paths:?}");
    assert!(db.health().is_healthy());
    // The next pass waits for the interval.
    clock.advance(60 * SECOND);
    executor.tick();
    assert!(!executor.waiting().contains(&"scrub"));
    clock.advance(3600 * SECOND);
    executor.tick();
    clock.advance(SECOND);
    executor.tick();
    assert!(executor.waiting().contains(&"scrub"));
    // A step that is queued is no hindrance to a close.
    db.close().unwrap();
}

#[test]
fn nothing_is_scrubbed_unasked() {
    let (fs, _) = damaged(&options());
    let (db, executor, clock) = open(&fs, options());
    for _ in 0..20 {
        clock.advance(3600 * SECOND);
        executor.tick();
        assert!(!executor.waiting().contains(&"scrub"));
        executor.run_all();
    }
    assert_eq!(db.metrics().scrub_bytes_read, 0);
    assert!(db.damage().is_empty());
}

#[test]
fn damage_is_cut_out_once_it_is_given_up() {
    let (fs, table) = damaged(&options());
    let (db, executor, _) = open(&fs, options());
    let keyspace = db.default_keyspace();
    assert!(keyspace.damaged_ranges().unwrap().is_empty(), "nobody has met it");
    assert!(db.get(key(0)).is_err());
    db.put(key(1), "newer").unwrap();
    db.flush().unwrap();
    let lost = keyspace.damaged_ranges().unwrap();
    let is_lost = |i: u32| lost.iter().any(|range| range.contains(&Slice::from(key(i).as_str())));
    let count = (0..100).filter(|i| is_lost(*i)).count();
    assert!(is_lost(0) && is_lost(1) && count < 10, "{lost:?}");
    assert!(db.compact_range(..).unwrap_err().is_corruption());
    let refused = keyspace.cut_damage(&[]).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument { .. }), "{refused}");
    assert!(tables(&fs).contains(&table), "nothing is given up by itself");
    assert_eq!(keyspace.cut_damage(&lost).unwrap(), 1);
    executor.run_all();
    assert!(!tables(&fs).contains(&table));
    assert!(keyspace.damaged_ranges().unwrap().is_empty());
    // What was lost is gone, all else is as it was.
    for i in 0..100 {
        match db.get(key(i)).unwrap() {
            Some(value) if i == 1 => assert_eq!(value, "newer"),
            Some(value) => assert_eq!(value[0], i as u8),
            None => assert!(is_lost(i) && i != 1, "{i}"),
        }
    }
    db.compact_range(..).unwrap();
    db.verify().unwrap();
    db.close().unwrap();
    let (db, _, _) = open(&fs, options());
    assert_eq!(db.range(..).count(), 100 - count + 1);
    db.verify().unwrap();
}

#[test]
fn a_table_without_an_index_is_given_up_whole() {
    let (fs, table) = damaged(&options());
    let len = fs.read_file(&table).unwrap().len() as u64;
    fs.flip_bit(&table, len - 20, 1).unwrap();
    let (db, _, _) = open(&fs, options());
    let keyspace = db.default_keyspace();
    let failed = (0..100).filter(|&i| db.get(key(i)).is_err()).count();
    let lost = keyspace.damaged_ranges().unwrap();
    let is_lost = |i: &u32| lost.iter().any(|range| range.contains(&Slice::from(key(*i).as_str())));
    assert!(failed > 10 && (0..100).filter(is_lost).count() == failed, "{failed} {lost:?}");
    assert_eq!(keyspace.cut_damage(&lost).unwrap(), 1);
    assert_eq!(db.range(..).count(), 100 - failed);
    db.verify().unwrap();
}
