//! The handle of one keyspace: the verbs of the store.

use crate::commit::{CommitState, Payload};
use crate::db::Handle;
use crate::iter::{Cursor, KeyRange, Range, check_range};
use crate::options::{KeyspaceOptions, WriteOptions};
use crate::tree::Tree;
use base::batch::BatchOp;
use base::checksum::key_hash;
use base::limits::{self, WriteLimits};
use base::sync::atomic::Ordering;
use base::{Result, SeqNo, Slice, ValueKind};
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

/// One ordered key space of a database, with a tree of its own and the log shared with the others.
///
/// Cheap to clone; the database stays open as long as a handle lives.
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub(crate) tree: Arc<Tree>,
    pub(crate) handle: Arc<Handle>,
}

/// The current value, when it was not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CasMismatch {
    /// What the key holds; `None` if it is absent.
    pub current: Option<Slice>,
}

impl std::fmt::Display for CasMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key does not hold the expected value")
    }
}

impl std::error::Error for CasMismatch {}

/// The first key of a range.
fn range_start(lower: Bound<&[u8]>) -> Vec<u8> {
    match lower {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => key.to_vec(),
        Bound::Excluded(key) => successor(key),
    }
}

/// The first key behind a range.
fn range_end(upper: Bound<&[u8]>) -> Vec<u8> {
    match upper {
        Bound::Unbounded => limits::UNBOUNDED.to_vec(),
        Bound::Included(key) => successor(key),
        Bound::Excluded(key) => key.to_vec(),
    }
}

/// The start and the end of a range that is deleted, checked before they are copied; `None` if it is empty.
pub(crate) fn checked_range(
    range: &impl KeyRange,
    limits: &WriteLimits,
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (lower, upper) = range.bounds();
    for bound in [lower, upper] {
        if let Bound::Included(key) | Bound::Excluded(key) = bound {
            limits.check_bound(key)?;
        }
    }
    check_range(lower, upper)?;
    let (start, end) = (range_start(lower), range_end(upper));
    limits::check_bound(&start).and_then(|()| limits::check_bound(&end))?;
    Ok((start < end).then_some((start, end)))
}

/// The key right behind `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Keyspace {
    /// The name given at creation; `"default"` for the keyspace that every database has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tree.name
    }

    /// The options in force, as stored when the keyspace was created, with nothing left `None`.
    #[must_use]
    pub fn options(&self) -> KeyspaceOptions {
        self.tree.options.public()
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As for [`Db::put`](crate::Db::put).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(ValueKind::Put, key.as_ref(), value.as_ref(), WriteOptions::default())
    }

    /// Sets `key` to `value` with `options`.
    ///
    /// # Errors
    /// As for [`Db::put`](crate::Db::put).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.write_one(ValueKind::Put, key.as_ref(), value.as_ref(), options.into())
    }

    /// Deletes `key`; deleting an absent key is fine.
    ///
    /// # Errors
    /// As for [`Db::put`](crate::Db::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(ValueKind::Delete, key.as_ref(), &[], WriteOptions::default())
    }

    /// Deletes `key` with `options`.
    ///
    /// # Errors
    /// As for [`Db::put`](crate::Db::put).
    pub fn delete_with(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.write_one(ValueKind::Delete, key.as_ref(), &[], options.into())
    }

    /// Deletes all keys in `range` by one range tombstone, whatever their number. An empty range deletes nothing.
    ///
    /// # Errors
    /// As for [`Db::put`](crate::Db::put); an inverted range is an invalid argument.
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        let engine = &self.handle.engine;
        match checked_range(&range, &engine.options.write_limits())? {
            Some((start, end)) => {
                self.log_one(ValueKind::RangeDelete, &start, &end, WriteOptions::default())
            }
            None => engine.write_nothing(engine.options.durability),
        }
    }

    #[inline]
    fn write_one(
        &self,
        kind: ValueKind,
        key: &[u8],
        value: &[u8],
        options: WriteOptions,
    ) -> Result<()> {
        let limits = self.handle.engine.options.write_limits();
        limits.check_key(key).and_then(|()| limits.check_value(value))?;
        self.log_one(kind, key, value, options)
    }

    /// Writes one operation that was checked.
    fn log_one(
        &self,
        kind: ValueKind,
        key: &[u8],
        value: &[u8],
        options: WriteOptions,
    ) -> Result<()> {
        let engine = &self.handle.engine;
        let durability = options.durability.unwrap_or(engine.options.durability);
        let op = BatchOp { keyspace: self.tree.id, kind, key, value };
        let trees = std::slice::from_ref(&self.tree);
        engine.write(Payload::One(op), trees, durability, None)?;
        Ok(())
    }

    /// Sets `key` to `new` (`None` deletes it) if it holds `expected` (`None`: is absent), in one step.
    ///
    /// # Errors
    /// The outer ones as for [`Db::put`](crate::Db::put); the inner one is [`CasMismatch`] with the current value.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasMismatch>> {
        let key = key.as_ref();
        let engine = &self.handle.engine;
        let limits = engine.options.write_limits();
        limits.check_key(key).and_then(|()| limits.check_value(new.unwrap_or_default()))?;
        let (kind, value) = match new {
            Some(value) => (ValueKind::Put, value),
            None => (ValueKind::Delete, &[][..]),
        };
        loop {
            engine.health.check_writable()?;
            let seen = engine.visible();
            let current = engine.get(&self.tree, key, None)?;
            if current.as_deref() != expected {
                return Ok(Err(CasMismatch { current }));
            }
            let op = BatchOp { keyspace: self.tree.id, kind, key, value };
            let unchanged = |commit: &CommitState| self.is_unchanged(key, seen, commit);
            let (trees, durability) = (std::slice::from_ref(&self.tree), engine.options.durability);
            if engine.write(Payload::One(op), trees, durability, Some(&unchanged))? {
                return Ok(Ok(()));
            }
            base::probe!("swap looked again");
            // The newer version may still wait for its sync: make it visible before looking again.
            engine.sync_if_waiting()?;
        }
    }

    /// True if nothing newer than `seen` was written to `key`. Under the commit lock.
    fn is_unchanged(&self, key: &[u8], seen: SeqNo, commit: &CommitState) -> bool {
        if commit.last_seq == seen || base::planted::is(46) {
            return true;
        }
        let (view, hash) = (self.tree.view(), key_hash(key));
        // What was written since may already be in tables; then look again with a newer view.
        self.tree.flushed_seq.load(Ordering::Acquire) <= seen.0
            && view.memtables().all(|mem| {
                let entry = mem.table.newest_seq(hash, key);
                let tombstone = mem.table.covering_tombstone(key, SeqNo::MAX);
                entry.max(tombstone).is_none_or(|newest| newest <= seen)
            })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.handle.engine.get(&self.tree, key.as_ref(), None)
    }

    /// Lends the value of `key` to `read` where it lies: the fastest read.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.handle.engine.get_with(&self.tree, key.as_ref(), None, read)
    }

    /// True if `key` has a value.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// The values of `keys`, in their order, all as of one moment.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.handle.engine.multi_get(&self.tree, keys, None)
    }

    /// All pairs, in key order; double-ended, owned, as of now.
    #[must_use]
    pub fn iter(&self) -> Range {
        self.range(..)
    }

    /// The pairs whose keys lie in `range`, in key order; double-ended, owned, as of now.
    ///
    /// An inverted range yields one error, [`Error::InvalidArgument`](base::Error::InvalidArgument).
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> Range {
        Range::new(&self.handle, &self.tree, None, &range, None)
    }

    /// The pairs whose keys start with `prefix`.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        Range::prefix(&self.handle, &self.tree, None, prefix.as_ref(), None)
    }

    /// A lending cursor over all pairs, as of now; not positioned.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn cursor(&self) -> Result<Cursor> {
        Cursor::new(&self.handle, &self.tree, None, None)
    }

    /// Writes what this keyspace holds in memory into tables, and waits for it.
    ///
    /// # Errors
    /// As for [`Db::flush`](crate::Db::flush).
    pub fn flush(&self) -> Result<()> {
        self.handle.engine.flush_and_wait(std::slice::from_ref(&self.tree))
    }

    /// Compacts all tables that overlap `range` into the lowest level, on this thread.
    ///
    /// # Errors
    /// As for [`Db::compact_range`](crate::Db::compact_range).
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        let (lower, upper) = range.bounds();
        check_range(lower, upper)?;
        self.handle.engine.compact_range(&self.tree, lower, upper)
    }

    /// Keys of which something may be in damaged blocks, as far as [damage](crate::Db::damage) is known; ranges may overlap. Reads the tables
    /// that are damaged, and nothing if none is.
    ///
    /// # Errors
    /// [`Error::Io`](base::Error::Io), [`Error::Closed`](base::Error::Closed).
    pub fn damaged_ranges(&self) -> Result<Vec<RangeInclusive<Slice>>> {
        self.handle.engine.damaged_ranges(&self.tree)
    }

    /// Gives up what is in damaged blocks: rewrites their tables without them, on this thread, so that all keys can be read and compacted
    /// again. Returns the number of tables. For who can bring from elsewhere what was lost: until then keys in `given_up`, which are those
    /// of [`damaged_ranges`](Self::damaged_ranges), may show older values, or deleted ones.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](base::Error::InvalidArgument) if more is damaged than was given up; then that is left as it is. The failure of the
    /// rewrite; nothing else is lost.
    pub fn cut_damage(&self, given_up: &[RangeInclusive<Slice>]) -> Result<usize> {
        self.handle.engine.cut_damage(&self.tree, given_up)
    }

    /// Writes ascending pairs straight into table files; all of them appear at once, or none.
    ///
    /// # Errors
    /// As for [`Db::ingest`](crate::Db::ingest).
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64> {
        self.handle.engine.ingest(&self.tree, pairs)
    }
}
