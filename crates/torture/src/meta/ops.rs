//! What can happen. A whole list is made from a seed before anything runs, and every operation makes sense on its own,
//! so that a failing list can be cut down.

use super::state::Bounds;
use lsm::Durability;
use std::ops::Bound;
use testkit::keys::edge_keys;
use testkit::rng::Rng;
use vfs::{CrashProfile, Fault, SyncOutcome};

/// Keyspaces that may exist at one time, the default one among them.
pub(crate) const SLOTS: usize = 4;

#[derive(Debug, Clone)]
pub(crate) enum BatchPart {
    Put(usize, Vec<u8>, usize),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Bounds),
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(usize, Vec<u8>, usize, Option<Durability>),
    Delete(usize, Vec<u8>, Option<Durability>),
    DeleteRange(usize, Bounds),
    /// Keyspace, key, whether to expect what is there, length of the new value.
    Cas(usize, Vec<u8>, bool, Option<usize>),
    Batch(Vec<BatchPart>, Option<Durability>),
    Ingest(usize, Vec<(Vec<u8>, usize)>),
    /// Keyspace, how many, and what their keys begin with: many pairs come, are read, and go.
    Bulk(usize, u32, u64),
    Get(usize, Vec<u8>),
    MultiGet(usize, Vec<Vec<u8>>),
    Scan(usize, Bounds, u64),
    Prefix(usize, Vec<u8>, u64),
    Walk(usize, u64),
    SnapshotTake,
    SnapshotRead(usize, u64),
    SnapshotDrop(usize),
    IterOpen(usize, Option<usize>, Bounds),
    IterRead(usize, u64),
    IterDrop(usize),
    CursorOpen(usize, Option<usize>),
    CursorWalk(usize, u64),
    CursorDrop(usize),
    Flush(Option<usize>),
    Compact(usize, Bounds),
    WaitIdle,
    Sync,
    Step(usize),
    Tick,
    Advance(u64),
    Checkpoint(u64),
    Verify,
    Metrics,
    /// A second handle on an open database.
    OpenTwice,
    /// A copy, opened without the right to write.
    ReadOnly(u64),
    Create(usize, u64),
    DropSpace(usize),
    Reopen(u64),
    Crash(CrashProfile, u64, bool),
    /// The disk fails for a while.
    Fault(Trouble),
    CheckAll,
}

/// A disk that fails for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    /// One of [`faults`].
    pub(crate) fault: usize,
    /// Operations of the file system, of those that the fault fits, that still succeed.
    pub(crate) skip: u64,
    /// Failures; 0 is all until the end.
    pub(crate) times: u64,
    /// Operations of the list until the disk is healthy again.
    pub(crate) span: u32,
}

/// What can fail; the last two, [`is_rot`], give wrong bytes.
pub(crate) fn faults() -> [Fault; 10] {
    use SyncOutcome::{ErrorOnceThenOk, PageCleanCacheNew, PageReverted};
    [
        Fault::Eio,
        Fault::NoSpace,
        Fault::QuotaExceeded,
        Fault::TooManyOpenFiles,
        Fault::ShortWrite,
        Fault::SyncFailed(PageCleanCacheNew),
        Fault::SyncFailed(PageReverted),
        Fault::SyncFailed(ErrorOnceThenOk),
        Fault::ShortRead,
        Fault::BitRot,
    ]
}

/// True for what gives wrong bytes in place of an error: damage is reported then, and nothing may be opened, because what
/// was never synced may pass for torn.
pub(crate) fn is_rot(fault: usize) -> bool {
    matches!(faults()[fault], Fault::ShortRead | Fault::BitRot)
}

/// The keys of one run: few, so that each has many versions, and of shapes that are hard.
pub(crate) fn universe(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let count = *rng.pick(&[6, 30, 100, 300]);
    let prefix = rng.bytes(40);
    while keys.len() < count {
        let n = keys.len();
        keys.push(match rng.below(5) {
            0 => format!("key{n:03}").into_bytes(),
            1 => [&prefix[..], &(n as u16).to_be_bytes()].concat(),
            2 => (0..rng.below(5)).map(|_| *rng.pick(&[0, 1, b'a', 0xfe, 0xff])).collect(),
            3 => format!("user/{}/{}", rng.below(5), rng.below(20)).into_bytes(),
            _ => rng.bytes(8),
        });
    }
    keys.push(Vec::new());
    if rng.chance(0.3) {
        keys.extend(edge_keys().into_iter().filter(|k| k.len() < 4096));
    }
    // Lists with the longest keys take twenty times as long.
    if rng.chance(0.02) {
        keys.extend(edge_keys());
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Draws operations.
pub(crate) struct Generator {
    rng: Rng,
    keys: Vec<Vec<u8>>,
    value_max: usize,
    /// With power cuts and a disk that fails.
    is_hostile: bool,
}

/// Half of the lists have power cuts and faults.
pub(crate) fn is_hostile(seed: u64) -> bool {
    seed % 2 == 1
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let keys = universe(&mut rng);
        let value_max = *rng.pick(&[20, 100, 1000, 5000, 20_000]);
        Generator { rng, keys, value_max, is_hostile: is_hostile(seed) }
    }

    fn key(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let mut key = rng.pick(&self.keys).clone();
        match rng.below(20) {
            0 => key.push(*rng.pick(&[0, 0xff])),
            1 => drop(key.pop()),
            _ => {}
        }
        key.truncate(65_535);
        key
    }

    fn slot(&mut self) -> usize {
        if self.rng.chance(0.5) { 0 } else { self.rng.index(SLOTS) }
    }

    fn len(&mut self) -> usize {
        match self.rng.below(10) {
            0 => 0,
            1..=7 => self.rng.index(self.value_max.min(100)),
            _ => self.rng.index(self.value_max + 1),
        }
    }

    fn durability(&mut self) -> Option<Durability> {
        *self.rng.pick(&[
            None,
            None,
            None,
            Some(Durability::Buffered),
            Some(Durability::Memory),
            Some(Durability::Sync),
        ])
    }

    fn bounds(&mut self) -> Bounds {
        let (mut a, mut b) = (self.key(), self.key());
        if a > b && self.rng.chance(0.98) {
            std::mem::swap(&mut a, &mut b);
        }
        let mut bound = |key| match self.rng.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Excluded(key),
            _ => Bound::Included(key),
        };
        (bound(a), bound(b))
    }

    /// Bounds a few keys apart, mostly, so that deletes leave something.
    fn near_bounds(&mut self) -> Bounds {
        if self.rng.chance(0.2) {
            return self.bounds();
        }
        let i = self.rng.index(self.keys.len());
        let j = (i + self.rng.index(8)).min(self.keys.len() - 1);
        let (from, to) = (self.keys[i].clone(), self.keys[j].clone());
        let from = match self.rng.below(4) {
            0 => Bound::Excluded(from),
            _ => Bound::Included(from),
        };
        (from, if self.rng.below(3) == 0 { Bound::Included(to) } else { Bound::Excluded(to) })
    }

    fn batch(&mut self) -> Vec<BatchPart> {
        let count = *self.rng.pick(&[0, 1, 2, 3, 5, 10, 40]);
        (0..count)
            .map(|_| match self.rng.below(8) {
                0 | 1 => BatchPart::Delete(self.slot(), self.key()),
                2 => BatchPart::DeleteRange(self.slot(), self.near_bounds()),
                _ => BatchPart::Put(self.slot(), self.key(), self.len()),
            })
            .collect()
    }

    fn sorted_pairs(&mut self) -> Vec<(Vec<u8>, usize)> {
        let mut keys: Vec<_> = (0..*self.rng.pick(&[0, 1, 5, 50])).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().map(|key| (key, self.len())).collect()
    }

    pub(crate) fn op(&mut self) -> Op {
        let seed = self.rng.next_u64();
        match self.rng.below(1000) {
            0..300 => Op::Put(self.slot(), self.key(), self.len(), self.durability()),
            300..380 => Op::Delete(self.slot(), self.key(), self.durability()),
            380..400 => Op::DeleteRange(self.slot(), self.near_bounds()),
            400..430 => {
                let new = if self.rng.chance(0.7) { Some(self.len()) } else { None };
                Op::Cas(self.slot(), self.key(), self.rng.chance(0.7), new)
            }
            430..490 => Op::Batch(self.batch(), self.durability()),
            490..494 => Op::Ingest(self.slot(), self.sorted_pairs()),
            494..580 => Op::Get(self.slot(), self.key()),
            580..610 => {
                let mut count = *self.rng.pick(&[0, 1, 2, 10, 100]);
                // Around the widths of counters.
                match self.rng.below(2_000) {
                    0 => count = *self.rng.pick(&[65_535, 65_536]),
                    1..20 => count = *self.rng.pick(&[4_095, 4_096, 4_097, 8_193]),
                    _ => {}
                }
                Op::MultiGet(self.slot(), (0..count).map(|_| self.key()).collect())
            }
            610..650 => Op::Scan(self.slot(), self.bounds(), seed),
            650..665 => {
                let mut prefix = self.key();
                prefix.truncate(self.rng.index(6));
                Op::Prefix(self.slot(), prefix, seed)
            }
            665..695 => Op::Walk(self.slot(), seed),
            695..705 => Op::SnapshotTake,
            705..725 => Op::SnapshotRead(self.rng.index(8), seed),
            725..735 => Op::SnapshotDrop(self.rng.index(8)),
            735..747 => {
                let snapshot = if self.rng.chance(0.3) { Some(self.rng.index(8)) } else { None };
                Op::IterOpen(self.slot(), snapshot, self.bounds())
            }
            747..770 => Op::IterRead(self.rng.index(8), seed),
            770..776 => Op::IterDrop(self.rng.index(8)),
            776..783 => {
                let snapshot = if self.rng.chance(0.3) { Some(self.rng.index(8)) } else { None };
                Op::CursorOpen(self.slot(), snapshot)
            }
            783..800 => Op::CursorWalk(self.rng.index(8), seed),
            800..805 => Op::CursorDrop(self.rng.index(8)),
            805..815 => Op::Flush(if self.rng.chance(0.7) { Some(self.slot()) } else { None }),
            815..819 => Op::Compact(self.slot(), self.bounds()),
            819..822 => Op::WaitIdle,
            822..830 => Op::Sync,
            830..940 => Op::Step(self.rng.index(4)),
            940..955 => Op::Tick,
            955..958 => Op::Advance(self.rng.below(1 << 30)),
            958..960 => Op::Checkpoint(seed),
            960..962 => Op::Verify,
            962..965 => Op::Metrics,
            965 if self.rng.chance(0.5) => {
                Op::Bulk(self.slot(), self.rng.range(1_000..4_000) as u32, seed)
            }
            965 => Op::Metrics,
            966..974 => Op::Create(self.rng.index(SLOTS), seed),
            974..978 => Op::DropSpace(1 + self.rng.index(SLOTS - 1)),
            978..980 => Op::Reopen(seed),
            980..990 if !self.is_hostile => Op::CheckAll,
            980..984 => {
                let profile = *self.rng.pick(&CrashProfile::ALL);
                Op::Crash(profile, seed, self.rng.chance(0.3))
            }
            984..990 => Op::Fault(Trouble {
                fault: self.rng.index(faults().len()),
                skip: self.rng.below(40),
                times: *self.rng.pick(&[1, 1, 2, 5, 0]),
                span: self.rng.range(1..60) as u32,
            }),
            990 => Op::OpenTwice,
            991 => Op::ReadOnly(seed),
            _ => Op::CheckAll,
        }
    }
}
