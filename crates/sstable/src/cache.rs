//! The block cache: parsed blocks of many tables under one byte budget.
//!
//! `quick_cache` holds them: a variant of CLOCK-PRO, in which a block that was used once leaves before
//! blocks used more often, so that a scan does not empty the cache.

use crate::block::Block;
use quick_cache::{OptionsBuilder, Weighter, sync};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes a cached block costs beside its own: reference counts, key, table slot, allocator.
const ENTRY_OVERHEAD: usize = 128;
/// Blocks of this size are what the cache sizes its tables for.
const USUAL_BLOCK_BYTES: usize = 4 << 10;
/// Counters of hits and misses, spread so that threads seldom meet on one.
const COUNTERS: usize = 16;

/// Holds the blocks read most usefully. Shared as `Arc<BlockCache>` by all tables of a process.
pub struct BlockCache {
    capacity_bytes: AtomicUsize,
    blocks: Option<Blocks>,
    next_space: AtomicU64,
    counters: Box<[Counters; COUNTERS]>,
}

type Blocks = sync::Cache<BlockKey, Block, BlockWeight, Mix>;

/// Names a block. Spaces keep apart tables of the same id in different databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockKey {
    pub(crate) space: u64,
    pub(crate) table_id: u64,
    pub(crate) offset: u64,
}

impl BlockKey {
    #[inline]
    fn mixed(&self) -> u64 {
        let a = (self.offset ^ self.table_id.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let b = (a ^ (a >> 32) ^ self.space.rotate_left(20) ^ self.table_id)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        b ^ (b >> 29)
    }
}

impl Hash for BlockKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.mixed());
    }
}

/// Passes on the hash that a [`BlockKey`] has made of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Mix(u64);

impl BuildHasher for Mix {
    type Hasher = Mix;
    #[inline]
    fn build_hasher(&self) -> Mix {
        Mix(0)
    }
}

impl Hasher for Mix {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 =
            bytes.iter().fold(self.0, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[derive(Debug, Clone, Copy)]
struct BlockWeight;

impl Weighter<BlockKey, Block> for BlockWeight {
    fn weight(&self, _: &BlockKey, block: &Block) -> u64 {
        (block.data().len() + ENTRY_OVERHEAD) as u64
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockCache {
    /// A cache of at most `capacity_bytes`, overhead included; 0 caches nothing.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> BlockCache {
        let blocks = (capacity_bytes > 0).then(|| new_blocks(capacity_bytes)).flatten();
        BlockCache {
            capacity_bytes: AtomicUsize::new(capacity_bytes),
            blocks,
            next_space: AtomicU64::new(0),
            counters: Default::default(),
        }
    }

    /// Bytes held now, overhead included.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        self.blocks.as_ref().map_or(0, |blocks| blocks.weight() as usize)
    }

    /// The budget.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes.load(Ordering::Relaxed)
    }

    /// Changes the budget; blocks beyond it leave at once. A change of less than a 64th is not made, and a cache made
    /// with 0 bytes stays without.
    pub(crate) fn set_capacity(&self, bytes: usize) {
        let Some(blocks) = &self.blocks else { return };
        let before = self.capacity_bytes.load(Ordering::Relaxed);
        if bytes.abs_diff(before) > before / 64 {
            self.capacity_bytes.store(bytes, Ordering::Relaxed);
            blocks.set_capacity(bytes as u64);
        }
    }

    /// Blocks found in the cache so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.counters.iter().map(|c| c.hits.load(Ordering::Relaxed)).sum()
    }

    /// Blocks that had to be read so far.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.counters.iter().map(|c| c.misses.load(Ordering::Relaxed)).sum()
    }

    /// A number that no other table or group of tables sharing this cache has.
    pub(crate) fn new_space(&self) -> u64 {
        self.next_space.fetch_add(1, Ordering::Relaxed)
    }

    /// Looks a block up and makes it hotter.
    #[inline]
    pub(crate) fn get(&self, key: &BlockKey) -> Option<Block> {
        let found = self.blocks.as_ref()?.get(key);
        self.count(key, found.is_some());
        found
    }

    /// Looks a block up without making it hotter, for scans.
    pub(crate) fn peek(&self, key: &BlockKey) -> Option<Block> {
        let found = self.blocks.as_ref()?.peek(key);
        self.count(key, found.is_some());
        found
    }

    pub(crate) fn insert(&self, key: BlockKey, block: Block) {
        if let Some(blocks) = &self.blocks {
            blocks.insert(key, block);
        }
    }

    #[inline]
    fn count(&self, key: &BlockKey, hit: bool) {
        let counters = &self.counters[key.mixed() as usize % COUNTERS];
        let counter = if hit { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn new_blocks(capacity_bytes: usize) -> Option<Blocks> {
    let items = (capacity_bytes / USUAL_BLOCK_BYTES).clamp(16, 1 << 22);
    // Each shard has its part of the budget, which must have room for blocks of several sizes.
    let shards = (capacity_bytes >> 22).clamp(1, 32).next_power_of_two();
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items)
        .weight_capacity(capacity_bytes as u64)
        .shards(shards)
        .build()
        .ok()?;
    Some(sync::Cache::with_options(options, BlockWeight, Mix(0), sync::DefaultLifecycle::default()))
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("capacity_bytes", &self.capacity_bytes())
            .field("usage_bytes", &self.usage_bytes())
            .finish_non_exhaustive()
    }
}
