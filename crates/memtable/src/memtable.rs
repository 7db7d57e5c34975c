//! [`Memtable`]: inserts, point reads and the links between versions.

use crate::account::Account;
use crate::arena::{Apart, Appender, Arena, Links, Record, Ref, Spares};
use crate::index::{Index, Place, tag};
use crate::iter::MemtableIterator;
use crate::order::Order;
use crate::tombstones::Tombstones;
use base::bytes;
use base::key::unpack_trailer;
use base::sync::leaf::Mutex;
use base::sync::leaf::atomic::{AtomicU64, AtomicUsize, Ordering};
use base::{Fragments, InternalKey, RangeTombstone, SeqNo, ValueKind};
use std::sync::Arc;

/// The sorted in-memory table of one keyspace.
///
/// Point reads take no lock. Inserts take a lock among themselves, for about as long as the record takes to
/// copy. Making an iterator takes a lock among iterator makers, never one that an insert waits for.
///
/// Every internal key may be inserted once. A table holds at least 8 GiB; freeze it long before.
#[derive(Debug)]
pub struct Memtable {
    pub(crate) arena: Arena,
    index: Index,
    tombstones: Tombstones,
    account: Arc<Account>,
    writer: Apart<Mutex<Writer>>,
    counts: Apart<Counts>,
    order: Apart<Order>,
}

#[derive(Debug)]
struct Writer {
    appender: Appender,
    /// Distinct user keys, which is what the index is filled with.
    keys: usize,
}

/// Written under the writer's lock, read by anybody.
#[derive(Debug)]
struct Counts {
    entries: AtomicUsize,
    seq_min: AtomicU64,
    seq_max: AtomicU64,
}

/// A version that [`Memtable::get`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// When it was written.
    pub seq: SeqNo,
    /// What it says.
    pub kind: ValueKind,
    /// Its value, where it lies.
    pub value: &'a [u8],
}

impl Memtable {
    /// An empty table whose hash index will not grow before `expected_entries` keys (8 bytes a slot, 1.6 to
    /// 3.2 slots a key, in untouched pages until used). 0 is fine.
    #[must_use]
    pub fn new(expected_entries: usize) -> Memtable {
        Memtable::with_likely(expected_entries, 0, &Arc::default())
    }

    /// As [`new`](Self::new); and once the table is clearly in use, its hash index grows to `likely_entries` in one early,
    /// cheap step, rather than in many of which each holds up a writer twice as long as the one before. Takes its memory from
    /// `spares` first, and leaves it there.
    #[must_use]
    pub fn with_likely(
        expected_entries: usize,
        likely_entries: usize,
        spares: &Arc<Spares>,
    ) -> Memtable {
        let account = Arc::<Account>::default();
        let (arena, appender) = Arena::new(Arc::clone(&account), Arc::clone(spares));
        let seq_min = AtomicU64::new(u64::MAX);
        let counts = Counts { entries: AtomicUsize::new(0), seq_min, seq_max: AtomicU64::new(0) };
        Memtable {
            arena,
            index: Index::new(
                expected_entries,
                likely_entries,
                Arc::clone(&account),
                Arc::clone(spares),
            ),
            tombstones: Tombstones::new(Arc::clone(&account)),
            writer: Apart(Mutex::new(Writer { appender, keys: 0 })),
            counts: Apart(counts),
            order: Apart(Order::new(Arc::clone(&account))),
            account,
        }
    }

    /// Adds a version of a key. `hash` is `base::checksum::key_hash` of the user key; keys may share it.
    ///
    /// From any thread. Versions of one key may arrive in any order, cheapest in ascending one.
    ///
    /// # Panics
    /// If the key or value is beyond `base::limits`, or the table beyond 8 GiB.
    pub fn insert(&self, hash: u64, key: InternalKey<'_>, value: &[u8]) {
        let tag = tag(hash);
        let mut writer = self.writer.0.lock();
        let is_key = |r: Ref| bytes::same(self.arena.record(r).key(), key.user_key);
        let place = self.index.place(writer.keys, tag, is_key);
        let mut append = |l: Links| {
            self.arena.append(&mut writer.appender, l, key.trailer(), key.user_key, value)
        };
        match place {
            Place::Vacant(slot) => {
                self.index.store(slot, tag, append(Links::default()));
                writer.keys += 1;
            }
            Place::Found(slot, head) => match self.newer_neighbour(head, key.trailer()) {
                None => self.index.store(slot, tag, append(self.links_to(Some(head)))),
                Some(newer) => newer.set_older(append(self.links_to(newer.older()))),
            },
        }
        self.count(key.seq, 1);
    }

    /// Has the processor fetch what an insert or a lookup of a key with this hash looks at first. Only a hint: whoever knows
    /// the next few keys need not wait for each of them.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(tag(hash));
    }

    /// Adds a range tombstone. From any thread. Empty and inverted ranges cover nothing.
    pub fn insert_range_tombstone(&self, tombstone: RangeTombstone) {
        let _writer = self.writer.0.lock();
        let seq = tombstone.seq;
        self.tombstones.insert(tombstone);
        self.count(seq, 0);
    }

    /// The newest version of `user_key` at or below `snapshot`. Takes no lock.
    ///
    /// O(log n) steps for n versions above `snapshot`.
    #[inline]
    #[must_use]
    pub fn get(&self, hash: u64, user_key: &[u8], snapshot: SeqNo) -> Option<Found<'_>> {
        let head = self.head(hash, user_key)?;
        let limit = (snapshot.0 << 8) | 0xff;
        let record = if head.trailer() <= limit { head } else { self.older_at(head, limit)? };
        let (seq, kind) = unpack_trailer(record.trailer())?;
        Some(Found { seq, kind, value: record.value() })
    }

    /// The sequence number of the newest version of `user_key`. Takes no lock.
    #[must_use]
    pub fn newest_seq(&self, hash: u64, user_key: &[u8]) -> Option<SeqNo> {
        self.head(hash, user_key).map(|record| SeqNo(record.trailer() >> 8))
    }

    /// The newest range tombstone over `user_key` at or below `snapshot`. One load if there are none.
    #[inline]
    #[must_use]
    pub fn covering_tombstone(&self, user_key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        if self.tombstones.is_empty() {
            return None;
        }
        self.tombstones.newest_covering(user_key, snapshot)
    }

    /// All range tombstones as fragments; computed once after each change.
    #[must_use]
    pub fn range_tombstones(&self) -> Arc<Fragments> {
        self.tombstones.all()
    }

    /// An iterator over at least the entries whose insert returned before this call.
    ///
    /// Orders what came since the last call, which costs about as much as sorting it; other callers wait for
    /// that, inserts and point reads do not. Later inserts are not seen.
    #[must_use]
    pub fn iter(self: &Arc<Self>) -> MemtableIterator {
        let runs = self.order.0.runs(&self.arena, self.entries());
        MemtableIterator::new(Arc::clone(self), runs)
    }

    /// Bytes held: log chunks, index, order, tombstones; also old orders that iterators still hold.
    #[inline]
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.account.bytes()
    }

    /// Bytes of the keys and values of all versions, each pair rounded up to 8: what [`size_bytes`](Self::size_bytes) holds
    /// them in is a multiple of that while a table is small. Exact only while nobody inserts. O(chunks).
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.arena.data_bytes(self.entries())
    }

    /// Versions inserted, without range tombstones.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.counts.0.entries.load(Ordering::Acquire)
    }

    /// True if there are neither versions nor range tombstones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && self.tombstones.is_empty()
    }

    /// Smallest and largest sequence number inserted, range tombstones included.
    #[must_use]
    pub fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        // `count` stores the largest last, so its first value brings the smallest with it.
        let max = self.counts.0.seq_max.load(Ordering::Acquire);
        let min = self.counts.0.seq_min.load(Ordering::Relaxed);
        (min <= max).then_some((SeqNo(min), SeqNo(max)))
    }

    #[inline]
    fn head(&self, hash: u64, user_key: &[u8]) -> Option<Record<'_>> {
        let head =
            self.index.get(tag(hash), |r| bytes::same(self.arena.record(r).key(), user_key))?;
        Some(self.arena.record(head))
    }

    /// The newest version at or below the trailer `limit`, from `head` which is above it.
    fn older_at<'a>(&'a self, head: Record<'a>, limit: u64) -> Option<Record<'a>> {
        let mut at = head;
        loop {
            let older = self.arena.record(self.last_above(at, limit).older()?);
            if older.trailer() <= limit {
                return Some(older);
            }
            // Put in between since `last_above` looked.
            at = older;
        }
    }

    /// Where a version with `trailer` goes: behind the returned one, or, if `None`, before `head`.
    fn newer_neighbour(&self, head: Ref, trailer: u64) -> Option<Record<'_>> {
        let head = self.arena.record(head);
        (head.trailer() > trailer).then(|| self.last_above(head, trailer))
    }

    /// The oldest version with a trailer above `limit`, from one that is.
    ///
    /// A jump leads over versions that are all newer than its target, so it may be taken whenever the
    /// target is still above the limit.
    fn last_above<'a>(&'a self, mut at: Record<'a>, limit: u64) -> Record<'a> {
        let above = |r: Ref| Some(self.arena.record(r)).filter(|r| r.trailer() > limit);
        while let Some(next) = at.jump().and_then(above).or_else(|| at.older().and_then(above)) {
            at = next;
        }
        at
    }

    /// The links of a version that is put in front of `older`.
    ///
    /// # Source
    /// Myers, "An applicative random-access stack", Information Processing Letters 17(5), 1983: jumps of the
    /// skew-binary numbers, O(1) to make, O(log n) to follow.
    fn links_to(&self, older: Option<Ref>) -> Links {
        let Some(first) = older else { return Links::default() };
        let record = self.arena.record(first);
        let (jump, rank) = match record.jump().map(|j| self.arena.record(j)) {
            Some(second) if second.rank() == record.rank() => {
                (second.jump(), record.rank().saturating_add(1))
            }
            _ => (Some(first), 0),
        };
        Links { older, jump, rank }
    }

    /// Counts an insert. The caller holds the writer's lock.
    fn count(&self, seq: SeqNo, entries: usize) {
        let counts = &self.counts.0;
        if seq.0 < counts.seq_min.load(Ordering::Relaxed) {
            counts.seq_min.store(seq.0, Ordering::Relaxed);
        }
        if seq.0 >= counts.seq_max.load(Ordering::Relaxed) {
            counts.seq_max.store(seq.0, Ordering::Release);
        }
        let before = counts.entries.load(Ordering::Relaxed);
        counts.entries.store(before + entries, Ordering::Release);
    }

    /// Compares what is counted with what is held.
    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.arena.recount()
            + self.index.recount()
            + self.order.0.recount()
            + self.tombstones.recount()
    }
}
