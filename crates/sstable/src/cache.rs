//! The block cache: parsed blocks of many tables under one byte budget.
//!
//! Three parts. `quick_cache` decides which blocks stay: a variant of CLOCK-PRO, in which a block that was used once
//! leaves before blocks used more often, so that a scan does not empty the cache. Each open table has an array
//! with a [`Slots`] entry for each of its blocks, which is where reads find them: one load, no hashing, no lock, no
//! reference count. And a [`Pool`] has the memory of the blocks, in huge pages. A read that finds a block there marks it, and the policy passes marked blocks over once.
//!
//! Invariant: a block in a slot is in the policy's hands, or about to be: it goes into its slot first, and the policy
//! empties the slot when it lets the block go. So the budget holds for both.

use crate::block::Block;
use base::buffer::{Buffer, Pool};
use base::sync::leaf::{ArcSwapAny, Lent};
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Bytes a cached block costs beside its buffer: its place in the policy, its slot, allocator.
const ENTRY_OVERHEAD: usize = 128;
/// Blocks of this size are what the cache sizes its tables for.
const USUAL_BLOCK_BYTES: usize = 4 << 10;
/// Smaller caches have their blocks on the heap: half-empty slabs would be too much of them.
const POOLED_MIN: usize = 128 << 20;
/// Counters of hits and misses, spread so that threads seldom meet on one.
const COUNTERS: usize = 16;

/// Holds the blocks read most usefully. Shared as `Arc<BlockCache>` by all tables of a process.
pub struct BlockCache {
    capacity_bytes: AtomicUsize,
    blocks: Option<Blocks>,
    /// Where the bytes of blocks lie, unless the cache is small.
    pool: Option<Arc<Pool>>,
    next_space: AtomicU64,
    counters: Box<[Counters; COUNTERS]>,
}

type Blocks = sync::Cache<BlockKey, Resident, BlockWeight, Mix, SecondChance>;

/// A block in the hands of the policy. Reads mark its buffer as used.
#[derive(Debug, Clone)]
struct Resident {
    block: Block,
    /// Where reads find it, and under which number.
    home: Weak<Slots>,
    number: usize,
}

impl Resident {
    fn leave_home(&self) {
        if let Some(slot) = self.home.upgrade().as_ref().and_then(|home| home.0.get(self.number)) {
            slot.store(None);
        }
    }
}

/// Where the reads of one open table find its blocks: one entry for each of them, empty unless it is in memory.
#[derive(Debug)]
pub(crate) struct Slots(Box<[ArcSwapAny<Option<Buffer>>]>);

impl Slots {
    pub(crate) fn new(blocks: usize) -> Arc<Slots> {
        Arc::new(Slots((0..blocks).map(|_| ArcSwapAny::new(None)).collect()))
    }

    /// Lends block `number` for a short read; inside is nothing if it is not in memory.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<Lent<Option<Buffer>>> {
        self.0.get(number).map(ArcSwapAny::load)
    }

    /// Bytes of the array itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Tells the slots when a block goes, and lets a block that was read since the last look stay once more.
#[derive(Debug, Clone, Copy)]
struct SecondChance;

impl Lifecycle<BlockKey, Resident> for SecondChance {
    /// Blocks that went, freed when the policy's lock is.
    type RequestState = Vec<Resident>;

    #[inline]
    fn is_pinned(&self, _: &BlockKey, resident: &Resident) -> bool {
        resident.block.data().take_mark()
    }

    fn on_evict(&self, gone: &mut Vec<Resident>, _: BlockKey, resident: Resident) {
        resident.leave_home();
        gone.push(resident);
    }
}

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

impl Weighter<BlockKey, Resident> for BlockWeight {
    fn weight(&self, _: &BlockKey, resident: &Resident) -> u64 {
        (resident.block.data().memory_bytes() + ENTRY_OVERHEAD) as u64
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
            pool: (capacity_bytes >= POOLED_MIN).then(|| Arc::new(Pool::new())),
            next_space: AtomicU64::new(0),
            counters: Default::default(),
        }
    }

    /// Bytes held now, overhead and parts of pages that no block is in included.
    #[must_use]
    pub fn usage_bytes(&self) -> usize {
        let waste = self.pool.as_ref().map_or(0, |pool| pool.waste_bytes());
        self.blocks.as_ref().map_or(0, |blocks| blocks.weight() as usize + waste)
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

    /// Blocks found in the cache so far, about: threads count without waiting for one another.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.counters.iter().map(|c| c.hits.load(Ordering::Relaxed)).sum()
    }

    /// Blocks that had to be read so far, about.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.counters.iter().map(|c| c.misses.load(Ordering::Relaxed)).sum()
    }

    /// A number that no other table or group of tables sharing this cache has.
    pub(crate) fn new_space(&self) -> u64 {
        self.next_space.fetch_add(1, Ordering::Relaxed)
    }

    /// Finds a block whose slot is empty: left behind by a reader of the same table that was closed meanwhile. It moves
    /// to its slot.
    pub(crate) fn adopt(&self, key: BlockKey, home: &Arc<Slots>, number: usize) -> Option<Block> {
        let found = self.blocks.as_ref()?.get(&key)?;
        found.leave_home();
        let block = found.block.clone();
        drop(found);
        self.insert(key, block.clone(), home, number);
        Some(block)
    }

    /// Takes a block in and puts it into its slot.
    pub(crate) fn insert(&self, key: BlockKey, block: Block, home: &Arc<Slots>, number: usize) {
        let (Some(blocks), Some(slot)) = (&self.blocks, home.0.get(number)) else { return };
        slot.store(Some(block.clone().into_buffer()));
        blocks.insert(key, Resident { block, home: Arc::downgrade(home), number });
        if blocks.weight() > blocks.capacity() {
            // Every block had been read since the last look, which this insert was: the next one finds them unmarked.
            blocks.set_capacity(blocks.capacity());
        }
        self.make_up_for_waste(blocks);
    }

    /// The memory for blocks that go into this cache; `None`: the heap.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    /// Has the policy hold less by what the pool wastes.
    fn make_up_for_waste(&self, blocks: &Blocks) {
        let Some(pool) = &self.pool else { return };
        let budget = self.capacity_bytes();
        let share = budget.saturating_sub(pool.waste_bytes()) as u64;
        if share.abs_diff(blocks.capacity()) > budget as u64 / 64 {
            blocks.set_capacity(share);
        }
    }

    /// Counts a lookup. Of threads that share a counter some counts are lost.
    #[inline]
    pub(crate) fn count(&self, hit: bool) {
        let counters = &self.counters[COUNTER.with(|c| *c)];
        let counter = if hit { &counters.hits } else { &counters.misses };
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

thread_local! {
    /// Which of the counters this thread uses.
    static COUNTER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % COUNTERS
    };
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
    Some(sync::Cache::with_options(options, BlockWeight, Mix(0), SecondChance))
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("capacity_bytes", &self.capacity_bytes())
            .field("usage_bytes", &self.usage_bytes())
            .finish_non_exhaustive()
    }
}
