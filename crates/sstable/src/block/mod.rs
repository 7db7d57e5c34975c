//! The data block: entries, then the arrays that find them.
//!
//! ```text
//! tags       n x u8 if flag TAGS is set: one byte of the hash of the user key, never 0, for the
//!            first (newest) version of a key in this block; 0 for its other versions
//! offsets    n x u16 LE (u32 LE if the entries pass 64 KiB), where each entry starts behind the offsets;
//!            zeros in the file if flag DERIVED is set
//! entries    see `entry`; entry i starts where entry i - 1 ends
//! n          u32 LE, number of entries, at least 1
//! interval   u16 LE, entries 0, interval, 2 * interval, ... are restarts: they hold their whole key
//! flags      u16 LE, bit 0 TAGS, bit 1 DERIVED, others 0
//! ```
//! Offsets follow from the entries, which are all decoded when a block is parsed. So new blocks are written without them,
//! with zeros in their place, of which a compressor leaves nothing; the parser puts them there.
//!
//! Tags come first because in memory the reference count lies right before them: a lookup that counts
//! itself in has paid for the tags' cache line.
//!
//! The other entries of a group share a prefix with the group's *restart key*: each decodes from
//! itself and that one key, so both directions and direct hits cost the same.
//!
//! Invariant: [`Block::parse`] decodes every entry and checks that they fill the block exactly. The
//! lean readers behind it (`raw`, `Cursor`) still return `None` rather than panic if that were untrue.

mod builder;
mod cursor;
mod entry;
mod search;

pub(crate) use builder::{BlockBuilder, common_prefix};
pub(crate) use cursor::Cursor;
pub(crate) use entry::Raw;

use base::ValueKind;
use base::buffer::{Buffer, BufferMut};
use base::limits::{BLOCK_BYTES_MAX, KEY_BYTES_MAX};
use std::borrow::Borrow;

/// Bytes after the entries.
const TAIL_LEN: usize = size_of::<u32>() + 2 * size_of::<u16>();
const _: () = assert!(TAIL_LEN == 8, "drawing and constants disagree");
/// Flag: the block has tags.
const TAGS: u16 = 1;
/// Flag: offsets are not in the file.
const DERIVED: u16 = 2;
/// All flags there are.
pub(crate) const FLAGS: u16 = TAGS | DERIVED;
/// Most entries that get tags; beyond, a binary search is cheaper than looking at all tags.
const TAGGED_ENTRIES_MAX: usize = 2048;
/// Entries up to this many bytes have their offsets in 16 bits.
const NARROW_MAX: usize = 1 << 16;

/// The tag of a key with this hash.
#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// Buffer and block share the notes.
///
/// ```text
/// word 0  number of entries        word 2  interval, NARROW, TAGGED
/// word 1  where the entries end    word 3  where they start
/// ```
const NARROW: u32 = 1 << 16;
const TAGGED: u32 = 1 << 17;

/// A parsed block. A clone shares the bytes. `B` is a [`Buffer`], or lends one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Block<B = Buffer>(B);

impl Block {
    /// A block without entries, for iterators that stand nowhere.
    pub(crate) fn empty() -> Block {
        Block::default()
    }

    /// Takes the first `payload_len` bytes of `data` as a block and checks their structure, but not
    /// the order of keys: that is for `verify`. The error says what is wrong.
    pub(crate) fn parse(mut data: BufferMut, payload_len: usize) -> Result<Block, &'static str> {
        let payload = data.get(..payload_len).ok_or("block shorter than its length")?;
        let (body, tail) =
            payload.split_last_chunk::<TAIL_LEN>().ok_or("block shorter than its tail")?;
        let [n0, n1, n2, n3, i0, i1, f0, f1] = *tail;
        let len = u32::from_le_bytes([n0, n1, n2, n3]);
        let interval = u32::from(u16::from_le_bytes([i0, i1]));
        let flags = u16::from_le_bytes([f0, f1]);
        if len == 0 || interval == 0 || flags & !FLAGS != 0 {
            return Err("block tail out of range");
        }
        if body.len() > BLOCK_BYTES_MAX && len > 1 {
            return Err("block too large");
        }
        let tagged = flags & TAGS != 0;
        let narrow = arrays_len(len, tagged, true)
            .is_some_and(|a| a <= body.len() && body.len() - a <= NARROW_MAX);
        let entries_start = arrays_len(len, tagged, narrow).filter(|&a| a <= body.len());
        let entries_start = entries_start.ok_or("block arrays leave the block")?;
        if !narrow && body.len() - entries_start <= NARROW_MAX {
            return Err("block offsets of the wrong width");
        }
        let entries_end = u32::try_from(body.len()).map_err(|_| "block too large")?;
        let form = interval | if narrow { NARROW } else { 0 } | if tagged { TAGGED } else { 0 };
        let layout = Layout {
            offsets_start: if tagged { len as usize } else { 0 },
            entries_start,
            entries_end: entries_end as usize,
            interval,
            narrow,
            derived: flags & DERIVED != 0,
        };
        layout.check_entries(&mut data, len).ok_or("entry does not decode")?;
        if tagged && data.first() == Some(&0) {
            return Err("first entry without a tag");
        }
        data.set_notes([len, entries_end, form, entries_start as u32]);
        Ok(Block(data.freeze()))
    }

    /// The buffer, for those who keep it where [`Block::lent`] will find it.
    pub(crate) fn into_buffer(self) -> Buffer {
        self.0
    }
}

impl<'a> Block<&'a Buffer> {
    /// The block in a buffer that came from [`Block::into_buffer`].
    #[inline(always)]
    pub(crate) fn lent(buffer: &'a Buffer) -> Block<&'a Buffer> {
        Block(buffer)
    }

    /// A block of its own, which shares the bytes.
    #[inline]
    pub(crate) fn share(self) -> Block {
        Block(self.0.clone())
    }
}

/// Where the parts of a block lie that is being parsed.
struct Layout {
    offsets_start: usize,
    entries_start: usize,
    entries_end: usize,
    interval: u32,
    narrow: bool,
    derived: bool,
}

impl Layout {
    /// Decodes all `len` entries: kinds known, prefixes within the restart key, offsets right, no byte left over. Derived
    /// offsets are put in their place.
    fn check_entries(&self, data: &mut [u8], len: u32) -> Option<()> {
        let (mut at, mut restart_len, mut in_group) = (self.entries_start, 0, 0);
        for i in 0..len as usize {
            self.check_offset(data, i, at - self.entries_start)?;
            let raw = entry::decode(data, at)?;
            if in_group == 0 {
                (restart_len, in_group) = (raw.value - raw.suffix, self.interval);
                if raw.shared != 0 {
                    return None;
                }
            }
            in_group -= 1;
            let key_len = raw.shared + (raw.value - raw.suffix);
            let fits = raw.shared <= restart_len && key_len <= KEY_BYTES_MAX;
            if !fits || raw.end > self.entries_end || raw.kind == ValueKind::RangeDelete {
                return None;
            }
            at = raw.end;
        }
        (at == self.entries_end).then_some(())
    }

    /// Compares the offset of entry `i` with where it starts, or puts it there.
    #[inline(always)]
    fn check_offset(&self, data: &mut [u8], i: usize, starts: usize) -> Option<()> {
        if self.narrow {
            let offset = data.get_mut(self.offsets_start + 2 * i..)?.first_chunk_mut::<2>()?;
            self.check_bytes(offset, u16::try_from(starts).ok()?.to_le_bytes())
        } else {
            let offset = data.get_mut(self.offsets_start + 4 * i..)?.first_chunk_mut::<4>()?;
            self.check_bytes(offset, u32::try_from(starts).ok()?.to_le_bytes())
        }
    }

    #[inline(always)]
    fn check_bytes<const N: usize>(&self, stored: &mut [u8; N], right: [u8; N]) -> Option<()> {
        if self.derived {
            *stored = right;
        }
        (*stored == right).then_some(())
    }
}

impl<B: Borrow<Buffer>> Block<B> {
    #[inline(always)]
    fn buffer(&self) -> &Buffer {
        self.0.borrow()
    }

    /// Number of entries.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.buffer().notes()[0]
    }

    #[inline(always)]
    fn entries_end(&self) -> u32 {
        self.buffer().notes()[1]
    }

    #[inline(always)]
    fn entries_start(&self) -> usize {
        self.buffer().notes()[3] as usize
    }

    /// Entries 0, interval, 2 * interval and so on are restarts.
    #[inline(always)]
    fn interval(&self) -> u32 {
        (self.buffer().notes()[2] & 0xffff).max(1)
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        self.buffer().notes()[2] & TAGGED != 0
    }

    #[inline(always)]
    fn is_narrow(&self) -> bool {
        self.buffer().notes()[2] & NARROW != 0
    }

    /// Bytes of the block.
    pub(crate) fn payload_len(&self) -> usize {
        self.entries_end() as usize + TAIL_LEN
    }

    /// The shared bytes, for slices of values.
    #[inline(always)]
    pub(crate) fn data(&self) -> &Buffer {
        self.buffer()
    }

    /// The value of an entry of this block.
    #[inline]
    pub(crate) fn value(&self, raw: &Raw) -> &[u8] {
        self.data().get(raw.value..raw.end).unwrap_or_default()
    }

    /// Where entry `i` starts.
    #[inline(always)]
    fn offset(&self, i: u32) -> Option<usize> {
        let (start, i) = (self.entries_start(), i as usize);
        let array = if self.is_tagged() { self.len() as usize } else { 0 };
        if self.is_narrow() {
            let bytes = self.data().get(array + 2 * i..)?.first_chunk::<2>()?;
            return Some(start + usize::from(u16::from_le_bytes(*bytes)));
        }
        let bytes = self.data().get(array + 4 * i..)?.first_chunk::<4>()?;
        start.checked_add(u32::from_le_bytes(*bytes) as usize)
    }

    /// Decodes entry `i`.
    #[inline(always)]
    fn raw(&self, i: u32) -> Option<Raw> {
        entry::decode(self.data(), self.offset(i)?)
    }

    /// The tags, one per entry; `None` if the block has none.
    #[inline]
    fn tags(&self) -> Option<&[u8]> {
        self.is_tagged().then(|| self.data().get(..self.len() as usize))?
    }

    /// True if the tags agree with the user keys, given as an iterator over the entries' keys.
    pub(crate) fn check_tag(&self, i: u32, hash: u64, same_as_previous: bool) -> bool {
        let expected = if same_as_previous && i > 0 { 0 } else { tag_of(hash) };
        self.tags().is_none_or(|tags| tags.get(i as usize) == Some(&expected))
    }
}

/// Bytes of tags and offsets.
fn arrays_len(len: u32, tagged: bool, narrow: bool) -> Option<usize> {
    (len as usize).checked_mul(usize::from(tagged) + if narrow { 2 } else { 4 })
}
