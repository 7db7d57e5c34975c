//! Closing, opening, power cuts, and what a failing disk left open.

use super::super::state::{Bytes, Commit, Map, State, difference};
use super::{DIR, NAMES, Space, World, is_of_disk, open};
use crate::store::show;
use lsm::executor::{Executor, ManualExecutor};
use lsm::{Db, Health};
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::rng::Rng;
use vfs::{CrashProfile, FaultFs, MemFs};

/// A change that met a failed sync.
#[derive(Debug)]
pub(super) enum Pending {
    Commit(Commit),
    Create(usize),
    Drop(usize),
}

/// Everything in a database, by name of keyspace.
fn read_all(db: &Db) -> BTreeMap<String, Map> {
    let each = |name: String| {
        let pairs = db.open_keyspace(&name).expect("listed").iter();
        let pairs = pairs.map(|kv| {
            let (key, value) = kv.unwrap_or_else(|e| panic!("scan: {}", show(&e)));
            (Bytes::from(&key[..]), Bytes::from(&value[..]))
        });
        (name, pairs.collect())
    };
    db.list_keyspaces().into_iter().map(each).collect()
}

impl World {
    /// Closes cleanly and opens again with other options; on a failing disk both may go wrong.
    pub(super) fn reopen(&mut self, seed: u64) {
        if self.is_rotten {
            self.heal();
        }
        if self.failing.is_some() {
            return self.restart(seed);
        }
        let mut rng = Rng::new(seed);
        let db = self.db.take().expect("open");
        db.close().unwrap_or_else(|e| panic!("close: {}", show(&e)));
        assert!(db.get(b"k").is_err() && db.put(b"k", b"").is_err(), "closed");
        self.history.synced();
        for iter in &mut self.iters {
            iter.read_all(&mut rng, true).unwrap_or_else(|e| panic!("scan: {}", show(&e)));
        }
        for cursor in &mut self.cursors {
            cursor.walk(&mut rng).unwrap_or_else(|e| panic!("walk: {}", show(&e)));
        }
        self.forget_handles();
        drop(db);
        self.options = self.set.options(seed);
        let opened = open(&self.fs, DIR, &self.options, seed, &self.clock);
        self.adopt(opened.unwrap_or_else(|e| panic!("open: {}", show(&e))));
        self.check_all();
    }

    /// Lets go of everything that belongs to the process before the restart.
    fn forget_handles(&mut self) {
        self.snapshots.clear();
        self.iters.clear();
        self.cursors.clear();
        self.db = None;
    }

    /// Goes on with a fresh handle, on which the expected keyspaces are.
    fn adopt(&mut self, (db, executor): (Db, Arc<ManualExecutor>)) {
        self.settle_spaces(&db);
        let mut expected = Vec::new();
        for (space, name) in self.spaces.iter_mut().zip(NAMES) {
            if let Some(space) = space {
                space.handle = db.open_keyspace(name).expect("a keyspace is lost");
                expected.push(name);
            }
        }
        expected.sort_unstable();
        assert_eq!(db.list_keyspaces(), expected, "keyspaces");
        (self.db, self.executor, self.has_failed) = (Some(db), executor, false);
    }

    /// Decides about a keyspace whose making or dropping met a failed sync.
    fn settle_spaces(&mut self, db: &Db) {
        let is_there = |slot: usize| db.list_keyspaces().iter().any(|name| name == NAMES[slot]);
        match self.pending {
            Some(Pending::Create(slot)) if is_there(slot) => {
                let (id, handle) = (self.next_id, db.open_keyspace(NAMES[slot]).expect("listed"));
                self.next_id += 1;
                self.spaces[slot] = Some(Space { id, handle });
                self.history.found_spaces(|spaces| drop(spaces.insert(id, Arc::default())));
            }
            Some(Pending::Drop(slot)) if !is_there(slot) => {
                if let Some(Space { id, .. }) = self.spaces[slot].take() {
                    self.history.found_spaces(|spaces| drop(spaces.remove(&id)));
                }
            }
            _ => {}
        }
    }

    /// Looks whether writes stopped in the background.
    pub(super) fn look(&self) {
        if let Health::ReadOnly { reason } = self.db().health() {
            assert!(self.excuses(&reason), "writes stopped: {}", show(&reason));
            self.note(&reason);
            self.stopped.set(true);
        }
    }

    /// The disk is healthy again: reads are right, and writes go on by themselves unless they stopped for good.
    pub(super) fn heal(&mut self) {
        self.fs.clear();
        self.failing = None;
        self.look();
        self.is_rotten = false;
        self.check_all();
        if self.stopped.get() {
            self.tally.restarts += 1;
            let seed = self.seed ^ self.tally.ops;
            return self.restart(seed);
        }
        for _ in 0..3 {
            self.executor.tick();
            self.executor.run_all();
        }
        self.db().flush().unwrap_or_else(|e| panic!("flushes do not resume: {}", show(&e)));
        self.db().wait_idle().unwrap_or_else(|e| panic!("jobs do not resume: {}", show(&e)));
        let health = self.db().health();
        assert!(health.is_healthy(), "health stays {health:?}");
        self.history.synced();
    }

    /// Opens again after, or during, failures of the disk: nothing acknowledged is lost, but for what a failed sync
    /// had not made durable.
    fn restart(&mut self, seed: u64) {
        let db = self.db.take().expect("open");
        match db.close() {
            Ok(()) if !self.stopped.get() => self.history.synced(),
            Ok(()) => {}
            Err(e) => {
                assert!(is_of_disk(&e), "close: {}", show(&e));
                self.note(&e);
            }
        }
        self.forget_handles();
        drop(db);
        self.options = self.set.options(seed);
        let opened = match open(&self.fs, DIR, &self.options, seed, &self.clock) {
            Err(e) if self.failing.is_some() => {
                assert!(is_of_disk(&e), "open: {}", show(&e));
                self.note(&e);
                self.fs.clear();
                self.failing = None;
                open(&self.fs, DIR, &self.options, seed, &self.clock)
            }
            opened => opened,
        };
        self.fs.clear();
        self.failing = None;
        self.adopt(opened.unwrap_or_else(|e| panic!("open: {}", show(&e))));
        // A write left open counts as the last one, which nobody acknowledged.
        if let Some(Pending::Commit(commit)) = self.pending.take() {
            self.history.commit(commit, true);
        }
        let found = self.state_of(self.db());
        if let Err(e) = self.history.recovered(&found, !self.sync_failed.get()) {
            panic!("after a failing disk: {e}");
        }
        self.stopped.set(false);
        self.sync_failed.set(false);
        self.check_all();
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

    pub(super) fn compare_all(&self, db: &Db, what: &str) {
        let found = self.state_of(db);
        let differences = difference(&found, &self.history.now);
        assert!(found == self.history.now, "{what} differs: {differences}");
    }

    /// Pulls the plug, perhaps once more while the database opens, and compares what is left.
    pub(super) fn crash(&mut self, profile: CrashProfile, seed: u64, nested: bool) {
        if self.failing.is_some() {
            self.heal();
        }
        self.tally.crashes += 1;
        let mut rng = Rng::new(seed);
        let mut mem = self.mem.crash(profile, rng.next_u64());
        let mut profiles = vec![profile];
        if profile == CrashProfile::LyingDisk {
            self.look_at_a_lie(&mem, seed);
            mem = self.mem.crash(CrashProfile::Strict, rng.next_u64());
            profiles = vec![CrashProfile::Strict];
        }
        // What the old process still does happens on the old disk.
        let old = self.executor.clone();
        self.forget_handles();
        if nested {
            let options = self.set.options(rng.next_u64());
            mem.start_recording();
            let fs = FaultFs::over_mem(mem.clone());
            let opened = open(&fs, DIR, &options, seed, &self.clock);
            let moments = mem.take_history();
            drop(opened.unwrap_or_else(|e| panic!("open after the first crash: {}", show(&e))));
            if let Some(moment) = moments.get(rng.index(moments.len().max(1))) {
                let again = *rng.pick(&CrashProfile::ALL[..6]);
                profiles.push(again);
                mem = moment.crash(again, rng.next_u64());
            }
        }
        self.options = self.set.options(rng.next_u64());
        self.tally.fired += self.fs.fired();
        self.fs = FaultFs::over_mem(mem.clone());
        self.mem = mem;
        let opened = open(&self.fs, DIR, &self.options, seed, &self.clock);
        self.adopt(opened.unwrap_or_else(|e| panic!("open after {profiles:?}: {}", show(&e))));
        old.shutdown();
        let found = self.state_of(self.db());
        let all_buffered = profiles.iter().all(|p| *p == CrashProfile::KeepAll);
        if let Err(e) = self.history.recovered(&found, all_buffered) {
            panic!("after {profiles:?}: {e}");
        }
        self.check_all();
    }

    /// Nothing is promised but that nothing panics; the run goes on from an honest disk.
    fn look_at_a_lie(&self, mem: &MemFs, seed: u64) {
        let fs = FaultFs::over_mem(mem.clone());
        if let Ok((db, _executor)) = open(&fs, DIR, &self.options, seed, &self.clock) {
            drop(db.verify());
            db.iter().take_while(Result::is_ok).for_each(drop);
        }
    }
}
