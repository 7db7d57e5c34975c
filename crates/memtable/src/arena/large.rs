//! Chunks of the largest size: pages of the system that are there at once.

use super::{CHUNK_MAX, UNIT};
use base::pages::Pages;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const LAYOUT: Layout = match Layout::from_size_align(CHUNK_MAX, UNIT) {
    Ok(layout) => layout,
    Err(_) => panic!("a mebibyte is a size"),
};

/// `CHUNK_MAX` bytes of memory of its own, 8-aligned, not initialized.
#[derive(Debug)]
pub(super) struct LargeChunk {
    base: NonNull<u8>,
    /// Where it is, if not on the heap.
    pages: Option<Pages>,
}

// SAFETY: nobody else points to it, but for those it is lent to; they say why they may.
unsafe impl Send for LargeChunk {}

impl LargeChunk {
    /// It will be filled for certain, so all its pages are asked for at once: a fault for each costs microseconds in a virtual
    /// machine, with 4 KiB of records between two of them.
    pub(super) fn new() -> LargeChunk {
        if !cfg!(miri)
            && let Some(pages) = Pages::populated(CHUNK_MAX)
            && let Some(base) = pages.at(0)
        {
            return LargeChunk { base, pages: Some(pages) };
        }
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(LAYOUT) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(LAYOUT) };
        LargeChunk { base, pages: None }
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for LargeChunk {
    fn drop(&mut self) {
        if self.pages.is_none() {
            // SAFETY: `new` allocated it with this layout, and `&mut self` says that it is lent to nobody.
            unsafe { dealloc(self.base.as_ptr(), LAYOUT) };
        }
    }
}
