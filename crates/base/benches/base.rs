//! Batches, checksums, varints and the merge: what every write and every scan passes through. Pairs of 16 + 100 bytes.

use base::batch::{Batch, BatchBuilder, BatchOp};
use base::checksum::{block_checksum, crc32, key_hash};
use base::coding::{put_varint, varint};
use base::iter::VecIterator;
use base::{InternalIterator, KeyspaceId, MergingIterator, SeqNo, ValueKind};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const VALUE: [u8; 100] = [7; 100];

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let key = [1; 16];
    let op = BatchOp { keyspace: KeyspaceId(0), kind: ValueKind::Put, key: &key, value: &VALUE };
    for ops in [1u64, 100] {
        let mut builder = BatchBuilder::new();
        group.throughput(Throughput::Elements(ops));
        group.bench_function(format!("encode a batch of {ops}"), |b| {
            b.iter(|| {
                builder.clear();
                (0..ops).for_each(|_| builder.push(black_box(op)));
                builder.seal(SeqNo(1)).len()
            });
        });
        let bytes = builder.seal(SeqNo(1)).to_vec();
        group.bench_function(format!("decode a batch of {ops}"), |b| {
            let decode = |bytes| Batch::decode(bytes).expect("own bytes").ops().count();
            b.iter(|| decode(black_box(&bytes)));
        });
    }
    let numbers: Vec<u64> = (0..1000).map(|i| 1 << (i % 40)).collect();
    let mut bytes = Vec::new();
    group.throughput(Throughput::Elements(numbers.len() as u64));
    group.bench_function("put varint", |b| {
        b.iter(|| {
            bytes.clear();
            numbers.iter().for_each(|&n| put_varint(&mut bytes, n));
        });
    });
    group.bench_function("varint", |b| {
        b.iter(|| {
            let (mut rest, mut sum) = (&bytes[..], 0u64);
            while let Some((n, len)) = varint(rest) {
                sum = sum.wrapping_add(n);
                rest = &rest[len..];
            }
            sum
        });
    });
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    let block = vec![7u8; 4096];
    group.bench_function("hash of a key", |b| b.iter(|| key_hash(black_box(&[1; 16]))));
    group.throughput(Throughput::Bytes(136));
    group.bench_function("crc of a record", |b| b.iter(|| crc32(0, &[black_box(&block[..136])])));
    group.throughput(Throughput::Bytes(4096));
    group.bench_function("of a block", |b| b.iter(|| block_checksum(black_box(&block), 1, 0)));
    group.finish();
}

/// `runs` sorted runs of `n` keys together; `stretch` neighbouring keys lie in the same run.
fn runs(runs: u64, n: u64, stretch: u64) -> Vec<VecIterator> {
    let indexes_of = |run| (0..n).filter(move |i| i / stretch % runs == run);
    let entry = |i: u64| {
        let key = [&i.to_be_bytes()[..], b"00000000"].concat();
        (key, SeqNo(1), ValueKind::Put, VALUE.to_vec())
    };
    (0..runs).map(|run| VecIterator::new(indexes_of(run).map(entry))).collect()
}

fn merge(c: &mut Criterion) {
    const N: u64 = 100_000;
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Elements(N));
    let shapes = [("one run", 1, 1), ("8 runs, long stretches", 8, 1000), ("8 runs, mixed", 8, 1)];
    for (name, count, stretch) in shapes {
        let mut merged = MergingIterator::new(runs(count, N, stretch));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut bytes = 0;
                merged.seek_to_first().expect("in memory");
                while merged.valid() {
                    bytes += merged.key().user_key.len() + merged.value().len();
                    merged.next().expect("in memory");
                }
                bytes
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec, checksums, merge);
criterion_main!(benches);
