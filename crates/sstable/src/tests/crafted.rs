//! Bytes that somebody made, with checksums that are right: no panic, no endless walk, no length believed.

use super::*;
use crate::block::Block;
use crate::envelope::{Handle, TRAILER_LEN};
use crate::footer::FOOTER_LEN;
use base::checksum::block_checksum;
use proptest::prelude::*;
use proptest::sample;

fn all_blocks(table: &TableReader) -> Vec<Handle> {
    let mut handles = Vec::new();
    let index = table.read_index(|handle| handles.push(handle)).expect("sound");
    handles.extend((0..index.len()).filter_map(|i| index.handle(i)));
    let footer = table.footer();
    handles.extend([footer.filter, footer.tombstones, footer.properties]);
    handles
}

/// Makes the checksum of a block right.
fn reseal(bytes: &mut [u8], handle: Handle) {
    let stored = &mut bytes[handle.offset as usize..handle.end() as usize];
    let (tagged, checksum) = stored.split_at_mut(stored.len() - TRAILER_LEN + 1);
    checksum.copy_from_slice(&block_checksum(tagged, ID, handle.offset).to_le_bytes());
}

fn reseal_footer(bytes: &mut [u8]) {
    let start = bytes.len() - FOOTER_LEN;
    let checksum = block_checksum(&bytes[start..start + 76], ID, start as u64);
    bytes[start + 76..start + 80].copy_from_slice(&checksum.to_le_bytes());
}

/// Uses the table in every way; answers do not matter.
fn exercise(bytes: Vec<u8>) {
    let entries_max = bytes.len() * 255;
    let Ok(table) = open_bytes(bytes) else {
        return;
    };
    drop(table.verify());
    for (key, seq, ..) in sample_rows().iter().step_by(5) {
        drop(get(&table, key, *seq));
        assert!(table.approximate_offset(key) <= table.size_bytes());
        let mut it = table.iter(CacheHint::NoFill);
        let target = InternalKey::seek_at(key, SeqNo(*seq));
        drop(it.seek(target).and_then(|()| if it.valid() { it.prev() } else { Ok(()) }));
        drop(it.seek_for_prev(target).and_then(|()| if it.valid() { it.next() } else { Ok(()) }));
    }
    for (forward, hint) in
        [(true, CacheHint::Fill), (false, CacheHint::Fill), (true, CacheHint::NoFill)]
    {
        assert!(walk(&table, forward, hint).0.len() <= entries_max);
    }
    assert!(table.memory_bytes() < 64 << 20);
}

fn any_change() -> impl Strategy<Value = (sample::Index, Vec<u8>)> {
    let bytes = prop_oneof![
        4 => any::<u8>().prop_map(|b| vec![b]),
        1 => Just(vec![0xff; 4]),
        1 => Just(vec![0xff, 0xff, 0xff, 0x7f]),
        1 => Just(vec![0x80; 9]),
        1 => prop::collection::vec(any::<u8>(), 1..9),
    ];
    (any::<sample::Index>(), bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn resealed_blocks_do_no_harm(
        lz4: bool,
        block: sample::Index,
        changes in prop::collection::vec(any_change(), 1..4),
    ) {
        let compression = if lz4 { Compression::Lz4 } else { Compression::None };
        let mut bytes = sample_table(compression);
        let table = open_bytes(bytes.clone()).expect("sound");
        let handle = *block.get(&all_blocks(&table));
        for (at, new) in changes {
            let at = handle.offset as usize + at.index(handle.len as usize + 1);
            let end = (at + new.len()).min(handle.end() as usize);
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        reseal(&mut bytes, handle);
        exercise(bytes);
    }

    #[test]
    fn resealed_footers_do_no_harm(changes in prop::collection::vec(any_change(), 1..3)) {
        let mut bytes = sample_table(Compression::Lz4);
        let start = bytes.len() - FOOTER_LEN;
        for (at, new) in changes {
            let at = start + at.index(76);
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        reseal_footer(&mut bytes);
        exercise(bytes);
    }

    #[test]
    fn any_bytes_are_a_block_or_not(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        tail: bool,
        derived: bool,
    ) {
        if tail {
            bytes.extend_from_slice(&[2, 0, 0, 0, 16, 0, if derived { 3 } else { 1 }, 0]);
        }
        let len = bytes.len();
        if let Ok(block) = Block::parse(bytes[..].into(), len) {
            block.get(3, b"key", SeqNo(7));
            block.lower_bound(InternalKey::before_all(b"key"));
        }
    }
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let mut bytes = sample_table(Compression::None);
    let start = bytes.len() - FOOTER_LEN;
    bytes[start + 72] = 2;
    reseal_footer(&mut bytes);
    let e = open_bytes(bytes).expect_err("newer");
    assert!(matches!(e, Error::UnsupportedFormat { found: 2, supported: 1, .. }), "{e:?}");
}

#[test]
fn lengths_of_compressed_blocks_are_not_believed() {
    let bytes = sample_table(Compression::Lz4);
    let table = open_bytes(bytes.clone()).expect("sound");
    let index = table.index().expect("sound");
    let compressed =
        |i: &usize| bytes[index.handle(*i).expect("block").end() as usize - TRAILER_LEN] == 1;
    let number = (0..index.len()).find(compressed).expect("some block shrinks");
    let handle = index.handle(number).expect("block");
    for claim in [0u32, 1, 170, 5_000, 70_000_000, u32::MAX] {
        let mut bytes = bytes.clone();
        bytes[handle.offset as usize..][..4].copy_from_slice(&claim.to_le_bytes());
        reseal(&mut bytes, handle);
        let table = open_bytes(bytes).expect("opens");
        assert!(table.verify().is_err_and(|e| e.is_corruption()), "claim={claim}");
    }
}

#[test]
fn verify_sees_what_checksums_do_not() {
    let sound = sample_table(Compression::None);
    let table = open_bytes(sound.clone()).expect("sound");
    let index = table.index().expect("sound");
    // A changed key byte that keeps the block well-formed: order, tag, filter or bounds give it away.
    let handle = index.handle(2).expect("block");
    let payload = handle.offset as usize..(handle.offset + handle.len) as usize;
    let at = payload.start
        + sound[payload.clone()].windows(3).position(|w| w == b"key").expect("a restart key");
    let mut bytes = sound.clone();
    bytes[at + 4] = b'~';
    reseal(&mut bytes, handle);
    assert!(open_bytes(bytes).expect("opens").verify().is_err_and(|e| e.is_corruption()));
    // A property that claims one entry more.
    let properties = table.footer().properties;
    let mut bytes = sound;
    bytes[properties.offset as usize + 2] ^= 1;
    reseal(&mut bytes, properties);
    let e = open_bytes(bytes).expect("opens").verify().expect_err("wrong count");
    assert!(e.to_string().contains("properties disagree"), "{e}");
}
