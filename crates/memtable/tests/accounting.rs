//! What the table says it holds, against what the allocator gave out. One test, since the counter is of the process.

use base::checksum::key_hash;
use base::{InternalIterator, InternalKey, RangeTombstone, SeqNo, ValueKind};
use memtable::Memtable;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn held(region: &Region<'_, System>) -> isize {
    let stats = region.change();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// The table itself, its account and the lists of the `arc_swap` crate.
const FIXED: isize = 8 << 10;

#[test]
fn the_bytes_are_those_of_the_allocator() {
    // Less than a chunk of the largest size holds: those are pages of the system, which the allocator does not see.
    for expected in [0, 10_000] {
        let region = Region::new(COUNTING);
        let table = Arc::new(Memtable::new(expected));
        let mut kept = Vec::with_capacity(16);
        for i in 0..9_000u64 {
            let key = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            let versioned = InternalKey::new(&key, SeqNo(i + 1), ValueKind::Put);
            table.insert(key_hash(&key), versioned, &[1; 100][..(i % 100) as usize]);
            if i % 1000 == 0 {
                let (start, end) = (key.to_vec(), vec![255; 9]);
                table.insert_range_tombstone(RangeTombstone { start, end, seq: SeqNo(i + 1) });
                let mut it = table.iter();
                it.seek_to_first().unwrap();
                if i % 3000 == 0 {
                    kept.push(it);
                }
                if i % 7000 == 0 {
                    assert!(!table.range_tombstones().is_empty());
                }
            }
            if i % 500 == 0 {
                let gap = held(&region) - table.size_bytes() as isize;
                assert!((0..FIXED).contains(&gap), "{gap} bytes more are held at {i}");
            }
        }
        drop(kept);
        let gap = held(&region) - table.size_bytes() as isize;
        assert!((0..FIXED).contains(&gap), "{gap} bytes more are held without iterators");
        drop(table);
        assert!(held(&region) < FIXED, "{} bytes stay", held(&region));
    }
}
