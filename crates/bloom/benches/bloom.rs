//! Building and probing filters: one that fits the processor's caches, and one that does not.

use bloom::{Builder, Filter};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// Scatters a number over 64 bits, as the hash of a key would.
fn hash(n: u64) -> u64 {
    let x = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn build(keys: u64) -> Vec<u8> {
    let mut builder = Builder::new(10).expect("10 bits are allowed");
    (0..keys).for_each(|n| builder.add(hash(n)));
    builder.finish()
}

fn bench(c: &mut Criterion) {
    for (size, keys) in [("100 K keys", 100_000u64), ("10 M keys", 10_000_000)] {
        let mut group = c.benchmark_group(size);
        group.sample_size(20);
        let bytes = build(keys);
        let filter = Filter::parse(bytes.as_slice()).expect("own bytes");
        let mut n = 0u64;
        let mut next = move || {
            n = n.wrapping_add(0x9e37_79b9);
            n
        };
        group.bench_function("present", |b| {
            b.iter(|| filter.may_contain(hash(black_box(next() % keys))));
        });
        group.bench_function("absent", |b| {
            b.iter(|| filter.may_contain(hash(black_box(keys + next() % keys))));
        });
        group.throughput(Throughput::Elements(keys));
        group.sample_size(10).bench_function("build", |b| b.iter(|| build(keys)));
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
