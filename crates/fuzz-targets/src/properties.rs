//! What a table says about itself: properties, range tombstones, footer; and the stored policy of a keyspace.

use crate::source::Source;
use base::checksum::block_checksum;
use compaction::Policy;
use sstable::{FOOTER_LEN, fuzzing};
use std::path::Path;

const ID: u64 = 42;

/// Bytes as one of the four, by the first byte.
pub fn properties(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        match source.u8() % 5 {
            0 => check_properties(source.rest()),
            1 => check_tombstones(source.rest()),
            2 => check_footer(&mut source, false),
            3 => check_footer(&mut source, true),
            _ => check_policy(source.rest()),
        }
    });
}

fn check_properties(bytes: &[u8]) {
    let Ok(found) = fuzzing::decode_properties(bytes) else { return };
    let again = fuzzing::encode_properties(&found);
    assert_eq!(fuzzing::decode_properties(&again).as_ref(), Ok(&found));
}

fn check_tombstones(bytes: &[u8]) {
    let Some(found) = fuzzing::decode_tombstones(bytes) else { return };
    assert!(found.as_slice().len() <= bytes.len());
    let again = fuzzing::encode_tombstones(&found);
    assert_eq!(fuzzing::decode_tombstones(&again).as_ref(), Some(&found));
    for fragment in found.as_slice() {
        assert_eq!(found.find(&fragment.start), Some(fragment), "a fragment is not found");
        assert!(found.find(&fragment.end).is_none_or(|next| next.start == fragment.end));
        assert!(fragment.seqs.iter().all(|&seq| seq <= base::SeqNo::MAX));
    }
}

fn check_footer(source: &mut Source<'_>, repaired: bool) {
    let offset = source.number();
    let mut bytes = [0; FOOTER_LEN];
    let given = source.take(FOOTER_LEN);
    bytes[..given.len()].copy_from_slice(given);
    if repaired {
        bytes[64..72].copy_from_slice(&ID.to_le_bytes());
        let checksum = block_checksum(&bytes[..76], ID, offset);
        bytes[76..80].copy_from_slice(&checksum.to_le_bytes());
        bytes[80..].copy_from_slice(b"ESKERSST");
    }
    let Ok([top, filter, tombstones, properties]) =
        fuzzing::decode_footer(&bytes, Path::new("/t"), ID, offset)
    else {
        return;
    };
    assert!(top.0 <= filter.0 && filter.0 <= tombstones.0 && tombstones.0 <= properties.0);
    assert!(properties.0 < offset, "blocks lie before the footer");
}

fn check_policy(bytes: &[u8]) {
    let Ok(policy) = Policy::decode(bytes) else { return };
    assert!(policy.validate().is_ok());
    assert_eq!(Policy::decode(&policy.encode()).as_ref().ok(), Some(&policy));
}
