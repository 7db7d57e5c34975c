//! A seeded run of operations against a database and an oracle, which notes what was promised when.

use crate::store::{CATALOG, DIR, NAMES, lazy, number_of, open, read_state, scan_snapshot};
use lsm::executor::ManualExecutor;
use lsm::{
    Db, Durability, Keyspace, KeyspaceOptions, Options, Range, Result, Snapshot, WriteBatch,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::model::{ModelOp, State};
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::MemFs;

/// How often each kind of operation is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mix {
    pub(crate) single: u32,
    pub(crate) batch: u32,
    pub(crate) range: u32,
    pub(crate) sync: u32,
    pub(crate) flush: u32,
    pub(crate) compact: u32,
    pub(crate) step: u32,
    pub(crate) tick: u32,
    pub(crate) create: u32,
    pub(crate) drop: u32,
    pub(crate) checkpoint: u32,
    pub(crate) ingest: u32,
    pub(crate) reopen: u32,
    pub(crate) snapshot: u32,
}

/// What was promised after so many operations of the disk.
#[derive(Debug, Clone, Copy)]
struct Mark {
    op: u64,
    issued: usize,
    acked: usize,
    synced: usize,
}

/// What an image may show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    pub(crate) issued: usize,
    pub(crate) acked: usize,
    pub(crate) synced: usize,
}

/// A finished checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) dir: String,
    pub(crate) commits: usize,
    /// Operations of the disk when it was finished.
    pub(crate) op: u64,
}

/// Views of one moment, held while the database goes on.
#[derive(Debug)]
struct Held {
    snapshot: Snapshot,
    /// Begun: one pair was read.
    range: Range,
    first: Option<(Vec<u8>, Vec<u8>)>,
    commits: usize,
}

#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) fs: MemFs,
    pub(crate) options: Options,
    pub(crate) db: Db,
    pub(crate) executor: Arc<ManualExecutor>,
    pub(crate) oracle: Oracle,
    pub(crate) copies: Vec<Copy>,
    /// Bytes of the largest values, now and then; 0 for none.
    pub(crate) large_value: usize,
    /// Options of later opens, in turn.
    pub(crate) alternatives: Vec<Options>,
    /// Refusals of a full disk so far.
    pub(crate) refused: u64,
    failed_copies: usize,
    keyspaces: BTreeMap<&'static str, Keyspace>,
    held: Option<Held>,
    acked: usize,
    synced: usize,
    marks: Vec<Mark>,
    rng: Rng,
    seed: u64,
    version: u64,
}

impl Driver {
    /// Opens on `fs`, which holds what `oracle` says.
    pub(crate) fn open(fs: MemFs, options: &Options, oracle: Oracle, seed: u64) -> Result<Driver> {
        let op = fs.op_count();
        let (db, executor) = open(Arc::new(fs.clone()), DIR, options, seed)?;
        let (acked, synced) = (oracle.acked(), oracle.synced());
        let mut driver = Driver {
            fs,
            options: options.clone(),
            db,
            executor,
            oracle,
            copies: Vec::new(),
            large_value: 0,
            alternatives: Vec::new(),
            refused: 0,
            failed_copies: 0,
            keyspaces: BTreeMap::new(),
            held: None,
            acked,
            synced,
            marks: Vec::new(),
            rng: Rng::new(seed ^ 0xd21e),
            seed,
            version: seed << 20,
        };
        driver.mark_at(op);
        driver.find_keyspaces()?;
        Ok(driver)
    }

    fn find_keyspaces(&mut self) -> Result<()> {
        self.keyspaces.clear();
        for name in self.db.list_keyspaces() {
            let name = NAMES[number_of(&name) as usize];
            self.keyspaces.insert(name, self.db.open_keyspace(name)?);
        }
        Ok(())
    }

    fn mark_at(&mut self, op: u64) {
        let issued = self.oracle.model().commits();
        self.marks.push(Mark { op, issued, acked: self.acked, synced: self.synced });
    }

    fn mark(&mut self) {
        self.mark_at(self.fs.op_count());
    }

    /// What a crash right after operation `index` of the disk may show.
    pub(crate) fn promise(&self, index: u64) -> Promise {
        let first = self.marks[0];
        let issued = self.marks.iter().rev().find(|m| m.op <= index).unwrap_or(&first).issued;
        // An acknowledgement that came before the next operation found the same disk.
        let kept = self.marks.iter().rev().find(|m| m.op <= index + 1).unwrap_or(&first);
        Promise { issued, acked: kept.acked.min(issued), synced: kept.synced.min(issued) }
    }

    fn issue(&mut self, ops: &[ModelOp]) -> usize {
        let commit = self.oracle.issue(ops);
        self.mark();
        commit
    }

    fn ack(&mut self, commit: usize, durability: Durability) {
        match durability {
            Durability::Sync => (self.acked, self.synced) = (commit, commit),
            Durability::Buffered => self.acked = commit,
            Durability::Memory => {}
        }
        self.mark();
    }

    /// Notes what came of a commit; one that was refused never happened.
    fn told(&mut self, commit: usize, durability: Durability, done: Result<()>) -> Result<()> {
        match done {
            Ok(()) => self.ack(commit, durability),
            Err(e) => {
                self.oracle.recovered(commit - 1);
                self.mark();
                return Err(e);
            }
        }
        Ok(())
    }

    fn synced_all(&mut self) {
        self.synced = self.oracle.model().commits();
        self.acked = self.synced;
        self.mark();
    }

    /// One operation drawn from `mix`.
    pub(crate) fn act(&mut self, mix: &Mix) -> Result<()> {
        let weights = [
            mix.single,
            mix.batch,
            mix.range,
            mix.sync,
            mix.flush,
            mix.compact,
            mix.step,
            mix.tick,
            mix.create,
            mix.drop,
            mix.checkpoint,
            mix.ingest,
            mix.reopen,
            mix.snapshot,
        ];
        let mut left = self.rng.below(u64::from(weights.iter().sum::<u32>())) as u32;
        let mut kind = 0;
        while left >= weights[kind] {
            left -= weights[kind];
            kind += 1;
        }
        match kind {
            0 => self.single(),
            1 => self.batch(),
            2 => self.range(),
            3 => self.sync(),
            4 => self.flush(),
            5 => self.compact(),
            6 => {
                let waiting = self.executor.waiting().len();
                if waiting > 0 {
                    let at = self.rng.index(waiting);
                    self.executor.step(at);
                }
                Ok(())
            }
            7 => {
                self.executor.tick();
                Ok(())
            }
            8 => self.create(),
            9 => self.drop_one(),
            10 => self.checkpoint(),
            11 => self.ingest(),
            12 => self.reopen(),
            _ => self.hold(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        match self.rng.below(40) {
            0 => Vec::new(),
            1 => vec![0xff; 3],
            2 => [&b"long"[..], &[b'x'; 300]].concat(),
            n => format!("key{:02}", n % 24).into_bytes(),
        }
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        self.version += 1;
        let len = match self.rng.below(16) {
            0 => 0,
            1 => 300,
            2 if self.large_value > 0 => self.large_value * 3 / 10,
            3 if self.large_value > 0 && self.rng.below(4) == 0 => self.large_value,
            n => 8 + n as usize * 5,
        };
        value_for(self.seed, key, self.version, len)
    }

    fn durability(&mut self) -> Durability {
        *self.rng.pick(&[
            Durability::Sync,
            Durability::Buffered,
            Durability::Buffered,
            Durability::Memory,
        ])
    }

    fn any_keyspace(&mut self) -> (&'static str, Keyspace) {
        let at = self.rng.index(self.keyspaces.len());
        let (name, keyspace) = self.keyspaces.iter().nth(at).expect("default is there");
        (name, keyspace.clone())
    }

    fn single(&mut self) -> Result<()> {
        let (name, keyspace) = self.any_keyspace();
        let (key, durability) = (self.key(), self.durability());
        if self.rng.below(4) == 0 {
            let commit = self.issue(&[ModelOp::delete(number_of(name), key.clone())]);
            self.told(commit, durability, keyspace.delete_with(&key, durability))
        } else {
            let value = self.value(&key);
            let commit = self.issue(&[ModelOp::put(number_of(name), key.clone(), value.clone())]);
            self.told(commit, durability, keyspace.put_with(&key, &value, durability))
        }
    }

    fn bounds(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (self.key(), self.key());
        if a <= b { (a, b) } else { (b, a) }
    }

    fn batch(&mut self) -> Result<()> {
        let mut batch = self.db.batch();
        let mut ops = Vec::new();
        for _ in 0..1 + self.rng.below(6) {
            let (name, keyspace) = self.any_keyspace();
            self.push(&mut batch, &mut ops, number_of(name), &keyspace);
        }
        let durability = self.durability();
        let commit = self.issue(&ops);
        self.told(commit, durability, batch.commit_with(durability))
    }

    fn push(
        &mut self,
        batch: &mut WriteBatch,
        ops: &mut Vec<ModelOp>,
        number: u32,
        keyspace: &Keyspace,
    ) {
        match self.rng.below(8) {
            0 => {
                let (a, b) = self.bounds();
                batch.delete_range_in(keyspace, &a[..]..&b[..]);
                ops.push(ModelOp::delete_range(number, a..b));
            }
            1 | 2 => {
                let key = self.key();
                batch.delete_in(keyspace, &key);
                ops.push(ModelOp::delete(number, key));
            }
            _ => {
                let key = self.key();
                let value = self.value(&key);
                batch.put_in(keyspace, &key, &value);
                ops.push(ModelOp::put(number, key, value));
            }
        }
    }

    fn range(&mut self) -> Result<()> {
        let (name, keyspace) = self.any_keyspace();
        let (a, b) = self.bounds();
        let commit = self.issue(&[ModelOp::delete_range(number_of(name), a.clone()..b.clone())]);
        let done = keyspace.delete_range(&a[..]..&b[..]);
        self.told(commit, self.options.durability, done)
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.db.sync()?;
        self.synced_all();
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.rng.below(3) == 0 {
            return self.any_keyspace().1.flush();
        }
        self.db.flush()?;
        self.synced_all();
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let (_, keyspace) = self.any_keyspace();
        if self.rng.below(3) == 0 {
            return keyspace.compact_range(..);
        }
        if self.rng.below(3) == 0 {
            return self.db.wait_idle();
        }
        let (a, b) = self.bounds();
        keyspace.compact_range(&a[..]..&b[..])
    }

    fn create(&mut self) -> Result<()> {
        let name = NAMES[1 + self.rng.index(NAMES.len() - 1)];
        if self.keyspaces.contains_key(name) {
            return Ok(());
        }
        let options = match self.rng.below(3) {
            0 => KeyspaceOptions::new(),
            1 => KeyspaceOptions::new().memtable_size_bytes(1024),
            _ => KeyspaceOptions::new().compaction(lazy()).filter_bits_per_key(0),
        };
        let commit = self.issue(&[ModelOp::put(CATALOG, name, "")]);
        let made = self.db.keyspace(name, &options);
        let done = made.map(|keyspace| drop(self.keyspaces.insert(name, keyspace)));
        self.told(commit, Durability::Sync, done)
    }

    fn drop_one(&mut self) -> Result<()> {
        let name = NAMES[1 + self.rng.index(NAMES.len() - 1)];
        let Some(old) = self.keyspaces.get(name).cloned() else { return Ok(()) };
        let ops =
            [ModelOp::delete(CATALOG, name), ModelOp::delete_range(number_of(name), Vec::new()..)];
        let commit = self.issue(&ops);
        let done = self.db.drop_keyspace(name);
        self.told(commit, Durability::Sync, done)?;
        self.keyspaces.remove(name);
        assert!(old.get("key01").is_err(), "a dropped keyspace reads");
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let dir = format!("/data/copy{}", self.copies.len() + self.failed_copies);
        let commits = self.oracle.model().commits();
        if let Err(e) = self.db.checkpoint(&dir) {
            // The place of a copy that failed is not used again.
            self.failed_copies += 1;
            return Err(e);
        }
        self.mark();
        self.copies.push(Copy { dir, commits, op: self.fs.op_count() });
        Ok(())
    }

    fn ingest(&mut self) -> Result<()> {
        let (name, keyspace) = self.any_keyspace();
        let mut pairs = BTreeMap::new();
        for _ in 0..self.rng.below(30) {
            let key = self.key();
            let value = self.value(&key);
            pairs.insert(key, value);
        }
        let number = number_of(name);
        let ops: Vec<_> =
            pairs.iter().map(|(k, v)| ModelOp::put(number, k.clone(), v.clone())).collect();
        let commit = self.issue(&ops);
        // One without pairs makes no record, so it syncs nothing.
        let durability = if pairs.is_empty() { Durability::Memory } else { Durability::Sync };
        self.told(commit, durability, keyspace.ingest(&pairs).map(drop))
    }

    /// Closes and opens again.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.release()?;
        self.db.close()?;
        self.synced_all();
        self.keyspaces.clear();
        if !self.alternatives.is_empty() {
            let at = self.rng.index(self.alternatives.len());
            self.options = self.alternatives[at].clone();
        }
        let (db, executor) = open(Arc::new(self.fs.clone()), DIR, &self.options, self.seed)?;
        (self.db, self.executor) = (db, executor);
        self.find_keyspaces()
    }

    /// Takes a snapshot and begins a scan, or checks those that are held and lets them go.
    fn hold(&mut self) -> Result<()> {
        if self.held.is_some() {
            return self.release();
        }
        let mut range = self.db.iter();
        let first = range.next().transpose()?.map(|(k, v)| (k.to_vec(), v.to_vec()));
        let commits = self.oracle.model().commits();
        self.held = Some(Held { snapshot: self.db.snapshot(), range, first, commits });
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        let Some(Held { snapshot, range, first, commits }) = self.held.take() else {
            return Ok(());
        };
        let mut expected = self.oracle.model().state_at(commits);
        expected.retain(|(number, _), _| *number == 0);
        let state = |pairs: Vec<(Vec<u8>, Vec<u8>)>| -> State {
            pairs.into_iter().map(|(k, v)| ((0, k), v)).collect()
        };
        assert_eq!(state(scan_snapshot(&snapshot)?), expected, "a snapshot changed");
        let owned =
            |pair: Result<(lsm::Slice, lsm::Slice)>| pair.map(|(k, v)| (k.to_vec(), v.to_vec()));
        let rest: Vec<_> = range.map(owned).collect::<Result<_>>()?;
        assert_eq!(state(first.into_iter().chain(rest).collect()), expected, "a scan changed");
        Ok(())
    }

    /// Compares what reads see with the model.
    pub(crate) fn check_now(&self) -> Result<()> {
        let state = read_state(&self.db)?;
        let all = self.oracle.model().commits();
        if let Err(wrong) = self.oracle.check(&state, all, all) {
            panic!("live state: {wrong}");
        }
        Ok(())
    }
}
