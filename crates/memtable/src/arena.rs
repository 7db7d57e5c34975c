//! Records at stable addresses, and the references by which threads hand them to each other.
//!
//! ```text
//! record, 8-aligned                     Ref, 32 bits, never 0
//! offset size field                     ((chunk << 17) | offset in 8-byte units) + 1
//!      0    4 older   Ref or 0, atomic
//!      4    4 jump    Ref or 0          Slot, 64 bits, 0 = empty
//!      8    8 trailer seq << 8 | kind   (tag << 32) | Ref
//!     16    4 value length
//!     20    2 key length                tail, 64 bits
//!     22    1 rank of the jump          (chunks << 48) | (open chunk << 32) | units used in it
//!     23    1 unused
//!     24      key, value
//! ```
//! Who may do what: one [`Appender`] exists per [`Arena`] and only its owner writes. Everybody else reads
//! records through a [`Ref`], and gets one only by an Acquire load of a [`Slot`], an `older` link or the
//! tail, which the writer stored with Release after the last plain write to the record (`jump` is such a
//! plain write, so what it points to was published before). Refs cannot be made
//! outside this module, so each one points at a whole record; a memtable has one arena and mixes in no other.
//! Nothing is freed or moved before the arena is dropped.

#[deny(unsafe_code)]
mod chunks;
mod large;
#[deny(unsafe_code)]
mod names;
#[cfg(not(loom))]
mod slots;
#[deny(unsafe_code)]
mod spares;

use crate::account::Account;
use base::sync::leaf::{Mutex, Published, atomic::AtomicU32, atomic::AtomicU64, atomic::Ordering};
use chunks::Chunks;
use large::LargeChunk;
#[cfg(loom)]
pub(crate) use names::Slots;
pub(crate) use names::{Apart, Appender, Links, Mark, Ref, Slot};
use names::{HEADER, Header, NO_CHUNK, UNIT, UNIT_BITS, record_units};
#[cfg(not(loom))]
pub(crate) use slots::Slots;
pub use spares::Spares;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

/// The first chunk: small, since tests and idle keyspaces have thousands of memtables.
const CHUNK_MIN: usize = 512;
/// Later chunks double up to this.
const CHUNK_MAX: usize = UNIT << UNIT_BITS;
/// A larger record gets a chunk of its own, which bounds what closing a chunk early wastes to a quarter.
const SHARED_MAX: usize = CHUNK_MAX / 4;
/// With 256 KiB or more in each (but for the first few) that is at least 8 GiB.
const CHUNKS_MAX: u32 = (1 << (32 - UNIT_BITS)) - 1;

#[derive(Debug)]
pub(crate) struct Arena {
    chunks: Chunks,
    account: Arc<Account>,
    tail: Apart<AtomicU64>,
    spares: Arc<Spares>,
    /// The memory of the chunks of `CHUNK_MAX` bytes.
    large: Mutex<Vec<LargeChunk>>,
}

impl Arena {
    pub(crate) fn new(account: Arc<Account>, spares: Arc<Spares>) -> (Arena, Appender) {
        let end = Mark::START;
        let arena = Arena {
            chunks: Chunks::default(),
            account,
            tail: Apart(AtomicU64::new(end.pack())),
            spares,
            large: Mutex::default(),
        };
        (arena, Appender { end, capacity: 0, next_chunk_bytes: CHUNK_MIN })
    }

    /// Appends and publishes a record.
    ///
    /// # Panics
    /// If the key is longer than `u16::MAX` or the value longer than `u32::MAX - 1 MiB`, or if no chunk is left.
    pub(crate) fn append(
        &self,
        appender: &mut Appender,
        links: Links,
        trailer: u64,
        key: &[u8],
        value: &[u8],
    ) -> Ref {
        let key_len = u16::try_from(key.len()).expect("key longer than the limit");
        assert!(value.len() < u32::MAX as usize - CHUNK_MAX, "value longer than the limit");
        let record = self.reserve(appender, record_units(key.len(), value.len()));
        let header = Header {
            older: AtomicU32::new(Ref::bits(links.older)),
            jump: Ref::bits(links.jump),
            trailer,
            value_len: value.len() as u32,
            key_len,
            rank: links.rank,
            unused: 0,
            published: Published::written(),
        };
        let at = self.chunks.get(record.chunk()).base.load(Ordering::Relaxed);
        // SAFETY: `reserve` gave `record_units` units to this record alone: inside the chunk, 8-aligned,
        // not yet published, so no reader looks there, and the one `Appender` is ours. The sources are
        // slices that live elsewhere.
        unsafe {
            let at = at.add(record.offset());
            at.cast::<Header>().write(header);
            ptr::copy_nonoverlapping(key.as_ptr(), at.add(HEADER), key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), at.add(HEADER + key.len()), value.len());
        }
        self.tail.0.store(appender.end.pack(), Ordering::Release);
        record
    }

    fn reserve(&self, appender: &mut Appender, units: usize) -> Ref {
        if units * UNIT > SHARED_MAX {
            let chunk = self.add_chunk(appender, units * UNIT, units as u32);
            return Ref::new(chunk, 0);
        }
        if (appender.capacity - appender.end.used) < units as u32 {
            self.open_chunk(appender, units * UNIT);
        }
        let record = Ref::new(appender.end.open, appender.end.used);
        appender.end.used += units as u32;
        record
    }

    /// Closes the open chunk and opens another with room for `bytes`.
    #[cold]
    fn open_chunk(&self, appender: &mut Appender, bytes: usize) {
        let end = appender.end;
        if end.open != NO_CHUNK {
            self.chunks.get(end.open).used.store(end.used, Ordering::Relaxed);
        }
        let size = appender.next_chunk_bytes.max(bytes.next_power_of_two());
        appender.end.open = self.add_chunk(appender, size, 0);
        appender.end.used = 0;
        appender.capacity = (size / UNIT) as u32;
        appender.next_chunk_bytes = (size * 2).min(CHUNK_MAX);
    }

    #[cold]
    fn add_chunk(&self, appender: &mut Appender, bytes: usize, used: u32) -> u32 {
        let id = appender.end.chunks;
        assert!(id < CHUNKS_MAX, "memtable of more than 8 GiB");
        let base = if bytes == CHUNK_MAX { self.large_chunk() } else { heap_chunk(bytes) };
        let chunk = self.chunks.add(id, &self.account);
        chunk.bytes.store(bytes, Ordering::Relaxed);
        chunk.used.store(used, Ordering::Relaxed);
        chunk.base.store(base, Ordering::Relaxed);
        self.account.add(bytes);
        appender.end.chunks += 1;
        id
    }

    /// Memory that a dropped memtable left, or fresh.
    fn large_chunk(&self) -> *mut u8 {
        let chunk = self.spares.take_chunk().unwrap_or_else(LargeChunk::new);
        let base = chunk.base();
        self.large.lock().push(chunk);
        base
    }

    /// The record that `record` names.
    #[inline]
    pub(crate) fn record(&self, record: Ref) -> Record<'_> {
        let base = self.chunks.get(record.chunk()).base.load(Ordering::Relaxed);
        // SAFETY: a `Ref` is made only in `reserve` and `each`, for a record inside a chunk that lives as long
        // as the arena. Whoever holds it got it by an Acquire load after the chunk's base was stored.
        Record { at: unsafe { base.add(record.offset()) }, arena: PhantomData }
    }

    /// Asks for the start of a record to be brought near. Only a hint.
    #[inline]
    pub(crate) fn prefetch(&self, record: Ref) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.record(record).at.cast::<i8>();
            // SAFETY: a prefetch reads nothing and faults nowhere; SSE is part of x86_64.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(at);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64));
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = record;
    }

    /// How far the log is filled: all records whose `append` returned are below.
    pub(crate) fn mark(&self) -> Mark {
        Mark::unpack(self.tail.0.load(Ordering::Acquire))
    }

    /// Visits the records between two marks of this arena, each once.
    pub(crate) fn each(&self, from: Mark, to: Mark, mut visit: impl FnMut(Ref, Record<'_>)) {
        let mut walk = |chunk: u32, start: u32| {
            // A chunk that is not open any more was given its final `used` before the tail moved on.
            let closed = || self.chunks.get(chunk).used.load(Ordering::Relaxed);
            let end = if chunk == to.open { to.used } else { closed() };
            let mut unit = start;
            while unit < end {
                let name = Ref::new(chunk, unit);
                let record = self.record(name);
                unit += record_units(record.key().len(), record.value().len()) as u32;
                visit(name, record);
            }
        };
        if from.open != NO_CHUNK {
            walk(from.open, from.used);
        }
        (from.chunks..to.chunks).for_each(|chunk| walk(chunk, 0));
    }

    /// Bytes of keys and values of `entries` records, each rounded up to a unit. O(chunks).
    pub(crate) fn data_bytes(&self, entries: usize) -> usize {
        let end = self.mark();
        // As in `each`: a chunk that is not open any more has its final `used`.
        let used = |chunk| match chunk == end.open {
            true => end.used,
            false => self.chunks.get(chunk).used.load(Ordering::Relaxed),
        };
        let units: usize = (0..end.chunks).map(|chunk| used(chunk) as usize).sum();
        (units * UNIT).saturating_sub(entries * HEADER)
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.chunks.recount()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in self.large.lock().drain(..) {
            drop(self.spares.keep_chunk(chunk));
        }
        for chunk in self.chunks.iter() {
            let (base, bytes) =
                (chunk.base.load(Ordering::Relaxed), chunk.bytes.load(Ordering::Relaxed));
            if bytes != CHUNK_MAX
                && !base.is_null()
                && let Ok(layout) = Layout::from_size_align(bytes, UNIT)
            {
                // SAFETY: from `heap_chunk` with this layout; `&mut self` says that no record is lent out.
                unsafe { dealloc(base, layout) };
            }
        }
    }
}

/// Memory for a chunk that is not of the largest size.
fn heap_chunk(bytes: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(bytes, UNIT) else { panic!("size overflow") };
    // SAFETY: no chunk is empty: a record has a header.
    let base = unsafe { alloc(layout) };
    if base.is_null() {
        handle_alloc_error(layout);
    }
    base
}

/// A published record.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    at: *const u8,
    arena: PhantomData<&'a Arena>,
}

impl<'a> Record<'a> {
    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: `at` is the start of a whole, published record (see `Arena::record`), 8-aligned; only its
        // `older` changes after that, and it is atomic. The arena is borrowed for 'a.
        let header = unsafe { &*self.at.cast::<Header>() };
        header.published.read();
        header
    }
    #[inline]
    pub(crate) fn key(self) -> &'a [u8] {
        let len = usize::from(self.header().key_len);
        // SAFETY: `append` wrote `key_len` bytes behind the header before it published the record.
        unsafe { std::slice::from_raw_parts(self.at.add(HEADER), len) }
    }
    #[inline]
    pub(crate) fn value(self) -> &'a [u8] {
        let header = self.header();
        let start = HEADER + usize::from(header.key_len);
        // SAFETY: `append` wrote `value_len` bytes behind the key before it published the record.
        unsafe { std::slice::from_raw_parts(self.at.add(start), header.value_len as usize) }
    }
    #[inline]
    pub(crate) fn trailer(self) -> u64 {
        self.header().trailer
    }
    #[inline]
    pub(crate) fn older(self) -> Option<Ref> {
        Ref::from_bits(self.header().older.load(Ordering::Acquire))
    }
    /// Puts `record` between this version and the older ones.
    pub(crate) fn set_older(self, record: Ref) {
        self.header().older.store(record.0.get(), Ordering::Release);
    }
    #[inline]
    pub(crate) fn jump(self) -> Option<Ref> {
        Ref::from_bits(self.header().jump)
    }
    pub(crate) fn rank(self) -> u8 {
        self.header().rank
    }
}

/// Asks for a slot to be brought near, to be written. Only a hint.
#[inline]
pub(crate) fn prefetch_slot(slot: &Slot) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults nowhere; SSE is part of x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(slot).cast::<i8>()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
    let _ = slot;
}
