//! Bloom filters.

use crate::damage::edit;
use crate::source::Source;
use base::checksum::key_hash;

/// Bytes as a filter, or keys that make one.
pub fn filter(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        if source.flag() {
            made(&mut source);
        } else {
            ask(source.rest());
        }
    });
}

/// Any question gets an answer; where the bytes are a filter it says which line it looked at.
fn ask(bytes: &[u8]) {
    let Ok(filter) = bloom::Filter::parse(bytes) else { return };
    assert_eq!(filter.as_bytes(), bytes);
    assert!(filter.lines() * bloom::LINE_LEN + bloom::FOOTER_LEN == bytes.len());
    for n in 0..64u64 {
        let hash = key_hash(&n.to_le_bytes());
        let line = filter.line_of(hash);
        assert!(line < filter.lines().max(1));
        assert!(filter.lines() > 0 || !filter.may_contain(hash), "the empty set holds nothing");
        filter.may_contain(hash);
    }
    filter.may_contain(u64::MAX);
}

fn made(source: &mut Source<'_>) {
    let bits = u32::from(source.u8() % 40);
    let Ok(mut builder) = bloom::Builder::new(bits) else {
        return assert!(!(1..=bloom::BITS_PER_KEY_MAX).contains(&bits));
    };
    let damaged = source.flag();
    let mut hashes = Vec::new();
    let count = source.u8();
    for n in 0..count {
        let raw = source.number();
        hashes.push(if n.is_multiple_of(2) { raw } else { key_hash(&raw.to_le_bytes()) });
    }
    hashes.iter().for_each(|&hash| builder.add(hash));
    assert_eq!(builder.len(), hashes.len());
    let mut bytes = builder.finish();
    let parsed = bloom::Filter::parse(&bytes[..]).expect("own bytes");
    assert!(hashes.iter().all(|&hash| parsed.may_contain(hash)), "a key is denied");
    if damaged {
        let end = bytes.len();
        let edits = 1 + source.below(4);
        edit(source, &mut bytes, end.saturating_sub(24)..end, edits, 4);
        ask(&bytes);
    }
}
