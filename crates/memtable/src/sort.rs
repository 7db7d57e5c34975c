//! Entries of a sorted run, and how a batch of them is sorted while touching few records.
//!
//! An entry carries twelve bytes of its key, taken behind the prefix that all keys share. Only entries that
//! agree in those look at their records. A large group of such ties is sorted by the next twelve bytes behind
//! what the group shares, and so on: a radix sort with a very large alphabet.

use crate::arena::{Arena, Ref};
use std::cmp::Ordering;

/// Key bytes kept in an entry.
pub(crate) const INLINE: usize = 12;
/// Smaller groups of ties are sorted by comparing records.
const SMALL: usize = 24;

/// Bytes in which a group looks for what it shares. A bound, since keys may share tens of kilobytes.
const LOOK_AHEAD: usize = 256;

/// A reference with a piece of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    high: u64,
    low: u32,
    pub(crate) record: Ref,
}
const _: () = assert!(size_of::<Entry>() == 16, "four entries a cache line");

impl Entry {
    /// `skip` is at most `key.len()`.
    #[inline]
    pub(crate) fn new(key: &[u8], skip: usize, record: Ref) -> Entry {
        let word = word_at(key, skip);
        Entry { high: (word >> 32) as u64, low: word as u32, record }
    }

    /// The first eight inline bytes as a number.
    #[inline]
    pub(crate) fn high(self) -> u64 {
        self.high
    }

    /// The inline bytes as a number; a shorter key is filled up with zeros.
    #[inline]
    pub(crate) fn word(self) -> u128 {
        u128::from(self.high) << 32 | u128::from(self.low)
    }

    /// The same entry for a shorter skip, given the prefix of its key that was skipped.
    pub(crate) fn widen(self, skipped: &[u8], skip: usize) -> Entry {
        let gained = skipped.len() - skip;
        let own = if gained < INLINE { self.word() >> (8 * gained) } else { 0 };
        let word = word_at(skipped, skip) | own;
        Entry { high: (word >> 32) as u64, low: word as u32, record: self.record }
    }
}

/// `INLINE` bytes of `key` from `skip` on, as a number.
#[inline]
pub(crate) fn word_at(key: &[u8], skip: usize) -> u128 {
    let rest = key.get(skip..).unwrap_or_default();
    let mut bytes = [0; 16];
    match rest.first_chunk::<INLINE>() {
        Some(chunk) => bytes[4..].copy_from_slice(chunk),
        None => bytes[4..4 + rest.len()].copy_from_slice(rest),
    }
    u128::from_be_bytes(bytes)
}

/// The order of iteration: key, then newest version first.
#[inline]
pub(crate) fn compare(arena: &Arena, a: Entry, b: Entry) -> Ordering {
    a.word().cmp(&b.word()).then_with(|| compare_records(arena, a.record, b.record))
}

fn compare_records(arena: &Arena, a: Ref, b: Ref) -> Ordering {
    let (x, y) = (arena.record(a), arena.record(b));
    x.key().cmp(y.key()).then_with(|| y.trailer().cmp(&x.trailer())).then_with(|| b.cmp(&a))
}

/// Sorts entries made with the same `skip`.
pub(crate) fn sort(arena: &Arena, entries: &mut [Entry], skip: usize) {
    entries.sort_unstable_by_key(|e| e.word());
    let mut ties = Vec::new();
    push_groups(&mut ties, 0, skip + INLINE, entries, |e| e.word());
    while let Some(group) = ties.pop() {
        sort_group(arena, &mut entries[group.start..group.end], &group, &mut ties);
    }
}

/// Entries whose keys agree in the first `agreed` bytes, counting zeros behind a shorter key.
struct Group {
    start: usize,
    end: usize,
    agreed: usize,
}

/// Pushes the stretches of two and more items with equal words.
fn push_groups<T: Copy>(
    out: &mut Vec<Group>,
    base: usize,
    agreed: usize,
    items: &[T],
    word: impl Fn(T) -> u128,
) {
    let mut start = base;
    for group in items.chunk_by(|&a, &b| word(a) == word(b)) {
        if group.len() > 1 {
            out.push(Group { start, end: start + group.len(), agreed });
        }
        start += group.len();
    }
}

/// Sorts one group, or sorts it as far as twelve more bytes tell and pushes what still ties.
fn sort_group(arena: &Arena, entries: &mut [Entry], group: &Group, ties: &mut Vec<Group>) {
    if entries.len() <= SMALL {
        entries.sort_unstable_by(|a, b| compare_records(arena, a.record, b.record));
        return;
    }
    base::probe!("many keys of a memtable tie");
    let key = |e: &Entry| arena.record(e.record).key();
    // A key that ends among the agreed bytes is a prefix, but for zeros, of all longer ones: it goes first.
    let (mut ended, longer): (Vec<Entry>, Vec<Entry>) =
        entries.iter().partition(|e| key(e).len() <= group.agreed);
    ended.sort_by_cached_key(|e| {
        let record = arena.record(e.record);
        (record.key().len(), !record.trailer(), std::cmp::Reverse(e.record))
    });
    let mut longer: Vec<(u128, Entry)> = match longer.split_first() {
        None => Vec::new(),
        Some((first, rest)) => {
            let rest_of =
                |e: &Entry| key(e)[group.agreed..].chunks(LOOK_AHEAD).next().unwrap_or_default();
            let same = |shared: &'_ [u8], e: &Entry| shared_len(shared, rest_of(e));
            let start = rest_of(first);
            let shared = rest.iter().fold(start.len(), |n, e| same(&start[..n], e));
            let skip = group.agreed + shared;
            let mut longer: Vec<_> = longer.iter().map(|e| (word_at(key(e), skip), *e)).collect();
            longer.sort_unstable_by_key(|(word, _)| *word);
            push_groups(ties, group.start + ended.len(), skip + INLINE, &longer, |(word, _)| word);
            longer
        }
    };
    let sorted = ended.drain(..).chain(longer.drain(..).map(|(_, e)| e));
    entries.iter_mut().zip(sorted).for_each(|(place, e)| *place = e);
}

/// Bytes that `a` and `b` share at their start.
pub(crate) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    if b.starts_with(a) {
        return a.len();
    }
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Merges two sorted runs. Stretches of the larger that lie between entries of the smaller are copied whole.
pub(crate) fn merge(arena: &Arena, a: &[Entry], b: &[Entry]) -> Vec<Entry> {
    let (small, mut large) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(a.len() + b.len());
    for &entry in small {
        let before = gallop(large, |&e| compare(arena, e, entry) == Ordering::Less);
        out.extend_from_slice(&large[..before]);
        large = &large[before..];
        out.push(entry);
    }
    out.extend_from_slice(large);
    out
}

/// `partition_point` that looks near the start first.
fn gallop(items: &[Entry], before: impl Fn(&Entry) -> bool) -> usize {
    let mut reach = 1;
    while reach < items.len() && before(&items[reach]) {
        reach *= 2;
    }
    let (from, to) = (reach / 2, items.len().min(reach + 1));
    from + items[from..to].partition_point(before)
}
