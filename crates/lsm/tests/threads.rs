//! Many threads at once on the real executor, and what must never grow or hang however the work falls.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lsm::executor::ManualExecutor;
use lsm::{
    CompactionPolicy, Cursor, Db, Durability, Fifo, Keyspace, KeyspaceOptions, KeyspaceSnapshot,
    Leveled, Metrics, Options, Range, Snapshot, WriteBatch,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use testkit::rng::Rng;
use testkit::value::{check_value, value_for};
use vfs::{Fs, MemFs};

const SEED: u64 = 77;
/// Versions that each writer writes of each of its keys.
const VERSIONS: u64 = 300;
const KEYS: u64 = 40;
const WRITERS: u64 = 3;

#[test]
fn handles_cross_threads() {
    fn is_shared<T: Send + Sync + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_shared::<(Db, Keyspace, Snapshot, KeyspaceSnapshot, Metrics)>();
    is_sent::<(Range, Cursor, WriteBatch)>();
}

fn tight() -> Options {
    let leveled = Leveled {
        l0_trigger: 2,
        base_bytes: 32 << 10,
        target_table_bytes: 8 << 10,
        ..Leveled::default()
    };
    Options::default()
        .memtable_size_bytes(8 << 10)
        .block_size_bytes(512)
        .block_cache_bytes(64 << 10)
        .log_segment_bytes(16 << 10)
        .log_bytes_max(64 << 10)
        .open_files_max(8)
        .manifest_rotate_bytes(20_000)
        .background_threads(3)
        .compaction(leveled)
}

fn key(writer: u64, n: u64) -> Vec<u8> {
    format!("w{writer}/key{n:04}").into_bytes()
}

/// Everything that the threads share.
struct Stage {
    fs: MemFs,
    db: Db,
    second: Keyspace,
    /// By writer: the last version whose write has returned, for every key of its own.
    written: Vec<AtomicU64>,
    writing: AtomicU64,
    swaps: AtomicU64,
    failed: AtomicBool,
}

impl Stage {
    fn new() -> Arc<Stage> {
        let fs = MemFs::new();
        let db = Db::builder("/db").fs(Arc::new(fs.clone())).options(tight()).open().unwrap();
        let second = db.keyspace("second", KeyspaceOptions::default()).unwrap();
        let written = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        let (writing, swaps) = (AtomicU64::new(WRITERS), AtomicU64::new(0));
        Arc::new(Stage { fs, db, second, written, writing, swaps, failed: AtomicBool::new(false) })
    }

    /// True while writers are at work and nobody has failed.
    fn goes_on(&self) -> bool {
        self.writing.load(Ordering::Acquire) > 0 && !self.failed.load(Ordering::Acquire)
    }

    /// Writes version after version of its keys to both keyspaces, by batches; reads what it wrote.
    fn write(&self, writer: u64) {
        let mut rng = Rng::new(writer);
        for version in 1..=VERSIONS {
            for n in 0..KEYS {
                let key = key(writer, n);
                let len = 16 + rng.index(200);
                let value = value_for(SEED, &key, version, len);
                let mut batch = self.db.batch();
                batch.put(&key, &value);
                batch.put_in(&self.second, &key, &value);
                let durability =
                    if rng.chance(0.01) { Durability::Sync } else { Durability::Buffered };
                batch.commit_with(durability).unwrap();
                if rng.chance(0.2) {
                    assert_eq!(self.db.get(&key).unwrap().unwrap(), value, "own write");
                }
            }
            self.written[writer as usize].store(version, Ordering::Release);
            if self.failed.load(Ordering::Acquire) {
                break;
            }
        }
        self.writing.fetch_sub(1, Ordering::AcqRel);
    }

    /// Point reads: values belong to their keys, and versions never go back.
    fn read(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut seen = vec![0; (WRITERS * KEYS) as usize];
        while self.goes_on() {
            let (writer, n) = (rng.below(WRITERS), rng.below(KEYS));
            let key = key(writer, n);
            let floor = self.written[writer as usize].load(Ordering::Acquire);
            let value = match rng.chance(0.5) {
                true => self.db.get(&key).unwrap(),
                false => self.second.multi_get([&key, &key]).unwrap().pop().unwrap(),
            };
            let version = value.map_or(0, |v| check_value(SEED, &key, &v).unwrap());
            let last = &mut seen[(writer * KEYS + n) as usize];
            assert!(version >= floor.max(*last), "{version} after {floor} and {last}");
            *last = version;
        }
    }

    /// Scans: sorted, each key once, both keyspaces alike in a snapshot, the same answer twice.
    fn scan(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        while self.goes_on() {
            let snapshot = self.db.snapshot();
            let first = collect(snapshot.iter());
            let second = collect(snapshot.keyspace(&self.second).iter());
            assert!(first == second, "half a batch is visible");
            if rng.chance(0.3) {
                self.db.flush().unwrap();
            }
            let mut again = collect(snapshot.iter().rev());
            again.reverse();
            assert!(first == again, "a snapshot changed");
            let now = collect(self.db.prefix("w1/"));
            assert!(now.len() <= KEYS as usize);
            // The cursor is older than the compaction that it reads through.
            let mut cursor = snapshot.cursor().unwrap();
            cursor.seek_to_first().unwrap();
            self.db.compact_range(key(0, 0)..key(1, 0)).unwrap();
            for (key, value) in &first {
                assert!(cursor.valid() && cursor.key() == &key[..] && cursor.value() == &value[..]);
                cursor.next().unwrap();
            }
            assert!(!cursor.valid());
        }
    }

    /// Adds to counters by compare-and-swap.
    fn count(&self) {
        let mut n = 0u64;
        while self.goes_on() {
            let key = [b'c', (n % 4) as u8];
            let current = self.second.get(key).unwrap();
            let number = |v: &[u8]| u64::from_le_bytes(v.try_into().unwrap());
            let next = current.as_deref().map_or(0, number) + 1;
            let swap =
                self.second.compare_and_swap(key, current.as_deref(), Some(&next.to_le_bytes()));
            if swap.unwrap().is_ok() {
                self.swaps.fetch_add(1, Ordering::Relaxed);
            }
            n += 1;
        }
    }

    /// Drops and makes keyspaces, copies the database, looks at figures.
    fn manage(&self) {
        let mut round = 0;
        while self.goes_on() {
            round += 1;
            let name = "passing";
            let passing = self.db.keyspace(name, KeyspaceOptions::default()).unwrap();
            for n in 0..200u64 {
                passing.put(n.to_be_bytes(), vec![round; 100]).unwrap();
            }
            let held = passing.iter();
            self.db.drop_keyspace(name).unwrap();
            assert_eq!(held.map(Result::unwrap).filter(|(_, v)| v[0] == round).count(), 200);
            assert!(passing.get(b"k").is_err());
            let dir = format!("/copy{round}");
            self.db.checkpoint(&dir).unwrap();
            let fs = Arc::new(self.fs.clone());
            let copy = Db::builder(&dir).fs(fs).options(tight()).open().unwrap();
            let second = copy.open_keyspace("second").unwrap();
            let not_counter = |kv: &(Vec<u8>, Vec<u8>)| kv.0[0] != b'c';
            let second: Vec<_> = collect(second.iter()).into_iter().filter(not_counter).collect();
            assert!(collect(copy.iter()) == second, "half a batch in a checkpoint");
            copy.close().unwrap();
            let metrics = self.db.metrics();
            assert!(metrics.health.is_healthy() && metrics.background_failures == 0, "{metrics:?}");
            assert!(metrics.log_bytes < 1 << 20, "{metrics}");
            assert!(metrics.memtable_bytes < 1 << 20, "{metrics}");
        }
    }
}

fn collect(
    range: impl Iterator<Item = lsm::Result<(lsm::Slice, lsm::Slice)>>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs: Vec<_> = range.map(Result::unwrap).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let pairs: Vec<_> = pairs.into_iter().filter(|(k, _)| k.first() != Some(&b'c')).collect();
    for (key, value) in &pairs {
        check_value(SEED, key, value).unwrap();
    }
    let descends = pairs.first() > pairs.last();
    let in_order =
        |w: &[(Vec<u8>, Vec<u8>)]| if descends { w[0].0 > w[1].0 } else { w[0].0 < w[1].0 };
    assert!(pairs.windows(2).all(in_order), "a scan is out of order");
    pairs
}

/// Runs `work` on a thread; a panic tells the others to stop.
fn spawn(stage: &Arc<Stage>, work: impl FnOnce(&Stage) + Send + 'static) -> thread::JoinHandle<()> {
    struct Tell(Arc<Stage>);
    impl Drop for Tell {
        fn drop(&mut self) {
            if thread::panicking() {
                self.0.failed.store(true, Ordering::Release);
            }
        }
    }
    let stage = Arc::clone(stage);
    #[expect(
        clippy::disallowed_methods,
        reason = "users of the database have threads of their own"
    )]
    thread::spawn(move || {
        let tell = Tell(stage);
        work(&tell.0);
    })
}

#[test]
fn eight_threads_see_one_database() {
    let stage = Stage::new();
    let mut threads: Vec<_> =
        (0..WRITERS).map(|writer| spawn(&stage, move |s| s.write(writer))).collect();
    threads.push(spawn(&stage, |s| s.read(1)));
    threads.push(spawn(&stage, |s| s.scan(2)));
    threads.push(spawn(&stage, |s| s.count()));
    threads.push(spawn(&stage, |s| s.count()));
    threads.push(spawn(&stage, |s| s.manage()));
    for thread in threads {
        thread.join().expect("a thread failed");
    }
    check_end(&stage.db, &stage);
    stage.db.wait_idle().unwrap();
    stage.db.verify().unwrap();
    stage.db.close().unwrap();
    let fs = Arc::new(stage.fs.clone());
    check_end(&Db::builder("/db").fs(fs).options(tight()).open().unwrap(), &stage);
}

/// Every key at its last version, and no swap lost.
fn check_end(db: &Db, stage: &Stage) {
    let second = db.open_keyspace("second").unwrap();
    for (writer, n) in (0..WRITERS).flat_map(|w| (0..KEYS).map(move |n| (w, n))) {
        let key = key(writer, n);
        for found in [db.get(&key), second.get(&key)] {
            assert_eq!(check_value(SEED, &key, &found.unwrap().unwrap()), Ok(VERSIONS));
        }
    }
    let counters = second.prefix("c").map(Result::unwrap);
    let sum: u64 = counters.map(|(_, v)| u64::from_le_bytes(v[..].try_into().unwrap())).sum();
    assert_eq!(sum, stage.swaps.load(Ordering::Relaxed), "swaps");
}

fn open_by_hand(fs: &MemFs, options: Options) -> (Db, Arc<ManualExecutor>) {
    let executor = ManualExecutor::new();
    let builder = Db::builder("/db").fs(Arc::new(fs.clone())).options(options);
    (builder.executor(Arc::clone(&executor) as _).open().unwrap(), executor)
}

#[test]
fn an_idle_keyspace_never_pins_the_log() {
    let fs = MemFs::new();
    let (db, executor) = open_by_hand(&fs, tight());
    let idle = db.keyspace("idle", KeyspaceOptions::default()).unwrap();
    idle.put(b"once", b"and never again").unwrap();
    for n in 0..20_000u64 {
        db.put(n.to_be_bytes(), [7; 50]).unwrap();
        if n % 16 == 0 {
            executor.run_all();
        }
        let log = db.metrics().log_bytes;
        assert!(log <= 160 << 10, "{log} bytes of log after {n} writes");
    }
    assert_eq!(idle.get(b"once").unwrap().unwrap(), b"and never again");
}

#[test]
fn iterators_and_snapshots_keep_the_database_open() {
    let fs = MemFs::new();
    let (db, executor) = open_by_hand(&fs, tight());
    for n in 0..1000u64 {
        db.put(n.to_be_bytes(), n.to_le_bytes()).unwrap();
    }
    let (snapshot, range) = (db.snapshot(), db.iter());
    let mut cursor = db.cursor().unwrap();
    db.delete_range(..).unwrap();
    db.flush().unwrap();
    drop(db);
    executor.run_all();
    assert_eq!(snapshot.iter().count(), 1000);
    drop(snapshot);
    assert_eq!(range.rev().count(), 1000);
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key(), 999u64.to_be_bytes());
    let again = Db::builder("/db").fs(Arc::new(fs.clone())).open();
    assert!(matches!(again, Err(lsm::Error::Locked { .. })), "{again:?}");
    drop(cursor);
    let (db, _executor) = open_by_hand(&fs, tight());
    assert_eq!(db.iter().count(), 0);
}

#[test]
fn a_drop_without_close_loses_nothing() {
    let fs = MemFs::new();
    for round in 0..10u64 {
        let (db, _executor) = open_by_hand(&fs, tight());
        assert_eq!(db.iter().count() as u64, round * 100);
        for n in 0..100 {
            db.put_with((round * 100 + n).to_be_bytes(), b"v", Durability::Memory).unwrap();
        }
    }
}

/// One write larger than all memtables together may leave nothing frozen that could make room.
#[test]
fn a_write_larger_than_all_memtables_does_not_stop_the_next_one() {
    let fs = MemFs::new();
    let (db, _executor) = open_by_hand(&fs, tight());
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for n in 0..10u8 {
        db.put([n], vec![n; 100 << 10]).unwrap();
        other.put([n], vec![n; 100 << 10]).unwrap();
        db.delete_range([n]..).unwrap();
    }
    assert_eq!(db.iter().count(), 0);
}

/// Memory that a dropped keyspace had taken is not waited for.
#[test]
fn a_dropped_keyspace_gives_its_memory_back() {
    let fs = MemFs::new();
    let (db, executor) = open_by_hand(&fs, tight());
    let other = db.keyspace("other", KeyspaceOptions::default()).unwrap();
    other.put(b"large", vec![1; 100 << 10]).unwrap();
    other.put(b"k", b"measures the one before").unwrap();
    db.drop_keyspace("other").unwrap();
    drop(other);
    for n in 0..100u8 {
        db.put([n], vec![n; 1000]).unwrap();
    }
    db.wait_idle().unwrap();
    executor.tick();
    let metrics = db.metrics();
    let in_use: usize = metrics.keyspaces.iter().flat_map(|k| &k.levels).map(|l| l.tables).sum();
    let tables = fs.list(Path::new("/db")).unwrap();
    let tables = tables.iter().filter(|f| f.extension().is_some_and(|e| e == "sst")).count();
    assert!(tables > 0 && tables == in_use, "{tables} files, {in_use} in use");
}

/// A keyspace dropped with many memtables waiting will never flush them.
#[test]
fn a_write_to_a_dropped_keyspace_is_refused_however_full_it_was() {
    let (db, executor) = open_by_hand(&MemFs::new(), tight());
    let options = KeyspaceOptions::new().memtable_size_bytes(1 << 10);
    let other = db.keyspace("other", options).unwrap();
    let frozen = || executor.waiting().contains(&"flush") && db.metrics().memtables_frozen >= 4;
    for n in (0..100u8).take_while(|_| !frozen()) {
        other.put([n], [n; 1100]).unwrap();
    }
    assert!(frozen(), "{}", db.metrics());
    db.drop_keyspace("other").unwrap();
    assert!(matches!(other.put(b"k", b"v"), Err(lsm::Error::KeyspaceNotFound { .. })));
}

fn fifo(max_bytes: u64) -> Options {
    let policy: CompactionPolicy = Fifo { max_bytes, ttl_micros: None }.into();
    tight().compaction(policy)
}

fn fill(db: &Db, runs: u64) {
    for n in 0..runs {
        db.put(n.to_be_bytes(), Rng::new(n).bytes(1000)).unwrap();
        db.flush().unwrap();
    }
}

#[test]
fn many_runs_are_no_debt_where_nothing_is_merged() {
    let (db, executor) = open_by_hand(&MemFs::new(), fifo(1 << 30));
    fill(&db, 60);
    executor.run_all();
    assert_eq!(db.iter().count(), 60);
}

#[test]
fn fifo_drops_the_oldest_tables_unless_a_snapshot_reads_them() {
    let fs = MemFs::new();
    let (db, executor) = open_by_hand(&fs, fifo(20_000));
    let snapshot = db.snapshot();
    fill(&db, 60);
    executor.run_all();
    assert_eq!(db.iter().count(), 60);
    drop(snapshot);
    db.wait_idle().unwrap();
    let left: Vec<_> = db.iter().map(|kv| kv.unwrap().0).collect();
    assert!(!left.is_empty() && left.len() < 25, "{} runs are left", left.len());
    assert_eq!(*left[left.len() - 1], 59u64.to_be_bytes());
    executor.tick();
    let files = fs.list(Path::new("/db")).unwrap();
    assert!(files.len() < 35, "{files:?}");
}
