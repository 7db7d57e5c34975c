//! The words by which the arena is spoken to: all safe, but with constructors that only the arena sees.

use base::sync::leaf::Published;
use base::sync::leaf::atomic::{AtomicU32, AtomicU64, Ordering};
use std::num::NonZeroU32;

/// Bytes of a unit, in which offsets are given.
pub(super) const UNIT: usize = 8;
/// Bits of a [`Ref`] for the unit; the others are for the chunk.
pub(super) const UNIT_BITS: u32 = 17;
/// In place of the open chunk while there is none.
pub(super) const NO_CHUNK: u32 = 0xffff;

/// The fixed part of a record, as drawn in [`arena`](super).
#[repr(C)]
pub(super) struct Header {
    pub(super) older: AtomicU32,
    pub(super) jump: u32,
    pub(super) trailer: u64,
    pub(super) value_len: u32,
    pub(super) key_len: u16,
    pub(super) rank: u8,
    pub(super) unused: u8,
    pub(super) published: Published,
}
pub(super) const HEADER: usize = size_of::<Header>();
const _: () = assert!(
    cfg!(loom) || HEADER == 24 && align_of::<Header>() <= UNIT,
    "drawing and struct disagree"
);

#[inline]
pub(super) fn record_units(key: usize, value: usize) -> usize {
    (HEADER + key + value).div_ceil(UNIT)
}

/// Names one record of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ref(pub(super) NonZeroU32);

impl Ref {
    pub(super) fn new(chunk: u32, unit: u32) -> Ref {
        Ref(NonZeroU32::MIN.saturating_add((chunk << UNIT_BITS) | unit))
    }
    pub(super) fn chunk(self) -> u32 {
        (self.0.get() - 1) >> UNIT_BITS
    }
    pub(super) fn offset(self) -> usize {
        ((self.0.get() - 1) & ((1 << UNIT_BITS) - 1)) as usize * UNIT
    }
    pub(super) fn from_bits(bits: u32) -> Option<Ref> {
        NonZeroU32::new(bits).map(Ref)
    }
    pub(super) fn bits(this: Option<Ref>) -> u32 {
        this.map_or(0, |r| r.0.get())
    }
}

/// One place of a hash table: a tag and a published reference, or nothing.
#[repr(transparent)]
#[cfg_attr(loom, derive(Default, Debug))]
pub(crate) struct Slot(pub(super) AtomicU64);

impl Slot {
    #[inline]
    pub(crate) fn load(&self) -> Option<(u32, Ref)> {
        let word = self.0.load(Ordering::Acquire);
        Some(((word >> 32) as u32, Ref::from_bits(word as u32)?))
    }

    /// Makes it a place of nothing again.
    pub(super) fn vacate(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn store(&self, tag: u32, record: Ref) {
        self.0.store((u64::from(tag) << 32) | u64::from(record.0.get()), Ordering::Release);
    }
}

/// Kept away from the fields that readers load, since every insert writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// The right to write: exactly one per arena, handed out by [`Arena::new`](super::Arena::new).
#[derive(Debug)]
pub(crate) struct Appender {
    pub(super) end: Mark,
    /// Units of the open chunk.
    pub(super) capacity: u32,
    pub(super) next_chunk_bytes: usize,
}

/// How far the log was filled at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(super) chunks: u32,
    pub(super) open: u32,
    pub(super) used: u32,
}

impl Mark {
    pub(crate) const START: Mark = Mark { chunks: 0, open: NO_CHUNK, used: 0 };

    pub(super) fn pack(self) -> u64 {
        u64::from(self.chunks) << 48 | u64::from(self.open) << 32 | u64::from(self.used)
    }
    pub(super) fn unpack(word: u64) -> Mark {
        let (chunks, open) = ((word >> 48) as u32, (word >> 32) as u32 & 0xffff);
        Mark { chunks, open, used: word as u32 }
    }
}

/// Links from a version to older versions of its key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Links {
    pub(crate) older: Option<Ref>,
    pub(crate) jump: Option<Ref>,
    pub(crate) rank: u8,
}

/// Vacant slots for the checker, whose atomics are not zeroes.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Slots(Box<[Slot]>);

#[cfg(loom)]
impl Slots {
    pub(crate) fn vacant(len: usize) -> Slots {
        Slots((0..len.max(1)).map(|_| Slot::default()).collect())
    }
}

#[cfg(loom)]
impl std::ops::Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.0
    }
}

#[cfg(loom)]
impl std::ops::DerefMut for Slots {
    fn deref_mut(&mut self) -> &mut [Slot] {
        &mut self.0
    }
}
