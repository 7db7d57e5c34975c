//! The slots of a hash index: zeros from the system.

use super::Slot;
use base::pages::{HUGE_PAGE_BYTES, Pages};
use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

/// As many slots as were asked for, all vacant at first. Large ones are in huge pages: slots are touched at random, and the first touch
/// of each page of 4 KiB is two faults, one to read it and one to write, with an interrupt to all processors of the program; an index of
/// 16 MiB took 5 ms to begin with.
#[derive(Debug)]
pub(crate) struct Slots {
    first: NonNull<Slot>,
    len: usize,
    /// Where they are, if not on the heap.
    pages: Option<Pages>,
}

// SAFETY: the memory is its own, and what lies in it is `Send`.
unsafe impl Send for Slots {}
// SAFETY: shared it lends out `&[Slot]`, which is `Sync`.
unsafe impl Sync for Slots {}

impl Slots {
    pub(crate) fn vacant(len: usize) -> Slots {
        let len = len.max(1);
        let Ok(layout) = Layout::array::<Slot>(len) else { panic!("size overflow") };
        if layout.size() >= HUGE_PAGE_BYTES
            && !cfg!(miri)
            && let Some(pages) = Pages::zeroed(layout.size())
            && let Some(first) = pages.at(0)
        {
            return Slots { first: first.cast(), len, pages: Some(pages) };
        }
        // SAFETY: the layout is not empty.
        let first = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(first) = NonNull::new(first) else { handle_alloc_error(layout) };
        Slots { first: first.cast(), len, pages: None }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if self.pages.is_none() {
            let slots = ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.len);
            // SAFETY: `vacant` allocated it with the layout of this slice, on the heap; nobody borrows it any more.
            drop(unsafe { Box::from_raw(slots) });
        }
    }
}

impl Deref for Slots {
    type Target = [Slot];

    #[inline]
    fn deref(&self) -> &[Slot] {
        // SAFETY: `vacant` got `len` slots there, aligned for them (a page, or their layout), and zeros are valid atomics. They live as
        // long as `self`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl DerefMut for Slots {
    fn deref_mut(&mut self) -> &mut [Slot] {
        // SAFETY: as above, and `&mut self` says that nobody else borrows them.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}
