//! Stores into a file through a shared memory mapping.
//!
//! The only module of the crate with unsafe code. The mapping is never seen as a slice, neither here
//! nor outside: bytes enter it by one checked copy under a lock, and leave it by the page cache.
//! Behind the furthest store, and only there, a byte of a page may be stored over itself
//! ([`reach`](MappedFile::reach)).
#![expect(unsafe_code, reason = "a store into a memory mapping needs a raw pointer")]

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;

/// A whole file mapped for writing.
///
/// Invariant: the file had allocated blocks for all of its length when it was mapped, so that a store
/// cannot fail for lack of space (it could only be reported as a signal). Kept by `std_fs`. A file
/// shortened behind our back also ends in `SIGBUS`; segments are never shortened while open.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: MmapRaw,
    /// Held during each store: callers promise disjoint ranges, but a broken promise must not
    /// become a data race. About 15 ns when nobody else stores. Holds the end of the furthest store, or write announced.
    storing: Mutex<usize>,
    /// Pages before this were let go of by [`leave`](MappedFile::leave).
    left: AtomicUsize,
    /// Pages before this are dirty or were once written, as far as [`reach`](MappedFile::reach) knows.
    reached: AtomicUsize,
}

/// Fewer bytes than this are not worth system calls of their own.
const LEAVE_BYTES: usize = 64 << 10;
/// What a sync of little data writes beyond it, once for so many bytes.
const REACH_BYTES: usize = 64 << 10;
/// Stores behind this boundary keep their page; what the kernel's pages are larger than, it rounds itself.
const PAGE_BYTES: usize = 4 << 10;

/// Advice is given for so much at once: while the kernel follows it, no thread of the program gets new memory from it.
#[cfg(target_os = "linux")]
const STEP_BYTES: usize = 512 << 10;

/// `start..end` in pieces, each with its length.
#[cfg(target_os = "linux")]
fn steps(start: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    (start..end).step_by(STEP_BYTES).map(move |at| (at, STEP_BYTES.min(end - at)))
}

impl MappedFile {
    /// Maps the first `len` bytes of `file`; `len` must not exceed its length, and must not be 0. Blocks of a `fresh` file are
    /// allocated and were never written.
    pub(crate) fn new(file: &File, len: usize, fresh: bool) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        // Until `prefault` is called: or the first store into a page would have the kernel read far ahead, in blocks that were
        // never written, a pause of 18 ms for 8 MiB of zeros. Only a hint.
        let _refused = map.advise(memmap2::Advice::Random).is_err();
        let reached = AtomicUsize::new(if fresh { 0 } else { len });
        Ok(Self { map, storing: Mutex::new(0), left: AtomicUsize::new(0), reached })
    }

    /// Brings all pages into memory, with their entries in the page table. Only a hint.
    pub(crate) fn prefault(&self) {
        let _refused = self.map.advise(memmap2::Advice::Normal).is_err();
        #[cfg(target_os = "linux")]
        for (start, len) in steps(0, self.map.len()) {
            let _refused =
                self.map.advise_range(memmap2::Advice::PopulateRead, start, len).is_err();
        }
    }

    /// Lets the whole pages go that were stored to since the last call: their bytes stay in the page cache, unmapped. To be called
    /// before a sync, which would otherwise make each mapped page read-only by itself, and interrupt all processors of the program
    /// for each (3 us a page in a virtual machine, measured by `fillseq` of `benches/peers`); here that is done for many at once.
    /// Only a hint.
    pub(crate) fn leave(&self) {
        let end = *self.storing.lock() / PAGE_BYTES * PAGE_BYTES;
        let start = self.left.load(Ordering::Relaxed);
        if end < start.saturating_add(LEAVE_BYTES) {
            return;
        }
        self.left.fetch_max(end, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        for (start, len) in steps(start, end) {
            use memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: `DontNeed` frees nothing here: the mapping is shared and of a file (`map_raw` maps so), and a page of it that
            // is touched again comes back from the page cache with all that was stored. No reference into the mapping exists.
            let _refused =
                unsafe { self.map.unchecked_advise_range(DontNeed, start, len) }.is_err();
        }
    }

    /// Makes pages behind the furthest store dirty, so that the sync that follows writes them, too, as they are. A block that is
    /// written for the first time has the file system note that in its journal, and the sync waits for that as well (ext4: about
    /// twice the time of a sync, `fillsync@8` of `benches/peers`). With this it is one sync in [`REACH_BYTES`] of small records
    /// that waits, not one in each page. Does nothing where much was stored since the last call.
    pub(crate) fn reach(&self) {
        let end = *self.storing.lock();
        let reached = self.reached.fetch_max(end, Ordering::Relaxed);
        if end <= reached || end - reached > REACH_BYTES {
            return;
        }
        let to = ((end + REACH_BYTES) / PAGE_BYTES * PAGE_BYTES).min(self.map.len());
        self.reached.fetch_max(to, Ordering::Relaxed);
        for at in (end..to).step_by(PAGE_BYTES) {
            self.touch(at);
        }
    }

    /// Stores the byte at `at` over itself, unless a store or an announced write has come so far: it has the page dirty by itself,
    /// and this byte may be one that it is about to change.
    fn touch(&self, at: usize) {
        let furthest = self.storing.lock();
        if at < *furthest || at >= self.map.len() {
            return;
        }
        // SAFETY: `at` is below `map.len()` and bytes have no alignment. `storing` is held, and no write by a system call that
        // was announced reaches `at`, so that nothing else changes this byte between the two. Volatile: or the pair would be
        // optimised away.
        unsafe {
            let byte = self.map.as_mut_ptr().add(at);
            byte.write_volatile(byte.read_volatile());
        }
    }

    /// To be called before bytes up to `end` are written by system calls, beside the mapping: from here on nothing before `end`
    /// is touched by [`reach`](MappedFile::reach), which would put back what it read before the write.
    pub(crate) fn announce(&self, end: usize) {
        let mut furthest = self.storing.lock();
        *furthest = end.max(*furthest);
    }

    /// Copies `bytes` to `offset`; `InvalidInput` if the range leaves the mapping.
    pub(crate) fn store(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len()).filter(|end| *end <= self.map.len());
        let Some(end) = end else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut furthest = self.storing.lock();
        *furthest = end.max(*furthest);
        // SAFETY:
        // - target: `offset + bytes.len() <= map.len()` was checked above, and `self.map` keeps the mapping
        //   alive and writable (`map_raw` maps shared and read-write) while `&self` lives;
        // - source: a live slice of `bytes.len()` bytes; it cannot overlap the target, since no reference
        //   into the mapping is ever made, and `MmapRaw` is owned by this value alone;
        // - alignment: bytes have none;
        // - races: `storing` is held, as it is by `touch`, the only other access to the mapped memory in
        //   this program; reads of the file go through the kernel.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(offset), bytes.len())
        };
        Ok(())
    }
}
