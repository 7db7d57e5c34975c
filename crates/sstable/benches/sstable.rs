//! Blocks and tables: nanoseconds per entry or call. Keys of 16 bytes, values of 100.

use base::checksum::key_hash;
use base::rng::Rng;
use base::{InternalIterator, InternalKey, SeqNo, ValueKind};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sstable::bench::{BenchBlock, encode};
use sstable::{BlockCache, CacheHint, Compression, TableOptions, TableReader, TableWriter};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, MemFs};

/// Small enough for a quick run; `ESKER_BENCH_KEYS=5000000` shows what cache misses add.
fn keys() -> u64 {
    std::env::var("ESKER_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000)
}

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"00000000________";
    key[..8].copy_from_slice(&n.wrapping_mul(1 << 30).to_be_bytes());
    key
}

/// Half noise, half zeros: LZ4 gets about 1.4:1, as on the values of the comparison with other engines.
fn value(n: u64) -> [u8; 100] {
    let (mut value, mut rng) = ([0; 100], Rng::new(n));
    value[..56].chunks_mut(8).for_each(|c| c.copy_from_slice(&rng.next_u64().to_le_bytes()));
    value
}

fn blocks(c: &mut Criterion) {
    let pairs: Vec<_> = (0..33).map(|n| (key(n).to_vec(), value(n).to_vec())).collect();
    let data = encode(&pairs);
    let block = BenchBlock::parse(&data).expect("own bytes");
    let hashes: Vec<u64> = pairs.iter().map(|(k, _)| key_hash(k)).collect();
    let mut group = c.benchmark_group("block");
    group.bench_function("get by tag", |b| {
        let mut i = 0;
        b.iter(|| {
            i = (i + 7) % pairs.len();
            block.get(hashes[i], &pairs[i].0)
        });
    });
    group.bench_function("seek by order", |b| {
        let mut i = 0;
        b.iter(|| {
            i = (i + 7) % pairs.len();
            block.seek(&pairs[i].0)
        });
    });
    group.throughput(Throughput::Elements(pairs.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode(black_box(&pairs))));
    group.bench_function("parse and check", |b| b.iter(|| BenchBlock::parse(&data)));
    group.bench_function("walk", |b| b.iter(|| block.walk()));
    group.finish();
}

fn build(fs: &MemFs, compression: Compression, n: u64) {
    let options = TableOptions { compression, ..TableOptions::default() };
    let mut writer = TableWriter::create(fs, Path::new("/1"), 1, options).expect("create");
    for i in 0..n {
        writer.add(InternalKey::new(&key(i), SeqNo(i), ValueKind::Put), &value(i)).expect("add");
    }
    writer.finish().expect("finish");
}

fn tables(c: &mut Criterion) {
    let n = keys();
    for compression in [Compression::None, Compression::Lz4] {
        let fs = MemFs::new();
        build(&fs, compression, n);
        let open = |cache_bytes| {
            let file = fs.open(Path::new("/1")).expect("open");
            let cache = Arc::new(BlockCache::new(cache_bytes));
            Arc::new(TableReader::open(file, Path::new("/1"), 1, cache).expect("table"))
        };
        let table = open(4 << 30);
        let mut rng = Rng::new(1);
        let mut group = c.benchmark_group(format!("table {compression:?}"));
        let mut scan = table.iter(CacheHint::Fill);
        scan.seek_to_first().expect("readable");
        while scan.valid() {
            scan.next().expect("readable");
        }
        group.bench_function("get cached", |b| {
            b.iter(|| {
                let k = key(rng.below(n));
                table
                    .get_with(key_hash(&k), &k, SeqNo::MAX, |_, _, v| v[0])
                    .expect("readable")
                    .expect("present")
            });
        });
        group.bench_function("get one key", |b| {
            let k = key(n / 2);
            b.iter(|| {
                table.get_with(key_hash(&k), &k, SeqNo::MAX, |_, _, v| v[0]).expect("readable")
            });
        });
        group.bench_function("get absent", |b| {
            b.iter(|| {
                let mut k = key(rng.below(n));
                k[15] = b'x';
                table.get_with(key_hash(&k), &k, SeqNo::MAX, |_, _, v| v[0]).expect("readable")
            });
        });
        group.bench_function("seek cached", |b| {
            let mut it = table.iter(CacheHint::Fill);
            b.iter(|| {
                let k = key(rng.below(n));
                it.seek(InternalKey::before_all(&k)).expect("readable");
                it.value()[0]
            });
        });
        let uncached = open(0);
        group.bench_function("get from file", |b| {
            b.iter(|| {
                let k = key(rng.below(n));
                uncached.get_with(key_hash(&k), &k, SeqNo::MAX, |_, _, v| v[0]).expect("readable")
            });
        });
        group.throughput(Throughput::Elements(n)).sample_size(10);
        for (name, table, hint, forward) in [
            ("scan cached", &table, CacheHint::Fill, true),
            ("scan cached backward", &table, CacheHint::Fill, false),
            ("scan from file", &uncached, CacheHint::NoFill, true),
        ] {
            group.bench_function(name, |b| b.iter(|| scan_all(table, hint, forward)));
        }
        group.bench_function("write", |b| {
            b.iter_batched(MemFs::new, |fs| build(&fs, compression, n), BatchSize::PerIteration);
        });
        group.finish();
    }
}

fn scan_all(table: &Arc<TableReader>, hint: CacheHint, forward: bool) -> usize {
    let (mut it, mut sum) = (table.iter(hint), 0);
    let start = if forward { it.seek_to_first() } else { it.seek_to_last() };
    start.expect("readable");
    while it.valid() {
        sum += it.key().user_key.len() + it.value().len();
        if forward { it.next() } else { it.prev() }.expect("readable");
    }
    sum
}

criterion_group!(benches, blocks, tables);
criterion_main!(benches);
