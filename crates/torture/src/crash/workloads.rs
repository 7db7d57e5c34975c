//! What the database is doing when the power goes.

use super::drive::Mix;
use crate::store::{compressed, lazy, small_options, tiered};
use lsm::Options;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) options: fn() -> Options,
    /// Options of the opens after a crash, if they are others.
    pub(crate) reopened: Option<fn() -> Options>,
    /// Options of opens within the run, drawn.
    pub(crate) alternatives: Option<fn() -> Vec<Options>>,
    pub(crate) mix: Mix,
    /// Operations of the run.
    pub(crate) steps: usize,
    /// Bytes of the largest values, now and then; 0 for none.
    pub(crate) large_value: usize,
    /// Bytes left on the disk, from time to time.
    pub(crate) room: Option<u64>,
}

const NOTHING: Mix = Mix {
    single: 0,
    batch: 0,
    range: 0,
    sync: 0,
    flush: 0,
    compact: 0,
    step: 0,
    tick: 0,
    create: 0,
    drop: 0,
    checkpoint: 0,
    ingest: 0,
    reopen: 0,
    snapshot: 0,
};

const PLAIN: Workload = Workload {
    name: "puts",
    options: small_options,
    reopened: None,
    alternatives: None,
    mix: Mix { single: 40, sync: 1, step: 8, tick: 2, ..NOTHING },
    steps: 300,
    large_value: 0,
    room: None,
};

const COMPACTING: Mix = Mix {
    single: 20,
    batch: 10,
    range: 3,
    sync: 1,
    flush: 4,
    compact: 4,
    step: 24,
    tick: 1,
    create: 1,
    snapshot: 2,
    ..NOTHING
};

pub(crate) const WORKLOADS: &[Workload] = &[
    PLAIN,
    Workload {
        name: "batches",
        mix: Mix {
            single: 10,
            batch: 30,
            range: 2,
            sync: 2,
            flush: 1,
            step: 10,
            tick: 2,
            create: 3,
            ..NOTHING
        },
        steps: 200,
        ..PLAIN
    },
    Workload {
        name: "flushes",
        options: || compressed(small_options()).memtable_size_bytes(1024),
        mix: Mix { flush: 6, compact: 2, step: 20, ..COMPACTING },
        steps: 120,
        ..PLAIN
    },
    Workload {
        name: "leveled",
        options: || small_options().memtable_size_bytes(1024).block_cache_bytes(0),
        mix: COMPACTING,
        steps: 110,
        ..PLAIN
    },
    Workload {
        name: "size-tiered",
        options: || small_options().memtable_size_bytes(1024).compaction(tiered()),
        mix: COMPACTING,
        steps: 110,
        ..PLAIN
    },
    Workload {
        name: "lazy-leveled",
        options: || compressed(small_options()).memtable_size_bytes(1024).compaction(lazy()),
        mix: COMPACTING,
        steps: 110,
        ..PLAIN
    },
    Workload {
        name: "keyspaces",
        options: || small_options().manifest_rotate_bytes(1).memtable_size_bytes(2048),
        mix: Mix {
            single: 10,
            batch: 10,
            range: 1,
            sync: 1,
            flush: 1,
            compact: 1,
            step: 8,
            tick: 1,
            create: 8,
            drop: 5,
            snapshot: 1,
            reopen: 1,
            ..NOTHING
        },
        steps: 120,
        ..PLAIN
    },
    Workload {
        name: "log-rotation",
        options: || small_options().log_bytes_max(4 << 10).memtable_size_bytes(64 << 10),
        mix: Mix {
            single: 20,
            batch: 10,
            range: 1,
            sync: 2,
            step: 10,
            tick: 3,
            create: 1,
            ..NOTHING
        },
        steps: 120,
        large_value: 5000,
        ..PLAIN
    },
    Workload {
        name: "manifest-rotation",
        options: || {
            small_options().log_bytes_max(8 << 10).manifest_rotate_bytes(0).compaction(tiered())
        },
        mix: Mix {
            single: 20,
            batch: 10,
            range: 1,
            sync: 2,
            flush: 1,
            step: 12,
            tick: 2,
            create: 1,
            drop: 1,
            reopen: 1,
            ..NOTHING
        },
        steps: 80,
        large_value: 5000,
        ..PLAIN
    },
    Workload {
        name: "checkpoints",
        options: || compressed(small_options()).compaction(lazy()).memtable_size_bytes(2048),
        mix: Mix {
            single: 12,
            batch: 12,
            range: 2,
            sync: 1,
            flush: 2,
            compact: 1,
            step: 10,
            tick: 1,
            create: 2,
            drop: 1,
            checkpoint: 2,
            ingest: 1,
            reopen: 1,
            snapshot: 2,
        },
        steps: 100,
        large_value: 5000,
        ..PLAIN
    },
    Workload {
        name: "ingests",
        options: || small_options().memtable_size_bytes(4096).block_cache_bytes(0),
        mix: Mix {
            single: 10,
            batch: 10,
            range: 3,
            sync: 1,
            flush: 1,
            compact: 1,
            step: 10,
            tick: 1,
            create: 1,
            drop: 1,
            ingest: 6,
            reopen: 1,
            snapshot: 1,
            ..NOTHING
        },
        steps: 90,
        ..PLAIN
    },
    Workload {
        name: "option-changes",
        alternatives: Some(|| {
            vec![
                small_options().memtable_size_bytes(1024).compaction(tiered()),
                compressed(small_options()).block_size_bytes(64).filter_bits_per_key(0),
                small_options().compaction(lazy()).log_segment_bytes(8 << 10),
                small_options().manifest_rotate_bytes(0).open_files_max(1).block_cache_bytes(0),
            ]
        }),
        reopened: Some(|| small_options().memtable_size_bytes(2048).log_segment_bytes(16 << 10)),
        mix: Mix { reopen: 4, drop: 1, ..COMPACTING },
        steps: 100,
        ..PLAIN
    },
    Workload {
        name: "full-disk",
        options: || small_options().memtable_size_bytes(2048),
        mix: Mix {
            single: 20,
            batch: 14,
            range: 2,
            sync: 2,
            flush: 1,
            compact: 1,
            step: 14,
            tick: 3,
            create: 1,
            drop: 1,
            checkpoint: 1,
            ingest: 1,
            snapshot: 1,
            ..NOTHING
        },
        steps: 200,
        large_value: 5000,
        room: Some(12 << 10),
        ..PLAIN
    },
    Workload {
        name: "large-log",
        options: || {
            small_options()
                .memtable_size_bytes(1 << 20)
                .log_bytes_max(1 << 20)
                .memory_budget_bytes(8 << 20)
        },
        reopened: Some(|| small_options().memtable_size_bytes(1024)),
        mix: Mix {
            single: 10,
            batch: 30,
            range: 2,
            sync: 2,
            create: 1,
            tick: 1,
            step: 2,
            ..NOTHING
        },
        steps: 220,
        large_value: 5000,
        ..PLAIN
    },
    // Records beyond what a replay reads at once, and a blank tail behind them that it passes over.
    Workload {
        name: "long-segments",
        options: || {
            small_options()
                .log_segment_bytes(3 << 20)
                .log_bytes_max(16 << 20)
                .memtable_size_bytes(16 << 20)
        },
        mix: Mix { single: 10, batch: 20, sync: 2, step: 2, tick: 1, ..NOTHING },
        steps: 80,
        large_value: 1_000_000,
        ..PLAIN
    },
    Workload {
        name: "views-held",
        options: || compressed(small_options()).memtable_size_bytes(1024).open_files_max(1),
        mix: Mix { snapshot: 8, flush: 4, compact: 4, ..COMPACTING },
        steps: 110,
        ..PLAIN
    },
];
