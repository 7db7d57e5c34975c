//! Sequence numbers, value kinds and internal keys: how one user key has many versions.

use std::cmp::Ordering;
use std::fmt;

/// Position of an operation in the commit order of a database; 0 means "before everything".
///
/// 56 bits, so that it packs into one word with a [`ValueKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The largest sequence number, 2^56 - 1; a read at it sees everything.
    pub const MAX: SeqNo = SeqNo((1 << 56) - 1);

    /// `self + n`, saturating at [`SeqNo::MAX`].
    #[must_use]
    pub fn plus(self, n: u64) -> SeqNo {
        SeqNo(self.0.saturating_add(n).min(SeqNo::MAX.0))
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry says about its key. The numbers lie on disk and are never reused.
///
/// Reserved for what comes next: 3 merge operand, 4 put with expiry time, 5 put with separated value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// A point tombstone: the key is absent.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// A range tombstone: all older versions of keys in `key..value` are absent.
    RangeDelete = 2,
}

impl ValueKind {
    /// The largest discriminant: a seek target with it precedes all entries of its sequence number.
    pub const MAX: ValueKind = ValueKind::RangeDelete;

    /// The kind stored as `byte`; `None` for bytes of newer versions or damage.
    #[inline]
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<ValueKind> {
        match byte {
            0 => Some(ValueKind::Delete),
            1 => Some(ValueKind::Put),
            2 => Some(ValueKind::RangeDelete),
            _ => None,
        }
    }
}

/// One version of a user key.
///
/// Ordered by user key ascending, then by sequence number *descending*: of two versions the newer
/// one comes first. Every memtable, table and merge keeps this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InternalKey<'a> {
    /// The bytes the user gave.
    pub user_key: &'a [u8],
    /// When this version was written.
    pub seq: SeqNo,
    /// What it says.
    pub kind: ValueKind,
}

impl<'a> InternalKey<'a> {
    /// The key of an entry.
    #[must_use]
    pub fn new(user_key: &'a [u8], seq: SeqNo, kind: ValueKind) -> Self {
        InternalKey { user_key, seq, kind }
    }

    /// A seek target: the first version of `user_key` that a read at `seq` may see.
    #[must_use]
    pub fn seek_at(user_key: &'a [u8], seq: SeqNo) -> Self {
        InternalKey { user_key, seq, kind: ValueKind::MAX }
    }

    /// A seek target before all versions of `user_key`.
    #[must_use]
    pub fn before_all(user_key: &'a [u8]) -> Self {
        InternalKey::seek_at(user_key, SeqNo::MAX)
    }

    /// A seek target after all versions of `user_key` (no entry has sequence number 0 and this kind
    /// unless it is a tombstone of a rewritten bottom level, which equals it).
    #[must_use]
    pub fn after_all(user_key: &'a [u8]) -> Self {
        InternalKey { user_key, seq: SeqNo(0), kind: ValueKind::Delete }
    }

    /// Sequence number and kind in one word: `seq << 8 | kind`. Larger means newer.
    #[inline]
    #[must_use]
    pub fn trailer(&self) -> u64 {
        pack_trailer(self.seq, self.kind)
    }
}

/// Packs a sequence number and a kind: `seq << 8 | kind`.
#[inline]
#[must_use]
pub fn pack_trailer(seq: SeqNo, kind: ValueKind) -> u64 {
    (seq.0 << 8) | kind as u64
}

/// Reverses [`pack_trailer`]; `None` if the kind is unknown.
#[inline]
#[must_use]
pub fn unpack_trailer(trailer: u64) -> Option<(SeqNo, ValueKind)> {
    Some((SeqNo(trailer >> 8), ValueKind::from_u8(trailer as u8)?))
}

impl Ord for InternalKey<'_> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        crate::bytes::order(self.user_key, other.user_key)
            .then_with(|| other.trailer().cmp(&self.trailer()))
    }
}

impl PartialOrd for InternalKey<'_> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InternalKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?}", self.user_key.escape_ascii(), self.seq, self.kind)
    }
}

/// The first eight bytes as a number, big endian, padded with zeros: if the heads of two keys differ, they order as the keys do.
#[inline]
#[must_use]
pub fn head(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*chunk);
    }
    bytes
        .iter()
        .fold(0, |head, &b| head << 8 | u64::from(b))
        .unbounded_shl(64 - 8 * bytes.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_first() {
        let key = |k, s, kind| InternalKey::new(k, SeqNo(s), kind);
        let mut keys = [
            key(b"b", 1, ValueKind::Put),
            key(b"a", 3, ValueKind::Delete),
            key(b"a", 7, ValueKind::Put),
            key(b"", 9, ValueKind::Put),
        ];
        keys.sort();
        let shown: Vec<_> = keys.iter().map(|k| format!("{k:?}")).collect();
        assert_eq!(shown, ["@9 Put", "a@7 Put", "a@3 Delete", "b@1 Put"]);
        assert!(InternalKey::before_all(b"a") < keys[1]);
        assert!(InternalKey::after_all(b"a") > keys[2]);
        assert!(InternalKey::seek_at(b"a", SeqNo(5)) > keys[1]);
        assert!(InternalKey::seek_at(b"a", SeqNo(3)) < keys[2]);
    }

    #[test]
    fn trailers_round_trip() {
        let packed = pack_trailer(SeqNo::MAX, ValueKind::Put);
        assert_eq!(unpack_trailer(packed), Some((SeqNo::MAX, ValueKind::Put)));
        assert_eq!(unpack_trailer(0xff), None);
    }
}
