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
/// Chunks of the largest size are pages of the system, which the allocator does not see.
const LARGE: isize = 1 << 20;

/// What the allocator gave out is what the table says, but for whole large chunks; and the records are in what it says.
fn check(table: &Memtable, region: &Region<'_, System>, records: isize, when: &str) {
    let (held, said) = (held(region), table.size_bytes() as isize);
    let gap = (held - said).rem_euclid(LARGE);
    assert!(gap < FIXED, "{gap} bytes more are held {when}, beside large chunks");
    let unseen = said - held + gap;
    assert!(unseen >= 0, "{unseen} bytes are held that nobody accounts for {when}");
    assert!(said >= records, "{said} bytes for records of {records} {when}");
    // One of them may have just been begun.
    assert!(
        unseen <= records + LARGE,
        "{unseen} bytes of large chunks for records of {records} {when}"
    );
}

#[test]
fn the_bytes_are_those_of_the_allocator() {
    for expected in [0, 10_000] {
        let region = Region::new(COUNTING);
        let table = Arc::new(Memtable::new(expected));
        let mut kept = Vec::with_capacity(16);
        let mut records = 0;
        for i in 0..30_000u64 {
            let key = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            let versioned = InternalKey::new(&key, SeqNo(i + 1), ValueKind::Put);
            table.insert(key_hash(&key), versioned, &[1; 100][..(i % 100) as usize]);
            records += (24 + 8 + (i % 100) as isize + 7) / 8 * 8;
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
                check(&table, &region, records, &format!("at {i}"));
            }
        }
        drop(kept);
        check(&table, &region, records, "without iterators");
        drop(table);
        assert!(held(&region) < FIXED, "{} bytes stay", held(&region));
    }
}
