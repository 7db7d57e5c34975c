//! One entry of a data block.
//!
//! ```text
//! size field
//!    1 head        low 4 bits the value kind, high 4 bits the number of bytes of `seq`, 0 to 7
//!  1-3 shared      varint, bytes shared with the restart key of the group; 0 in a restart
//!  1-3 suffix_len  varint
//!  1-4 value_len   varint
//!  0-7 seq         LE, as many bytes as `head` says
//!      suffix      the rest of the user key
//!      value
//! ```
//! Four to five bytes of lengths and a sequence number without leading zeros: usual entries are
//! decoded from two 8-byte loads without a loop.

use base::coding::{Reader, put_varint, varint_len};
use base::{InternalKey, SeqNo, ValueKind};

/// Where the parts of one entry lie in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) seq: SeqNo,
    pub(crate) kind: ValueKind,
    /// Bytes shared with the restart key.
    pub(crate) shared: usize,
    /// Where the suffix starts.
    pub(crate) suffix: usize,
    /// Where the value starts and the suffix ends.
    pub(crate) value: usize,
    /// Where the value ends and the next entry starts.
    pub(crate) end: usize,
}

impl Raw {
    /// Of no entry.
    pub(crate) const NONE: Raw =
        Raw { seq: SeqNo(0), kind: ValueKind::Delete, shared: 0, suffix: 0, value: 0, end: 0 };

    /// `seq << 8 | kind`, as [`InternalKey::trailer`].
    #[inline]
    pub(crate) fn trailer(&self) -> u64 {
        base::key::pack_trailer(self.seq, self.kind)
    }
}

/// Bytes of `seq` without leading zeros.
#[inline]
fn seq_len(seq: SeqNo) -> usize {
    (64 - seq.0.leading_zeros() as usize).div_ceil(8)
}

/// Bytes that [`encode`] would append.
pub(crate) fn encoded_len(key: InternalKey<'_>, shared: usize, value_len: usize) -> usize {
    let suffix = key.user_key.len() - shared;
    let lengths =
        varint_len(shared as u64) + varint_len(suffix as u64) + varint_len(value_len as u64);
    1 + lengths + seq_len(key.seq) + suffix + value_len
}

/// Appends an entry whose first `shared` key bytes are those of the restart key.
pub(crate) fn encode(out: &mut Vec<u8>, key: InternalKey<'_>, shared: usize, value: &[u8]) {
    let suffix = key.user_key.get(shared..).unwrap_or_default();
    let seq_len = seq_len(key.seq);
    let first = key.kind as u8 | (seq_len as u8) << 4;
    if (shared | suffix.len()) < 0x80 && value.len() < 1 << 14 {
        // The usual entry: lengths of one byte, one or two of the value, put together in registers.
        let low = u64::from(first) | (shared as u64) << 8 | (suffix.len() as u64) << 16;
        let long = value.len() >= 0x80;
        let value_len = value.len() as u64;
        let value_len =
            if long { value_len & 0x7f | 0x80 | value_len >> 7 << 8 } else { value_len };
        let lengths = 4 + usize::from(long);
        let head = u128::from(low | value_len << 24) | u128::from(key.seq.0) << (8 * lengths);
        out.reserve(16 + suffix.len() + value.len());
        out.extend_from_slice(&head.to_le_bytes()[..lengths + seq_len]);
    } else {
        out.push(first);
        put_varint(out, shared as u64);
        put_varint(out, suffix.len() as u64);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(&key.seq.0.to_le_bytes()[..seq_len]);
    }
    out.extend_from_slice(suffix);
    out.extend_from_slice(value);
}

/// Decodes the entry at `at`. `None` if it is not one; its parts may still leave the block, which
/// [`super::Block::parse`] checks once.
///
/// The tail of a block makes the 8-byte loads safe at every entry.
#[inline(always)]
pub(crate) fn decode(data: &[u8], at: usize) -> Option<Raw> {
    let head = data.get(at..)?.first_chunk::<8>()?;
    let [first, shared, suffix_len, v0, v1, ..] = *head;
    let (shared, suffix_len) = (usize::from(shared), usize::from(suffix_len));
    let (v0, v1) = (usize::from(v0), usize::from(v1));
    if shared | suffix_len < 0x80 {
        if v0 < 0x80 {
            return place(data, first, shared, suffix_len, v0, at + 4);
        }
        if v1 < 0x80 {
            return place(data, first, shared, suffix_len, v0 & 0x7f | v1 << 7, at + 5);
        }
    }
    decode_long(data, at)
}

#[cold]
fn decode_long(data: &[u8], at: usize) -> Option<Raw> {
    let mut r = Reader::new(data.get(at..)?);
    let first = r.u8()?;
    let (shared, suffix_len, value_len) = (r.varint32()?, r.varint32()?, r.varint32()?);
    // Each is below 4 GiB: refuse what could overflow the sums below on 32-bit machines.
    let total = u64::from(shared) + u64::from(suffix_len) + u64::from(value_len) + at as u64 + 64;
    usize::try_from(total).ok()?;
    place(data, first, shared as usize, suffix_len as usize, value_len as usize, at + r.position())
}

#[inline(always)]
fn place(
    data: &[u8],
    first: u8,
    shared: usize,
    suffix_len: usize,
    value_len: usize,
    at: usize,
) -> Option<Raw> {
    let seq_len = usize::from(first >> 4);
    let word = u64::from_le_bytes(*data.get(at..)?.first_chunk::<8>()?);
    if seq_len > 7 {
        return None;
    }
    let suffix = at + seq_len;
    let value = suffix + suffix_len;
    Some(Raw {
        seq: SeqNo(word & ((1u64 << (8 * seq_len)) - 1)),
        kind: ValueKind::from_u8(first & 0x0f)?,
        shared,
        suffix,
        value,
        end: value + value_len,
    })
}
