//! Snapshots: moments that compactions must keep readable.

use crate::commit::CommitQueue;
use crate::db::Handle;
use crate::engine::Engine;
use crate::iter::{Cursor, KeyRange, Range};
use crate::keyspace::Keyspace;
use crate::listener::EngineEvent;
use crate::tree::Tree;
use base::sync::Mutex;
use base::{Result, SeqNo, Slice};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Sequence numbers that are being read, with their readers.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<BTreeMap<SeqNo, Readers>>);

/// The readers of one moment.
#[derive(Debug)]
struct Readers {
    count: usize,
    /// When the first of them came, in microseconds of the monotonic clock.
    since: u64,
    /// True once the listener was told of their age.
    told: bool,
}

impl Snapshots {
    /// Registers a reader of the newest visible moment, at `now` microseconds of the monotonic clock.
    pub(crate) fn register(&self, commits: &CommitQueue, now: u64) -> SeqNo {
        let early = base::planted::is(30).then(|| commits.visible());
        let mut list = self.0.lock();
        // Read under the lock: a compaction that lists the snapshots later keeps this moment, and one that
        // listed them earlier had nothing newer than it among its inputs.
        let seq = early.unwrap_or_else(|| commits.visible());
        let readers = list.entry(seq).or_insert(Readers { count: 0, since: now, told: false });
        if readers.count > 0 {
            base::probe!("two readers of one moment");
        }
        readers.count += 1;
        seq
    }

    /// Takes back one [`register`](Self::register).
    pub(crate) fn release(&self, seq: SeqNo) {
        let mut list = self.0.lock();
        if let Some(readers) = list.get_mut(&seq) {
            readers.count -= 1;
            if readers.count == 0 {
                list.remove(&seq);
            }
        }
    }

    /// All of them, ascending.
    pub(crate) fn list(&self) -> Vec<SeqNo> {
        self.0.lock().keys().copied().collect()
    }

    /// The oldest one.
    pub(crate) fn oldest(&self) -> Option<SeqNo> {
        self.0.lock().keys().next().copied()
    }

    /// How many there are, and when the oldest of them came.
    pub(crate) fn count_and_since(&self) -> (usize, Option<u64>) {
        let list = self.0.lock();
        (list.values().map(|r| r.count).sum(), list.values().map(|r| r.since).min())
    }

    /// Those that came before `limit` and were not told yet, each with the moment it came.
    fn take_old(&self, limit: u64) -> Vec<(SeqNo, u64)> {
        let mut list = self.0.lock();
        let old = list.iter_mut().filter(|(_, r)| r.since < limit && !r.told);
        old.map(|(&seq, readers)| {
            readers.told = true;
            (seq, readers.since)
        })
        .collect()
    }
}

impl Engine {
    /// Tells the listener of snapshots that have grown old.
    pub(crate) fn tell_old_snapshots(&self) {
        let now = self.clock.monotonic_micros();
        let age = self.options.snapshot_age_warn.as_micros();
        let limit = now.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX));
        for (seq, since) in self.snapshots.take_old(limit) {
            let age = Duration::from_micros(now.saturating_sub(since));
            self.events.push(|| EngineEvent::OldSnapshot { sequence: seq.0, age });
        }
    }
}

/// One registered reader.
#[derive(Debug)]
struct Registered {
    engine: Arc<Engine>,
    seq: SeqNo,
}

impl Registered {
    fn new(engine: &Arc<Engine>) -> Arc<Self> {
        let seq = engine.snapshots.register(&engine.commits, engine.clock.monotonic_micros());
        Arc::new(Registered { engine: Arc::clone(engine), seq })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.engine.snapshots.release(self.seq);
    }
}

/// The database as of one moment, over all keyspaces. Repeatable: reads give the same answer however often they
/// are made, whatever is written, flushed, compacted or dropped meanwhile.
///
/// Cheap to make and to clone. While it lives, the versions that it sees stay on disk.
#[derive(Debug, Clone)]
pub struct Snapshot {
    default: KeyspaceSnapshot,
}

/// One keyspace as of the moment of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct KeyspaceSnapshot {
    registered: Arc<Registered>,
    handle: Arc<Handle>,
    tree: Arc<Tree>,
}

impl Snapshot {
    pub(crate) fn new(handle: &Arc<Handle>, default: &Arc<Tree>) -> Snapshot {
        let registered = Registered::new(&handle.engine);
        let (handle, tree) = (Arc::clone(handle), Arc::clone(default));
        Snapshot { default: KeyspaceSnapshot { registered, handle, tree } }
    }

    /// The same moment of another keyspace. A keyspace made after the snapshot is empty in it.
    #[must_use]
    pub fn keyspace(&self, keyspace: &Keyspace) -> KeyspaceSnapshot {
        KeyspaceSnapshot { tree: Arc::clone(&keyspace.tree), ..self.default.clone() }
    }

    /// The last sequence number that the snapshot sees.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.default.registered.seq.0
    }
}

impl std::ops::Deref for Snapshot {
    type Target = KeyspaceSnapshot;
    /// The default keyspace.
    fn deref(&self) -> &KeyspaceSnapshot {
        &self.default
    }
}

impl KeyspaceSnapshot {
    /// The value of `key`.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let (engine, seq) = (&self.handle.engine, self.registered.seq);
        engine.get(&self.tree, key.as_ref(), Some(seq))
    }

    /// Lends the value of `key` to `read`, without a copy.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let (engine, seq) = (&self.handle.engine, self.registered.seq);
        engine.get_with(&self.tree, key.as_ref(), Some(seq), read)
    }

    /// True if `key` has a value.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// The values of `keys`, in their order.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        let (engine, seq) = (&self.handle.engine, self.registered.seq);
        engine.multi_get(&self.tree, keys, Some(seq))
    }

    /// All pairs, in key order; double-ended.
    #[must_use]
    pub fn iter(&self) -> Range {
        self.range(..)
    }

    /// The pairs whose keys lie in `range`, in key order; double-ended.
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> Range {
        Range::new(&self.handle, &self.tree, Some(self.registered.seq), &range, self.pin())
    }

    /// The pairs whose keys start with `prefix`.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        let (seq, prefix) = (Some(self.registered.seq), prefix.as_ref());
        Range::prefix(&self.handle, &self.tree, seq, prefix, self.pin())
    }

    /// A lending cursor.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(&self.handle, &self.tree, Some(self.registered.seq), self.pin())
    }

    /// Kept by iterators, so that the moment stays readable when the snapshot itself is gone.
    fn pin(&self) -> Option<Pin> {
        Some(Pin { _registered: Arc::clone(&self.registered) })
    }
}

/// Keeps the moment of a snapshot readable.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    _registered: Arc<Registered>,
}
