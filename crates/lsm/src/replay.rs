//! The log back into memtables, at an open.
//!
//! Nobody reads or writes yet, so each keyspace's active memtable is at hand without a lock. An insert mostly waits for one
//! place of the memtable's index, which is not in the cache. What is read ahead of the log says which: so each operation is
//! copied, has its place fetched, and is inserted when some more have been read. The memory for them is got from the system on another thread.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::keyspaces::Note;
use crate::recover::{RecoveryReport, segments_to_replay};
use crate::tree::{Frozen, Mem, Tree};
use base::batch::{Batch, BatchOp};
use base::checksum::key_hash;
use base::{Error, FileName, InternalKey, KeyspaceId, RangeTombstone, Result, SeqNo, ValueKind};
use manifest::{AddedTable, TableChanges};
use memtable::Spares;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wal::{Lsn, Replayed};

/// Operations that wait for their place to be fetched, at most.
const WAITING_MAX: usize = 16;
/// An operation with more bytes is inserted where it lies: its copy would take longer than what is waited for.
const COPIED_MAX: usize = 1 << 10;

/// What the log gave back.
#[derive(Default)]
pub(crate) struct Recovered {
    pub(crate) replayed: Replayed,
    pub(crate) last_seq: SeqNo,
    /// Tables made of memtables that filled up on the way.
    pub(crate) tables: Vec<TableChanges>,
}

impl Engine {
    /// Puts what is in the log and not in tables into memtables. A memtable that fills up becomes a table at once, so
    /// that memory is bounded by one memtable for each keyspace.
    pub(crate) fn replay_log(self: &Arc<Self>) -> Result<Recovered> {
        let (db_id, last_seq, next_keyspace, listed) = {
            let state = &self.manifest.lock().state;
            (state.db_id, state.last_seq, state.next_keyspace, segments_to_replay(state))
        };
        let mut replay = Replay::new(self, next_keyspace);
        let (mode, fs) = (self.options.recovery_mode, &*self.fs);
        let replayed =
            wal::replay(fs, &self.dir, db_id, &listed, mode, &mut |end, path, at, bytes| {
                replay.record(end, path, at, bytes)
            });
        let replayed = replayed.inspect_err(|_| replay.discard())?;
        replay.insert_waiting();
        let last_seq = replay.last_seq.max(last_seq);
        self.commits.start_at(last_seq);
        self.recovery.get_or_init(|| RecoveryReport::from(&replayed));
        Ok(Recovered { replayed, last_seq, tables: replay.tables })
    }
}

/// One replay under way.
struct Replay<'a> {
    engine: &'a Arc<Engine>,
    last_seq: SeqNo,
    /// Where the record at hand starts, or a little before.
    start: Lsn,
    tables: Vec<TableChanges>,
    /// Keyspaces from here on were never created.
    next_keyspace: KeyspaceId,
    /// By keyspace.
    targets: Vec<Target>,
    waiting: Vec<Waiting>,
    /// The one of `waiting` that has waited longest.
    oldest: usize,
}

/// Memory is asked for so many bytes before it is needed.
const STOCK_AHEAD: usize = 4 * Spares::STOCK_BYTES;

/// A keyspace and the memtable that its operations go to.
struct Target {
    tree: Arc<Tree>,
    mem: Arc<Mem>,
    /// Operations up to it are in tables.
    flushed: u64,
    /// Bytes inserted, about.
    inserted: usize,
    /// Bytes of memory asked for.
    stocked: usize,
}

impl Target {
    fn new(tree: Arc<Tree>) -> Target {
        let flushed = tree.flushed_seq.load(Ordering::Relaxed);
        let flushed = flushed + u64::from(base::planted::is(39) && flushed > 0);
        Target { mem: Arc::clone(&tree.view().active), tree, flushed, inserted: 0, stocked: 0 }
    }

    fn is_full(&self) -> bool {
        self.mem.table.size_bytes() >= self.tree.options.memtable_size_bytes
    }

    /// True once it is about to need memory that nobody was asked for. A small memtable never does.
    fn lacks_memory(&self) -> bool {
        self.inserted >= Spares::STOCK_BYTES / 4 && self.inserted + STOCK_AHEAD > self.stocked
    }
}

/// A put or delete that is about to be inserted.
#[derive(Default)]
struct Waiting {
    /// Index of the target; `None` if nothing waits here.
    target: Option<usize>,
    hash: u64,
    seq: SeqNo,
    is_put: bool,
    key_len: usize,
    /// Key and value.
    bytes: Vec<u8>,
}

impl<'a> Replay<'a> {
    fn new(engine: &'a Arc<Engine>, next_keyspace: KeyspaceId) -> Replay<'a> {
        Replay {
            engine,
            last_seq: SeqNo(0),
            start: Lsn(0),
            tables: Vec::new(),
            next_keyspace,
            targets: engine.all_trees().into_iter().map(Target::new).collect(),
            waiting: (0..WAITING_MAX).map(|_| Waiting::default()).collect(),
            oldest: 0,
        }
    }

    /// Deletes the tables made so far: an open that fails leaves the disk as it was.
    fn discard(&mut self) {
        for table in self.tables.drain(..).flat_map(|changes| changes.added) {
            base::probe!("table of a failed open removed");
            let path = FileName::Table(table.table.file).in_dir(&self.engine.dir);
            // What stays is removed by the next open.
            drop(self.engine.fs.remove_file(&path));
        }
    }

    fn record(&mut self, end: Lsn, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let batch = Batch::decode(bytes).map_err(|e| {
            Error::corruption(path, offset.saturating_add(e.offset as u64), e.detail)
        })?;
        if batch.seq <= self.last_seq {
            let (seq, last) = (batch.seq, self.last_seq);
            let detail = format!("batch at sequence number {seq} behind {last}");
            return Err(Error::corruption(path, offset, detail));
        }
        let mut full = false;
        for (seq, op) in batch.ops() {
            // Operations of keyspaces that were dropped, and those that are in tables, are done.
            let Some(at) = self.target_of(&op, path, offset)? else { continue };
            let target = &self.targets[at];
            if seq.0 <= target.flushed {
                base::probe!("replayed a write that is in tables");
                continue;
            }
            full |= target.is_full();
            self.take(at, seq, &op);
        }
        self.last_seq = SeqNo(batch.seq.0 + u64::from(batch.count).saturating_sub(1));
        if full && !self.engine.options.read_only {
            self.roll_full(end)?;
        }
        self.start = end;
        Ok(())
    }

    /// Index of the target of `op`; `None` if it has none to be inserted into.
    fn target_of(&self, op: &BatchOp<'_>, path: &Path, offset: u64) -> Result<Option<usize>> {
        let Ok(at) = self.targets.binary_search_by_key(&op.keyspace, |target| target.tree.id)
        else {
            if op.keyspace < self.next_keyspace {
                base::probe!("replayed a write of a dropped keyspace");
                return Ok(None);
            }
            let detail = format!("batch for keyspace #{}, never created", op.keyspace);
            return Err(Error::corruption(path, offset, detail));
        };
        match Note::of(op) {
            None => Ok(Some(at)),
            Some(Note::Created) => Ok(None),
            Some(Note::Dropped) => {
                let name = &self.targets[at].tree.name;
                let detail = format!("keyspace {name:?} was dropped, the manifest has it still");
                Err(Error::corruption(path, offset, detail))
            }
        }
    }

    /// Inserts `op`, now or soon.
    fn take(&mut self, at: usize, seq: SeqNo, op: &BatchOp<'_>) {
        self.targets[at].inserted += op.key.len() + op.value.len();
        if self.targets[at].lacks_memory() {
            self.stock(at);
        }
        let mem = &self.targets[at].mem;
        // Now, in the order of the log: a memtable keeps the first of the positions that it is told.
        mem.note_record(self.start);
        match op.kind {
            ValueKind::RangeDelete => mem.table.insert_range_tombstone(RangeTombstone {
                start: op.key.to_vec(),
                end: op.value.to_vec(),
                seq,
            }),
            ValueKind::Put | ValueKind::Delete => {
                let hash = key_hash(op.key);
                if op.key.len() + op.value.len() > COPIED_MAX {
                    let key = InternalKey::new(op.key, seq, op.kind);
                    mem.table.insert(hash, key, op.value);
                    return;
                }
                mem.table.prefetch(hash);
                self.insert_oldest();
                let waiting = &mut self.waiting[self.oldest];
                self.oldest = (self.oldest + 1) % WAITING_MAX;
                (waiting.target, waiting.hash, waiting.seq) = (Some(at), hash, seq);
                (waiting.is_put, waiting.key_len) = (op.kind == ValueKind::Put, op.key.len());
                waiting.bytes.clear();
                waiting.bytes.extend_from_slice(op.key);
                waiting.bytes.extend_from_slice(op.value);
            }
        }
    }

    #[cold]
    fn stock(&mut self, at: usize) {
        let target = &mut self.targets[at];
        target.stocked += Spares::STOCK_BYTES;
        let spares = Arc::clone(&target.tree.spares);
        self.engine.submit("memory for the replay", Priority::High, move |_| spares.stock());
    }

    /// Inserts the operation that has waited longest, if one is there.
    fn insert_oldest(&mut self) {
        let waiting = &mut self.waiting[self.oldest];
        let Some(target) = waiting.target.take() else { return };
        let kind = if waiting.is_put { ValueKind::Put } else { ValueKind::Delete };
        let (key, value) = waiting.bytes.split_at(waiting.key_len);
        let key = InternalKey::new(key, waiting.seq, kind);
        self.targets[target].mem.table.insert(waiting.hash, key, value);
    }

    /// Inserts all that waits.
    fn insert_waiting(&mut self) {
        for _ in 0..WAITING_MAX {
            self.insert_oldest();
            self.oldest = (self.oldest + 1) % WAITING_MAX;
        }
    }

    /// Writes memtables that are full into tables, which the opening edit will add.
    fn roll_full(&mut self, end: Lsn) -> Result<()> {
        self.insert_waiting();
        for at in 0..self.targets.len() {
            if self.targets[at].is_full() {
                self.roll(at, end)?;
            }
        }
        Ok(())
    }

    fn roll(&mut self, at: usize, end: Lsn) -> Result<()> {
        base::probe!("memtable full during the replay");
        let target = &mut self.targets[at];
        let tree = &target.tree;
        tree.freeze(Frozen { seq: self.last_seq, end });
        let mem = tree.view().frozen.first().cloned();
        target.mem = Arc::clone(&tree.view().active);
        let Some(mem) = mem else { return Ok(()) };
        let tables = self.engine.write_level0(tree, std::slice::from_ref(&mem))?;
        let run = self.engine.new_run();
        let added = tables.into_iter().map(|table| AddedTable { level: 0, run, table });
        self.tables.push(TableChanges {
            keyspace: tree.id,
            added: added.collect(),
            removed: Vec::new(),
            flushed_seq: Some(self.last_seq),
        });
        tree.forget_frozen();
        Ok(())
    }
}
