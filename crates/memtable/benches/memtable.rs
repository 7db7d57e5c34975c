//! Insert, get, iterate and short scans of the memtable: 16-byte keys, 100-byte values.
//!
//! `cargo bench -p esker-memtable`; `docs/memtable.md` compares the figures with other structures.

use base::checksum::key_hash;
use base::rng::Rng;
use base::{InternalIterator, InternalKey, SeqNo, ValueKind};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use memtable::Memtable;
use std::hint::black_box;
use std::sync::Arc;

const N: usize = 100_000;
const VALUE: [u8; 100] = [7; 100];

fn shapes() -> [(&'static str, Vec<Vec<u8>>); 3] {
    let mut rng = Rng::new(1);
    let random =
        (0..N).map(|_| [rng.next_u64().to_be_bytes(), rng.next_u64().to_be_bytes()].concat());
    let random = random.collect();
    let ascending = (0..N).map(|i| format!("{i:016}").into_bytes()).collect();
    let prefixed = (0..N).map(|_| format!("user:{:011}", rng.below(100_000_000_000)).into_bytes());
    [("random", random), ("ascending", ascending), ("prefixed", prefixed.collect())]
}

fn put(table: &Memtable, key: &[u8], seq: usize) {
    table.insert(key_hash(key), InternalKey::new(key, SeqNo(seq as u64), ValueKind::Put), &VALUE);
}

fn filled(keys: &[Vec<u8>]) -> Arc<Memtable> {
    let table = Memtable::new(keys.len());
    keys.iter().enumerate().for_each(|(i, key)| put(&table, key, i + 1));
    Arc::new(table)
}

fn walk(table: &Arc<Memtable>) -> usize {
    let mut it = table.iter();
    let mut bytes = 0;
    it.seek_to_first().expect("in memory");
    while it.valid() {
        bytes += it.key().user_key.len() + it.value().len();
        it.next().expect("in memory");
    }
    bytes
}

fn scan(table: &Arc<Memtable>, from: &[u8]) -> usize {
    let mut it = table.iter();
    it.seek(InternalKey::before_all(from)).expect("in memory");
    let mut bytes = 0;
    for _ in 0..10 {
        if !it.valid() {
            break;
        }
        bytes += it.value().len();
        it.next().expect("in memory");
    }
    bytes
}

fn bench(c: &mut Criterion) {
    for (shape, keys) in shapes() {
        let mut group = c.benchmark_group(shape);
        group.sample_size(20).throughput(Throughput::Elements(N as u64));
        group.bench_function("insert", |b| b.iter(|| filled(&keys)));
        let table = filled(&keys);
        group.bench_function("get", |b| {
            let get =
                |k: &Vec<u8>| table.get(key_hash(k), k, SeqNo::MAX).map_or(0, |f| f.value.len());
            b.iter(|| keys.iter().rev().map(get).sum::<usize>());
        });
        group.bench_function("order", |b| {
            b.iter_batched(
                || filled(&keys),
                |table| black_box(table.iter()),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("iterate", |b| b.iter(|| walk(&table)));
        group.throughput(Throughput::Elements(1));
        let mut rng = Rng::new(2);
        group.bench_function("scan10", |b| {
            b.iter(|| scan(&table, &keys[rng.below(N as u64) as usize]))
        });
        let mut seq = N;
        group.bench_function("insert1_scan10", |b| {
            b.iter(|| {
                seq += 1;
                put(&table, &keys[seq % N], seq);
                scan(&table, &keys[rng.below(N as u64) as usize])
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
