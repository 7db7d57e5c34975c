//! Finding entries in a block: by order, and by the tag of a key.

use super::builder::common_prefix;
use super::{Block, Raw, tag_of};
use base::buffer::Buffer;
use base::{InternalKey, SeqNo, bytes};
use std::borrow::Borrow;
use std::cmp::Ordering;

/// Versions of one key looked at one by one before a binary search takes over.
const LINEAR_VERSIONS: u32 = 8;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

impl<B: Borrow<Buffer>> Block<B> {
    /// The first entry at or after `target`; `len` if there is none. `None` if the block is broken.
    pub(crate) fn lower_bound(&self, target: InternalKey<'_>) -> Option<u32> {
        self.partition(target, Ordering::Less)
    }

    /// The number of entries at or before `target`. `None` if the block is broken.
    pub(crate) fn upper_bound(&self, target: InternalKey<'_>) -> Option<u32> {
        self.partition(target, Ordering::Equal)
    }

    /// The number of entries that compare to `target` as `last` or less.
    fn partition(&self, target: InternalKey<'_>, last: Ordering) -> Option<u32> {
        let trailer = target.trailer();
        let groups = self.len().div_ceil(self.interval());
        let before = search(0, groups, |group| {
            let raw = self.raw(group * self.interval())?;
            let key = self.data().get(raw.suffix..raw.value)?;
            Some(compare(key, target.user_key, raw.trailer(), trailer) <= last)
        })?;
        let Some(group) = before.checked_sub(1) else {
            return Some(0);
        };
        let start = group * self.interval();
        let restart = self.restart_key(start)?;
        let known = common_prefix(restart, target.user_key);
        search(start + 1, self.len().min(start.saturating_add(self.interval())), |i| {
            let raw = self.raw(i)?;
            if raw.shared > known {
                // The entry parts from the target where its restart does, and that one is before it.
                return Some(true);
            }
            let suffix = self.data().get(raw.suffix..raw.value)?;
            let rest = target.user_key.get(raw.shared..)?;
            Some(compare(suffix, rest, raw.trailer(), trailer) <= last)
        })
    }

    /// The key of the restart entry `start`.
    #[inline]
    pub(super) fn restart_key(&self, start: u32) -> Option<&[u8]> {
        let raw = self.raw(start)?;
        self.data().get(raw.suffix..raw.value)
    }

    /// The newest version of `user_key` at or below `snapshot` in this block. The outer `None` means
    /// that the block is broken.
    pub(crate) fn get(&self, hash: u64, user_key: &[u8], snapshot: SeqNo) -> Option<Option<Raw>> {
        if !self.is_tagged() {
            return self.get_by_order(user_key, snapshot);
        }
        match self.find_first(hash, user_key)? {
            Some((i, raw)) => self.visible_version(i, raw, user_key, snapshot),
            None => Some(None),
        }
    }

    /// The newest version of `user_key` in this block. The outer `None` means that the block is broken, or has no tags: then
    /// [`get`](Self::get) tells.
    #[inline(always)]
    pub(crate) fn newest(&self, hash: u64, user_key: &[u8]) -> Option<Option<Raw>> {
        if !self.is_tagged() {
            return None;
        }
        Some(self.find_first(hash, user_key)?.map(|(_, raw)| raw))
    }

    /// [`lower_bound`](Self::lower_bound), faster if the block has the very key: one cache miss then
    /// stands for those of a binary search.
    pub(crate) fn seek(&self, target: InternalKey<'_>) -> Option<u32> {
        if self.is_tagged() {
            let hash = base::checksum::key_hash(target.user_key);
            match self.find_first(hash, target.user_key)? {
                Some((i, raw)) if raw.trailer() <= target.trailer() => return Some(i),
                _ => {}
            }
        }
        self.lower_bound(target)
    }

    /// The first version of `user_key` in this block, which has tags.
    #[inline(always)]
    fn find_first(&self, hash: u64, user_key: &[u8]) -> Option<Option<(u32, Raw)>> {
        let wanted = u64::from(tag_of(hash)) * LOW_BITS;
        let len = self.len();
        // What lies behind the tags fills the last word; what is not a tag is passed over below.
        let words = self.data().as_chunks::<8>().0.get(..len.div_ceil(8) as usize)?;
        for (first, word) in (0..).step_by(8).zip(words) {
            let diff = u64::from_le_bytes(*word) ^ wanted;
            let mut hits = diff.wrapping_sub(LOW_BITS) & !diff & HIGH_BITS;
            while hits != 0 {
                let i = first + hits.trailing_zeros() / 8;
                hits &= hits - 1;
                if i >= len {
                    break;
                }
                let raw = self.raw(i)?;
                if self.has_key(i, &raw, user_key)? || base::planted::is(25) {
                    return Some(Some((i, raw)));
                }
                base::probe!("tag of another key in a block");
            }
        }
        Some(None)
    }

    /// True if entry `i` has this user key.
    #[inline(always)]
    fn has_key(&self, i: u32, raw: &Raw, user_key: &[u8]) -> Option<bool> {
        if raw.shared + (raw.value - raw.suffix) != user_key.len() {
            return Some(false);
        }
        let (prefix, suffix) = user_key.split_at_checked(raw.shared)?;
        if !bytes::same(suffix, self.data().get(raw.suffix..raw.value)?) {
            return Some(false);
        }
        if prefix.is_empty() {
            return Some(true);
        }
        let restart = self.restart_key(i - i % self.interval())?;
        Some(bytes::same(restart.get(..raw.shared)?, prefix))
    }

    /// From the first version of a key, at `i`, to the newest one at or below `snapshot`.
    #[inline]
    fn visible_version(
        &self,
        mut i: u32,
        mut raw: Raw,
        user_key: &[u8],
        snapshot: SeqNo,
    ) -> Option<Option<Raw>> {
        let first = i;
        while raw.seq > snapshot {
            i += 1;
            if i >= self.len() || *self.tags()?.get(i as usize)? != 0 {
                return Some(None);
            }
            base::probe!("older version of a key in a block");
            if i - first > LINEAR_VERSIONS {
                base::probe!("many versions of a key in a block");
                return self.get_by_order(user_key, snapshot);
            }
            raw = self.raw(i)?;
        }
        Some(Some(raw))
    }

    /// [`get`](Self::get) by binary search.
    fn get_by_order(&self, user_key: &[u8], snapshot: SeqNo) -> Option<Option<Raw>> {
        let i = self.lower_bound(InternalKey::seek_at(user_key, snapshot))?;
        if i == self.len() {
            return Some(None);
        }
        let raw = self.raw(i)?;
        let hit = self.has_key(i, &raw, user_key)?;
        Some(hit.then_some(raw))
    }
}

/// Internal key order: bytes ascending, trailers descending.
#[inline]
fn compare(key: &[u8], target: &[u8], trailer: u64, target_trailer: u64) -> Ordering {
    bytes::order(key, target).then_with(|| target_trailer.cmp(&trailer))
}

/// The first of `low..high` for which `before` is false.
#[inline]
fn search(mut low: u32, mut high: u32, mut before: impl FnMut(u32) -> Option<bool>) -> Option<u32> {
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Some(low)
}
