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
/// An entry has four bytes, and a block a tail of eight: so twelve can be loaded at each.
// The entry is made in one place, after the ways have met: where each way made its own, they would meet in memory, written by
// eight bytes and read by sixteen, for which the processor waits.
#[inline(always)]
pub(crate) fn decode(data: &[u8], at: usize) -> Option<Raw> {
    let entry = data.get(at..)?;
    let [first, shared, suffix_len, v0, word @ ..] = *entry.first_chunk::<12>()?;
    let (v1, small) = (word[0], shared | suffix_len < 0x80);
    let (shared, suffix_len) = (usize::from(shared), usize::from(suffix_len));
    let (lengths, word) = if small && v0 < 0x80 {
        (Lengths { shared, suffix_len, value_len: usize::from(v0), at: at + 4 }, word)
    } else if small && v1 < 0x80 {
        let value_len = usize::from(v0 & 0x7f) | usize::from(v1) << 7;
        (Lengths { shared, suffix_len, value_len, at: at + 5 }, *entry.get(5..)?.first_chunk()?)
    } else {
        let lengths = long_lengths(data, at)?;
        let word = *data.get(lengths.at..)?.first_chunk()?;
        (lengths, word)
    };
    place(first, lengths, u64::from_le_bytes(word))
}

/// The lengths of an entry.
struct Lengths {
    shared: usize,
    suffix_len: usize,
    value_len: usize,
    /// Where what follows them starts.
    at: usize,
}

#[cold]
fn long_lengths(data: &[u8], at: usize) -> Option<Lengths> {
    let mut r = Reader::new(data.get(at..)?);
    r.u8()?;
    let (shared, suffix_len, value_len) = (r.varint32()?, r.varint32()?, r.varint32()?);
    // Each is below 4 GiB: refuse what could overflow the sums below on 32-bit machines.
    let total = u64::from(shared) + u64::from(suffix_len) + u64::from(value_len) + at as u64 + 64;
    usize::try_from(total).ok()?;
    Some(Lengths {
        shared: shared as usize,
        suffix_len: suffix_len as usize,
        value_len: value_len as usize,
        at: at + r.position(),
    })
}

#[inline(always)]
fn place(first: u8, lengths: Lengths, word: u64) -> Option<Raw> {
    let Lengths { shared, suffix_len, value_len, at } = lengths;
    let seq_len = usize::from(first >> 4);
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
