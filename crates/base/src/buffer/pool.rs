//! Memory for many buffers of like size, in huge pages.
//!
//! A cache of a gigabyte in pages of 4 KiB is more than the processor can keep addresses of.
//!
//! A *slab* is 2 MiB cut into slots of one size, of which there are 32 between each power of two and the next: at most 3 %
//! of a slot are lost. A slab whose last slot comes back serves any size again, and beyond a few of these is unmapped. So memory in slots of sizes that are not asked for any more is
//! lost until all of a slab has come back; [`Pool::waste_bytes`] says how much that is.

#![deny(unsafe_code)]

use crate::pages::{HUGE_PAGE_BYTES, Pages};
use crate::sync::leaf::Mutex;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

const SLAB_BYTES: usize = HUGE_PAGE_BYTES;
/// Slots of a size begin at a multiple of this: a cache line.
const SLOT_ALIGN: usize = 64;
/// Larger buffers go to the heap, where they are rare and have huge pages of their own if it so pleases the system.
const SLOT_MAX: usize = SLAB_BYTES / 16;

/// Slabs without a buffer that are kept for the next: to get one from the system takes as long as to fill it.
const SPARE_MAX: usize = 4;

/// Memory for buffers in slabs of 2 MiB. Lives as long as any buffer in it.
#[derive(Debug, Default)]
pub struct Pool {
    state: Mutex<State>,
    /// Bytes of all slabs.
    mapped: AtomicUsize,
    /// Bytes of the slots given out.
    used: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Option<Slab>>,
    spare: Vec<Pages>,
    /// Numbers of no slab.
    vacant: Vec<u32>,
    /// For each size of a slot the slabs with some to give.
    open: BTreeMap<usize, Vec<u32>>,
}

#[derive(Debug)]
struct Slab {
    memory: Pages,
    slot_bytes: usize,
    /// Slots that came back.
    free: Vec<u16>,
    /// Slots from this one on were never given out: their memory may not be there yet.
    fresh: u16,
    given: u16,
}

/// Bytes of the slot for `bytes`.
pub(super) fn slot_bytes(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 64).max(SLOT_ALIGN);
    bytes.next_multiple_of(step)
}

impl Pool {
    /// Without memory so far.
    #[must_use]
    pub fn new() -> Pool {
        Pool::default()
    }

    /// Bytes taken from the system.
    #[must_use]
    pub fn mapped_bytes(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Bytes taken from the system that no buffer is in.
    #[must_use]
    pub fn waste_bytes(&self) -> usize {
        self.mapped_bytes().saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// A slot for `bytes`, aligned to a cache line, initialized, and nobody else's until it is given back; and the number of
    /// its slab. `None` if that is too large, or the system gives no memory this way.
    pub(super) fn take(&self, bytes: usize) -> Option<(NonNull<u8>, u32)> {
        let slot_bytes = slot_bytes(bytes);
        if slot_bytes > SLOT_MAX {
            return None;
        }
        let mut state = self.state.lock();
        let number = match state.open.get(&slot_bytes).and_then(|open| open.last()) {
            Some(number) => *number,
            None => {
                let memory = match state.spare.pop() {
                    Some(memory) => memory,
                    None => {
                        let memory = Pages::zeroed(SLAB_BYTES)?;
                        self.mapped.fetch_add(SLAB_BYTES, Ordering::Relaxed);
                        memory
                    }
                };
                state.add_slab(memory, slot_bytes)?
            }
        };
        let slab = state.slabs.get_mut(number as usize)?.as_mut()?;
        let slot = slab.take();
        let place = slab.memory.at(usize::from(slot) * slot_bytes)?;
        if slab.is_full() {
            state.open.entry(slot_bytes).or_default().retain(|open| *open != number);
        }
        self.used.fetch_add(slot_bytes, Ordering::Relaxed);
        Some((place, number))
    }

    /// Takes back the slot at `place`, of slab `number`. Nobody points there any more.
    pub(super) fn give_back(&self, place: NonNull<u8>, number: u32) {
        let mut state = self.state.lock();
        let State { slabs, spare, vacant, open } = &mut *state;
        let Some(entry) = slabs.get_mut(number as usize) else { return };
        let Some(slab) = entry else { return };
        let slot_bytes = slab.slot_bytes;
        self.used.fetch_sub(slot_bytes, Ordering::Relaxed);
        let open = open.entry(slot_bytes).or_default();
        if slab.is_full() {
            open.push(number);
        }
        slab.free.push((slab.memory.offset_of(place) / slot_bytes) as u16);
        slab.given -= 1;
        if slab.given == 0 {
            open.retain(|open| *open != number);
            vacant.push(number);
            let Some(Slab { memory, .. }) = entry.take() else { return };
            if spare.len() < SPARE_MAX {
                spare.push(memory);
                return;
            }
            self.mapped.fetch_sub(SLAB_BYTES, Ordering::Relaxed);
            drop(state);
            drop(memory);
        }
    }
}

impl State {
    /// Cuts `memory` into slots.
    fn add_slab(&mut self, memory: Pages, slot_bytes: usize) -> Option<u32> {
        let slab = Slab { memory, slot_bytes, free: Vec::new(), fresh: 0, given: 0 };
        let number = match self.vacant.pop() {
            Some(number) => number,
            None => {
                self.slabs.push(None);
                u32::try_from(self.slabs.len() - 1).ok()?
            }
        };
        *self.slabs.get_mut(number as usize)? = Some(slab);
        self.open.entry(slot_bytes).or_default().push(number);
        Some(number)
    }
}

impl Slab {
    fn slots(&self) -> u16 {
        (SLAB_BYTES / self.slot_bytes) as u16
    }

    fn is_full(&self) -> bool {
        self.given == self.slots()
    }

    /// A free slot. The slab is not full.
    fn take(&mut self) -> u16 {
        self.given += 1;
        self.free.pop().unwrap_or_else(|| {
            self.fresh += 1;
            self.fresh - 1
        })
    }
}
