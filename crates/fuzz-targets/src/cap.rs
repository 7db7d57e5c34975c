//! An allocator that notices one allocation too large, and makes use of stale memory visible.
//!
//! Fresh memory is filled with `0xA1` and freed memory with `0xDE`, so that a read of either shows as a difference.
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

const FRESH: u8 = 0xa1;
const FREED: u8 = 0xde;
/// Refused while a limit is set: no machine has it to spare.
const ABSURD: usize = 1 << 30;

thread_local! {
    /// 0 = no limit. Of this thread, so that tests beside each other do not meet.
    static LIMIT: Cell<usize> = const { Cell::new(0) };
    static WORST: Cell<usize> = const { Cell::new(0) };
}

/// Passes on to the allocator of the system.
#[derive(Debug)]
struct Capped;

#[global_allocator]
static ALLOCATOR: Capped = Capped;

/// Notes a request; false if it is not to be granted. Never unwinds: an allocator must not.
fn admit(size: usize) -> bool {
    let limit = LIMIT.try_with(Cell::get).unwrap_or(0);
    if limit == 0 || size <= limit {
        return true;
    }
    let noted = WORST.try_with(|worst| worst.set(worst.get().max(size)));
    noted.is_ok() && size < ABSURD
}

// SAFETY: every block comes from and goes back to `System` with the layout of the caller. The fills stay inside
// the `layout.size()` bytes that the block has, before the caller gets it or after the caller gave it up.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !admit(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has `layout.size()` bytes and nobody else knows it.
            unsafe { block.write_bytes(FRESH, layout.size()) };
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !admit(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up the block of `layout.size()` bytes, which came from `System`.
        unsafe {
            block.write_bytes(FREED, layout.size());
            System.dealloc(block, layout);
        }
    }
}

/// Takes the limit away again, also if the body panics.
struct Limited;

impl Drop for Limited {
    fn drop(&mut self) {
        LIMIT.set(0);
    }
}

/// Runs `body`; no single allocation in it may pass `limit` bytes.
///
/// # Panics
/// If one did, with its size, after the body has run. One of 1 GiB or more ends the process at once.
pub fn limited(limit: usize, body: impl FnOnce()) {
    WORST.set(0);
    LIMIT.set(limit);
    let armed = Limited;
    body();
    drop(armed);
    let worst = WORST.get();
    assert!(worst <= limit, "one allocation of {worst} bytes, the limit is {limit}");
}

/// Runs `body` over `data` with the usual limit: four times the input, at least 4 MiB.
pub(crate) fn decoding(data: &[u8], body: impl FnOnce()) {
    limited(data.len().saturating_mul(4).max(4 << 20), body);
}
