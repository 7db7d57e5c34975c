//! A database under test, and what it was told and promised.

use super::check::{is_sync_failed, read_state};
use crate::source::Source;
use lsm::executor::ManualExecutor;
use lsm::{
    CompactionPolicy, Compression, Db, Durability, Error, Fifo, Health, KeyspaceOptions,
    LazyLeveled, Leveled, Options, Result, SizeTiered, Snapshot,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use testkit::model::{ModelOp, State};
use testkit::oracle::Oracle;
use testkit::value::value_for;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, MemFs, OpKind, SyncOutcome};

pub(super) const DIR: &str = "/data/db";
/// The pseudo keyspace that holds the names of all keyspaces but the default one.
pub(super) const CATALOG: u32 = u32::MAX;
/// Keyspaces by their number in the model.
pub(super) const NAMES: [&str; 3] = ["default", "k1", "k2"];

/// A database under test.
pub(super) struct World {
    pub(super) mem: MemFs,
    pub(super) fs: FaultFs,
    options: Options,
    seed: u64,
    pub(super) open: Option<(Db, Arc<ManualExecutor>)>,
    snapshot: Option<(Snapshot, usize)>,
    version: u64,
    copies: u32,
    pub(super) commits: Vec<Vec<ModelOp>>,
    pub(super) acked: usize,
    pub(super) synced: usize,
    /// The last of `commits` met the end of writes: it may be there or not.
    pub(super) open_end: bool,
    /// Why writes stopped; then none may succeed before a reopen.
    pub(super) stopped: Option<Error>,
    /// A sync failed at some time: what was acknowledged without a sync may be gone.
    pub(super) sync_failed: bool,
}

fn any_options(source: &mut Source<'_>) -> Options {
    let policy = match source.u8() % 4 {
        0 => CompactionPolicy::Leveled(Leveled {
            l0_trigger: 2,
            base_bytes: 4 << 10,
            multiplier: 2,
            target_table_bytes: 2 << 10,
            tombstone_percent: 50,
        }),
        1 => CompactionPolicy::SizeTiered(SizeTiered {
            min_threshold: 2,
            min_run_bytes: 1 << 10,
            target_table_bytes: 2 << 10,
            ..SizeTiered::default()
        }),
        2 => CompactionPolicy::LazyLeveled(LazyLeveled {
            target_table_bytes: 2 << 10,
            runs_per_level: 2,
            ..LazyLeveled::default()
        }),
        // Bounds that are never reached: what it drops is no matter of this target.
        _ => CompactionPolicy::Fifo(Fifo { max_bytes: 1 << 40, ttl_micros: None }),
    };
    Options::default()
        .memtable_size_bytes(source.pick(&[1usize << 10, 2 << 10, 8 << 10]))
        .block_cache_bytes(source.pick(&[0usize, 16 << 10]))
        .block_size_bytes(source.pick(&[64usize, 256]))
        .compression(source.pick(&[Compression::None, Compression::Lz4]))
        .filter_bits_per_key(source.pick(&[0u32, 10]))
        .log_segment_bytes(4u64 << 10)
        .log_bytes_max(source.pick(&[8u64 << 10, 24 << 10]))
        .manifest_rotate_bytes(source.pick(&[0u64, 2048]))
        .open_files_max(source.pick(&[1usize, 4]))
        .sync_interval(Duration::from_secs(3600))
        .compaction(policy)
}

pub(super) fn open(
    fs: Arc<dyn vfs::Fs>,
    options: &Options,
    seed: u64,
) -> Result<(Db, Arc<ManualExecutor>)> {
    let executor = ManualExecutor::new();
    let builder = Db::builder(DIR).options(options.clone()).fs(fs).seed(seed);
    Ok((builder.executor(executor.clone()).open()?, executor))
}

pub(super) fn number_of(name: &str) -> u32 {
    NAMES.iter().position(|n| *n == name).expect("a name of the test") as u32
}

impl World {
    pub(super) fn new(source: &mut Source<'_>) -> World {
        let options = any_options(source);
        let mem = MemFs::new();
        let fs = FaultFs::over_mem(mem.clone());
        let mut world = World {
            mem,
            fs,
            options,
            seed: u64::from(source.u8()),
            open: None,
            snapshot: None,
            version: 0,
            copies: 0,
            commits: Vec::new(),
            acked: 0,
            synced: 0,
            open_end: false,
            stopped: None,
            sync_failed: false,
        };
        world.try_open();
        world
    }

    pub(super) fn act(&mut self, source: &mut Source<'_>) {
        match source.u8() % 32 {
            0..10 => self.write(source),
            10 => self.durable(Db::flush),
            11 => self.durable(Db::sync),
            12 => self.other(|db| db.compact_range(..)),
            13..16 => self.step(source),
            16 => self.tick(),
            17 => self.create(NAMES[1 + source.below(2)], source),
            18 => self.drop_keyspace(NAMES[1 + source.below(2)]),
            19 => self.reopen(),
            20 => self.checkpoint(),
            21..24 => self.inject(source),
            24 | 25 => self.fs.clear(),
            26 | 27 => self.crash(source),
            28 => self.compare(),
            29 => self.ingest(source),
            30 => self.other(Db::wait_idle),
            _ => self.hold(),
        }
    }

    fn db(&self) -> Option<Db> {
        self.open.as_ref().map(|(db, _)| db.clone())
    }

    pub(super) fn try_open(&mut self) {
        if self.open.is_some() {
            return;
        }
        match open(Arc::new(self.fs.clone()), &self.options, self.seed) {
            Ok(opened) => {
                self.open = Some(opened);
                self.stopped = None;
                self.settle();
            }
            Err(e) => self.note(&e),
        }
    }

    /// After a reopen: the state decides about what was left open.
    fn settle(&mut self) {
        let (Some((db, _)), true) = (&self.open, self.open_end || self.sync_failed) else { return };
        let Ok(state) = read_state(db) else {
            // Faults are on. Nothing is written over what is not known yet: it is opened again another time.
            self.open = None;
            return;
        };
        let prefix = self.oracle().check(&state, self.synced, usize::MAX);
        let prefix = prefix.unwrap_or_else(|e| panic!("after a reopen: {e}"));
        self.recovered(prefix);
    }

    fn recovered(&mut self, prefix: usize) {
        self.commits.truncate(prefix);
        (self.acked, self.synced) = (prefix, prefix);
        (self.open_end, self.sync_failed) = (false, false);
    }

    pub(super) fn oracle(&self) -> Oracle {
        let mut oracle = Oracle::new();
        for ops in &self.commits {
            oracle.issue(ops);
        }
        oracle
    }

    pub(super) fn note(&mut self, e: &Error) {
        match e {
            Error::Poisoned { detail } => panic!("poisoned: {detail}"),
            Error::InvalidArgument { .. } => panic!("a fault is taken for a wrong call: {e}"),
            Error::SyncFailed { .. } | Error::WritesStopped { .. } => {
                self.stopped.get_or_insert(e.clone());
            }
            _ => {}
        }
        self.sync_failed |= is_sync_failed(e);
    }

    /// Looks at the health for failures of background jobs.
    pub(super) fn look(&mut self) {
        let Some(db) = self.db() else { return };
        if let Health::ReadOnly { reason } = db.health() {
            self.note(&reason);
            self.stopped.get_or_insert(reason);
        }
    }

    /// Notes what came of a commit.
    pub(super) fn commit(&mut self, ops: Vec<ModelOp>, durability: Durability, done: Result<()>) {
        match done {
            Ok(()) => {
                assert!(self.stopped.is_none(), "Ok after {:?}", self.stopped);
                assert!(!self.open_end, "Ok after an indeterminate write");
                self.commits.push(ops);
                match durability {
                    Durability::Sync => self.all_synced(),
                    Durability::Buffered => self.acked = self.commits.len(),
                    Durability::Memory => {}
                }
            }
            Err(e) => {
                let ends = matches!(e, Error::SyncFailed { .. } | Error::WritesStopped { .. });
                if ends && self.stopped.is_none() && !self.open_end {
                    self.commits.push(ops);
                    self.open_end = true;
                }
                self.note(&e);
            }
        }
        self.look();
    }

    pub(super) fn all_synced(&mut self) {
        self.synced = self.commits.len();
        self.acked = self.synced;
    }

    fn key(&mut self, source: &mut Source<'_>) -> Vec<u8> {
        match source.u8() % 32 {
            0 => Vec::new(),
            1 => vec![0xff; 3],
            n => format!("key{:02}", n % 20).into_bytes(),
        }
    }

    fn value(&mut self, key: &[u8], source: &mut Source<'_>) -> Vec<u8> {
        self.version += 1;
        let len = source.pick(&[8, 0, 30, 80, 400, 1100]);
        value_for(self.seed, key, self.version, len)
    }

    fn write(&mut self, source: &mut Source<'_>) {
        let Some(db) = self.db() else { return };
        let durability = source.pick(&[Durability::Sync, Durability::Buffered, Durability::Memory]);
        let name = source.pick(&["default", "default", "k1", "k2"]);
        let Ok(keyspace) = db.open_keyspace(name) else { return };
        let (mut batch, mut ops, ks) = (db.batch(), Vec::new(), number_of(name));
        for _ in 0..1 + source.below(4) {
            let key = self.key(source);
            match source.u8() % 8 {
                0 => {
                    batch.delete_in(&keyspace, &key);
                    ops.push(ModelOp::delete(ks, key));
                }
                1 => {
                    let (a, b) = (key.clone().min(self.key(source)), key);
                    batch.delete_range_in(&keyspace, &a[..]..&b[..]);
                    ops.push(ModelOp::delete_range(ks, a.min(b.clone())..b));
                }
                _ => {
                    let value = self.value(&key, source);
                    batch.put_in(&keyspace, &key, &value);
                    ops.push(ModelOp::put(ks, key, value));
                }
            }
        }
        self.commit(ops, durability, batch.commit_with(durability));
    }

    fn create(&mut self, name: &'static str, source: &mut Source<'_>) {
        let Some(db) = self.db() else { return };
        if db.list_keyspaces().iter().any(|n| n == name) {
            return;
        }
        let options = match source.u8() % 2 {
            0 => KeyspaceOptions::new(),
            _ => KeyspaceOptions::new().memtable_size_bytes(1024usize).filter_bits_per_key(3u32),
        };
        let done = db.keyspace(name, options).map(drop);
        self.commit(vec![ModelOp::put(CATALOG, name, "")], Durability::Sync, done);
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

    fn ingest(&mut self, source: &mut Source<'_>) {
        let Some(db) = self.db() else { return };
        let mut pairs = BTreeMap::new();
        for _ in 0..1 + source.below(20) {
            let key = self.key(source);
            let value = self.value(&key, source);
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
            Ok(()) if self.stopped.is_none() && !self.open_end => self.all_synced(),
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

    fn step(&mut self, source: &mut Source<'_>) {
        if let Some((_, executor)) = &self.open {
            executor.step(source.below(executor.waiting().len().clamp(1, 256)));
        }
        self.look();
    }

    fn tick(&mut self) {
        if let Some((_, executor)) = &self.open {
            executor.tick();
        }
        self.look();
    }

    fn checkpoint(&mut self) {
        self.copies += 1;
        let dir = format!("/data/copy{}", self.copies);
        self.other(|db| db.checkpoint(dir));
    }

    pub(super) fn reopen(&mut self) {
        self.snapshot = None;
        if let Some((db, _)) = self.open.take() {
            match db.close() {
                Ok(()) if self.stopped.is_none() && !self.open_end => self.all_synced(),
                Ok(()) => {}
                Err(e) => self.note(&e),
            }
        }
        self.try_open();
    }

    fn inject(&mut self, source: &mut Source<'_>) {
        use SyncOutcome::{ErrorOnceThenOk, PageCleanCacheNew, PageReverted};
        let fault = match source.u8() % 10 {
            0 | 1 => Fault::Eio,
            2 => Fault::NoSpace,
            3 => Fault::QuotaExceeded,
            4 => Fault::TooManyOpenFiles,
            5 => Fault::ShortWrite,
            6 => Fault::ShortRead,
            7 => Fault::SyncFailed(PageCleanCacheNew),
            8 => Fault::SyncFailed(PageReverted),
            _ => Fault::SyncFailed(ErrorOnceThenOk),
        };
        let mut plan = FaultPlan::any(fault).skip(source.below(40) as u64);
        if !source.u8().is_multiple_of(4) {
            plan = plan.times(1 + source.below(3) as u64);
        }
        plan = match source.u8() % 8 {
            0 => plan.suffix(".log"),
            1 => plan.suffix(".sst"),
            2 => plan.kinds(&[OpKind::Read, OpKind::Open, OpKind::Len]),
            3 => plan.kinds(&[OpKind::Rename, OpKind::SyncDir, OpKind::Create]),
            4 => plan.path(|path| path.to_string_lossy().contains("MANIFEST")),
            _ => plan,
        };
        self.fs.inject(plan);
    }

    /// Pulls the plug, and goes on with what is left on a healthy disk.
    fn crash(&mut self, source: &mut Source<'_>) {
        let profile = CrashProfile::ALL[source.below(6)];
        let disk = self.mem.crash(profile, u64::from(source.u8()));
        let kept = profile == CrashProfile::KeepAll && !self.sync_failed;
        let floor = if kept { self.acked } else { self.synced };
        self.snapshot = None;
        self.open = None;
        (self.mem, self.fs) = (disk.clone(), FaultFs::over_mem(disk));
        self.stopped = None;
        let opened = open(Arc::new(self.fs.clone()), &self.options, self.seed);
        let (db, executor) = opened.unwrap_or_else(|e| panic!("open after {profile:?}: {e}"));
        let state = read_state(&db).unwrap_or_else(|e| panic!("read after {profile:?}: {e}"));
        let prefix = self.oracle().check(&state, floor, usize::MAX);
        let prefix = prefix.unwrap_or_else(|e| panic!("after {profile:?}: {e}"));
        self.open = Some((db, executor));
        self.recovered(prefix);
    }

    /// What reads see is what was told; a read may fail while faults are on.
    fn compare(&mut self) {
        let Some(db) = self.db() else { return };
        match read_state(&db) {
            Ok(state) => self.check_live(&state),
            Err(e) => self.note(&e),
        }
    }

    pub(super) fn check_live(&self, state: &State) {
        if self.sync_failed && self.stopped.is_none() {
            // Reopened while reads failed: what is there is not known yet.
            return;
        }
        let told = self.commits.len() - usize::from(self.open_end);
        let checked = self.oracle().check(state, told, self.commits.len());
        checked.unwrap_or_else(|e| panic!("live state: {e}"));
    }

    /// Takes a snapshot, or checks the one that is held and lets it go.
    fn hold(&mut self) {
        let Some(db) = self.db() else { return };
        let told = self.commits.len() - usize::from(self.open_end);
        let Some((snapshot, commits)) = self.snapshot.take() else {
            self.snapshot = Some((db.snapshot(), told));
            return;
        };
        if self.sync_failed || self.open_end {
            return;
        }
        let found: Result<Vec<_>> = snapshot.iter().collect();
        let Ok(found) = found else { return };
        let mut expected = self.oracle().model().state_at(commits);
        expected.retain(|(number, _), _| *number == 0);
        let found: State = found.into_iter().map(|(k, v)| ((0, k.to_vec()), v.to_vec())).collect();
        assert_eq!(found, expected, "a snapshot changed");
    }
}
