//! [`Buffer`]: bytes that many share, behind one thin pointer.
//!
//! ```text
//! offset size field
//!      0    4 refs    how many buffers point here
//!      4    4 len     bytes behind the header
//!      8    4 mark    set by who reads, cleared by who looks whether it was read
//!     12    4 slab    of the pool, if it is from one
//!     16    8 pool    0: the heap
//!     24   16 notes   four words of whoever filled it
//!     40      bytes
//! ```
//! Count, notes and the first bytes share a cache line, and a pointer of one word can be swapped atomically: so a
//! reader of a cached block goes from one pointer straight to its bytes. An `Arc<[u8]>` has pointers of two words, and an
//! `Arc` of a struct with an `Arc<[u8]>` in it costs one more cache miss, about a sixth of a random get.
//!
//! Who may do what: a [`BufferMut`] is the only one that points to its memory, and may write. Frozen into a
//! [`Buffer`] it is written never again, but for `refs` and `mark`, which are atomic. The last buffer that goes returns
//! the memory to where it came from.

mod pool;

pub use pool::Pool;

use arc_swap::RefCnt;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// Bytes in front of the bytes.
const HEADER_LEN: usize = size_of::<Header>();
const _: () = assert!(HEADER_LEN == 40, "drawing and constants disagree");
/// As for malloc on usual machines.
const ALIGN: usize = 16;
/// Longest buffer.
const LEN_MAX: usize = u32::MAX as usize - 64;
/// More references than this are a leak that would soon wrap around.
const REFS_MAX: u32 = i32::MAX as u32;

/// What stands in front of the bytes. Opaque; public because the pointer type of an atomic slot names it.
#[repr(C, align(8))]
#[doc(hidden)]
#[derive(Debug)]
pub struct Header {
    refs: AtomicU32,
    len: u32,
    mark: AtomicU32,
    slab: u32,
    /// Made by `Arc::into_raw`, or null.
    pool: *const Pool,
    notes: [u32; 4],
}

/// The buffer without bytes. Its first reference is never given back.
struct Empty(Header);

// SAFETY: `pool` is null and never written; all else is atomic or never written.
unsafe impl Sync for Empty {}

static EMPTY: Empty = Empty(Header {
    refs: AtomicU32::new(1),
    len: 0,
    mark: AtomicU32::new(0),
    slab: 0,
    pool: ptr::null(),
    notes: [0; 4],
});

/// Bytes that are shared and not written any more. A clone counts, and copies nothing.
pub struct Buffer(NonNull<Header>);

// SAFETY: a shared buffer is only read, but for atomics. Whichever thread drops the last one returns the memory: the
// heap and `Pool` (`Send` and `Sync`) take it from any.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// Bytes that nobody else sees yet.
pub struct BufferMut(Buffer);

impl BufferMut {
    /// `len` zeros on the heap; at most 4 GiB less 64 bytes, a longer one is cut to that.
    #[must_use]
    pub fn zeroed(len: usize) -> BufferMut {
        let len = len.min(LEN_MAX);
        let layout = heap_layout(len);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        BufferMut::begin(memory, len, 0, ptr::null())
    }

    /// `len` bytes in `pool`, or on the heap if the pool has no place for them. What they hold is not specified: zeros or
    /// bytes of earlier buffers of the pool.
    #[must_use]
    pub fn in_pool(len: usize, pool: &Arc<Pool>) -> BufferMut {
        match pool.take(HEADER_LEN.saturating_add(len)) {
            Some((memory, slab)) => {
                BufferMut::begin(memory, len, slab, Arc::into_raw(Arc::clone(pool)))
            }
            None => BufferMut::zeroed(len),
        }
    }

    /// Writes the header. `memory` is aligned for it, is nobody else's, and has `len` initialized bytes behind it.
    fn begin(memory: NonNull<u8>, len: usize, slab: u32, pool: *const Pool) -> BufferMut {
        let (refs, mark) = (AtomicU32::new(1), AtomicU32::new(0));
        let header = Header { refs, len: len as u32, mark, slab, pool, notes: [0; 4] };
        let at = memory.cast::<Header>();
        // SAFETY: room, alignment and exclusive use as stated above; both callers get the memory from an allocator with
        // alignment 16 or 64.
        unsafe { at.write(header) };
        BufferMut(Buffer(at))
    }

    /// Writes the notes.
    pub fn set_notes(&mut self, notes: [u32; 4]) {
        // SAFETY: the header lives, and nobody else points to it: a `BufferMut` is not cloned and never `EMPTY`.
        unsafe { (*self.0.0.as_ptr()).notes = notes };
    }

    /// From now on it is shared.
    #[inline]
    #[must_use]
    pub fn freeze(self) -> Buffer {
        self.0
    }
}

impl From<&[u8]> for BufferMut {
    /// A copy on the heap; of more than 4 GiB less 64 bytes that much.
    #[inline]
    fn from(bytes: &[u8]) -> BufferMut {
        let len = bytes.len().min(LEN_MAX);
        let layout = heap_layout(len);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        // SAFETY: `bytes` has `len` bytes, and so has the fresh memory behind the place of the header.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_ptr().add(HEADER_LEN), len) };
        BufferMut::begin(memory, len, 0, ptr::null())
    }
}

impl Deref for BufferMut {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for BufferMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = (self.0.start(), self.0.len());
        // SAFETY: `len` initialized bytes lie there (`begin`), and nobody else points to them.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }
}

impl Buffer {
    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the header lives as long as any buffer that points to it, and is written no more, but for atomics.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        // Stays inside the allocation, or one past the end of `EMPTY`.
        self.0.as_ptr().cast::<u8>().wrapping_add(HEADER_LEN)
    }

    /// What was set with [`BufferMut::set_notes`]; zeros before.
    #[inline(always)]
    #[must_use]
    pub fn notes(&self) -> [u32; 4] {
        self.header().notes
    }

    /// Asks the processor to bring the cache line at byte `offset` near, without waiting for it. Only a hint: touches nothing, not even
    /// the length, so `offset` may lie anywhere.
    #[inline]
    pub fn prefetch(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.start().wrapping_add(offset).cast::<i8>();
            // SAFETY: a prefetch reads nothing and faults nowhere; SSE is part of x86_64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
        let _ = offset;
    }

    /// Sets the mark, for all that share it.
    #[inline]
    pub fn mark(&self) {
        let mark = &self.header().mark;
        // A store is dearer than a load: it takes the line away from other readers.
        if mark.load(Ordering::Relaxed) == 0 {
            mark.store(1, Ordering::Relaxed);
        }
    }

    /// Takes the mark away; true if it was set.
    pub fn take_mark(&self) -> bool {
        let mark = &self.header().mark;
        mark.load(Ordering::Relaxed) != 0 && mark.swap(0, Ordering::Relaxed) != 0
    }

    /// Bytes that it takes in memory, header and rounding included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let bytes = HEADER_LEN + self.len();
        if self.header().pool.is_null() { bytes } else { pool::slot_bytes(bytes) }
    }

    /// How many buffers share the bytes, about.
    #[must_use]
    pub fn share_count(&self) -> usize {
        self.header().refs.load(Ordering::Relaxed) as usize
    }

    /// Returns the memory.
    #[cold]
    fn free(&mut self) {
        let (slab, pool, len) = (self.header().slab, self.header().pool, self.len());
        let memory = self.0.cast::<u8>();
        if pool.is_null() {
            // SAFETY: allocated by `zeroed` with this layout, as its length has not changed; nobody points there any more.
            unsafe { dealloc(memory.as_ptr(), heap_layout(len)) };
            return;
        }
        // SAFETY: made by `Arc::into_raw` in `in_pool`, and given back this once.
        let pool = unsafe { Arc::from_raw(pool) };
        pool.give_back(memory, slab);
    }
}

/// Of a header and at most [`LEN_MAX`] bytes.
#[inline]
fn heap_layout(len: usize) -> Layout {
    Layout::from_size_align(HEADER_LEN + len, ALIGN)
        .unwrap_or_else(|_| unreachable!("below isize::MAX"))
}

impl Clone for Buffer {
    #[inline]
    fn clone(&self) -> Buffer {
        // Relaxed: who clones has one already, so nobody can be returning the memory.
        if self.header().refs.fetch_add(1, Ordering::Relaxed) > REFS_MAX {
            std::process::abort();
        }
        Buffer(self.0)
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        // Release, then Acquire: what others did with the bytes is over before they are returned.
        if self.header().refs.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.free();
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes lie there as long as a buffer points to them. While they are written, the only
        // buffer is inside of a `BufferMut`, which lends it out only along with itself.
        unsafe { slice::from_raw_parts(self.start(), self.header().len as usize) }
    }
}

impl Default for Buffer {
    /// Without bytes; allocates nothing.
    fn default() -> Buffer {
        EMPTY.0.refs.fetch_add(1, Ordering::Relaxed);
        Buffer(NonNull::from(&EMPTY.0))
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Buffer {
        BufferMut::from(bytes).freeze()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for BufferMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// SAFETY: the pointer is all that a buffer is, so `into_ptr`, `as_ptr` and `from_ptr` agree; equal pointers are equal
// headers; `clone` and `drop` count up and down by one, and neither unwinds.
unsafe impl RefCnt for Buffer {
    type Base = Header;

    #[inline]
    fn into_ptr(me: Buffer) -> *mut Header {
        std::mem::ManuallyDrop::new(me).0.as_ptr()
    }

    #[inline]
    fn as_ptr(me: &Buffer) -> *mut Header {
        me.0.as_ptr()
    }

    #[inline]
    unsafe fn from_ptr(ptr: *const Header) -> Buffer {
        // SAFETY: the caller passes what `into_ptr` returned, which was not null.
        Buffer(unsafe { NonNull::new_unchecked(ptr.cast_mut()) })
    }
}

#[cfg(test)]
mod tests;
