//! Writers, readers and iterators at once. Every value can be computed from its key and sequence number, so a torn or
//! foreign record is seen.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use base::checksum::key_hash;
use base::rng::Rng;
use base::{InternalIterator, InternalKey, RangeTombstone, SeqNo, ValueKind};
use memtable::Memtable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const KEYS: u64 = if cfg!(miri) { 20 } else { 3000 };
const PER_WRITER: u64 = if cfg!(miri) { 60 } else { 40_000 };

fn key_of(n: u64) -> Vec<u8> {
    format!("shared-prefix-of-keys/{n:05}").into_bytes()
}

fn value_of(key: &[u8], seq: u64) -> Vec<u8> {
    let mut rng = Rng::new(key_hash(key) ^ seq);
    (0..8 + rng.below(6)).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
}

/// Everything below this sequence number is inserted: the highest number of each writer, the lowest of those.
struct Progress(Vec<AtomicU64>);

impl Progress {
    fn visible(&self) -> SeqNo {
        SeqNo(self.0.iter().map(|p| p.load(Ordering::Acquire)).min().unwrap_or(0))
    }
}

fn write(table: &Memtable, progress: &Progress, writer: u64, writers: u64) {
    let mut rng = Rng::new(writer);
    for i in 0..PER_WRITER {
        let seq = i * writers + writer + 1;
        let key = key_of(rng.below(KEYS));
        let versioned = InternalKey::new(&key, SeqNo(seq), ValueKind::Put);
        table.insert(key_hash(&key), versioned, &value_of(&key, seq));
        if i % 5000 == 0 {
            let (start, end) = (key_of(rng.below(KEYS)), key_of(KEYS));
            table.insert_range_tombstone(RangeTombstone { start, end, seq: SeqNo(seq) });
        }
        progress.0[writer as usize].store(seq, Ordering::Release);
    }
}

fn read(table: &Memtable, progress: &Progress, done: &AtomicBool) {
    let mut rng = Rng::new(99);
    while !done.load(Ordering::Acquire) {
        let key = key_of(rng.below(KEYS));
        let visible = progress.visible();
        let snapshot = SeqNo(rng.below(visible.0 + 1));
        let found = table.get(key_hash(&key), &key, snapshot).map(|f| {
            assert!(f.seq <= snapshot);
            assert_eq!(f.value, value_of(&key, f.seq.0));
            f.seq
        });
        let again = table.get(key_hash(&key), &key, snapshot).map(|f| f.seq);
        assert_eq!(found, again, "a snapshot below the visible one moved");
        assert!(table.newest_seq(key_hash(&key), &key) >= found);
        assert!(table.covering_tombstone(&key, snapshot).is_none_or(|s| s <= snapshot));
    }
}

fn iterate(table: &Arc<Memtable>, progress: &Progress, done: &AtomicBool) {
    let mut rng = Rng::new(7);
    while !done.load(Ordering::Acquire) {
        let visible = progress.visible();
        let key = key_of(rng.below(KEYS));
        let wanted = table.get(key_hash(&key), &key, visible).map(|f| f.seq);
        let mut it = table.iter();
        it.seek(InternalKey::seek_at(&key, visible)).unwrap();
        let found = (it.valid() && it.key().user_key == key).then(|| it.key().seq);
        assert_eq!(found, wanted);
        let backward = rng.below(2) == 0;
        let mut last: Option<(Vec<u8>, SeqNo)> = None;
        for _ in 0..50 {
            if !it.valid() {
                break;
            }
            let (user_key, seq) = (it.key().user_key.to_vec(), it.key().seq);
            assert_eq!(it.value(), value_of(&user_key, seq.0));
            if let Some((k, s)) = &last {
                let last = InternalKey::new(k, *s, ValueKind::Put);
                assert!((last < it.key()) != backward);
            }
            last = Some((user_key, seq));
            if backward { it.prev() } else { it.next() }.unwrap();
        }
    }
}

fn run(writers: u64) {
    let table = Arc::new(Memtable::new(0));
    let progress = Arc::new(Progress((0..writers).map(|_| AtomicU64::new(0)).collect()));
    let done = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let (table, progress, done) = (&table, &progress, &done);
        scope.spawn(move || read(table, progress, done));
        scope.spawn(move || iterate(table, progress, done));
        let spawn = |writer| scope.spawn(move || write(table, progress, writer, writers));
        let handles: Vec<_> = (0..writers).map(spawn).collect();
        let finished: Vec<_> = handles.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        assert!(finished.iter().all(Result::is_ok));
    });
    let mut it = table.iter();
    let mut count = 0;
    it.seek_to_first().unwrap();
    while it.valid() {
        assert_eq!(it.value(), value_of(it.key().user_key, it.key().seq.0));
        count += 1;
        it.next().unwrap();
    }
    assert_eq!(count, writers * PER_WRITER);
    assert_eq!(table.entries() as u64, count);
    assert_eq!(table.seq_range(), Some((SeqNo(1), SeqNo(count))));
}

#[test]
fn one_writer() {
    run(1);
}

#[test]
fn two_writers() {
    run(2);
}

#[test]
fn four_writers() {
    run(4);
}
