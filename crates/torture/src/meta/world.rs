//! A database on a simulated disk, the model beside it, and the operations that touch both.

mod restart;
mod upkeep;
mod views;

use super::Case;
use super::config::OptionSet;
use super::ops::{BatchPart, Op, SLOTS};
use super::reads::{End, HeldCursor, HeldIter, check_multi, check_value};
use super::state::{Bounds, Bytes, Change, Commit, History, Map, State, is_empty, is_inverted};
use crate::store::{is_sync_failed, show};
use lsm::clock::ManualClock;
use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Error, ErrorKind, Keyspace, Options, Snapshot};
use restart::Pending;
use std::cell::Cell;
use std::sync::Arc;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{FaultFs, MemFs};

const DIR: &str = "/db";
const NAMES: [&str; SLOTS] = ["default", "a", "B-2", "c_c"];
/// Values of this length the model of a canary gets wrong.
const CANARY_LEN: usize = 13;

/// Their hashes share the upper half, which is the tag of a key in a memtable.
const TWINS: [&[u8]; 2] = [b"twin025878", b"twin026814"];

/// What a run did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) ops: u64,
    pub(super) crashes: u64,
    /// Times the disk failed for a while.
    pub(super) episodes: u64,
    /// Single operations of the disk that failed.
    pub(super) fired: u64,
    /// Reopened since writes had stopped.
    pub(super) restarts: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.ops += other.ops;
        self.crashes += other.crashes;
        self.episodes += other.episodes;
        self.fired += other.fired;
        self.restarts += other.restarts;
    }
}

/// A keyspace that exists.
#[derive(Clone)]
struct Space {
    /// Number of this incarnation: a keyspace made again is another one.
    id: u32,
    handle: Keyspace,
}

struct HeldSnapshot {
    snapshot: Snapshot,
    state: State,
    /// The keyspaces of its moment; some may be dropped by now.
    spaces: Vec<Space>,
}

/// Where a read looks: the present, or a snapshot.
struct Seen<'a> {
    space: &'a Space,
    snapshot: Option<&'a Snapshot>,
    map: Arc<Map>,
}

pub(super) struct World {
    seed: u64,
    set: OptionSet,
    canary: bool,
    tally: Tally,
    mem: MemFs,
    fs: FaultFs,
    clock: Arc<ManualClock>,
    executor: Arc<ManualExecutor>,
    options: Options,
    db: Option<Db>,
    spaces: [Option<Space>; SLOTS],
    next_id: u32,
    history: History,
    version: u64,
    snapshots: Vec<HeldSnapshot>,
    iters: Vec<HeldIter>,
    cursors: Vec<HeldCursor>,
    /// Bytes of the largest commit: a segment of the log holds it whole.
    largest: u64,
    /// Operations until the failing disk is healthy again.
    failing: Option<u32>,
    /// It gives wrong bytes, which are reported as damage.
    is_rotten: bool,
    /// The disk has failed at some time since the last open.
    has_failed: bool,
    /// Writes stopped: none may succeed before a reopen.
    stopped: Cell<bool>,
    /// A sync failed: what was acknowledged without one may be gone after a reopen.
    sync_failed: Cell<bool>,
    /// The change that met a failed sync: it may be there after a reopen, or not.
    pending: Option<Pending>,
}

fn open(
    fs: &FaultFs,
    dir: &str,
    options: &Options,
    seed: u64,
    clock: &Arc<ManualClock>,
) -> lsm::Result<(Db, Arc<ManualExecutor>)> {
    let executor = ManualExecutor::new();
    let db = Db::builder(dir)
        .options(options.clone())
        .fs(Arc::new(fs.clone()))
        .clock(Arc::clone(clock) as _)
        .executor(Arc::clone(&executor) as _)
        .seed(seed)
        .open()?;
    Ok((db, executor))
}

impl World {
    pub(super) fn new(case: &Case) -> World {
        let (mem, clock) = (MemFs::new(), Arc::new(ManualClock::at(1_000_000)));
        let fs = FaultFs::over_mem(mem.clone());
        let Case { seed, set, canary } = *case;
        let options = set.options(seed);
        let (db, executor) = open(&fs, DIR, &options, seed, &clock).expect("fresh database");
        let mut world = World {
            seed,
            set,
            canary,
            tally: Tally::default(),
            mem,
            fs,
            clock,
            executor,
            options,
            db: None,
            spaces: Default::default(),
            next_id: 1,
            history: History::default(),
            version: 0,
            snapshots: Vec::new(),
            iters: Vec::new(),
            cursors: Vec::new(),
            largest: 0,
            failing: None,
            is_rotten: false,
            has_failed: false,
            stopped: Cell::new(false),
            sync_failed: Cell::new(false),
            pending: None,
        };
        world.spaces[0] = Some(Space { id: 0, handle: db.default_keyspace().clone() });
        world.history.change_spaces(|spaces| drop(spaces.insert(0, Arc::default())));
        world.db = Some(db);
        world
    }

    /// What a call gave, or nothing if the disk is failing and the call says so.
    ///
    /// # Panics
    /// On any other error.
    fn told<T>(&self, what: &str, result: lsm::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                assert!(self.failing.is_some() && self.excuses(&e), "{what}: {}", show(&e));
                self.note(&e);
                None
            }
        }
    }

    /// True for what the disk, as it fails now, may be reported as.
    fn excuses(&self, e: &Error) -> bool {
        match e {
            Error::WritesStopped { source } => self.excuses(source),
            Error::Corruption { .. } => self.is_rotten,
            e => is_of_disk(e),
        }
    }

    fn note(&self, e: &Error) {
        if matches!(e, Error::SyncFailed { .. } | Error::WritesStopped { .. }) {
            self.stopped.set(true);
        }
        if is_sync_failed(e) {
            self.sync_failed.set(true);
        }
    }

    /// Notes what came of a commit: it happened, or never will, or a failed sync leaves it open. True if it happened.
    fn wrote(
        &mut self,
        what: &str,
        commit: Commit,
        durability: Option<Durability>,
        done: lsm::Result<()>,
    ) -> bool {
        match &done {
            Ok(()) => {
                assert!(!self.stopped.get(), "{what} succeeds though writes stopped");
                self.committed(commit, durability);
            }
            Err(Error::SyncFailed { .. }) if !self.stopped.get() => {
                self.pending = Some(Pending::Commit(commit));
            }
            Err(_) => {}
        }
        self.told(what, done).is_some()
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    /// The keyspace of `slot`, or the default one if there is none.
    fn space(&self, slot: usize) -> &Space {
        self.spaces[slot].as_ref().or(self.spaces[0].as_ref()).expect("default keyspace")
    }

    fn value(&mut self, key: &[u8], len: usize) -> Bytes {
        self.version += 1;
        value_for(self.seed, key, self.version, len).into()
    }

    /// Notes a commit that returned `Ok`.
    fn committed(&mut self, mut commit: Commit, durability: Option<Durability>) {
        let durability = durability.unwrap_or(self.options.durability);
        // One without operations makes no record: all that it can be is a barrier.
        if commit.is_empty() {
            if durability == Durability::Sync {
                self.history.synced();
            }
            return;
        }
        let sizes = commit.iter().map(|(_, change)| change.size());
        self.largest = self.largest.max(sizes.sum());
        if self.canary {
            commit.retain(|(_, c)| !matches!(c, Change::Put(_, v) if v.len() == CANARY_LEN));
        }
        self.history.commit(commit, durability == Durability::Memory);
        if durability == Durability::Sync {
            self.history.synced();
        }
    }

    /// Runs one operation, and ends the failures of the disk when it is time or when writes stopped.
    pub(super) fn run(&mut self, op: &Op) {
        self.tally.ops += 1;
        self.dispatch(op);
        let Some(left) = self.failing else { return };
        self.look();
        match left {
            0 => self.heal(),
            _ if self.stopped.get() => self.heal(),
            left => self.failing = Some(left - 1),
        }
    }

    fn dispatch(&mut self, op: &Op) {
        match op {
            Op::Put(slot, key, len, durability) => self.put(*slot, key, *len, *durability),
            Op::Delete(slot, key, durability) => self.delete(*slot, key, *durability),
            Op::DeleteRange(slot, bounds) => self.delete_range(*slot, bounds),
            Op::Cas(slot, key, hit, new) => self.compare_and_swap(*slot, key, *hit, *new),
            Op::Batch(parts, durability) => self.batch(parts, *durability),
            Op::Ingest(slot, pairs) => self.ingest(*slot, pairs),
            Op::Bulk(slot, count, seed) => self.bulk(*slot, *count, *seed),
            Op::Get(slot, key) => self.get(*slot, key),
            Op::MultiGet(slot, keys) => {
                let space = self.space(*slot);
                if let Some(found) = self.told("multi_get", space.handle.multi_get(keys)) {
                    check_multi(keys, &found, &self.history.now.map(space.id));
                }
            }
            Op::Scan(slot, bounds, seed) => self.scan(*slot, bounds, *seed),
            Op::Prefix(slot, prefix, seed) => self.prefix(*slot, prefix, *seed),
            Op::Walk(slot, seed) => {
                let space = self.space(*slot);
                if let Some(cursor) = self.told("cursor", space.handle.cursor()) {
                    let map = self.history.now.map(space.id);
                    self.told("walk", HeldCursor::new(cursor, map).walk(&mut Rng::new(*seed)));
                }
            }
            Op::SnapshotTake => self.take_snapshot(),
            Op::SnapshotRead(i, seed) => self.read_snapshot(*i, *seed),
            Op::SnapshotDrop(i) => drop_one(&mut self.snapshots, *i),
            Op::IterOpen(slot, from, bounds) => self.open_iter(*slot, *from, bounds),
            Op::IterRead(i, seed) => {
                let (mut rng, n) = (Rng::new(*seed), self.iters.len().max(1));
                if let Some(iter) = self.iters.get_mut(i % n) {
                    let count = rng.index(60);
                    let read = iter.read_some(&mut rng, count, false);
                    self.told("scan", read);
                }
            }
            Op::IterDrop(i) => drop_one(&mut self.iters, *i),
            Op::CursorOpen(slot, from) => self.open_cursor(*slot, *from),
            Op::CursorWalk(i, seed) => self.walk_held(*i, *seed),
            Op::CursorDrop(i) => drop_one(&mut self.cursors, *i),
            other => self.upkeep(other),
        }
    }

    fn walk_held(&mut self, i: usize, seed: u64) {
        let at = i % self.cursors.len().max(1);
        let Some(cursor) = self.cursors.get_mut(at) else { return };
        let walked = cursor.walk(&mut Rng::new(seed));
        if self.told("walk", walked).is_none() {
            self.cursors.swap_remove(at);
        }
    }

    fn put(&mut self, slot: usize, key: &[u8], len: usize, durability: Option<Durability>) {
        let value = self.value(key, len);
        let Space { id, handle } = self.space(slot);
        let id = *id;
        let done = match durability {
            Some(durability) => handle.put_with(key, &value, durability),
            None => handle.put(key, &value),
        };
        self.wrote("put", vec![(id, Change::Put(key.into(), value))], durability, done);
        self.get(slot, key);
    }

    fn delete(&mut self, slot: usize, key: &[u8], durability: Option<Durability>) {
        let Space { id, handle } = self.space(slot);
        let id = *id;
        let done = match durability {
            Some(durability) => handle.delete_with(key, durability),
            None => handle.delete(key),
        };
        self.wrote("delete", vec![(id, Change::Delete(key.into()))], durability, done);
        self.get(slot, key);
    }

    fn delete_range(&mut self, slot: usize, bounds: &Bounds) {
        let Space { id, handle } = self.space(slot);
        let id = *id;
        let done = handle.delete_range(bounds.clone());
        if is_inverted(bounds) {
            assert_eq!(done.expect_err("inverted range").kind(), ErrorKind::FixCall);
            return;
        }
        let change = (id, Change::DeleteRange(bounds.clone()));
        let commit = if is_empty(bounds) { Commit::new() } else { vec![change] };
        self.wrote("delete_range", commit, None, done);
    }

    fn compare_and_swap(&mut self, slot: usize, key: &[u8], hit: bool, new: Option<usize>) {
        let new = new.map(|len| self.value(key, len));
        let Space { id, handle } = self.space(slot);
        let id = *id;
        let current = self.history.now.get(id, key).cloned();
        let expected = match (hit, &current) {
            (true, current) => current.clone(),
            (false, Some(_)) => None,
            (false, None) => Some(Bytes::from(&b"not there"[..])),
        };
        let done = handle.compare_and_swap(key, expected.as_deref(), new.as_deref());
        let done = match done {
            Ok(Ok(())) => {
                assert!(hit, "a swap took the wrong value");
                Ok(())
            }
            Ok(Err(mismatch)) => {
                assert!(!hit, "a swap refused the right value");
                return check_value("cas", key, mismatch.current.as_deref(), current.as_ref());
            }
            Err(e) => Err(e),
        };
        let change = match new {
            Some(value) => Change::Put(key.into(), value),
            None => Change::Delete(key.into()),
        };
        self.wrote("cas", vec![(id, change)], None, done);
        self.get(slot, key);
    }

    fn batch(&mut self, parts: &[BatchPart], durability: Option<Durability>) {
        let (mut batch, mut commit) = (self.db().batch(), Commit::new());
        for part in parts {
            let (BatchPart::Put(slot, ..)
            | BatchPart::Delete(slot, ..)
            | BatchPart::DeleteRange(slot, ..)) = part;
            let space = self.space(*slot).clone();
            match part {
                BatchPart::Put(_, key, len) => {
                    let value = self.value(key, *len);
                    batch.put_in(&space.handle, key, &value);
                    commit.push((space.id, Change::Put(key[..].into(), value)));
                }
                BatchPart::Delete(_, key) => {
                    batch.delete_in(&space.handle, key);
                    commit.push((space.id, Change::Delete(key[..].into())));
                }
                BatchPart::DeleteRange(_, bounds) if is_inverted(bounds) => {}
                BatchPart::DeleteRange(_, bounds) => {
                    batch.delete_range_in(&space.handle, bounds.clone());
                    commit.push((space.id, Change::DeleteRange(bounds.clone())));
                }
            }
        }
        if batch.is_empty() {
            commit.clear();
        }
        let done = match durability {
            Some(durability) => batch.commit_with(durability),
            None => batch.commit(),
        };
        self.wrote("batch", commit, durability, done);
        for part in parts {
            if let BatchPart::Put(slot, key, _) | BatchPart::Delete(slot, key) = part {
                self.get(*slot, key);
            }
        }
    }

    fn ingest(&mut self, slot: usize, pairs: &[(Vec<u8>, usize)]) {
        let pairs: Vec<_> = pairs.iter().map(|(k, len)| (k.clone(), self.value(k, *len))).collect();
        let Space { id, handle } = self.space(slot).clone();
        let done = handle.ingest(pairs.iter().map(|(k, v)| (k, v)));
        let done = done.map(|count| assert_eq!(count, pairs.len() as u64));
        let changes = pairs.iter().map(|(k, v)| (id, Change::Put(k[..].into(), v.clone())));
        // One without pairs syncs nothing.
        let durability = if pairs.is_empty() { Durability::Memory } else { Durability::Sync };
        let largest = self.largest;
        self.wrote("ingest", changes.collect(), Some(durability), done);
        // It is not in the log.
        self.largest = largest;
        for (key, _) in &pairs {
            self.get(slot, key);
        }
    }

    /// Many keys at once, so that what goes wrong for one in thousands shows.
    fn bulk(&mut self, slot: usize, count: u32, seed: u64) {
        self.twins(slot);
        let prefix = [&b"bulk"[..], &seed.to_be_bytes()].concat();
        let key = |n: u32| [&prefix[..], &n.to_be_bytes()].concat();
        let pairs: Vec<_> = (0..count).map(|n| (key(n), n as usize % 20)).collect();
        self.ingest(slot, &pairs);
        let keys: Vec<_> = (0..count + 50).map(key).collect();
        let space = self.space(slot);
        if let Some(found) = self.told("multi_get", space.handle.multi_get(&keys)) {
            check_multi(&keys, &found, &self.history.now.map(space.id));
        }
        let end = [&b"bulk"[..], &seed.wrapping_add(1).max(seed).to_be_bytes(), b"\xff"].concat();
        self.delete_range(
            slot,
            &(std::ops::Bound::Included(prefix), std::ops::Bound::Excluded(end)),
        );
    }

    /// Keys that a memtable can tell apart by their bytes only.
    fn twins(&mut self, slot: usize) {
        for (len, twin) in TWINS.iter().enumerate() {
            self.put(slot, twin, len, None);
        }
        for twin in TWINS {
            self.get(slot, twin);
            self.delete(slot, twin, None);
        }
    }

    fn get(&self, slot: usize, key: &[u8]) {
        let space = self.space(slot);
        let expected = self.history.now.get(space.id, key);
        if let Some(found) = self.told("get", space.handle.get(key)) {
            check_value("get", key, found.as_deref(), expected);
        }
        if let Some(there) = self.told("contains_key", space.handle.contains_key(key)) {
            assert_eq!(there, expected.is_some(), "contains_key");
        }
        if let Some(lent) = self.told("get_with", space.handle.get_with(key, <[u8]>::to_vec)) {
            check_value("get_with", key, lent.as_deref(), expected);
        }
    }

    fn seen<'a>(&'a self, space: &'a Space, snapshot: Option<&'a HeldSnapshot>) -> Seen<'a> {
        let state = snapshot.map_or(&self.history.now, |s| &s.state);
        Seen { space, snapshot: snapshot.map(|s| &s.snapshot), map: state.map(space.id) }
    }

    fn scan(&self, slot: usize, bounds: &Bounds, seed: u64) {
        let seen = self.seen(self.space(slot), None);
        if is_inverted(bounds) {
            let mut range = seen.range(bounds);
            let refused = range.next().expect("one error").expect_err("inverted range");
            assert_eq!(refused.kind(), ErrorKind::FixCall);
            assert!(range.next().is_none() && range.next_back().is_none());
            return;
        }
        let mut iter = HeldIter::new(seen.range(bounds), &seen.map, bounds);
        self.told("scan", iter.read_all(&mut Rng::new(seed), false));
    }

    fn prefix(&self, slot: usize, prefix: &[u8], seed: u64) {
        let space = self.space(slot);
        let mut map = Map::clone(&self.history.now.map(space.id));
        map.retain(|key, _| key.starts_with(prefix));
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let mut iter = HeldIter::new(space.handle.prefix(prefix), &map, &all);
        self.told("prefix", iter.read_all(&mut Rng::new(seed), false));
    }
}

/// True for what a failing disk may be reported as.
fn is_of_disk(e: &Error) -> bool {
    match e {
        Error::Io { .. } | Error::NoSpace { .. } | Error::SyncFailed { .. } => true,
        Error::WritesStopped { source } => is_of_disk(source),
        _ => false,
    }
}

fn drop_one<T>(list: &mut Vec<T>, i: usize) {
    if !list.is_empty() {
        drop(list.swap_remove(i % list.len()));
    }
}

impl Seen<'_> {
    fn range(&self, bounds: &Bounds) -> lsm::Range {
        match self.snapshot {
            Some(snapshot) => snapshot.keyspace(&self.space.handle).range(bounds.clone()),
            None => self.space.handle.range(bounds.clone()),
        }
    }

    /// Compares everything, forwards and backwards.
    fn check_all(&self) -> lsm::Result<()> {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        for end in [End::Front, End::Back] {
            let mut iter = HeldIter::new(self.range(&all), &self.map, &all);
            while iter.read(end, false)? {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn twins_share_a_tag() {
        let [a, b] = super::TWINS.map(|key| base::checksum::key_hash(key) >> 32);
        assert_eq!(a, b);
    }
}
