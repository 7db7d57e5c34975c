//! Hostile options: sizes so small that every boundary is crossed all the time.

use lsm::{
    CompactionPolicy, Compression, Durability, Fifo, KeyspaceOptions, LazyLeveled, Leveled,
    Options, SizeTiered,
};
use testkit::rng::Rng;

fn policy(rng: &mut Rng) -> CompactionPolicy {
    let target_table_bytes = *rng.pick(&[4 << 10, 8 << 10, 32 << 10, 1 << 20]);
    let tombstone_percent = *rng.pick(&[0, 1, 20, 50, 100]);
    match rng.below(10) {
        0..=3 => Leveled {
            l0_trigger: rng.range(1..6) as usize,
            base_bytes: *rng.pick(&[4 << 10, 16 << 10, 256 << 10]),
            multiplier: rng.range(2..6) as u32,
            target_table_bytes,
            tombstone_percent,
        }
        .into(),
        4..=6 => SizeTiered {
            min_threshold: rng.range(2..5) as usize,
            max_threshold: rng.range(5..12) as usize,
            min_run_bytes: *rng.pick(&[0, 2 << 10, 64 << 10]),
            target_table_bytes,
            tombstone_percent,
            ..SizeTiered::default()
        }
        .into(),
        7 | 8 => LazyLeveled {
            runs_per_level: rng.range(2..5) as usize,
            target_table_bytes,
            tombstone_percent,
        }
        .into(),
        // Bounds that are never reached: what it drops is tested elsewhere.
        _ => Fifo { max_bytes: 1 << 40, ttl_micros: None }.into(),
    }
}

fn compression(rng: &mut Rng) -> Vec<Compression> {
    (0..rng.range(1..4)).map(|_| *rng.pick(&[Compression::None, Compression::Lz4])).collect()
}

fn memtable_size(rng: &mut Rng) -> usize {
    *rng.pick(&[1 << 10, 2 << 10, 4 << 10, 16 << 10, 64 << 10])
}

fn block_size(rng: &mut Rng) -> usize {
    *rng.pick(&[64, 65, 200, 512, 1000, 4096])
}

/// Options of a whole database.
pub(crate) fn options(rng: &mut Rng) -> Options {
    let segment = *rng.pick(&[4096u64, 4097, 8 << 10, 16 << 10, 64 << 10]);
    let durability = *rng.pick(&[
        Durability::Buffered,
        Durability::Buffered,
        Durability::Sync,
        Durability::Memory,
    ]);
    Options::default()
        .durability(durability)
        .memtable_size_bytes(memtable_size(rng))
        .block_cache_bytes(*rng.pick(&[0usize, 1, 4 << 10, 64 << 10, 8 << 20]))
        .block_size_bytes(block_size(rng))
        .compression(&compression(rng)[..])
        .filter_bits_per_key(*rng.pick(&[0u32, 1, 2, 10, 20]))
        .compaction(policy(rng))
        .background_threads(rng.range(1..5) as usize)
        .log_segment_bytes(segment)
        .log_bytes_max(segment * rng.range(1..9))
        .open_files_max(*rng.pick(&[1usize, 2, 5, 1000]))
        .manifest_rotate_bytes(*rng.pick(&[1u64, 300, 5000, 4 << 20]))
}

/// Options of one keyspace; some are left to the database.
pub(crate) fn keyspace_options(rng: &mut Rng) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::new();
    if rng.chance(0.7) {
        options = options.compaction(policy(rng));
    }
    if rng.chance(0.5) {
        options = options.memtable_size_bytes(memtable_size(rng));
    }
    if rng.chance(0.5) {
        options = options.block_size_bytes(block_size(rng));
    }
    if rng.chance(0.5) {
        options = options.compression(&compression(rng)[..]);
    }
    if rng.chance(0.5) {
        options = options.filter_bits_per_key(rng.below(21) as u32);
    }
    options
}
