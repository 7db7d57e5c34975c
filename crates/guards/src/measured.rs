//! The operations. `*_counted` is what callgrind counts inside of, and what `xtask` finds by this name: each is called
//! once, is never inlined and has no type parameters. The others do the same unseen: they warm what shall be warm.

use base::checksum::block_checksum;
use base::{InternalKey, SeqNo, ValueKind};
use bloom::Filter;
use lsm::{Cursor, Db, Result};
use memtable::Memtable;
use sstable::TableReader;
use sstable::bench::BenchBlock;
use std::hint::black_box;
use std::sync::Arc;
use wal::Log;

type Key = [u8; 16];
type Value = [u8; 100];

/// Its own name in each body keeps the compiler from making one function of two that do the same.
macro_rules! counted {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        #[inline(never)]
        pub(crate) fn $name($($arg: $type),*) -> $result {
            black_box(stringify!($name));
            $body
        }
    )*};
}

counted! {
    fn put_counted(db: &Db, pairs: &[(Key, Value)]) -> Result<()> { insert_all(db, pairs) }
    fn get_hot_counted(db: &Db, keys: &[Key]) -> Result<u64> { lookup(db, keys) }
    fn get_spread_counted(db: &Db, keys: &[Key]) -> Result<u64> { lookup(db, keys) }
    fn get_missing_counted(db: &Db, keys: &[Key]) -> Result<u64> { lookup(db, keys) }
    fn get_fresh_counted(db: &Db, keys: &[Key]) -> Result<u64> { lookup(db, keys) }
    fn multi_get_counted(db: &Db, keys: &[Key]) -> Result<u64> { lookup_many(db, keys) }
    fn seek_counted(cursor: &mut Cursor, keys: &[Key]) -> Result<u64> { seek_all(cursor, keys) }
    fn seek_merged_counted(cursor: &mut Cursor, keys: &[Key]) -> Result<u64> { seek_all(cursor, keys) }
    fn seek_new_counted(db: &Db, keys: &[Key]) -> Result<u64> {
        let seek = |key: &Key| seek_all(&mut db.cursor()?, &[*key]);
        keys.iter().map(seek).sum()
    }
    fn next_counted(cursor: &mut Cursor, count: u64) -> Result<u64> { walk(cursor, count) }
    fn next_merged_counted(cursor: &mut Cursor, count: u64) -> Result<u64> { walk(cursor, count) }
    fn prev_counted(cursor: &mut Cursor, count: u64) -> Result<u64> { walk_back(cursor, count) }
    fn prev_merged_counted(cursor: &mut Cursor, count: u64) -> Result<u64> { walk_back(cursor, count) }
    fn flush_counted(db: &Db) -> Result<()> { db.flush() }
    fn compact_counted(db: &Db) -> Result<()> { db.compact_range(..) }
    fn get_uncached_counted(table: &Arc<TableReader>, keys: &[(u64, Key)]) -> Result<u64> {
        lookup_in_table(table, keys)
    }
    fn block_decode_counted(bytes: &[u8], times: u64) -> bool { decode_all(bytes, times) }
    fn block_get_counted(block: &BenchBlock, keys: &[(u64, Key)], times: u64) -> u64 {
        block_get_all(block, keys, times)
    }
    fn filter_probe_counted(filter: &Filter<&[u8]>, hashes: &[u64]) -> u64 { probe_all(filter, hashes) }
    fn memtable_insert_counted(table: &Memtable, keys: &[(u64, Key)], seq: u64) -> () {
        insert_into(table, keys, seq);
    }
    fn memtable_get_counted(table: &Memtable, keys: &[(u64, Key)]) -> u64 {
        let get = |(hash, key): &&(u64, Key)| table.get(*hash, key, SeqNo::MAX).is_some();
        keys.iter().filter(get).count() as u64
    }
    fn log_append_counted(log: &Log, record: &[u8], times: u64) -> Result<()> {
        append_all(log, record, times)
    }
}

pub(crate) fn insert_all(db: &Db, pairs: &[(Key, Value)]) -> Result<()> {
    pairs.iter().try_for_each(|(key, value)| db.put(key, value))
}

/// How many of the keys are there.
pub(crate) fn lookup(db: &Db, keys: &[Key]) -> Result<u64> {
    let mut found = 0;
    for key in keys {
        found += u64::from(db.get_with(key, |value| black_box(value[0]))?.is_some());
    }
    Ok(found)
}

/// The same, a hundred keys a call.
pub(crate) fn lookup_many(db: &Db, keys: &[Key]) -> Result<u64> {
    let mut found = 0;
    for some in keys.chunks(100) {
        found += db.multi_get(some)?.iter().flatten().count() as u64;
    }
    Ok(found)
}

/// How many of the seeks found a pair.
pub(crate) fn seek_all(cursor: &mut Cursor, keys: &[Key]) -> Result<u64> {
    let mut found = 0;
    for key in keys {
        cursor.seek(key)?;
        found += u64::from(cursor.valid());
        black_box(cursor.value());
    }
    Ok(found)
}

/// Up to `count` pairs from where the cursor is; how many there were.
pub(crate) fn walk(cursor: &mut Cursor, count: u64) -> Result<u64> {
    let mut seen = 0;
    while seen < count && cursor.valid() {
        black_box((cursor.key(), cursor.value()));
        cursor.next()?;
        seen += 1;
    }
    Ok(seen)
}

/// The same backward.
pub(crate) fn walk_back(cursor: &mut Cursor, count: u64) -> Result<u64> {
    let mut seen = 0;
    while seen < count && cursor.valid() {
        black_box((cursor.key(), cursor.value()));
        cursor.prev()?;
        seen += 1;
    }
    Ok(seen)
}

/// How many of the keys, with their hashes, are there.
pub(crate) fn lookup_in_table(table: &Arc<TableReader>, keys: &[(u64, Key)]) -> Result<u64> {
    let mut found = 0;
    for (hash, key) in keys {
        let value = table.get_with(*hash, key, SeqNo::MAX, |_, _, value| black_box(value[0]))?;
        found += u64::from(value.is_some());
    }
    Ok(found)
}

/// Checks and parses one block again and again; false if that failed.
pub(crate) fn decode_all(bytes: &[u8], times: u64) -> bool {
    (0..times).all(|n| {
        black_box(block_checksum(black_box(bytes), 1, n));
        BenchBlock::parse(bytes).is_some()
    })
}

/// The sum of the lengths of the values.
pub(crate) fn block_get_all(block: &BenchBlock, keys: &[(u64, Key)], times: u64) -> u64 {
    let get = |(hash, key): &(u64, Key)| block.get(*hash, key).unwrap_or(0) as u64;
    keys.iter().cycle().take(times as usize).map(get).sum()
}

/// How many of the hashes the filter does not rule out.
pub(crate) fn probe_all(filter: &Filter<&[u8]>, hashes: &[u64]) -> u64 {
    hashes.iter().filter(|hash| filter.may_contain(**hash)).count() as u64
}

/// With sequence numbers from `seq` on.
pub(crate) fn insert_into(table: &Memtable, keys: &[(u64, Key)], seq: u64) {
    for ((hash, key), seq) in keys.iter().zip(seq..) {
        table.insert(*hash, InternalKey::new(key, SeqNo(seq), ValueKind::Put), &[7; 100]);
    }
}

pub(crate) fn append_all(log: &Log, record: &[u8], times: u64) -> Result<()> {
    for _ in 0..times {
        black_box(log.append(record)?.is_ok());
    }
    Ok(())
}
