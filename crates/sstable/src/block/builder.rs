//! Builds one data block.

use super::entry;
use super::{DERIVED, NARROW_MAX, TAGGED_ENTRIES_MAX, TAGS, TAIL_LEN, tag_of};
use base::InternalKey;

/// Prefixes are shared if that saves at least one byte in so many.
const SAVING_MIN: usize = 6;

/// Collects entries in ascending order; reused from block to block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    /// Entries of a group, where keys share enough of their prefixes to be worth it.
    interval_max: usize,
    /// Of this block: that, or 1.
    interval: usize,
    /// The entries.
    buf: Vec<u8>,
    /// Number of entries.
    entries: usize,
    tags: Vec<u8>,
    restart_key: Vec<u8>,
    first_key: Vec<u8>,
    finished: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn new(interval: usize) -> BlockBuilder {
        let interval = interval.clamp(1, usize::from(u16::MAX));
        BlockBuilder {
            interval_max: interval,
            interval,
            buf: Vec::new(),
            entries: 0,
            tags: Vec::new(),
            restart_key: Vec::new(),
            first_key: Vec::new(),
            finished: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the finished block if it were finished now.
    pub(crate) fn size(&self) -> usize {
        self.size_with(0, 0)
    }

    /// Bytes of the finished block with one more entry of these lengths: an upper bound, since the
    /// entry might share a prefix.
    pub(crate) fn size_after(&self, key: InternalKey<'_>, value_len: usize) -> usize {
        self.size_with(1, entry::encoded_len(key, 0, value_len))
    }

    fn size_with(&self, entries: usize, bytes: usize) -> usize {
        let (n, bytes) = (self.entries + entries, self.buf.len() + bytes);
        let width = if bytes <= NARROW_MAX { 2 } else { 4 };
        bytes + n * (width + 1) + TAIL_LEN
    }

    /// Appends an entry. `same_key` says that the entry before it in the table has the same user key.
    pub(crate) fn add(&mut self, key: InternalKey<'_>, value: &[u8], hash: u64, same_key: bool) {
        let shared = if self.interval == 1 {
            0
        } else if self.entries.is_multiple_of(self.interval) {
            self.restart_key.clear();
            self.restart_key.extend_from_slice(key.user_key);
            0
        } else {
            common_prefix(&self.restart_key, key.user_key)
        };
        if self.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key.user_key);
        }
        self.tags.push(if same_key && !self.is_empty() { 0 } else { tag_of(hash) });
        self.entries += 1;
        entry::encode(&mut self.buf, key, shared, value);
    }

    /// The bytes of the block, until the next [`clear`](Self::clear).
    pub(crate) fn finish(&mut self) -> &[u8] {
        let narrow = self.buf.len() <= NARROW_MAX;
        let tagged = self.entries <= TAGGED_ENTRIES_MAX;
        let out = &mut self.finished;
        out.clear();
        if tagged {
            out.extend_from_slice(&self.tags);
        }
        // The place of the offsets, which the reader derives.
        let width = if narrow { size_of::<u16>() } else { size_of::<u32>() };
        out.resize(out.len() + self.entries * width, 0);
        out.extend_from_slice(&self.buf);
        out.extend_from_slice(&(self.entries as u32).to_le_bytes());
        out.extend_from_slice(&(self.interval as u16).to_le_bytes());
        out.extend_from_slice(&(DERIVED | if tagged { TAGS } else { 0 }).to_le_bytes());
        out
    }

    /// Starts the next block; `last_key` is the last user key of this one.
    ///
    /// It stores its keys whole if in this block shared prefixes saved, or would have saved, less than a part in
    /// `SAVING_MIN`: a key that lies whole is lent to readers where it is.
    pub(crate) fn clear(&mut self, last_key: &[u8]) {
        let shared = common_prefix(&self.first_key, last_key);
        let saves = shared * self.entries * SAVING_MIN >= self.buf.len();
        self.interval = if saves { self.interval_max } else { 1 };
        self.buf.clear();
        self.entries = 0;
        self.tags.clear();
    }
}

/// Bytes that `a` and `b` have in common at the front.
#[inline]
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    for (i, (x, y)) in words_a.iter().zip(words_b).enumerate() {
        let diff = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if diff != 0 {
            return 8 * i + diff.trailing_zeros() as usize / 8;
        }
    }
    let done = 8 * words_a.len().min(words_b.len());
    let (rest_a, rest_b) = (a.get(done..).unwrap_or_default(), b.get(done..).unwrap_or_default());
    done + rest_a.iter().zip(rest_b).take_while(|(x, y)| x == y).count()
}
