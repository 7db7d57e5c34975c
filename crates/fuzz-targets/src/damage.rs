//! Damage to stored bytes, and checksums made right again.

use crate::source::Source;
use base::checksum::{crc32, xxh3_64};
use std::ops::Range;

/// Changes few enough bytes that no 32-bit checksum can be made right by chance or by the fuzzer.
pub(crate) const UNREPAIRED_BYTES_MAX: usize = 3;

/// Overwrites bytes of `image` inside `range`, as far as it has them; `each` bytes at most in one place.
pub(crate) fn edit(
    source: &mut Source<'_>,
    image: &mut [u8],
    range: Range<usize>,
    edits: usize,
    each: usize,
) {
    let end = range.end.min(image.len());
    let Some(bytes) = image.get_mut(range.start..end).filter(|bytes| !bytes.is_empty()) else {
        return;
    };
    for _ in 0..edits {
        let at = usize::from(source.u16()) % bytes.len();
        let new: &[u8] = match source.u8() % 8 {
            0 => &[0xff; 4],
            1 => &[0xff, 0xff, 0xff, 0x7f],
            2 => &[0x80; 9],
            3 => &[0; 8],
            4 => source.take(2),
            5 => source.take(8),
            _ => source.take(1),
        };
        let new = &new[..new.len().min(each).min(bytes.len() - at)];
        bytes[at..at + new.len()].copy_from_slice(new);
    }
}

/// What binds records to their file, as `wal::record` draws it.
pub(crate) fn identity_hash(db_id: u64, num: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&db_id.to_le_bytes());
    bytes[8..].copy_from_slice(&num.to_le_bytes());
    xxh3_64(&bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Makes place and checksum of the record at the front of `bytes` right, which lie at `position`; its length,
/// header and padding included, if it fits.
pub(crate) fn repair_record(bytes: &mut [u8], identity: u64, position: u64) -> Option<usize> {
    let kind_and_len = u32_at(bytes, 4)?;
    let len = wal::record::framed_len(kind_and_len as usize & wal::record::PAYLOAD_MAX);
    let record = bytes.get_mut(..len)?;
    let place = ((identity ^ position).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 | 1;
    record[12..16].copy_from_slice(&place.to_le_bytes());
    let crc = crc32(identity as u32, &[&record[4..]]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    Some(len)
}

/// Makes every record from `start` on right, up to the first whose length leaves the file or that is all zeros.
pub(crate) fn repair_records(file: &mut [u8], start: usize, identity: u64) {
    let mut at = start;
    while u32_at(file, at + 4).is_some_and(|word| word != 0) {
        match file.get_mut(at..).and_then(|rest| repair_record(rest, identity, at as u64)) {
            Some(len) => at += len,
            None => return,
        }
    }
}

/// Makes the CRC right that a header has behind its first `covered` bytes.
pub(crate) fn repair_header(file: &mut [u8], covered: usize) {
    if file.len() >= covered + 4 {
        let crc = crc32(0, &[&file[..covered]]);
        file[covered..covered + 4].copy_from_slice(&crc.to_le_bytes());
    }
}
