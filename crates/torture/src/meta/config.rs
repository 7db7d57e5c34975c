//! Option sets: sizes so small that every boundary is crossed all the time, and each extreme forced in one of them.

use lsm::{
    CompactionPolicy, Compression, Durability, Fifo, KeyspaceOptions, LazyLeveled, Leveled,
    Options, SizeTiered,
};
use testkit::rng::Rng;

/// Option sets that each list runs under.
pub(crate) const SETS: usize = 8;

/// Where the options of one run come from, at its begin and at each reopen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionSet {
    pub(crate) number: usize,
    /// Settings that are left plain, as bits by their place in [`SETTINGS`].
    pub(crate) plain: u32,
    /// The same options at every open.
    pub(crate) is_fixed: bool,
}

/// One choice of everything.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    durability: Durability,
    memtable: usize,
    cache: usize,
    block: usize,
    compression: Vec<Compression>,
    filter: u32,
    policy: CompactionPolicy,
    threads: usize,
    segment: u64,
    segments: u64,
    open_files: usize,
    manifest: u64,
}

pub(crate) type Setting = (&'static str, fn(&mut Choice, &Choice));

/// What shrinking may leave plain, one after the other.
pub(crate) const SETTINGS: &[Setting] = &[
    ("durability", |to, from| to.durability = from.durability),
    ("memtable size", |to, from| to.memtable = from.memtable),
    ("block cache", |to, from| to.cache = from.cache),
    ("block size", |to, from| to.block = from.block),
    ("compression", |to, from| to.compression.clone_from(&from.compression)),
    ("filter bits", |to, from| to.filter = from.filter),
    ("compaction", |to, from| to.policy = from.policy.clone()),
    ("log segments", |to, from| (to.segment, to.segments) = (from.segment, from.segments)),
    ("open files", |to, from| to.open_files = from.open_files),
    ("manifest rotation", |to, from| to.manifest = from.manifest),
];

fn leveled(rng: &mut Rng) -> CompactionPolicy {
    Leveled {
        l0_trigger: rng.range(1..6) as usize,
        base_bytes: *rng.pick(&[4 << 10, 16 << 10, 256 << 10]),
        multiplier: rng.range(2..6) as u32,
        target_table_bytes: table_bytes(rng),
        tombstone_percent: tombstones(rng),
    }
    .into()
}

fn tiered(rng: &mut Rng) -> CompactionPolicy {
    SizeTiered {
        min_threshold: rng.range(2..5) as usize,
        max_threshold: rng.range(5..12) as usize,
        min_run_bytes: *rng.pick(&[0, 2 << 10, 64 << 10]),
        target_table_bytes: table_bytes(rng),
        tombstone_percent: tombstones(rng),
        ..SizeTiered::default()
    }
    .into()
}

fn lazy(rng: &mut Rng) -> CompactionPolicy {
    LazyLeveled {
        runs_per_level: rng.range(2..5) as usize,
        target_table_bytes: table_bytes(rng),
        tombstone_percent: tombstones(rng),
    }
    .into()
}

fn table_bytes(rng: &mut Rng) -> u64 {
    *rng.pick(&[4 << 10, 8 << 10, 32 << 10, 1 << 20])
}

fn tombstones(rng: &mut Rng) -> u32 {
    *rng.pick(&[0, 1, 20, 50, 100])
}

fn policy(rng: &mut Rng) -> CompactionPolicy {
    match rng.below(10) {
        0..=3 => leveled(rng),
        4..=6 => tiered(rng),
        7 | 8 => lazy(rng),
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

impl Choice {
    fn plain() -> Choice {
        Choice {
            durability: Durability::Buffered,
            memtable: 16 << 10,
            cache: 64 << 10,
            block: 512,
            compression: vec![Compression::None],
            filter: 10,
            policy: CompactionPolicy::default(),
            threads: 2,
            segment: 16 << 10,
            segments: 4,
            open_files: 1000,
            manifest: 4 << 20,
        }
    }

    fn draw(rng: &mut Rng) -> Choice {
        Choice {
            durability: *rng.pick(&[
                Durability::Buffered,
                Durability::Buffered,
                Durability::Sync,
                Durability::Memory,
            ]),
            memtable: memtable_size(rng),
            cache: *rng.pick(&[0usize, 1, 4 << 10, 64 << 10, 8 << 20]),
            block: block_size(rng),
            compression: compression(rng),
            filter: *rng.pick(&[0u32, 1, 2, 10, 20]),
            policy: policy(rng),
            threads: rng.range(1..5) as usize,
            segment: *rng.pick(&[4096u64, 4097, 8 << 10, 16 << 10, 64 << 10]),
            segments: rng.range(1..9),
            open_files: *rng.pick(&[1usize, 2, 5, 1000]),
            manifest: *rng.pick(&[1u64, 300, 5000, 4 << 20]),
        }
    }

    /// Forces what makes a set what it is.
    fn force(mut self, number: usize, rng: &mut Rng) -> Choice {
        match number {
            0 => {
                (self.memtable, self.cache, self.block, self.filter) = (1 << 10, 0, 64, 0);
                (self.open_files, self.manifest) = (1, 1);
                (self.segment, self.segments) = (4096, 1);
            }
            1 => {
                (self.memtable, self.cache, self.block, self.filter) =
                    (64 << 10, 8 << 20, 4096, 20);
                (self.open_files, self.manifest) = (1000, 4 << 20);
                (self.segment, self.segments) = (64 << 10, 8);
            }
            2 => (self.policy, self.memtable) = (tiered(rng), 2 << 10),
            3 => (self.policy, self.memtable) = (lazy(rng), 2 << 10),
            4 => (self.policy, self.memtable) = (leveled(rng), 1 << 10),
            5 => self.durability = Durability::Sync,
            6 => self.durability = Durability::Memory,
            _ => {}
        }
        self
    }
}

impl OptionSet {
    pub(crate) fn new(number: usize) -> OptionSet {
        OptionSet { number, plain: 0, is_fixed: false }
    }

    fn rng(&self, seed: u64) -> Rng {
        Rng::new(if self.is_fixed { 0 } else { seed } ^ ((self.number as u64) << 56))
    }

    /// Options of a whole database.
    pub(crate) fn options(&self, seed: u64) -> Options {
        let mut rng = self.rng(seed);
        let mut choice = Choice::draw(&mut rng).force(self.number, &mut rng);
        let plain = Choice::plain();
        for (bit, (_, copy)) in SETTINGS.iter().enumerate() {
            if self.plain & (1 << bit) != 0 {
                copy(&mut choice, &plain);
            }
        }
        Options::default()
            .durability(choice.durability)
            .memtable_size_bytes(choice.memtable)
            .block_cache_bytes(choice.cache)
            .block_size_bytes(choice.block)
            .compression(&choice.compression[..])
            .filter_bits_per_key(choice.filter)
            .compaction(choice.policy)
            .background_threads(choice.threads)
            .log_segment_bytes(choice.segment)
            .log_bytes_max(choice.segment * choice.segments)
            .open_files_max(choice.open_files)
            .manifest_rotate_bytes(choice.manifest)
            // Never waits: time stands still here.
            .rate_limit_bytes_per_second(1 << 40)
    }

    /// Options of one keyspace; some are left to the database.
    pub(crate) fn keyspace_options(&self, seed: u64) -> KeyspaceOptions {
        let rng = &mut self.rng(seed);
        let mut options = KeyspaceOptions::new();
        if self.plain != 0 {
            return options;
        }
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
}
