//! A fault at every operation of the file system: once, and from there on.
//!
//! Whatever fails: no panic, no hang, a typed error. What returned `Ok` stays true, what returned an error never
//! happened (but for a failed sync, which leaves it open), writes stop after a failed sync, and go on by themselves once a full
//! disk has space again. `ESKER_FAULT_STEP=1` tries every position, `ESKER_FAULT_SEEDS` more runs.
#![expect(clippy::unwrap_used, reason = "a test")]

mod crash_support;

use crash_support::explore::show;
use crash_support::{CATALOG, DIR, check_files, env, is_sync_failed, leveled, open, read_state};
use crash_support::{compressed, number_of, small_options};
use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Error, Health, KeyspaceOptions, Options, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use testkit::model::ModelOp;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, MemFs, OpKind, SyncOutcome};

/// A run under faults, and what it was told.
struct Run {
    mem: MemFs,
    fs: FaultFs,
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
}

impl Run {
    fn new(options: &Options, seed: u64, fault: Option<FaultPlan>, full: bool) -> Run {
        let mem = MemFs::new();
        let fs = FaultFs::over_mem(mem.clone());
        fault.into_iter().for_each(|plan| fs.inject(plan));
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
        }
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
        if let Some((_, executor)) = &self.open {
            executor.step(0);
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
    fn script(&mut self, shape: Shape) {
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
    fn check(mut self) {
        self.fs.clear();
        if self.open.is_none() {
            self.open();
            assert!(self.open.is_some(), "a healthy disk does not open: {:?}", self.stopped);
        }
        self.look();
        let told = self.commits.len() - usize::from(self.open_end);
        let (db, executor) = self.open.clone().unwrap();
        let state = read_state(&db).unwrap_or_else(|e| panic!("a healthy read: {}", show(&e)));
        let live = self.oracle().check(&state, told, told);
        live.unwrap_or_else(|e| panic!("live state: {e}"));
        if self.stopped.is_none() {
            self.resume(&db, &executor);
        }
        self.crash(CrashProfile::DropAll);
        self.crash(CrashProfile::KeepAll);
        drop((db, executor));
        self.reopen();
        let (db, _) = self.open.take().expect("a healthy disk opens");
        let state = read_state(&db).unwrap();
        let floor = if self.sync_failed { self.synced } else { self.acked };
        self.oracle().check(&state, floor, usize::MAX).unwrap_or_else(|e| panic!("reopened: {e}"));
        check_files(&self.mem, DIR).unwrap_or_else(|e| panic!("reopened: {e}"));
        db.verify().unwrap_or_else(|e| panic!("verify: {}", show(&e)));
        db.put("last", "1").unwrap();
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

    fn crash(&self, profile: CrashProfile) {
        let disk = self.mem.crash(profile, 1);
        let (db, _) = open(Arc::new(disk), DIR, &self.options, self.seed + 1)
            .unwrap_or_else(|e| panic!("open after {profile:?}: {}", show(&e)));
        let state = read_state(&db).unwrap();
        let kept = profile == CrashProfile::KeepAll && !self.sync_failed;
        let floor = if kept { self.acked } else { self.synced };
        let checked = self.oracle().check(&state, floor, usize::MAX);
        checked.unwrap_or_else(|e| panic!("after {profile:?}: {e}"));
    }
}

#[derive(Clone, Copy)]
struct Shape {
    rounds: u32,
    writes: u32,
}

fn faults() -> Vec<(&'static str, Fault, bool)> {
    use SyncOutcome::{ErrorOnceThenOk, PageCleanCacheNew, PageReverted};
    vec![
        ("eio", Fault::Eio, false),
        ("eio on read", Fault::Eio, false),
        ("no space", Fault::NoSpace, true),
        ("quota", Fault::QuotaExceeded, true),
        ("emfile", Fault::TooManyOpenFiles, false),
        ("short write", Fault::ShortWrite, false),
        ("short read", Fault::ShortRead, false),
        ("sync, pages clean", Fault::SyncFailed(PageCleanCacheNew), false),
        ("sync, pages reverted", Fault::SyncFailed(PageReverted), false),
        ("sync, reported once", Fault::SyncFailed(ErrorOnceThenOk), false),
    ]
}

fn plan(name: &str, fault: &Fault, at: u64, once: bool) -> FaultPlan {
    let plan = if once {
        // The first operation from there on that the fault fits.
        FaultPlan::from(at, fault.clone()).times(1)
    } else {
        FaultPlan::from(at, fault.clone())
    };
    if name == "eio on read" {
        plan.kinds(&[OpKind::Read, OpKind::Open, OpKind::Len])
    } else {
        plan
    }
}

/// Fails the process if a position takes too long, and names it.
fn watch() -> Sender<String> {
    let (sender, receiver) = channel::<String>();
    #[expect(clippy::disallowed_methods, reason = "a watchdog beside the test")]
    std::thread::spawn(move || {
        let mut current = String::from("start");
        loop {
            match receiver.recv_timeout(Duration::from_secs(90)) {
                Ok(next) => current = next,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    println!("hangs: {current}");
                    std::process::abort();
                }
            }
        }
    });
    sender
}

fn fail_everywhere(name: &str, options: &Options, shape: Shape) {
    let alive = watch();
    let (mut positions, mut wrong) =
        (0u64, std::collections::BTreeMap::<String, (u64, String)>::new());
    for seed in 1..=env("ESKER_FAULT_SEEDS", 1) {
        let mut healthy = Run::new(options, seed, None, false);
        healthy.script(shape);
        let operations = healthy.fs.op_count();
        assert!(healthy.stopped.is_none() && healthy.acked > 0);
        healthy.check();
        let step = env("ESKER_FAULT_STEP", 11);
        for (kind, (what, fault, full)) in faults().into_iter().enumerate() {
            for once in [true, false] {
                let first = (kind as u64 * 3 + u64::from(once)) % step;
                for at in (first..operations).step_by(step as usize) {
                    let place = format!("{name} seed {seed}: {what} at {at}, once {once}");
                    alive.send(place.clone()).unwrap();
                    let tried = catch_unwind(AssertUnwindSafe(|| {
                        let plan = plan(what, &fault, at, once);
                        let mut run = Run::new(options, seed, Some(plan), full);
                        run.script(shape);
                        let fired = run.fs.fired() > 0;
                        run.check();
                        fired
                    }));
                    match tried {
                        Ok(fired) => positions += u64::from(fired),
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned();
                            let text = text.unwrap_or_else(|| "panic".into());
                            let brief: String =
                                text.chars().filter(|c| !c.is_ascii_digit()).take(50).collect();
                            let entry = wrong.entry(format!("{what} {once} {brief}"));
                            entry.or_insert((0, format!("{place}: {text}"))).0 += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{name}: {positions} positions");
    for (count, first) in wrong.values() {
        println!("  {count} x {}", first.chars().take(600).collect::<String>());
    }
    assert!(wrong.is_empty(), "{} kinds of wrong outcomes", wrong.len());
    assert!(positions >= 500, "too few positions: {positions}");
}

#[test]
fn a_fault_anywhere_in_flushes_and_compactions() {
    let options = compressed(small_options()).memtable_size_bytes(2048);
    fail_everywhere("flushes", &options, Shape { rounds: 7, writes: 8 });
}

#[test]
fn a_fault_anywhere_in_rotations() {
    let options = small_options().manifest_rotate_bytes(0).log_bytes_max(8 << 10);
    fail_everywhere("rotations", &options, Shape { rounds: 6, writes: 10 });
}

#[test]
fn a_fault_anywhere_with_defaults() {
    let options =
        Options::default().log_segment_bytes(16 << 10).block_cache_bytes(0).compaction(leveled());
    fail_everywhere("defaults", &options, Shape { rounds: 6, writes: 6 });
}

/// A database with tables on several levels, on a disk that can fail.
fn filled() -> (FaultFs, Db) {
    let fs = FaultFs::over_mem(MemFs::new());
    let options = small_options().block_cache_bytes(0).open_files_max(1);
    let (db, _) = open(Arc::new(fs.clone()), DIR, &options, 5).unwrap();
    for i in 0..200u32 {
        db.put(format!("key{:03}", i * 7 % 200), vec![b'v'; 60]).unwrap();
        if i % 60 == 59 {
            db.flush().unwrap();
        }
    }
    db.delete_range("key050".."key060").unwrap();
    db.flush().unwrap();
    (fs, db)
}

#[test]
fn an_iterator_stays_in_its_error_until_it_is_positioned() {
    let (fs, db) = filled();
    let expected: Vec<_> = db.iter().map(|p| p.unwrap().0.to_vec()).collect();
    assert_eq!(expected.len(), 190);
    let mut failures = 0;
    for backward in [false, true] {
        for skip in 0..400 {
            let mut cursor = db.cursor().unwrap();
            fs.inject(
                FaultPlan::any(Fault::Eio).kinds(&[OpKind::Read, OpKind::Open]).skip(skip).times(1),
            );
            let mut seen = Vec::new();
            let first = if backward { cursor.seek_to_last() } else { cursor.seek_to_first() };
            let mut failed = first.err();
            while failed.is_none() && cursor.valid() {
                seen.push(cursor.key().to_vec());
                let moved = if backward { cursor.prev() } else { cursor.next() };
                failed = moved.err();
            }
            fs.clear();
            let whole: Vec<_> =
                if backward { expected.iter().rev().collect() } else { expected.iter().collect() };
            assert!(whole.iter().zip(&seen).all(|(a, b)| *a == b), "wrong keys before an error");
            let Some(error) = failed else {
                assert_eq!(seen.len(), expected.len(), "keys are missing without an error");
                break;
            };
            failures += 1;
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            assert!(!cursor.valid() && cursor.key().is_empty() && cursor.value().is_empty());
            assert!(cursor.next().is_err() && cursor.prev().is_err() && !cursor.valid());
            cursor.seek("key100").unwrap();
            assert_eq!(cursor.key(), b"key100");
        }
        // A range yields its error once and ends.
        let mut range = db.iter();
        fs.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::Read]).skip(3));
        let results: Vec<_> =
            std::iter::from_fn(|| if backward { range.next_back() } else { range.next() })
                .collect();
        assert!(results.last().unwrap().is_err());
        assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
        fs.clear();
        assert!(range.next().is_none() && range.next_back().is_none());
    }
    assert!(failures > 20, "too few failures: {failures}");
}

#[test]
fn a_compaction_that_cannot_read_installs_nothing() {
    let mut failures = 0;
    for fault in [Fault::Eio, Fault::BitRot, Fault::ShortRead] {
        for skip in 0..400 {
            let (fs, db) = filled();
            let before = db.metrics().keyspaces[0].levels.clone();
            let compactions = db.metrics().compactions;
            let expected: Vec<_> = db.iter().map(Result::unwrap).collect();
            fs.inject(FaultPlan::any(fault.clone()).kinds(&[OpKind::Read]).skip(skip).times(1));
            let (fired, failed) = (fs.fired(), db.metrics().background_failures);
            let done = db.compact_range(..);
            let hit = fs.fired() > fired;
            let noticed = done.is_err() || db.metrics().background_failures > failed;
            fs.clear();
            failures += u32::from(hit && done.is_err());
            // Of several compactions those before the failed one count.
            if hit && done.is_err() && db.metrics().compactions == compactions {
                assert_eq!(db.metrics().keyspaces[0].levels, before, "{fault:?} {skip}");
            }
            let now: Vec<_> = db.iter().map(Result::unwrap).collect();
            assert_eq!(now, expected, "{fault:?} {skip}");
            db.compact_range(..).unwrap();
            assert_eq!(db.iter().count(), expected.len());
            db.verify().unwrap();
            if !hit {
                break;
            }
            // A wrong bit, or the end of a read, may lie where nobody looks.
            let silent = matches!(fault, Fault::Eio) && !noticed;
            assert!(!silent, "{fault:?} {skip}: a failed read went unnoticed");
        }
    }
    assert!(failures > 20, "too few failures: {failures}");
}
