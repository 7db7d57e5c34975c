//! Fixed and variable-length integers, and a reader that never trusts a length.
//!
//! Fixed integers are little endian. Varints are LEB128: seven bits a byte, low bits first, the
//! high bit set on all but the last byte, and never longer than needed to hold the type.

use crate::limits::{BOUND_BYTES_MAX, UNBOUNDED};

/// Longest encoding of a `u64` varint.
pub const VARINT64_MAX: usize = 10;

/// Appends `value` as a varint, 1 to 10 bytes.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] would append.
#[inline]
#[must_use]
pub fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends the length of `bytes` as a varint, then the bytes.
#[inline]
pub fn put_length_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The length that stands for [`UNBOUNDED`], without bytes: one more than any bound has.
const UNBOUNDED_LEN: u64 = BOUND_BYTES_MAX as u64 + 1;

/// The length of a bound of a range as it is stored, and the bytes behind it. [`UNBOUNDED`] has a length of its own and no
/// bytes.
#[must_use]
pub fn stored_bound(bound: &[u8]) -> (u64, &[u8]) {
    if bound.len() == BOUND_BYTES_MAX && bound == UNBOUNDED {
        (UNBOUNDED_LEN, &[])
    } else {
        (bound.len() as u64, bound)
    }
}

/// Appends a bound of a range: its length as a varint, then its bytes; for [`UNBOUNDED`] a length of 65,537 alone.
pub fn put_bound(out: &mut Vec<u8>, bound: &[u8]) {
    let (len, bytes) = stored_bound(bound);
    put_varint(out, len);
    out.extend_from_slice(bytes);
}

/// Decodes a varint at the front of `bytes`: the value and how many bytes it took.
///
/// `None` if the bytes end early, or the varint does not fit a `u64`.
#[inline]
#[must_use]
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    match bytes.first() {
        Some(&b) if b < 0x80 => Some((u64::from(b), 1)),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().take(VARINT64_MAX).enumerate() {
        let bits = u64::from(b & 0x7f);
        if i == VARINT64_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if b < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// Reads fields off the front of a byte slice; every read is bounds-checked.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, total: bytes.len() }
    }

    /// Bytes consumed so far: where a decoder noticed what it complains of.
    #[must_use]
    pub fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    /// The bytes not consumed yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True once everything was consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|b| b[0])
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.bytes(4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.bytes(8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes)
    }

    /// A varint.
    pub fn varint(&mut self) -> Option<u64> {
        let (value, n) = varint(self.rest)?;
        self.rest = &self.rest[n..];
        Some(value)
    }

    /// A varint that fits a `u32`.
    pub fn varint32(&mut self) -> Option<u32> {
        self.varint().and_then(|v| u32::try_from(v).ok())
    }

    /// The bound whose stored length is `len`, see [`stored_bound`]; `None` too if `len` is no length of a bound.
    pub fn bound_of_len(&mut self, len: u64) -> Option<&'a [u8]> {
        match len {
            UNBOUNDED_LEN => Some(&UNBOUNDED),
            _ => self.bytes(usize::try_from(len).ok().filter(|&len| len <= BOUND_BYTES_MAX)?),
        }
    }

    /// What [`put_bound`] wrote.
    pub fn bound(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        self.bound_of_len(len)
    }

    /// A varint length, then that many bytes.
    pub fn length_prefixed(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.varint()?).ok()?;
        self.bytes(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64, shift in 0u32..64, tail: Vec<u8>) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let n = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(varint(&bytes), Some((value, n)));
            for cut in 0..n {
                prop_assert_eq!(varint(&bytes[..cut]), None);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut r = Reader::new(&bytes);
            while r.length_prefixed().is_some() {}
            prop_assert!(r.position() <= bytes.len());
        }
    }

    #[test]
    fn a_range_without_an_end_is_stored_as_a_mark() {
        let longest = vec![0xff; BOUND_BYTES_MAX - 1];
        let nearly = [&longest[..], &[0xfe]].concat();
        for bound in [&b""[..], b"a", &longest, &nearly, &UNBOUNDED] {
            let mut out = Vec::new();
            put_bound(&mut out, bound);
            assert!(bound != UNBOUNDED || out.len() == 3);
            let mut r = Reader::new(&out);
            assert_eq!(r.bound(), Some(bound));
            assert!(r.is_empty());
        }
        // As it was written in full.
        let mut out = Vec::new();
        put_length_prefixed(&mut out, &UNBOUNDED);
        assert_eq!(Reader::new(&out).bound(), Some(&UNBOUNDED[..]));
        let mut out = Vec::new();
        put_varint(&mut out, UNBOUNDED_LEN + 1);
        out.resize(1 << 17, 0);
        assert_eq!(Reader::new(&out).bound(), None);
    }

    #[test]
    fn a_varint_past_64_bits_is_refused() {
        assert_eq!(varint(&[0xff; 10]), None);
        assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&max), Some((u64::MAX, 10)));
    }
}
