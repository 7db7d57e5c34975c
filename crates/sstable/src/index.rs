//! The two-level index: on disk, and flattened in memory.
//!
//! On disk, partitions and the top index over them have one form:
//! ```text
//! first offset varint, count varint, then per block
//!   shared      varint, bytes shared with the separator before
//!   suffix_len  varint
//!   length      varint, bytes of the block without its trailer
//!   exact       u8, 1 if a trailer follows
//!   trailer     u64 LE, `seq << 8 | kind`, if exact
//!   suffix
//! ```
//! The blocks of an index block follow one another, so one offset and the lengths are all handles.
//!
//! A *separator* is at or after the last entry of its block and before the first entry of the next.
//! Between two user keys it is the shortest user key that parts them, standing behind all versions
//! (trailer 0); inside the versions of one user key it is the exact last entry. The first separator
//! at or after a target therefore names the only block in which the first entry at or after the target
//! can lie, unless that block ends before it, and a point read needs one block however many versions
//! its key has.
//!
//! In memory, eight bytes of each separator, behind the prefix that all share, lie in one array for the
//! search; the separators themselves are looked at only to break ties. A line through them says where to search.

use crate::block::common_prefix;
use crate::envelope::{Handle, TRAILER_LEN};
use crate::line::Line;
use base::bytes;
use base::coding::{Reader, put_varint};
use base::key::{head, pack_trailer};
use base::limits::KEY_BYTES_MAX;
use base::{InternalKey, SeqNo, ValueKind};
use std::cmp::Ordering;

/// Encodes one index block.
#[derive(Debug, Default)]
pub(crate) struct IndexBlockBuilder {
    first_offset: u64,
    count: u64,
    body: Vec<u8>,
    last: Vec<u8>,
    last_trailer: u64,
}

impl IndexBlockBuilder {
    /// Adds the next block and its separator.
    pub(crate) fn add(&mut self, user_key: &[u8], trailer: u64, handle: Handle) {
        if self.count == 0 {
            self.first_offset = handle.offset;
        }
        let shared = common_prefix(&self.last, user_key);
        put_varint(&mut self.body, shared as u64);
        put_varint(&mut self.body, (user_key.len() - shared) as u64);
        put_varint(&mut self.body, handle.len);
        self.body.push(u8::from(trailer != 0));
        if trailer != 0 {
            self.body.extend_from_slice(&trailer.to_le_bytes());
        }
        self.body.extend_from_slice(&user_key[shared..]);
        self.last.clear();
        self.last.extend_from_slice(user_key);
        self.last_trailer = trailer;
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The last separator.
    pub(crate) fn last(&self) -> (&[u8], u64) {
        (&self.last, self.last_trailer)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 20);
        put_varint(&mut out, self.first_offset);
        put_varint(&mut out, self.count);
        out.extend_from_slice(&self.body);
        out
    }
}

/// One block and its separator, as [`decode`] hands it out.
pub(crate) struct IndexEntry<'a> {
    pub(crate) user_key: &'a [u8],
    pub(crate) trailer: u64,
    pub(crate) handle: Handle,
}

/// Hands out the entries of an index block in order; `None` if it is not one, or `visit` says so.
///
/// Checks that blocks start at `*next_offset`, which is moved behind the last, and that separators ascend.
pub(crate) fn decode(
    bytes: &[u8],
    next_offset: &mut u64,
    mut visit: impl FnMut(IndexEntry<'_>) -> Option<()>,
) -> Option<()> {
    let mut r = Reader::new(bytes);
    let (first_offset, count) = (r.varint()?, r.varint()?);
    if count > 0 && first_offset != *next_offset {
        return None;
    }
    let (mut key, mut last_trailer): (Vec<u8>, u64) = (Vec::new(), 0);
    for i in 0..count {
        let (shared, suffix_len) = (r.varint32()? as usize, r.varint32()? as usize);
        let len = u64::from(r.varint32()?);
        let trailer = match r.u8()? {
            0 => 0,
            1 => r.u64()?,
            _ => return None,
        };
        let suffix = r.bytes(suffix_len)?;
        let order = suffix.cmp(key.get(shared..)?).then(last_trailer.cmp(&trailer));
        if shared + suffix_len > KEY_BYTES_MAX || (i > 0 && order != Ordering::Greater) {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(suffix);
        last_trailer = trailer;
        let handle = Handle { offset: *next_offset, len };
        *next_offset = next_offset.checked_add(handle.stored_len())?;
        visit(IndexEntry { user_key: &key, trailer, handle })?;
    }
    r.is_empty().then_some(())
}

/// The partitions that a top index lists, which end where it lies, at `top_offset`.
pub(crate) fn partitions(top: &[u8], top_offset: u64) -> Option<Vec<Handle>> {
    let mut next_offset = Reader::new(top).varint()?;
    let mut handles = Vec::new();
    decode(top, &mut next_offset, |entry| {
        handles.push(entry.handle);
        Some(())
    })?;
    (next_offset == top_offset).then_some(handles)
}

/// True if the separators in the top index are those of the last blocks of the partitions: each is
/// among the separators of `index`, and the last is its last.
pub(crate) fn top_agrees(top: &[u8], partitions: &[Handle], index: &Index) -> bool {
    let Some(mut next_offset) = Reader::new(top).varint() else {
        return false;
    };
    let (mut seen, mut last_found) = (0, 0);
    let decoded = decode(top, &mut next_offset, |entry| {
        let (seq, kind) = base::key::unpack_trailer(entry.trailer)?;
        last_found = index.find(InternalKey { user_key: entry.user_key, seq, kind });
        seen += 1;
        (index.separator(last_found)? == (entry.user_key, entry.trailer)).then_some(())
    });
    decoded.is_some() && seen == partitions.len() && (seen == 0 || last_found + 1 == index.len())
}

/// All data blocks of a table, flattened for search.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// What all separators start with.
    common: Vec<u8>,
    /// Of each separator, the eight bytes behind `common`, big endian, padded with zeros: ascending.
    heads: Vec<u64>,
    /// Where among `heads` a key lies, about.
    line: Line,
    slots: Vec<Slot>,
    /// The separators.
    arena: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: u64,
    key_start: u64,
    len: u32,
    key_len: u16,
    /// The trailer lies in the arena behind the key.
    exact: bool,
}

impl Index {
    /// Appends a block; separators ascend. `None` if a length is out of range.
    pub(crate) fn push(&mut self, entry: &IndexEntry<'_>) -> Option<()> {
        if let Some(last) = self.slots.len().checked_sub(1) {
            let (key, trailer) = self.separator(last)?;
            if entry.user_key.cmp(key).then(trailer.cmp(&entry.trailer)) != Ordering::Greater {
                return None;
            }
        }
        // A separator is no longer than the last key of its block, which LZ4 shrinks to a 255th at best.
        if entry.user_key.len() as u64 > entry.handle.len.saturating_mul(255).saturating_add(64) {
            return None;
        }
        self.slots.push(Slot {
            offset: entry.handle.offset,
            key_start: self.arena.len() as u64,
            len: u32::try_from(entry.handle.len).ok()?,
            key_len: u16::try_from(entry.user_key.len()).ok()?,
            exact: entry.trailer != 0,
        });
        self.arena.extend_from_slice(entry.user_key);
        if entry.trailer != 0 {
            self.arena.extend_from_slice(&entry.trailer.to_le_bytes());
        }
        Some(())
    }

    /// Makes the index searchable once all blocks are in. `None` never happens.
    pub(crate) fn freeze(mut self) -> Option<Index> {
        self.slots.shrink_to_fit();
        self.arena.shrink_to_fit();
        if let Some(last) = self.slots.len().checked_sub(1) {
            let (first, last) = (self.separator(0)?.0, self.separator(last)?.0);
            self.common = first[..common_prefix(first, last)].to_vec();
        }
        let skip = self.common.len();
        let heads: Option<Vec<u64>> =
            (0..self.slots.len()).map(|i| Some(head(self.separator(i)?.0.get(skip..)?))).collect();
        self.heads = heads?;
        self.line = Line::through(&self.heads);
        Some(self)
    }

    /// Number of data blocks.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Where data block `i` lies.
    #[inline]
    pub(crate) fn handle(&self, i: usize) -> Option<Handle> {
        self.slots.get(i).map(|slot| Handle { offset: slot.offset, len: u64::from(slot.len) })
    }

    /// True if block `i` begins with another user key than the block before it ends with.
    #[inline]
    pub(crate) fn parts_keys(&self, i: usize) -> bool {
        i.checked_sub(1).is_none_or(|before| self.slots.get(before).is_some_and(|s| !s.exact))
    }

    /// User key and trailer of separator `i`.
    pub(crate) fn separator(&self, i: usize) -> Option<(&[u8], u64)> {
        let slot = self.slots.get(i)?;
        let start = usize::try_from(slot.key_start).ok()?;
        let (key, rest) = self.arena.get(start..)?.split_at_checked(usize::from(slot.key_len))?;
        let trailer = if slot.exact { u64::from_le_bytes(*rest.first_chunk()?) } else { 0 };
        Some((key, trailer))
    }

    /// The first block whose separator is at or after `target`; [`len`](Self::len) if there is none.
    #[inline]
    pub(crate) fn find(&self, target: InternalKey<'_>) -> usize {
        self.find_packed(target.user_key, target.trailer())
    }

    /// As [`find`](Self::find), for the first version of `user_key` that a read at `snapshot` may see.
    #[inline]
    pub(crate) fn find_version(&self, user_key: &[u8], snapshot: SeqNo) -> usize {
        self.find_packed(user_key, pack_trailer(snapshot, ValueKind::MAX))
    }

    fn find_packed(&self, user_key: &[u8], trailer: u64) -> usize {
        let (common, heads) = (&self.common[..], &self.heads[..]);
        if !bytes::starts_with(user_key, common) {
            return if user_key < common { 0 } else { self.len() };
        }
        let wanted = head(user_key.get(common.len()..).unwrap_or_default());
        let low = self.line.partition_point(heads, wanted);
        if heads.get(low) != Some(&wanted) {
            return low;
        }
        base::probe!("separators of an index tie");
        self.break_tie(low, wanted, user_key, trailer)
    }

    /// Among the separators from `low` on whose head is `wanted`.
    #[inline(never)]
    fn break_tie(&self, low: usize, wanted: u64, user_key: &[u8], trailer: u64) -> usize {
        let tied = self.heads.get(low..).unwrap_or_default();
        // Gallop: ties are few, unless keys part late.
        let mut reach = 1;
        while tied.get(reach) == Some(&wanted) {
            reach *= 2;
        }
        let tied = tied.get(..reach).unwrap_or(tied);
        let (mut low, mut high) = (low, low + tied.partition_point(|&h| h == wanted));
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.separator(middle).is_some_and(|(key, found)| {
                key.cmp(user_key).then(trailer.cmp(&found)) == Ordering::Less
            });
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Bytes held in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Slot>();
        size_of::<Index>()
            + slots
            + self.heads.capacity() * 8
            + self.arena.capacity()
            + self.common.capacity()
    }

    /// Where the data blocks end.
    pub(crate) fn data_end(&self) -> u64 {
        let last = self.len().checked_sub(1).and_then(|i| self.handle(i));
        last.map_or(0, |handle| handle.offset + handle.len + TRAILER_LEN as u64)
    }
}

/// The shortest user key at or after `last` and before `next`, where `last < next`.
pub(crate) fn shortest_separator(last: &[u8], next: &[u8]) -> Vec<u8> {
    let shared = common_prefix(last, next);
    if base::planted::is(28) {
        return last[..last.len().min(shared + 1)].to_vec();
    }
    let (Some(&l), Some(&n)) = (last.get(shared), next.get(shared)) else {
        return last.to_vec();
    };
    let mut short;
    if l.saturating_add(1) < n {
        short = last[..=shared].to_vec();
        short[shared] = l + 1;
    } else if next.len() > shared + 1 {
        short = next[..=shared].to_vec();
    } else {
        let Some(bump) = last[shared + 1..].iter().position(|&b| b != 0xff) else {
            return last.to_vec();
        };
        let bump = shared + 1 + bump;
        short = last[..=bump].to_vec();
        short[bump] += 1;
    }
    if short.len() < last.len() { short } else { last.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn separators_part_their_neighbours(
            a in prop::collection::vec(prop_oneof![0u8..3, 254u8..=255], 0..6),
            b in prop::collection::vec(prop_oneof![0u8..3, 254u8..=255], 0..6),
        ) {
            prop_assume!(a != b);
            let (last, next) = if a < b { (a, b) } else { (b, a) };
            let short = shortest_separator(&last, &next);
            prop_assert!(last <= short && short < next && short.len() <= last.len());
        }

        #[test]
        fn find_agrees_with_a_walk(
            keys in prop::collection::btree_set((prop::collection::vec(0u8..3, 0..12), 0u64..3), 1..40),
            prefix in prop::collection::vec(0u8..3, 0..3),
            targets in prop::collection::vec((prop::collection::vec(0u8..3, 0..14), 0u64..3), 20),
        ) {
            let mut sorted: Vec<(Vec<u8>, u64)> = keys.into_iter()
                .map(|(k, seq)| ([&prefix[..], &k].concat(), if seq == 0 { 0 } else { seq << 8 | 1 })).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            let (mut builder, mut offset) = (IndexBlockBuilder::default(), 0);
            for (i, (k, trailer)) in sorted.iter().enumerate() {
                let handle = Handle { offset, len: 100 + i as u64 };
                builder.add(k, *trailer, handle);
                offset = handle.end();
            }
            let (mut index, mut end) = (Index::default(), 0);
            decode(&builder.encode(), &mut end, |entry| index.push(&entry)).expect("own bytes");
            prop_assert_eq!(end, offset);
            let index = index.freeze().expect("own index");
            prop_assert_eq!(index.data_end(), offset);
            for (key, seq) in targets {
                let target = InternalKey::new(&key, SeqNo(seq), ValueKind::Put);
                let walk = sorted.iter().position(|(k, t)| {
                    k.as_slice().cmp(target.user_key).then(target.trailer().cmp(t)) != Ordering::Less
                });
                prop_assert_eq!(index.find(target), walk.unwrap_or(sorted.len()));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            let mut index = Index::default();
            let _ = decode(&bytes, &mut 0, |entry| index.push(&entry));
        }
    }
}
