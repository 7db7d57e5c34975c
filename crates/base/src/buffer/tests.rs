//! Counts, pools and what becomes of their memory.

use super::*;
use crate::rng::Rng;
use crate::sync::leaf::ArcSwapAny;
use std::sync::atomic::AtomicBool;

fn filled(mut buffer: BufferMut, with: u8) -> Buffer {
    buffer.fill(with);
    buffer.freeze()
}

#[test]
fn bytes_notes_and_counts_come_back() {
    for len in [0, 1, 7, 64, 4096, 1 << 20] {
        let pool = Arc::new(Pool::new());
        for mut buffer in [BufferMut::zeroed(len), BufferMut::in_pool(len, &pool)] {
            assert_eq!(buffer.len(), len);
            buffer.set_notes([1, 2, 3, 4]);
            let buffer = filled(buffer, 9);
            let other = buffer.clone();
            assert_eq!((other.notes(), other.share_count()), ([1, 2, 3, 4], 2));
            drop(buffer);
            assert_eq!((&other[..], other.share_count()), (&vec![9; len][..], 1));
            assert!(other.memory_bytes() >= len + HEADER_LEN);
            assert!(other.memory_bytes() <= (len + HEADER_LEN) * 33 / 32 + 64);
        }
        assert_eq!(Arc::strong_count(&pool), 1, "each buffer gives its count back");
        assert_eq!(pool.mapped_bytes(), pool.waste_bytes());
    }
}

#[test]
fn the_empty_buffer_is_shared_and_never_freed() {
    for _ in 0..3 {
        let buffer = Buffer::default();
        assert!(buffer.is_empty() && buffer.clone().is_empty());
        assert_eq!(buffer.notes(), [0; 4]);
    }
    assert!(EMPTY.0.refs.load(Ordering::Relaxed) >= 1);
}

#[test]
fn a_mark_is_taken_once() {
    let buffer = Buffer::from(&b"bytes"[..]);
    assert!(!buffer.take_mark());
    buffer.clone().mark();
    buffer.mark();
    assert!(buffer.take_mark() && !buffer.take_mark());
}

/// Each buffer keeps its own bytes while others of many sizes come and go, and all memory is given back.
#[test]
fn slots_do_not_overlap_and_slabs_go_when_empty() {
    let (pool, mut rng) = (Arc::new(Pool::new()), Rng::new(7));
    let mut held: Vec<(u8, Buffer)> = Vec::new();
    for i in 0..20_000u32 {
        if held.len() > 600 || (i > 10_000 && !held.is_empty() && rng.below(100) < 60) {
            let (with, gone) = held.swap_remove(rng.below(held.len() as u64) as usize);
            assert!(gone.iter().all(|&byte| byte == with), "another buffer was written over it");
        }
        let len = match rng.below(10) {
            0 => rng.below(200_000),
            1..3 => rng.below(40_000),
            _ => 4000 + rng.below(300),
        };
        let buffer = BufferMut::in_pool(len as usize, &pool);
        held.push((i as u8, filled(buffer, i as u8)));
        let used: usize = held.iter().map(|(_, b)| b.memory_bytes()).sum();
        assert!(pool.mapped_bytes() - pool.waste_bytes() <= used);
    }
    assert!(pool.mapped_bytes() > 0 || cfg!(not(unix)));
    drop(held);
    assert_eq!(pool.mapped_bytes(), pool.waste_bytes());
    assert!(pool.mapped_bytes() <= 8 << 20, "a few spare slabs stay");
    assert_eq!(Arc::strong_count(&pool), 1);
}

#[test]
fn a_pool_lives_as_long_as_its_buffers() {
    let pool = Arc::new(Pool::new());
    let watch = Arc::downgrade(&pool);
    let buffer = filled(BufferMut::in_pool(5000, &pool), 3);
    drop(pool);
    assert!(buffer.iter().all(|&byte| byte == 3));
    drop(buffer);
    assert!(watch.upgrade().is_none());
}

/// Readers of a slot whose buffer is swapped all the time see whole buffers only.
#[test]
fn a_slot_swapped_under_readers_lends_whole_buffers() {
    let pool = Arc::new(Pool::new());
    let make = |with: u8| filled(BufferMut::in_pool(4100, &pool), with);
    let slot: ArcSwapAny<Option<Buffer>> = ArcSwapAny::new(Some(make(0)));
    let (over, seen) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let reader = || {
            while !over.load(Ordering::Relaxed) {
                let lent = slot.load();
                if let Some(buffer) = &*lent {
                    let first = buffer[0];
                    assert!(buffer.iter().all(|&byte| byte == first));
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(kept) = slot.load_full() {
                    assert_eq!(kept.first(), kept.last());
                }
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let mut swaps = 0u32;
        // On a busy machine it may take a while until they run.
        while swaps < 20_000
            || (seen.load(Ordering::Relaxed) < 1000 && !readers.iter().any(|r| r.is_finished()))
        {
            slot.store((!swaps.is_multiple_of(5)).then(|| make(swaps as u8)));
            swaps = swaps.wrapping_add(1);
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("whole buffers only");
        }
    });
    drop(slot);
    assert_eq!((pool.mapped_bytes(), Arc::strong_count(&pool)), (pool.waste_bytes(), 1));
}
