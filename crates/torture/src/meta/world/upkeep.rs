//! Flushes, compactions, keyspaces, copies: what changes no answer of a read.

use super::super::ops::{Op, SLOTS, Trouble, faults, is_rot};
use super::super::state::{Bounds, is_inverted};
use super::restart::Pending;
use super::{DIR, NAMES, Space, World, open};
use crate::store::show;
use lsm::{Db, Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs};

/// Longer logs are not filled.
const LOG_CHECKED_MAX: u64 = 1 << 20;

impl World {
    pub(super) fn upkeep(&mut self, op: &Op) {
        match op {
            Op::Flush(Some(slot)) => {
                let Space { id, handle } = self.space(*slot).clone();
                if self.told("flush", handle.flush()).is_some() {
                    self.history.space_synced(id);
                }
            }
            Op::Flush(None) => self.durable("flush", Db::flush),
            Op::Compact(slot, bounds) => self.compact(*slot, bounds),
            Op::WaitIdle => drop(self.told("wait_idle", self.db().wait_idle())),
            Op::Sync => self.durable("sync", Db::sync),
            Op::Step(index) => {
                let waiting = self.executor.waiting().len();
                self.executor.step(index % waiting.max(1));
            }
            Op::Tick => {
                self.executor.tick();
                // Whether the sync of this tick succeeded nobody says.
                if self.failing.is_none() {
                    self.history.buffered_synced();
                }
            }
            Op::Advance(micros) => self.clock.advance(*micros),
            Op::Checkpoint(seed) => self.checkpoint(*seed),
            Op::Verify => drop(self.told("verify", self.db().verify())),
            Op::Metrics => self.metrics(),
            Op::OpenTwice => self.open_twice(),
            Op::ReadOnly(seed) => self.read_only(*seed),
            Op::Create(slot, seed) => self.create(*slot, *seed),
            Op::DropSpace(slot) => self.drop_space(*slot),
            Op::Reopen(seed) => self.reopen(*seed),
            Op::Crash(profile, seed, nested) => self.crash(*profile, *seed, *nested),
            Op::Fault(trouble) => self.fail(*trouble),
            _ => self.check_all(),
        }
    }

    /// A call that makes all that was written durable.
    fn durable(&mut self, what: &str, call: impl FnOnce(&Db) -> lsm::Result<()>) {
        if self.told(what, call(self.db())).is_some() {
            self.history.synced();
        }
    }

    fn fail(&mut self, trouble: Trouble) {
        let Trouble { fault, skip, times, span } = trouble;
        let plan = FaultPlan::any(faults()[fault].clone()).skip(skip);
        self.fs.inject(if times == 0 { plan } else { plan.times(times) });
        (self.failing, self.has_failed) = (Some(span), true);
        self.is_rotten |= is_rot(fault);
        self.tally.episodes += 1;
    }

    fn compact(&mut self, slot: usize, bounds: &Bounds) {
        let Space { id, handle } = self.space(slot).clone();
        let done = handle.compact_range(bounds.clone());
        if is_inverted(bounds) {
            assert_eq!(done.expect_err("inverted range").kind(), ErrorKind::FixCall);
            return;
        }
        if self.told("compact_range", done).is_some() {
            self.history.space_synced(id);
        }
    }

    pub(super) fn metrics(&self) {
        let metrics = self.db().metrics();
        assert_eq!(metrics.keyspaces.len(), self.spaces.iter().flatten().count());
        assert!(metrics.tables_open <= self.options.open_files_max.max(1), "{metrics:?}");
        assert!(!metrics.to_string().is_empty());
        if !self.has_failed {
            assert!(metrics.health.is_healthy() && self.db().health().is_healthy(), "{metrics:?}");
            assert_eq!(metrics.background_failures, 0);
        }
    }

    /// While one keyspace is written to no idle one pins the log beyond its bound: each write lets one more go.
    fn check_log(&mut self) {
        let segment = self.options.log_segment_bytes.max(2 * self.largest);
        let bound = self.options.log_bytes_max + 2 * segment;
        if bound > LOG_CHECKED_MAX {
            return;
        }
        (0..SLOTS).for_each(|slot| self.put(slot, b"idle", 1, None));
        let piece = self.options.log_segment_bytes / 2;
        for _ in 0..1 + (bound + segment) / piece {
            self.put(0, b"last", piece as usize, None);
        }
        for _ in 0..2 * SLOTS {
            self.put(0, b"last", 1, None);
            // Not until it is idle: then memtables are flushed anyhow.
            self.executor.run_all();
        }
        let bytes = self.db().metrics().log_bytes;
        assert!(bytes <= bound, "a log of {bytes} bytes, the bound is {bound}");
    }

    /// Makes the keyspace of `slot`, or opens it again if it is there.
    fn create(&mut self, slot: usize, seed: u64) {
        let options = self.set.keyspace_options(seed);
        let made = self.db().keyspace(NAMES[slot], &options);
        if let (Err(Error::SyncFailed { .. }), false, None) =
            (&made, self.stopped.get(), &self.spaces[slot])
        {
            self.pending = Some(Pending::Create(slot));
        }
        let Some(handle) = self.told("keyspace", made) else { return };
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
        let Some(Space { id, handle }) = self.spaces[slot].clone() else {
            let e = done.expect_err("dropped before");
            assert!(e.kind() == ErrorKind::FixCall || self.failing.is_some(), "{e:?}");
            return;
        };
        if let (Err(Error::SyncFailed { .. }), false) = (&done, self.stopped.get()) {
            self.pending = Some(Pending::Drop(slot));
        }
        if self.told("drop_keyspace", done).is_none() {
            return;
        }
        self.spaces[slot] = None;
        assert!(handle.put(b"k", b"v").is_err() && handle.get(b"k").is_err());
        assert!(handle.flush().is_err() && handle.compact_range(..).is_err());
        assert!(handle.iter().next().expect("one error").is_err() && handle.cursor().is_err());
        self.history.change_spaces(|spaces| drop(spaces.remove(&id)));
    }

    /// Copies the database, opens the copy with other options, and removes it.
    fn checkpoint(&mut self, seed: u64) {
        let dir = format!("/copies/{seed}");
        if seed.is_multiple_of(3) {
            // Files are copied then. What is left of the fault is for the next copy: nothing else makes links.
            self.fs.inject(FaultPlan::any(Fault::NoLinks).times(1 + seed % 5));
        }
        if self.told("checkpoint", self.db().checkpoint(&dir)).is_none() {
            return self.heal();
        }
        self.history.synced();
        if self.failing.is_some() {
            self.heal();
        }
        let options = self.set.options(seed);
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

    fn open_twice(&self) {
        if self.is_rotten {
            return;
        }
        let again = open(&self.fs, DIR, &self.options, self.seed, &self.clock);
        let Err(e) = again else { panic!("open twice") };
        assert!(matches!(e, Error::Locked { .. }) || self.failing.is_some(), "{}", show(&e));
    }

    /// A copy of the disk shows the same without changing.
    fn read_only(&mut self, seed: u64) {
        if self.failing.is_some() {
            self.heal();
        }
        self.durable("sync", Db::sync);
        let disk = self.mem.crash(CrashProfile::KeepAll, seed);
        let before = disk.hash();
        let options = self.set.options(seed).read_only(true);
        let fs = FaultFs::over_mem(disk.clone());
        let (copy, _executor) = open(&fs, DIR, &options, seed, &self.clock)
            .unwrap_or_else(|e| panic!("open read-only: {}", show(&e)));
        self.compare_all(&copy, "read-only copy");
        assert!(matches!(copy.put(b"k", b""), Err(Error::ReadOnly)), "a read-only put");
        copy.close().unwrap_or_else(|e| panic!("close read-only: {}", show(&e)));
        assert!(disk.hash() == before, "a read-only open wrote");
    }

    pub(super) fn check_all(&self) {
        for space in self.spaces.iter().flatten() {
            self.told("scan", self.seen(space, None).check_all());
        }
    }

    /// Ends the run: everything idle and compared, no file left that nobody needs, the disk in order.
    pub(in super::super) fn finish(mut self) -> super::Tally {
        if self.failing.is_some() {
            self.heal();
        }
        if self.has_failed {
            // What a failing disk would not remove goes at the next open.
            self.reopen(self.seed);
        }
        self.check_all();
        self.snapshots.clear();
        self.iters.clear();
        self.cursors.clear();
        if self.seed.is_multiple_of(4) {
            self.check_log();
        }
        self.db().wait_idle().unwrap_or_else(|e| panic!("wait_idle: {}", show(&e)));
        self.executor.tick();
        self.db().verify().unwrap_or_else(|e| panic!("verify: {}", show(&e)));
        self.metrics();
        let metrics = self.db().metrics();
        let listed = self.mem.list(Path::new(DIR)).expect("list");
        let is_table = |p: &&std::path::PathBuf| {
            matches!(base::FileName::parse(p), Some(base::FileName::Table(_)))
        };
        let in_use: usize =
            metrics.keyspaces.iter().flat_map(|k| &k.levels).map(|level| level.tables).sum();
        let on_disk = listed.iter().filter(is_table).count();
        assert_eq!((metrics.tables_obsolete, on_disk), (0, in_use), "tables that nobody needs");
        self.reopen(self.seed);
        self.tally.fired += self.fs.fired();
        self.tally
    }
}
