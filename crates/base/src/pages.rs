//! [`Pages`]: memory straight from the system, in huge pages where it has them.
//!
//! What is touched at random over many megabytes waits at each touch for a walk through the page tables, and inside a virtual
//! machine for two; and each page of 4 KiB comes through a fault of its own. Here 2 MiB are one page.

#[cfg(unix)]
pub use system::Pages;

/// One huge page, where processors have them of this size.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

#[cfg(unix)]
mod system {
    use memmap2::{MmapMut, MmapOptions, MmapRaw};
    use std::ptr::NonNull;

    /// A mapping of zeros.
    #[derive(Debug)]
    pub struct Pages(MmapRaw);

    impl Pages {
        /// `bytes` zeros, best a multiple of [`HUGE_PAGE_BYTES`](super::HUGE_PAGE_BYTES); `None` if the system gives none this way.
        #[must_use]
        pub fn zeroed(bytes: usize) -> Option<Pages> {
            let map = MmapMut::map_anon(bytes).ok()?;
            // The system may refuse: then it is memory as any other.
            #[cfg(target_os = "linux")]
            let _refused = map.advise(memmap2::Advice::HugePage).is_err();
            Some(Pages(MmapRaw::from(map)))
        }

        /// `bytes` zeros, in pages of the usual size that are all there when this returns: no touch of one is a fault. `None` if the
        /// system gives none this way.
        #[must_use]
        pub fn populated(bytes: usize) -> Option<Pages> {
            let map = MmapOptions::new().len(bytes).populate().map_anon().ok()?;
            Some(Pages(MmapRaw::from(map)))
        }

        /// The place at `offset`, which must lie inside.
        #[must_use]
        pub fn at(&self, offset: usize) -> Option<NonNull<u8>> {
            NonNull::new(self.0.as_mut_ptr().wrapping_add(offset))
        }

        /// What [`at`](Pages::at) was asked for to return `place`.
        #[must_use]
        pub fn offset_of(&self, place: NonNull<u8>) -> usize {
            place.as_ptr() as usize - self.0.as_mut_ptr() as usize
        }
    }
}

#[cfg(not(unix))]
pub use nowhere::Pages;

#[cfg(not(unix))]
mod nowhere {
    use std::ptr::NonNull;

    /// Never made: memory comes from the heap.
    #[derive(Debug)]
    pub enum Pages {}

    impl Pages {
        /// Always `None`.
        #[must_use]
        pub fn zeroed(_bytes: usize) -> Option<Pages> {
            None
        }

        /// Always `None`.
        #[must_use]
        pub fn populated(_bytes: usize) -> Option<Pages> {
            None
        }

        /// Never called.
        #[must_use]
        pub fn at(&self, _offset: usize) -> Option<NonNull<u8>> {
            match *self {}
        }

        /// Never called.
        #[must_use]
        pub fn offset_of(&self, _place: NonNull<u8>) -> usize {
            match *self {}
        }
    }
}
