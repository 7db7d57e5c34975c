//! A database on a simulated disk, the model beside it, and the operations that touch both.

use super::config;
use super::ops::{BatchPart, Op, SLOTS};
use super::reads::{End, HeldCursor, HeldIter, check_multi, check_value};
use super::state::{Bounds, Bytes, Change, Commit, History, Map, State, is_empty, is_inverted};
use lsm::clock::ManualClock;
use lsm::executor::{Executor, ManualExecutor};
use lsm::{Db, Durability, ErrorKind, Keyspace, Options, Snapshot};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{CrashProfile, Fs, MemFs};

/// Whether ingest is among the operations.
const INGEST: bool = true;
const DIR: &str = "/db";
const NAMES: [&str; SLOTS] = ["default", "a", "B-2", "c_c"];

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

pub(crate) struct World {
    seed: u64,
    fs: MemFs,
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
}

fn open(
    fs: &MemFs,
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

/// Everything in a database, by name of keyspace.
fn read_all(db: &Db) -> BTreeMap<String, Map> {
    let each = |name: String| {
        let pairs = db.open_keyspace(&name).expect("listed").iter();
        let pairs = pairs.map(|kv| {
            let (key, value) = kv.expect("scan");
            (Bytes::from(&key[..]), Bytes::from(&value[..]))
        });
        (name, pairs.collect())
    };
    db.list_keyspaces().into_iter().map(each).collect()
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let (fs, clock) = (MemFs::new(), Arc::new(ManualClock::at(1_000_000)));
        let options = config::options(&mut Rng::new(seed));
        let (db, executor) = open(&fs, DIR, &options, seed, &clock).expect("fresh database");
        let mut world = World {
            seed,
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
        };
        world.spaces[0] = Some(Space { id: 0, handle: db.default_keyspace().clone() });
        world.history.change_spaces(|spaces| drop(spaces.insert(0, Arc::default())));
        world.db = Some(db);
        world
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
    fn committed(&mut self, commit: Commit, durability: Option<Durability>) {
        let durability = durability.unwrap_or(self.options.durability);
        self.history.commit(commit, durability == Durability::Memory);
        if durability == Durability::Sync {
            self.history.synced();
        }
    }

    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::Put(slot, key, len, durability) => self.put(*slot, key, *len, *durability),
            Op::Delete(slot, key, durability) => self.delete(*slot, key, *durability),
            Op::DeleteRange(slot, bounds) => self.delete_range(*slot, bounds),
            Op::Cas(slot, key, hit, new) => self.compare_and_swap(*slot, key, *hit, *new),
            Op::Batch(parts, durability) => self.batch(parts, *durability),
            Op::Ingest(slot, pairs) => self.ingest(*slot, pairs),
            Op::Get(slot, key) => self.get(*slot, key),
            Op::MultiGet(slot, keys) => {
                let space = self.space(*slot);
                let found = space.handle.multi_get(keys).expect("multi_get");
                check_multi(keys, &found, &self.history.now.map(space.id));
            }
            Op::Scan(slot, bounds, seed) => self.scan(*slot, bounds, *seed),
            Op::Prefix(slot, prefix, seed) => self.prefix(*slot, prefix, *seed),
            Op::Walk(slot, seed) => {
                let space = self.space(*slot);
                let cursor = space.handle.cursor().expect("cursor");
                let map = self.history.now.map(space.id);
                HeldCursor::new(cursor, map).walk(&mut Rng::new(*seed));
            }
            Op::SnapshotTake => self.take_snapshot(),
            Op::SnapshotRead(i, seed) => self.read_snapshot(*i, *seed),
            Op::SnapshotDrop(i) => drop_one(&mut self.snapshots, *i),
            Op::IterOpen(slot, from, bounds) => self.open_iter(*slot, *from, bounds),
            Op::IterRead(i, seed) => {
                let (mut rng, n) = (Rng::new(*seed), self.iters.len().max(1));
                if let Some(iter) = self.iters.get_mut(i % n) {
                    let count = rng.index(60);
                    iter.read_some(&mut rng, count, false);
                }
            }
            Op::IterDrop(i) => drop_one(&mut self.iters, *i),
            Op::CursorOpen(slot, from) => self.open_cursor(*slot, *from),
            Op::CursorWalk(i, seed) => {
                let n = self.cursors.len().max(1);
                if let Some(cursor) = self.cursors.get_mut(i % n) {
                    cursor.walk(&mut Rng::new(*seed));
                }
            }
            Op::CursorDrop(i) => drop_one(&mut self.cursors, *i),
            other => self.run_upkeep(other),
        }
    }

    fn run_upkeep(&mut self, op: &Op) {
        match op {
            Op::Flush(Some(slot)) => {
                let Space { id, handle } = self.space(*slot).clone();
                handle.flush().expect("flush");
                self.history.space_synced(id);
            }
            Op::Flush(None) => {
                self.db().flush().expect("flush");
                self.history.synced();
            }
            Op::Compact(slot, bounds) => self.compact(*slot, bounds),
            Op::WaitIdle => self.db().wait_idle().expect("wait_idle"),
            Op::Sync => {
                self.db().sync().expect("sync");
                self.history.synced();
            }
            Op::Step(index) => {
                let waiting = self.executor.waiting().len();
                self.executor.step(index % waiting.max(1));
            }
            Op::Tick => {
                self.executor.tick();
                self.history.buffered_synced();
            }
            Op::Advance(micros) => self.clock.advance(*micros),
            Op::Checkpoint(seed) => self.checkpoint(*seed),
            Op::Verify => {
                self.db().verify().expect("verify");
            }
            Op::Metrics => self.metrics(),
            Op::Create(slot, seed) => self.create(*slot, *seed),
            Op::DropSpace(slot) => self.drop_space(*slot),
            Op::Reopen(seed) => self.reopen(*seed),
            Op::Crash(profile, seed, nested) => self.crash(*profile, *seed, *nested),
            _ => self.check_all(),
        }
    }

    fn put(&mut self, slot: usize, key: &[u8], len: usize, durability: Option<Durability>) {
        let value = self.value(key, len);
        let Space { id, handle } = self.space(slot);
        let id = *id;
        match durability {
            Some(durability) => handle.put_with(key, &value, durability).expect("put"),
            None => handle.put(key, &value).expect("put"),
        }
        self.committed(vec![(id, Change::Put(key.into(), value))], durability);
        self.get(slot, key);
    }

    fn delete(&mut self, slot: usize, key: &[u8], durability: Option<Durability>) {
        let Space { id, handle } = self.space(slot);
        let id = *id;
        match durability {
            Some(durability) => handle.delete_with(key, durability).expect("delete"),
            None => handle.delete(key).expect("delete"),
        }
        self.committed(vec![(id, Change::Delete(key.into()))], durability);
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
        done.expect("delete_range");
        // An empty range makes no record, so it syncs nothing.
        if !is_empty(bounds) {
            self.committed(vec![(id, Change::DeleteRange(bounds.clone()))], None);
        }
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
        let done = handle.compare_and_swap(key, expected.as_deref(), new.as_deref()).expect("cas");
        match done {
            Ok(()) => assert!(hit, "a swap took the wrong value"),
            Err(mismatch) => {
                assert!(!hit, "a swap refused the right value");
                check_value("cas", key, mismatch.current.as_deref(), current.as_ref());
                return;
            }
        }
        let change = match new {
            Some(value) => Change::Put(key.into(), value),
            None => Change::Delete(key.into()),
        };
        self.committed(vec![(id, change)], None);
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
        let is_empty = batch.is_empty();
        match durability {
            Some(durability) => batch.commit_with(durability).expect("batch"),
            None => batch.commit().expect("batch"),
        }
        // A batch without operations makes no record, so it syncs nothing.
        if !is_empty {
            self.committed(commit, durability);
        }
        for part in parts {
            if let BatchPart::Put(slot, key, _) | BatchPart::Delete(slot, key) = part {
                self.get(*slot, key);
            }
        }
    }

    fn ingest(&mut self, slot: usize, pairs: &[(Vec<u8>, usize)]) {
        if !INGEST {
            return;
        }
        let pairs: Vec<_> = pairs.iter().map(|(k, len)| (k.clone(), self.value(k, *len))).collect();
        let Space { id, handle } = self.space(slot).clone();
        let count = handle.ingest(pairs.iter().map(|(k, v)| (k, v))).expect("ingest");
        assert_eq!(count, pairs.len() as u64);
        let changes = pairs.iter().map(|(k, v)| (id, Change::Put(k[..].into(), v.clone())));
        self.history.commit(changes.collect(), false);
        if !pairs.is_empty() {
            self.history.synced();
        }
        for (key, _) in &pairs {
            self.get(slot, key);
        }
    }

    fn get(&self, slot: usize, key: &[u8]) {
        let space = self.space(slot);
        let expected = self.history.now.get(space.id, key);
        let found = space.handle.get(key).expect("get");
        check_value("get", key, found.as_deref(), expected);
        let there = space.handle.contains_key(key).expect("contains_key");
        assert_eq!(there, expected.is_some(), "contains_key");
        let lent = space.handle.get_with(key, <[u8]>::to_vec).expect("get_with");
        check_value("get_with", key, lent.as_deref(), expected);
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
        iter.read_all(&mut Rng::new(seed), false);
    }

    fn prefix(&self, slot: usize, prefix: &[u8], seed: u64) {
        let space = self.space(slot);
        let mut map = Map::clone(&self.history.now.map(space.id));
        map.retain(|key, _| key.starts_with(prefix));
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        HeldIter::new(space.handle.prefix(prefix), &map, &all).read_all(&mut Rng::new(seed), false);
    }

    fn take_snapshot(&mut self) {
        if self.snapshots.len() == 6 {
            self.snapshots.remove(0);
        }
        self.snapshots.push(HeldSnapshot {
            snapshot: self.db().snapshot(),
            state: self.history.now.clone(),
            spaces: self.spaces.iter().flatten().cloned().collect(),
        });
    }

    fn held(&self, i: usize) -> Option<&HeldSnapshot> {
        self.snapshots.get(i % self.snapshots.len().max(1))
    }

    /// Reads one keyspace of a snapshot, perhaps dropped since, or made since, in one of several ways.
    fn read_snapshot(&self, i: usize, seed: u64) {
        let Some(held) = self.held(i) else { return };
        let mut rng = Rng::new(seed);
        let space = match rng.chance(0.8) {
            true => rng.pick(&held.spaces),
            false => self.space(rng.index(SLOTS)),
        };
        let seen = self.seen(space, Some(held));
        let view = held.snapshot.keyspace(&space.handle);
        match rng.below(4) {
            0 => seen.check_all(),
            1 => HeldCursor::new(view.cursor().expect("cursor"), seen.map).walk(&mut rng),
            _ => {
                let now = self.history.now.map(space.id);
                let keys: Vec<_> = seen.map.keys().chain(now.keys()).map(|k| k.to_vec()).collect();
                check_multi(&keys, &view.multi_get(&keys).expect("multi_get"), &seen.map);
                for key in keys.iter().take(20) {
                    let found = view.get(key).expect("get");
                    check_value("snapshot", key, found.as_deref(), seen.map.get(&key[..]));
                }
            }
        }
    }

    fn open_iter(&mut self, slot: usize, from: Option<usize>, bounds: &Bounds) {
        if is_inverted(bounds) {
            return;
        }
        let seen = self.seen(self.space(slot), from.and_then(|i| self.held(i)));
        let iter = HeldIter::new(seen.range(bounds), &seen.map, bounds);
        if self.iters.len() == 6 {
            self.iters.remove(0);
        }
        self.iters.push(iter);
    }

    fn open_cursor(&mut self, slot: usize, from: Option<usize>) {
        let seen = self.seen(self.space(slot), from.and_then(|i| self.held(i)));
        let cursor = match seen.snapshot {
            Some(snapshot) => snapshot.keyspace(&seen.space.handle).cursor(),
            None => seen.space.handle.cursor(),
        };
        let cursor = HeldCursor::new(cursor.expect("cursor"), seen.map);
        if self.cursors.len() == 4 {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
    }

    fn compact(&mut self, slot: usize, bounds: &Bounds) {
        let Space { id, handle } = self.space(slot).clone();
        let done = handle.compact_range(bounds.clone());
        if is_inverted(bounds) {
            assert_eq!(done.expect_err("inverted range").kind(), ErrorKind::FixCall);
            return;
        }
        done.expect("compact_range");
        self.history.space_synced(id);
    }

    fn metrics(&self) {
        let metrics = self.db().metrics();
        assert!(metrics.health.is_healthy() && self.db().health().is_healthy(), "{metrics:?}");
        assert_eq!(metrics.background_failures, 0);
        assert_eq!(metrics.keyspaces.len(), self.spaces.iter().flatten().count());
        assert!(metrics.tables_open <= self.options.open_files_max.max(1), "{metrics:?}");
        assert!(!metrics.to_string().is_empty());
    }

    /// Makes the keyspace of `slot`, or opens it again if it is there.
    fn create(&mut self, slot: usize, seed: u64) {
        let options = config::keyspace_options(&mut Rng::new(seed));
        let handle = self.db().keyspace(NAMES[slot], &options).expect("keyspace");
        if let Some(space) = &mut self.spaces[slot] {
            space.handle = handle;
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.spaces[slot] = Some(Space { id, handle });
        self.history.change_spaces(|spaces| drop(spaces.insert(id, Arc::default())));
    }

    fn drop_space(&mut self, slot: usize) {
        let done = self.db().drop_keyspace(NAMES[slot]);
        let Some(Space { id, handle }) = self.spaces[slot].take() else {
            assert_eq!(done.expect_err("dropped before").kind(), ErrorKind::FixCall);
            return;
        };
        done.expect("drop_keyspace");
        assert!(handle.put(b"k", b"v").is_err() && handle.get(b"k").is_err());
        assert!(handle.flush().is_err() && handle.compact_range(..).is_err());
        assert!(handle.iter().next().expect("one error").is_err() && handle.cursor().is_err());
        self.history.change_spaces(|spaces| drop(spaces.remove(&id)));
    }

    fn checkpoint(&mut self, seed: u64) {
        let dir = format!("/copies/{seed}");
        self.db().checkpoint(&dir).expect("checkpoint");
        self.history.synced();
        let options = config::options(&mut Rng::new(seed));
        let (copy, executor) = open(&self.fs, &dir, &options, seed, &self.clock).expect("copy");
        executor.run_all();
        copy.verify().expect("verify of the copy");
        self.compare_all(&copy, "copy");
        copy.put(b"only in the copy", b"").expect("put into the copy");
        copy.close().expect("close of the copy");
        for name in self.fs.list(Path::new(&dir)).expect("list") {
            let name = name.file_name().expect("name").to_owned();
            self.fs.remove_file(&Path::new(&dir).join(name)).expect("remove");
        }
        self.fs.remove_dir(Path::new(&dir)).expect("remove_dir");
    }

    fn check_all(&self) {
        for space in self.spaces.iter().flatten() {
            self.seen(space, None).check_all();
        }
    }

    /// Closes cleanly and opens again with other options.
    fn reopen(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        let db = self.db.take().expect("open");
        db.close().expect("close");
        assert!(db.get(b"k").is_err() && db.put(b"k", b"").is_err(), "closed");
        self.history.synced();
        for iter in &mut self.iters {
            iter.read_all(&mut rng, true);
        }
        for cursor in &mut self.cursors {
            cursor.walk(&mut rng);
        }
        self.forget_handles();
        drop(db);
        self.options = config::options(&mut rng);
        let fs = self.fs.clone();
        self.open_again(fs, seed);
        self.check_all();
    }

    /// Lets go of everything that belongs to the process before the restart.
    fn forget_handles(&mut self) {
        self.snapshots.clear();
        self.iters.clear();
        self.cursors.clear();
        self.db = None;
    }

    fn open_again(&mut self, fs: MemFs, seed: u64) {
        let (db, executor) = open(&fs, DIR, &self.options, seed, &self.clock).expect("open");
        let mut expected = Vec::new();
        for (space, name) in self.spaces.iter_mut().zip(NAMES) {
            if let Some(space) = space {
                space.handle = db.open_keyspace(name).expect("a keyspace is lost");
                expected.push(name);
            }
        }
        expected.sort_unstable();
        assert_eq!(db.list_keyspaces(), expected, "keyspaces");
        (self.fs, self.db, self.executor) = (fs, Some(db), executor);
    }

    fn state_of(&self, db: &Db) -> State {
        let mut state = State::default();
        let mut found = read_all(db);
        for (slot, space) in self.spaces.iter().enumerate() {
            if let Some(space) = space {
                let map = found.remove(NAMES[slot]).expect("a keyspace is lost");
                state.0.insert(space.id, Arc::new(map));
            }
        }
        assert!(found.is_empty(), "a keyspace came back: {:?}", found.keys());
        state
    }

    fn compare_all(&self, db: &Db, what: &str) {
        let found = self.state_of(db);
        let differences = super::state::difference(&found, &self.history.now);
        assert!(found == self.history.now, "{what} differs: {differences}");
    }

    /// Pulls the plug, perhaps once more while the database opens, and compares what is left.
    fn crash(&mut self, profile: CrashProfile, seed: u64, nested: bool) {
        let mut rng = Rng::new(seed);
        let mut fs = self.fs.crash(profile, rng.next_u64());
        let mut profiles = vec![profile];
        if profile == CrashProfile::LyingDisk {
            // Nothing is promised but that nothing panics; the run goes on from an honest disk.
            if let Ok((db, _executor)) = open(&fs, DIR, &self.options, seed, &self.clock) {
                drop(db.verify());
                db.iter().take_while(Result::is_ok).for_each(drop);
            }
            fs = self.fs.crash(CrashProfile::Strict, rng.next_u64());
            profiles = vec![CrashProfile::Strict];
        }
        // What the old process still does happens on the old disk.
        let old = self.executor.clone();
        self.forget_handles();
        if nested {
            self.options = config::options(&mut rng);
            fs.start_recording();
            let opened = open(&fs, DIR, &self.options, seed, &self.clock);
            let moments = fs.take_history();
            drop(opened.expect("open after the first crash"));
            if let Some(moment) = moments.get(rng.index(moments.len().max(1))) {
                let again = *rng.pick(&CrashProfile::ALL[..6]);
                profiles.push(again);
                fs = moment.crash(again, rng.next_u64());
            }
        }
        self.options = config::options(&mut rng);
        self.open_again(fs, seed);
        drop(old);
        let found = self.state_of(self.db());
        let all_buffered = profiles.iter().all(|p| *p == CrashProfile::KeepAll);
        if let Err(e) = self.history.recovered(&found, all_buffered) {
            panic!("after {profiles:?}: {e}");
        }
        self.check_all();
    }

    /// Ends the run: everything idle and compared, no file left that nobody needs, the disk in order.
    pub(crate) fn finish(mut self) {
        self.check_all();
        self.snapshots.clear();
        self.iters.clear();
        self.cursors.clear();
        self.db().wait_idle().expect("wait_idle");
        self.executor.tick();
        self.db().verify().expect("verify");
        self.metrics();
        let metrics = self.db().metrics();
        let listed = self.fs.list(Path::new(DIR)).expect("list");
        let is_table = |p: &&std::path::PathBuf| {
            matches!(base::FileName::parse(p), Some(base::FileName::Table(_)))
        };
        let in_use: usize =
            metrics.keyspaces.iter().flat_map(|k| &k.levels).map(|level| level.tables).sum();
        let on_disk = listed.iter().filter(is_table).count();
        assert_eq!((metrics.tables_obsolete, on_disk), (0, in_use), "tables that nobody needs");
        self.reopen(self.seed);
        self.executor.shutdown();
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
    fn check_all(&self) {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        for end in [End::Front, End::Back] {
            let mut iter = HeldIter::new(self.range(&all), &self.map, &all);
            while iter.read(end, false) {}
        }
    }
}
