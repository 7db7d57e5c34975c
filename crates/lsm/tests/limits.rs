//! What a write may bring, as the options say, on every way in.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::{Db, Error, Options, Result};
use std::sync::Arc;
use support::{DIR, small_options};
use vfs::MemFs;

fn tight() -> Options {
    small_options().key_bytes_max(8).value_bytes_max(100).batch_bytes_max(400).batch_ops_max(5)
}

fn open(fs: &MemFs, options: Options) -> Db {
    support::open(Arc::new(fs.clone()), DIR, &options, 1).unwrap().0
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, what: &str) {
    match result {
        Err(Error::InvalidArgument { what: named, .. }) => assert_eq!(named, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_way_in_keeps_the_limits() {
    let db = open(&MemFs::new(), tight());
    let (key, long_key, value, long_value) = ([1; 8], [1; 9], [2; 100], [2; 101]);
    db.put(key, value).unwrap();
    refused(db.put(long_key, value), "key");
    refused(db.put(key, long_value), "value");
    refused(db.delete(long_key), "key");
    refused(db.compare_and_swap(long_key, None, Some(&value)), "key");
    refused(db.compare_and_swap(key, Some(&value), Some(&long_value)), "value");
    refused(db.ingest([(&long_key[..], &value[..])]), "key");
    refused(db.ingest([(&key[..], &long_value[..])]), "value");
    // A bound may lie right behind the longest key.
    refused(db.delete_range([1; 10]..), "range");
    refused(db.delete_range(..[1; 10]), "range");
    refused(db.delete_range(..=[1; 10]), "range");
    db.delete_range([3; 9]..[4; 9]).unwrap();
    let in_batch = |fill: &dyn Fn(&mut lsm::WriteBatch)| {
        let mut batch = db.batch();
        fill(&mut batch);
        batch.commit()
    };
    refused(in_batch(&|b| b.put(long_key, value)), "key");
    refused(in_batch(&|b| b.put(key, long_value)), "value");
    refused(in_batch(&|b| b.delete(long_key)), "key");
    refused(in_batch(&|b| b.delete_range([1; 10]..)), "range");
    assert_eq!(db.get(key).unwrap().unwrap(), value);
    assert_eq!(db.iter().count(), 1);
    // A read may ask for anything that the format has room for.
    assert!(db.get(long_key).unwrap().is_none());
}

#[test]
fn a_batch_stops_growing_at_its_limits() {
    let db = open(&MemFs::new(), tight());
    let mut batch = db.batch();
    for i in 0..1000u16 {
        batch.put(i.to_be_bytes(), [0; 10]);
        assert!(batch.len() <= 5);
    }
    refused(batch.commit(), "batch");
    let mut batch = db.batch();
    for i in 0..1000u16 {
        batch.put(i.to_be_bytes(), [0; 90]);
        assert!(batch.size_bytes() <= 430);
    }
    refused(batch.commit(), "batch");
    assert!(db.iter().next().is_none());
    let mut batch = db.batch();
    (0..5u8).for_each(|i| batch.put([i], [0; 10]));
    batch.commit().unwrap();
    assert_eq!(db.iter().count(), 5);
}

#[test]
fn what_was_written_under_higher_limits_stays_readable() {
    let fs = MemFs::new();
    let db = open(&fs, small_options());
    let long = |i: u8| vec![i; 3000];
    for i in 0..20 {
        db.put(long(i), long(i)).unwrap();
    }
    db.flush().unwrap();
    let mut batch = db.batch();
    (20..40).for_each(|i| batch.put(long(i), long(i)));
    batch.delete_range(long(3)..long(5));
    batch.commit().unwrap();
    drop(db);
    // Some of it is replayed from the log, some read from tables, all of it compacted.
    let db = open(&fs, tight());
    refused(db.put(long(1), "v"), "key");
    for round in 0..2 {
        assert_eq!(db.iter().filter(|kv| kv.is_ok()).count(), 38, "round {round}");
        assert_eq!(db.get(long(2)).unwrap().unwrap(), long(2));
        assert_eq!(db.iter().next_back().unwrap().unwrap().0, long(39));
        db.compact_range(..).unwrap();
    }
    db.verify().unwrap();
    db.delete_range(..).unwrap();
    assert!(db.iter().next().is_none());
}

#[test]
fn a_range_without_an_end_takes_few_bytes_in_log_and_table() {
    let fs = MemFs::new();
    let db = open(&fs, small_options());
    let key = |i: u8| [i; 4];
    (0..20).for_each(|i| db.put(key(i), [i; 10]).unwrap());
    db.flush().unwrap();
    let before = db.metrics().log_bytes_written;
    db.delete_range(key(15)..).unwrap();
    assert!(db.metrics().log_bytes_written - before < 64);
    let mut batch = db.batch();
    batch.delete_range(key(10)..);
    assert!(batch.size_bytes() < 64);
    batch.commit().unwrap();
    drop(db);
    // From the log, and from a table of its own.
    let db = open(&fs, small_options());
    assert_eq!(db.iter().count(), 10);
    let before = db.metrics().flushed_bytes;
    db.put("", "first").unwrap();
    db.flush().unwrap();
    let flushed = db.metrics().flushed_bytes - before;
    assert!(flushed < 4096, "{flushed}");
    drop(db);
    let db = open(&fs, small_options());
    assert_eq!(db.iter().count(), 11);
    assert!(db.get([0xff; 65_535]).unwrap().is_none());
    db.put([0xff; 65_535], "last").unwrap();
    db.compact_range(..).unwrap();
    db.verify().unwrap();
    assert_eq!(db.iter().count(), 12);
    drop(db);
    assert_eq!(open(&fs, small_options()).iter().count(), 12);
}

#[test]
fn ranges_without_an_end_count_in_a_batch_with_what_they_take_in_memory() {
    let db = open(&MemFs::new(), small_options());
    let mut batch = db.batch();
    (0..2000u32).for_each(|i| batch.delete_range(i.to_be_bytes()..));
    assert!(batch.len() <= 1026, "{}", batch.len());
    refused(batch.commit(), "batch");
}
