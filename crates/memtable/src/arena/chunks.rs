//! The table of chunks: grows without moving, so that readers need no lock.

use crate::account::Account;
use base::sync::leaf::atomic::{AtomicPtr, AtomicU32, AtomicUsize};
use std::sync::OnceLock;

/// Segment `k` has `8 << k` places.
const SEGMENTS: usize = 13;

/// Where a chunk lies. Written once, before the first reference into it is published.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) base: AtomicPtr<u8>,
    pub(super) bytes: AtomicUsize,
    /// Units filled once nothing more comes; 0 while the chunk is open.
    pub(super) used: AtomicU32,
}

#[derive(Debug, Default)]
pub(super) struct Chunks([OnceLock<Box<[Chunk]>>; SEGMENTS]);

impl Chunks {
    /// A chunk that exists.
    #[inline]
    pub(super) fn get(&self, id: u32) -> &Chunk {
        let (segment, place) = locate(id);
        &self.0[segment].get().expect("a reference names a chunk that exists")[place]
    }

    /// The place for a new chunk.
    pub(super) fn add(&self, id: u32, account: &Account) -> &Chunk {
        let (segment, place) = locate(id);
        let places = 8usize << segment;
        &self.0[segment].get_or_init(|| {
            account.add(places * size_of::<Chunk>());
            (0..places).map(|_| Chunk::default()).collect()
        })[place]
    }

    /// All that exist, and some that do not yet, with a null base.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.0.iter().filter_map(OnceLock::get).flatten()
    }

    /// Bytes of all chunks and of this table, counted one by one.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        let bytes =
            |c: &Chunk| c.bytes.load(std::sync::atomic::Ordering::Relaxed) + size_of::<Chunk>();
        self.iter().map(bytes).sum()
    }
}

/// Segment and place in it.
#[inline]
fn locate(id: u32) -> (usize, usize) {
    let shifted = id + 8;
    let segment = shifted.ilog2() - 3;
    (segment as usize, (shifted - (8 << segment)) as usize)
}
