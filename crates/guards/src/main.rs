//! The program whose instructions `cargo xtask guards` counts.
//!
//! ```text
//! main       lays out a database and its parts with fixed data, warms what shall be warm, and calls
//! measured   one function for each operation, named `<operation>_counted`: callgrind counts inside of these alone
//! data       keys and values
//! fs         files in memory, with log segments as cheap as mapped ones
//! ```
//! After each of them a line `<operation> <count>` says how many operations it did. One thread, a clock that stands
//! still, no disk, no randomness: the same binary executes the same instructions in every run.
#![forbid(unsafe_code)]

mod data;
mod fs;
mod measured;

use base::checksum::key_hash;
use base::clock::ManualClock;
use base::{FileNum, InternalKey, SeqNo, ValueKind};
use bloom::Filter;
use data::{hashed, in_key_order, key, missing_key, order, value};
use fs::GuardFs;
use lsm::executor::ManualExecutor;
use lsm::{BlockCache, Db, Options, Result};
use memtable::Memtable;
use sstable::bench::{BenchBlock, encode};
use sstable::{TableOptions, TableReader, TableWriter};
use std::path::Path;
use std::sync::Arc;
use vfs::Fs;
use wal::{Log, LogOptions, Lsn, prepare_segment};

/// Pairs in the tables of the database.
const PAIRS: u64 = 50_000;
/// Operations of one kind.
const OPS: u64 = 5_000;
/// Pairs of 16 + 100 bytes that fill a block of 4 KiB.
const PAIRS_A_BLOCK: u64 = 33;

fn main() -> Result<()> {
    database()?;
    table()?;
    block();
    filter();
    memtable();
    log()
}

fn say(operation: &str, count: u64) {
    println!("{operation} {count}");
}

fn database() -> Result<()> {
    let options = Options::default().disk_reserve_bytes(0).block_cache_bytes(64 << 20);
    let db = Db::builder("/guards")
        .options(options)
        .fs(Arc::new(GuardFs::default()))
        .clock(Arc::new(ManualClock::at(1_000_000_000_000)))
        .executor(ManualExecutor::new())
        .seed(1)
        .open()?;
    fill_one_run(&db)?;
    point_reads(&db)?;
    scans(&db)?;
    writes(&db)?;
    measured::compact_counted(&db)?;
    say("compact", PAIRS + 2 * OPS);
    db.close()
}

/// All pairs, in one run of one level.
fn fill_one_run(db: &Db) -> Result<()> {
    for n in order(PAIRS, PAIRS) {
        db.put(key(n), value(n))?;
    }
    db.compact_range(..)?;
    db.wait_idle()
}

fn point_reads(db: &Db) -> Result<()> {
    let hot = vec![key(PAIRS / 2); OPS as usize];
    let spread: Vec<_> = order(PAIRS, OPS).map(key).collect();
    let missing: Vec<_> = order(PAIRS, OPS).map(missing_key).collect();
    // Everything is in the cache, in its uncompressed form, from here on.
    for pair in db.iter() {
        pair?;
    }
    for keys in [&hot, &spread, &missing] {
        measured::lookup(db, keys)?;
    }
    assert_eq!(measured::get_hot_counted(db, &hot)?, OPS);
    say("get_hot", OPS);
    assert_eq!(measured::get_spread_counted(db, &spread)?, OPS);
    say("get_spread", OPS);
    assert_eq!(measured::get_missing_counted(db, &missing)?, 0);
    say("get_missing", OPS);
    measured::lookup_many(db, &spread)?;
    assert_eq!(measured::multi_get_counted(db, &spread)?, OPS);
    say("multi_get", OPS);
    Ok(())
}

/// Seeks and steps over one run.
fn scans(db: &Db) -> Result<()> {
    let spread: Vec<_> = order(PAIRS, OPS).map(key).collect();
    let mut cursor = db.cursor()?;
    measured::seek_all(&mut cursor, &spread)?;
    assert_eq!(measured::seek_counted(&mut cursor, &spread)?, OPS);
    say("seek", OPS);
    assert_eq!(measured::seek_new_counted(db, &spread)?, OPS);
    say("seek_new", OPS);
    cursor.seek_to_first()?;
    assert_eq!(measured::next_counted(&mut cursor, OPS)?, OPS);
    say("next", OPS);
    assert_eq!(measured::prev_counted(&mut cursor, OPS)?, OPS);
    say("prev", OPS);
    Ok(())
}

/// The same over a memtable and a run.
fn merged_scans(db: &Db) -> Result<()> {
    let spread: Vec<_> = order(PAIRS, OPS).map(key).collect();
    let mut cursor = db.cursor()?;
    measured::seek_all(&mut cursor, &spread)?;
    assert_eq!(measured::seek_merged_counted(&mut cursor, &spread)?, OPS);
    say("seek_merged", OPS);
    cursor.seek_to_first()?;
    assert_eq!(measured::next_merged_counted(&mut cursor, OPS)?, OPS);
    say("next_merged", OPS);
    assert_eq!(measured::prev_merged_counted(&mut cursor, OPS)?, OPS);
    say("prev_merged", OPS);
    Ok(())
}

/// Puts on top of a memtable that has pairs already, reads of what they wrote, scans over both memtable and tables, and
/// the flush.
fn writes(db: &Db) -> Result<()> {
    let pairs = |from: u64| -> Vec<_> {
        order(OPS, OPS).map(|n| (key(PAIRS + from + n), value(n))).collect()
    };
    let (first, second) = (pairs(0), pairs(OPS));
    measured::insert_all(db, &first)?;
    measured::put_counted(db, &second)?;
    say("put", OPS);
    let keys: Vec<_> = second.iter().map(|(key, _)| *key).collect();
    assert_eq!(measured::get_fresh_counted(db, &keys)?, OPS);
    say("get_fresh", OPS);
    merged_scans(db)?;
    measured::flush_counted(db)?;
    say("flush", 2 * OPS);
    Ok(())
}

/// Reads of a table through a cache that holds nothing: read, checksum, decompression, parsing, search.
fn table() -> Result<()> {
    let (fs, path) = (GuardFs::default(), Path::new("/table"));
    let mut writer = TableWriter::create(&fs, path, 1, TableOptions::default())?;
    for n in in_key_order(OPS) {
        writer.add(InternalKey::new(&key(n), SeqNo(n), ValueKind::Put), &value(n))?;
    }
    writer.finish()?;
    let file = fs.open(path).map_err(|e| base::Error::io("open", path, e))?;
    let table = Arc::new(TableReader::open(file, path, 1, Arc::new(BlockCache::new(0)))?);
    let keys: Vec<_> = order(OPS, 500).map(hashed).collect();
    measured::lookup_in_table(&table, &keys[..10])?;
    assert_eq!(measured::get_uncached_counted(&table, &keys)?, 500);
    say("get_uncached", 500);
    Ok(())
}

fn block() {
    let numbers = in_key_order(PAIRS_A_BLOCK);
    let pairs: Vec<_> = numbers.iter().map(|n| (key(*n).to_vec(), value(*n).to_vec())).collect();
    let bytes = encode(&pairs);
    assert!(measured::decode_all(&bytes, 10));
    assert!(measured::block_decode_counted(&bytes, 500));
    say("block_decode", 500);
    if let Some(block) = BenchBlock::parse(&bytes) {
        let keys: Vec<_> = (0..PAIRS_A_BLOCK).map(hashed).collect();
        measured::block_get_all(&block, &keys, 10);
        assert_eq!(measured::block_get_counted(&block, &keys, OPS), 100 * OPS);
        say("block_get", OPS);
    }
}

fn filter() {
    let mut builder = match bloom::Builder::new(10) {
        Ok(builder) => builder,
        Err(error) => panic!("10 bits a key are allowed: {error}"),
    };
    (0..PAIRS).for_each(|n| builder.add(key_hash(&key(n))));
    let bytes = builder.finish();
    let Ok(filter) = Filter::parse(bytes.as_slice()) else { panic!("own bytes") };
    let hashes: Vec<_> = order(PAIRS, OPS).map(|n| key_hash(&missing_key(n))).collect();
    measured::probe_all(&filter, &hashes);
    assert!(measured::filter_probe_counted(&filter, &hashes) < OPS / 20);
    say("filter_probe", OPS);
}

fn memtable() {
    let table = Memtable::new(4 * OPS as usize);
    let keys = |from: u64| -> Vec<_> { order(OPS, OPS).map(|n| hashed(from + n)).collect() };
    let (first, second) = (keys(0), keys(OPS));
    measured::insert_into(&table, &first, 1);
    measured::memtable_insert_counted(&table, &second, 1 + OPS);
    say("memtable_insert", OPS);
    assert_eq!(measured::memtable_get_counted(&table, &second), OPS);
    say("memtable_get", OPS);
}

fn log() -> Result<()> {
    let (fs, dir) = (GuardFs::default(), Path::new("/log"));
    fs.create_dir_all(dir).map_err(|e| base::Error::io("create_dir_all", dir, e))?;
    let first = prepare_segment(&fs, dir, FileNum(1), 8 << 20, None)?;
    let log = Log::start(LogOptions { db_id: 1 }, first, Lsn(1), None)?;
    let record = [7; 136];
    measured::append_all(&log, &record, 100)?;
    measured::log_append_counted(&log, &record, OPS)?;
    say("log_append", OPS);
    Ok(())
}
