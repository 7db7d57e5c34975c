//! One scripted run under one fault, and what it was told.

use super::Shape;
use crate::caught::ON_PURPOSE;
use crate::store::{CATALOG, DIR, check_files, is_sync_failed, number_of, open, read_state, show};
use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Error, Health, KeyspaceOptions, Options, Result};
use std::cell::Cell;
use std::sync::Arc;
use testkit::model::ModelOp;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{CrashProfile, FaultFs, FaultPlan, MemFs};

thread_local! {
    static IS_IN_JOB: Cell<bool> = const { Cell::new(false) };
    static HAS_PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Panics once in a run, if called from a background job.
pub(super) fn panic_in_a_job() {
    if IS_IN_JOB.get() && !HAS_PANICKED.replace(true) {
        panic!("{ON_PURPOSE}");
    }
}

/// A run under faults, and what it was told.
pub(super) struct Run {
    mem: MemFs,
    pub(super) fs: FaultFs,
    options: Options,
    seed: u64,
    open: Option<(Db, Arc<ManualExecutor>)>,
    rng: Rng,
    version: u64,
    commits: Vec<Vec<ModelOp>>,
    acked: usize,
    synced: usize,
    /// The last of `commits` met a failed sync: it may be there or not.
    open_end: bool,
    /// Why writes stopped; then none may succeed before a reopen.
    stopped: Option<Error>,
    /// A sync failed at some time: what was acknowledged without a sync may be gone.
    sync_failed: bool,
    full: bool,
    /// Believes that refused writes happened.
    canary: bool,
}

impl Run {
    pub(super) fn new(
        options: &Options,
        seed: u64,
        faults: Vec<FaultPlan>,
        full: bool,
        canary: bool,
    ) -> Run {
        let mem = MemFs::new();
        let fs = FaultFs::over_mem(mem.clone());
        faults.into_iter().for_each(|plan| fs.inject(plan));
        HAS_PANICKED.set(false);
        Run {
            mem,
            fs,
            options: options.clone(),
            seed,
            open: None,
            rng: Rng::new(seed),
            version: 0,
            commits: Vec::new(),
            acked: 0,
            synced: 0,
            open_end: false,
            stopped: None,
            sync_failed: false,
            full,
            canary,
        }
    }

    /// True if nothing stopped it and something was acknowledged.
    pub(super) fn is_healthy(&self) -> bool {
        self.stopped.is_none() && self.acked > 0
    }

    /// True if a background job panicked.
    pub(super) fn has_panicked(&self) -> bool {
        HAS_PANICKED.get()
    }

    fn db(&self) -> Option<Db> {
        self.open.as_ref().map(|(db, _)| db.clone())
    }

    /// Opens; what a failed sync left open is then decided.
    fn open(&mut self) {
        match open(Arc::new(self.fs.clone()), DIR, &self.options, self.seed) {
            Ok(opened) => {
                self.open = Some(opened);
                self.stopped = None;
                self.settle();
            }
            Err(e) => self.note(&e),
        }
    }

    /// After a reopen: the state decides about the open end.
    fn settle(&mut self) {
        let (Some((db, _)), true) = (&self.open, self.open_end || self.sync_failed) else { return };
        // While faults are on a read may fail; then it is left open for another time.
        let Ok(state) = read_state(db) else { return };
        let prefix = self.oracle().check(&state, self.synced, usize::MAX);
        let prefix = prefix.unwrap_or_else(|e| panic!("after a reopen: {e}"));
        self.commits.truncate(prefix);
        (self.acked, self.synced) = (prefix, prefix);
        (self.open_end, self.sync_failed) = (false, false);
    }

    fn oracle(&self) -> Oracle {
        let mut oracle = Oracle::new();
        for ops in &self.commits {
            oracle.issue(ops);
        }
        oracle
    }

    fn note(&mut self, e: &Error) {
        match e {
            Error::Poisoned { .. } if self.has_panicked() => {
                self.stopped.get_or_insert(e.clone());
            }
            Error::Poisoned { detail } => panic!("poisoned: {detail}"),
            Error::InvalidArgument { .. } => {
                panic!("a fault is taken for a wrong call: {}", show(e))
            }
            Error::SyncFailed { .. } | Error::WritesStopped { .. } => {
                assert!(!self.full, "a full disk stopped writes: {}", show(e));
                self.stopped.get_or_insert(e.clone());
            }
            _ => {}
        }
        self.sync_failed |= is_sync_failed(e);
    }

    /// Looks at the health for failures of background jobs.
    fn look(&mut self) {
        let Some(db) = self.db() else { return };
        if let Health::ReadOnly { reason } = db.health() {
            self.note(&reason);
            self.stopped.get_or_insert(reason);
        }
    }

    /// Tries a commit and notes what came of it.
    fn commit(&mut self, ops: Vec<ModelOp>, durability: Durability, done: Result<()>) {
        match done {
            Ok(()) => {
                assert!(self.stopped.is_none(), "Ok after {:?}", self.stopped);
                assert!(!self.open_end, "Ok after an indeterminate write");
                self.commits.push(ops);
                match durability {
                    Durability::Sync => {
                        self.synced = self.commits.len();
                        self.acked = self.synced;
                    }
                    Durability::Buffered => self.acked = self.commits.len(),
                    Durability::Memory => {}
                }
            }
            Err(e) => {
                if self.canary {
                    self.commits.push(ops);
                    return;
                }
                if matches!(e, Error::SyncFailed { .. }) && self.stopped.is_none() {
                    self.commits.push(ops);
                    self.open_end = true;
                }
                self.note(&e);
            }
        }
        self.look();
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key{:02}", self.rng.below(20)).into_bytes()
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        self.version += 1;
        let len = *self.rng.pick(&[8, 30, 80, 80, 400, 1100]);
        value_for(self.seed, key, self.version, len)
    }

    fn write(&mut self) {
        let Some(db) = self.db() else { return };
        let durability =
            *self.rng.pick(&[Durability::Sync, Durability::Buffered, Durability::Memory]);
        let second = db.open_keyspace("k1").ok();
        let (mut batch, mut ops) = (db.batch(), Vec::new());
        for _ in 0..1 + self.rng.below(3) {
            let key = self.key();
            let verb = self.rng.below(8);
            let value = self.value(&key);
            match (&second, verb) {
                (Some(second), 0..=2) => {
                    batch.put_in(second, &key, &value);
                    ops.push(ModelOp::put(1, key, value));
                }
                (_, 3) => {
                    batch.delete(&key);
                    ops.push(ModelOp::delete(0, key));
                }
                (_, 4) => {
                    let end = [&key[..], b"9"].concat();
                    batch.delete_range(&key[..]..&end[..]);
                    ops.push(ModelOp::delete_range(0, key..end));
                }
                _ => {
                    batch.put(&key, &value);
                    ops.push(ModelOp::put(0, key, value));
                }
            }
        }
        self.commit(ops, durability, batch.commit_with(durability));
    }

    fn create(&mut self, name: &'static str) {
        let Some(db) = self.db() else { return };
        if !db.list_keyspaces().iter().any(|n| n == name) {
            let done = db.keyspace(name, KeyspaceOptions::new()).map(drop);
            self.commit(vec![ModelOp::put(CATALOG, name, "")], Durability::Sync, done);
        }
    }

    fn drop_keyspace(&mut self, name: &'static str) {
        let Some(db) = self.db() else { return };
        if db.list_keyspaces().iter().any(|n| n == name) {
            let ops = vec![
                ModelOp::delete(CATALOG, name),
                ModelOp::delete_range(number_of(name), Vec::new()..),
            ];
            let done = db.drop_keyspace(name);
            self.commit(ops, Durability::Sync, done);
        }
    }

    fn ingest(&mut self) {
        let Some(db) = self.db() else { return };
        let mut pairs = std::collections::BTreeMap::new();
        for _ in 0..12 {
            let key = self.key();
            let value = self.value(&key);
            pairs.insert(key, value);
        }
        let ops = pairs.iter().map(|(k, v)| ModelOp::put(0, k.clone(), v.clone())).collect();
        let done = db.ingest(&pairs).map(drop);
        self.commit(ops, Durability::Sync, done);
    }

    /// A call that changes nothing that reads see, but makes what was written durable.
    fn durable(&mut self, call: impl FnOnce(&Db) -> Result<()>) {
        let Some(db) = self.db() else { return };
        match call(&db) {
            Ok(()) if self.stopped.is_none() && !self.open_end => {
                self.synced = self.commits.len();
                self.acked = self.synced;
            }
            Ok(()) => {}
            Err(e) => self.note(&e),
        }
        self.look();
    }

    /// A call that changes nothing that reads see.
    fn other(&mut self, call: impl FnOnce(&Db) -> Result<()>) {
        let Some(db) = self.db() else { return };
        if let Err(e) = call(&db) {
            self.note(&e);
        }
        self.look();
    }

    fn step(&mut self) {
        if let Some((db, executor)) = &self.open {
            let before = self.has_panicked();
            IS_IN_JOB.set(true);
            executor.step(0);
            IS_IN_JOB.set(false);
            assert!(
                before || !self.has_panicked() || !db.health().is_healthy(),
                "a job panicked, and writes go on"
            );
        }
        self.look();
    }

    fn tick(&mut self) {
        if let Some((_, executor)) = &self.open {
            executor.tick();
        }
        self.look();
    }

    fn reopen(&mut self) {
        if let Some((db, _)) = self.open.take() {
            match db.close() {
                Ok(()) if self.stopped.is_none() && !self.open_end => {
                    self.synced = self.commits.len();
                    self.acked = self.synced;
                }
                Ok(()) => {}
                Err(e) => self.note(&e),
            }
        }
        self.open();
    }

    /// The whole script; the same calls whatever fails.
    pub(super) fn script(&mut self, shape: &Shape) {
        self.open();
        self.create("k1");
        for round in 0..shape.rounds {
            for _ in 0..shape.writes {
                self.write();
                if self.rng.below(3) == 0 {
                    self.step();
                }
            }
            match round % 4 {
                0 => self.durable(Db::flush),
                1 => self.durable(Db::sync),
                2 => self.other(|db| db.compact_range(..)),
                _ => self.tick(),
            }
            if round == 2 {
                self.create("k2");
            }
            if round == 3 {
                self.drop_keyspace("k2");
                self.other(|db| db.checkpoint("/data/copy"));
            }
            if round == 4 {
                self.reopen();
                self.ingest();
            }
            self.other(|db| read_state(db).map(drop));
        }
    }

    /// With the faults gone, everything must be as it was told.
    pub(super) fn check(mut self) {
        self.fs.clear();
        if self.open.is_none() {
            self.open();
            assert!(self.open.is_some(), "a healthy disk does not open: {:?}", self.stopped);
        }
        self.look();
        let told = self.commits.len() - usize::from(self.open_end);
        let (db, executor) = self.open.clone().expect("just opened");
        let state = read_state(&db).unwrap_or_else(|e| panic!("a healthy read: {}", show(&e)));
        let live = self.oracle().check(&state, told, told);
        live.unwrap_or_else(|e| panic!("live state: {e}"));
        // Before anything is flushed: what is in no table yet rests on the log that met the fault.
        self.crashes();
        if self.stopped.is_none() {
            self.resume(&db, &executor);
            self.crashes();
        }
        drop((db, executor));
        self.reopen();
        let (db, _) = self.open.take().expect("a healthy disk opens");
        let state = read_state(&db).expect("a healthy read");
        let floor = if self.sync_failed { self.synced } else { self.acked };
        self.oracle().check(&state, floor, usize::MAX).unwrap_or_else(|e| panic!("reopened: {e}"));
        check_files(&self.mem, DIR).unwrap_or_else(|e| panic!("reopened: {e}"));
        db.verify().unwrap_or_else(|e| panic!("verify: {}", show(&e)));
        db.put("last", "1").expect("a healthy write");
        db.close().unwrap_or_else(|e| panic!("close: {}", show(&e)));
    }

    /// Writes go on without a reopen.
    fn resume(&mut self, db: &Db, executor: &ManualExecutor) {
        for _ in 0..3 {
            executor.tick();
            executor.run_all();
        }
        let ops = vec![ModelOp::put(0, "resumed", "1")];
        let done = db.put_with("resumed", "1", Durability::Sync);
        if let Err(e) = &done {
            panic!("writes do not resume: {}", show(e));
        }
        self.commit(ops, Durability::Sync, done);
        db.flush().unwrap_or_else(|e| panic!("flushes do not resume: {}", show(&e)));
        db.wait_idle().unwrap_or_else(|e| panic!("jobs do not resume: {}", show(&e)));
        assert!(db.health().is_healthy(), "health stays {:?}", db.health());
        self.synced = self.commits.len();
        self.acked = self.synced;
    }

    fn crashes(&self) {
        self.crash(CrashProfile::DropAll);
        self.crash(CrashProfile::KeepAll);
    }

    fn crash(&self, profile: CrashProfile) {
        let disk = self.mem.crash(profile, 1);
        let (db, _) = open(Arc::new(disk), DIR, &self.options, self.seed + 1)
            .unwrap_or_else(|e| panic!("open after {profile:?}: {}", show(&e)));
        let state = read_state(&db).expect("a healthy read");
        let kept = profile == CrashProfile::KeepAll && !self.sync_failed;
        let floor = if kept { self.acked } else { self.synced };
        let checked = self.oracle().check(&state, floor, usize::MAX);
        checked.unwrap_or_else(|e| panic!("after {profile:?}: {e}"));
    }
}
