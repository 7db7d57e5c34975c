//! Esker's own steps, for each pair.

#[path = "../../src/data.rs"]
#[expect(dead_code, reason = "the guards need more of it")]
pub(crate) mod data;

use super::clock::{Table, Timed};
use base::clock::SystemClock;
use base::{FileNum, InternalIterator, InternalKey, MergingIterator, SeqNo, ValueKind};
use data::{hashed, in_key_order, value};
use memtable::Memtable;
use sstable::{BlockCache, CacheHint, Compression, TableOptions, TableReader, TableWriter};
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, MemFs, StdFs};
use wal::{Log, LogOptions, Lsn, prepare_segment};

const PAIRS: u64 = 400_000;
const RUNS: u64 = 4;
const SEGMENT_BYTES: u64 = 64 << 20;

fn walk(source: &mut impl InternalIterator) -> usize {
    let mut bytes = 0;
    source.seek_to_first().expect("readable");
    while source.valid() {
        bytes += source.key().user_key.len() + source.value().len();
        source.next().expect("readable");
    }
    bytes
}

fn filled() -> Arc<Memtable> {
    let table = Memtable::new(PAIRS as usize);
    for n in 0..PAIRS {
        let (hash, key) = hashed(n);
        table.insert(hash, InternalKey::new(&key, SeqNo(n + 1), ValueKind::Put), &value(n));
    }
    Arc::new(table)
}

fn write(fs: &MemFs, name: &str, pairs: &[(Vec<u8>, [u8; 100])], compression: Compression) {
    let options = TableOptions { compression, ..TableOptions::default() };
    let mut writer = TableWriter::create(fs, Path::new(name), 1, options).expect("create");
    for (key, value) in pairs {
        writer.add(InternalKey::new(key, SeqNo(1), ValueKind::Put), value).expect("add");
    }
    writer.finish().expect("finish");
}

fn reader(fs: &MemFs, name: &str, cache_bytes: usize) -> Arc<TableReader> {
    let file = fs.open(Path::new(name)).expect("open");
    let cache = Arc::new(BlockCache::new(cache_bytes));
    Arc::new(TableReader::open(file, Path::new(name), 1, cache).expect("table"))
}

fn pairs() -> Vec<(Vec<u8>, [u8; 100])> {
    in_key_order(PAIRS).into_iter().map(|n| (hashed(n).1.to_vec(), value(n))).collect()
}

/// A log that rolls through segments and uses old ones again, as that of a database whose memtables are flushed.
struct Roller<'a> {
    dir: &'a Path,
    fs: StdFs,
    log: Log,
    next: u64,
}

impl Roller<'_> {
    fn start(dir: &Path) -> Roller<'_> {
        let fs = StdFs::new();
        let segment = |n| prepare_segment(&fs, dir, FileNum(n), SEGMENT_BYTES, None);
        let log = Log::start(LogOptions { db_id: 1 }, segment(1).expect("segment"), Lsn(1), None);
        let log = log.expect("log");
        log.install_spare(segment(2).expect("segment"));
        Roller { dir, fs, log, next: 3 }
    }

    fn append(&mut self, record: &[u8]) {
        let appended = self.log.append(record).expect("append").expect("a spare is there");
        if appended.rolled {
            self.log.sync(appended.end).expect("sync");
            let old = self.log.remove_before(appended.end).first().copied();
            let num = FileNum(self.next);
            self.next += 1;
            let spare = prepare_segment(&self.fs, self.dir, num, SEGMENT_BYTES, old);
            self.log.install_spare(spare.expect("segment"));
        }
    }
}

/// The two halves of a put, and a get of what was just put.
pub(crate) fn put(table: &mut Table) {
    if !table.wants("put") {
        return;
    }
    let (clock, dir) = (SystemClock::new(), tempfile::tempdir().expect("a directory"));
    let mut roller = Roller::start(dir.path());
    table.pairs("put: append to the log", PAIRS, || {
        Table::timed(&clock, || (0..PAIRS).for_each(|_| roller.append(&[7; 136])))
    });
    let keys: Vec<_> = (0..PAIRS).map(hashed).collect();
    let insert = || {
        let table = Memtable::new(PAIRS as usize);
        for ((hash, key), seq) in keys.iter().zip(1..) {
            table.insert(*hash, InternalKey::new(key, SeqNo(seq), ValueKind::Put), &[7; 100]);
        }
        table
    };
    table.pairs("put: insert into a memtable", PAIRS, || Table::timed(&clock, insert));
    let filled = insert();
    table.pairs("put: get it again from the memtable", PAIRS, || {
        let found = |(hash, key): &&(u64, [u8; 16])| filled.get(*hash, key, SeqNo::MAX).is_some();
        Table::timed(&clock, || keys.iter().filter(found).count())
    });
}

/// Gets and scans of one table whose blocks are all in the cache.
pub(crate) fn reads(table: &mut Table) {
    if !table.wants("cached") {
        return;
    }
    let (clock, fs) = (SystemClock::new(), MemFs::new());
    write(&fs, "/table", &pairs(), Compression::Lz4);
    let cached = reader(&fs, "/table", 1 << 30);
    walk(&mut cached.iter(CacheHint::Fill));
    let keys: Vec<_> = (0..PAIRS).map(hashed).collect();
    let get = |(hash, key): &&(u64, [u8; 16])| {
        let found = cached.get_with(*hash, key, SeqNo::MAX, |_, _, value| value[0]);
        found.expect("readable").is_some()
    };
    let hot = vec![keys[0]; PAIRS as usize];
    table.pairs("get: one key of a cached table", PAIRS, || {
        Table::timed(&clock, || hot.iter().filter(get).count())
    });
    table.pairs("get: random keys of a cached table", PAIRS, || {
        Table::timed(&clock, || keys.iter().filter(get).count())
    });
    table.pairs("scan: next in a cached table", PAIRS, || {
        Table::timed(&clock, || walk(&mut cached.iter(CacheHint::Fill)))
    });
}

pub(crate) fn flush(table: &mut Table) {
    if !table.wants("flush") {
        return;
    }
    let clock = SystemClock::new();
    table.pairs("flush: order a memtable and walk it", PAIRS, || {
        let memtable = filled();
        Table::timed(&clock, || walk(&mut memtable.iter()))
    });
    let pairs = pairs();
    for (name, compression) in [
        ("flush: write a table, not compressed", Compression::None),
        ("flush: write a table, lz4", Compression::Lz4),
    ] {
        table.pairs(name, PAIRS, || -> Timed<MemFs> {
            let fs = MemFs::new();
            Table::timed(&clock, || {
                write(&fs, "/table", &pairs, compression);
                fs
            })
        });
    }
}

pub(crate) fn compaction(table: &mut Table) {
    if !table.wants("compaction") {
        return;
    }
    let (clock, fs, pairs) = (SystemClock::new(), MemFs::new(), pairs());
    for run in 0..RUNS as usize {
        let own: Vec<_> = pairs.iter().skip(run).step_by(RUNS as usize).cloned().collect();
        write(&fs, &format!("/run{run}"), &own, Compression::Lz4);
    }
    write(&fs, "/all", &pairs, Compression::Lz4);
    let open = |name: &str| reader(&fs, name, 0).iter(CacheHint::NoFill);
    table.pairs("compaction: read one run, lz4", PAIRS, || {
        Table::timed(&clock, || walk(&mut open("/all")))
    });
    table.pairs("compaction: read and merge 4 runs, lz4", PAIRS, || {
        let runs = (0..RUNS).map(|run| open(&format!("/run{run}"))).collect();
        Table::timed(&clock, || walk(&mut MergingIterator::new(runs)))
    });
}
