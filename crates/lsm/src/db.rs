//! The database handle.

use crate::batch::WriteBatch;
use crate::builder::DbBuilder;
use crate::engine::Engine;
use crate::health::Health;
use crate::iter::{Cursor, KeyRange, Range};
use crate::keyspace::{CasMismatch, Keyspace};
use crate::listener::DamagedPlace;
use crate::metrics::Metrics;
use crate::options::{KeyspaceOptions, WriteOptions};
use crate::recover::RecoveryReport;
use crate::snapshot::Snapshot;
use crate::verify::{VerifyOptions, VerifyProgress, VerifyReport};
use base::{Error, Result, Slice};
use std::path::Path;
use std::sync::Arc;

/// Shared by all handles of one open database; the last one to go closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) engine: Arc<Engine>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell; what was acknowledged is in the log. `Db::close` tells.
        drop(self.engine.close());
    }
}

/// An open database. Cheap to clone; all clones are the same database, and any number of threads may use them.
///
/// The verbs without a keyspace act on the default one. The database closes when the last handle, keyspace,
/// snapshot, batch and iterator is gone, or at [`close`](Self::close).
///
/// ```
/// # fn main() -> lsm::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let path = dir.path().join("data");
/// let db = lsm::Db::open(path)?;
/// db.put("fruit:apple", "red")?;
/// db.put("fruit:plum", "blue")?;
/// assert_eq!(db.get("fruit:plum")?.as_deref(), Some(&b"blue"[..]));
/// let fruits = db.prefix("fruit:").collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(fruits.len(), 2);
/// db.close()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Db {
    default: Keyspace,
}

impl Db {
    /// Opens the database in `dir`, or makes one there, with the default [`Options`](crate::Options).
    ///
    /// # Errors
    /// As for [`DbBuilder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Db> {
        Db::builder(dir).open()
    }

    /// Opens with options and components of your own.
    pub fn builder(dir: impl AsRef<Path>) -> DbBuilder {
        DbBuilder::new(dir.as_ref())
    }

    pub(crate) fn from_engine(engine: Arc<Engine>) -> Result<Db> {
        let tree = engine.find_keyspace(crate::keyspaces::DEFAULT_NAME);
        let handle = Arc::new(Handle { engine });
        let tree = tree.ok_or_else(|| Error::Poisoned { detail: "no default keyspace".into() })?;
        Ok(Db { default: Keyspace { tree, handle } })
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.default.handle.engine
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a key or value over the limits of the options; [`Error::NoSpace`] on a full
    /// disk, until there is space; [`Error::SyncFailed`] and [`Error::WritesStopped`] until the database is
    /// reopened; [`Error::ReadOnly`]; [`Error::Closed`]. Unless the error is `SyncFailed`, or the first `WritesStopped`, the
    /// write is not there and never will be; after those two nobody knows before the next open.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// Sets `key` to `value` with `options`, such as a durability of its own.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.default.put_with(key, value, options)
    }

    /// The value of `key`; `None` if it is absent.
    ///
    /// # Errors
    /// [`Error::Corruption`] if a block that may hold the key is damaged, [`Error::Io`] if it cannot be read; other keys
    /// stay readable. [`Error::InvalidArgument`] for a key over 65,535 bytes; [`Error::Closed`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.default.get(key)
    }

    /// Lends the value of `key` to `read` where it lies: the fastest read.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default.get_with(key, read)
    }

    /// True if `key` has a value.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains_key(key)
    }

    /// The values of `keys`, in their order, all as of one moment; one pass over each table.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.default.multi_get(keys)
    }

    /// Deletes `key`; deleting an absent key is fine.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// Deletes `key` with `options`.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete_with(
        &self,
        key: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.default.delete_with(key, options)
    }

    /// Deletes all keys in `range` by one range tombstone, whatever their number.
    ///
    /// # Errors
    /// As for [`put`](Self::put); an inverted range is an invalid argument, an empty one deletes nothing.
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        self.default.delete_range(range)
    }

    /// Sets `key` to `new` (`None` deletes it) if it holds `expected` (`None`: is absent), in one step.
    ///
    /// # Errors
    /// The outer ones as for [`put`](Self::put); the inner one is [`CasMismatch`] with the current value.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasMismatch>> {
        self.default.compare_and_swap(key, expected, new)
    }

    /// A batch: operations over any keyspaces that happen together or not at all.
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::new(&self.default.handle, &self.default.tree)
    }

    /// All pairs of the default keyspace, in key order; double-ended, owned, as of now.
    #[must_use]
    pub fn iter(&self) -> Range {
        self.default.iter()
    }

    /// The pairs whose keys lie in `range`, in key order; double-ended, owned, as of now.
    ///
    /// An inverted range yields one [`Error::InvalidArgument`].
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> Range {
        self.default.range(range)
    }

    /// The pairs whose keys start with `prefix`.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        self.default.prefix(prefix)
    }

    /// A lending cursor over the default keyspace, as of now; not positioned.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn cursor(&self) -> Result<Cursor> {
        self.default.cursor()
    }

    /// The database as of now, over all keyspaces; see [`Snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.default.handle, &self.default.tree)
    }

    /// The keyspace `name`: opened if it exists, with the options it was made with, else created with `options`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that is not 1 to 64 characters of `A-Z a-z 0-9 _ -` and for options
    /// that break a rule (all of them in one error); and those of [`put`](Self::put).
    pub fn keyspace(
        &self,
        name: impl AsRef<str>,
        options: impl std::borrow::Borrow<KeyspaceOptions>,
    ) -> Result<Keyspace> {
        let tree = self.engine().open_or_create(name.as_ref(), options.borrow())?;
        Ok(Keyspace { tree, handle: Arc::clone(&self.default.handle) })
    }

    /// The existing keyspace `name`.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`] if there is none.
    pub fn open_keyspace(&self, name: impl AsRef<str>) -> Result<Keyspace> {
        let name = name.as_ref();
        self.engine().health.check_open()?;
        let tree = self.engine().find_keyspace(name);
        let tree = tree.ok_or_else(|| Error::KeyspaceNotFound { name: name.into() })?;
        Ok(Keyspace { tree, handle: Arc::clone(&self.default.handle) })
    }

    /// The keyspace that the verbs without one act on.
    #[must_use]
    pub fn default_keyspace(&self) -> &Keyspace {
        &self.default
    }

    /// Names of all keyspaces, `"default"` among them, sorted.
    #[must_use]
    pub fn list_keyspaces(&self) -> Vec<String> {
        let mut names: Vec<_> = self.engine().all_trees().iter().map(|t| t.name.clone()).collect();
        names.sort();
        names
    }

    /// Drops the keyspace `name` and all in it. Its handles fail from now on; snapshots and iterators taken before keep
    /// what they see, and the disk space comes back when they and the handles are gone.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`]; [`Error::InvalidArgument`] for the default keyspace; those of [`put`](Self::put).
    pub fn drop_keyspace(&self, name: impl AsRef<str>) -> Result<()> {
        let keyspace = self.open_keyspace(name)?;
        self.engine().drop_keyspace(&keyspace.tree)
    }

    /// Makes every write acknowledged before the call durable, in all keyspaces.
    ///
    /// # Errors
    /// [`Error::SyncFailed`]: then writes are refused until the database is reopened.
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// Writes what all keyspaces hold in memory into tables, and waits for it.
    ///
    /// # Errors
    /// The failure of the flush; it is tried again in the background, and nothing acknowledged is lost.
    pub fn flush(&self) -> Result<()> {
        self.engine().flush_all()
    }

    /// Compacts all tables of the default keyspace that overlap `range` into the lowest level, on this thread.
    ///
    /// # Errors
    /// The failure of the flush or compaction; nothing is lost.
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        self.default.compact_range(range)
    }

    /// Waits until no flush or compaction is pending or running.
    ///
    /// # Errors
    /// The failure of a flush or compaction meanwhile.
    pub fn wait_idle(&self) -> Result<()> {
        self.engine().wait_idle()
    }

    /// Writes ascending pairs straight into table files of the default keyspace; all of them appear at once, or none.
    /// Returns their number. They count as written at the end of the call: over what was written before.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a key is not larger than the one before it, or too large; and those of
    /// [`put`](Self::put). Then nothing has changed.
    pub fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64> {
        self.default.ingest(pairs)
    }

    /// Makes a copy of the database as of one moment, over all keyspaces, in the new or empty directory `dir`. Tables
    /// are shared by hard links where the file system can; writes go on meanwhile.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `dir` exists and is not empty; those of a flush and of the file system.
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.engine().checkpoint(dir.as_ref())
    }

    /// Reads and checks every byte: manifest, log, all tables.
    ///
    /// # Errors
    /// The first [`Error::Corruption`] found, or [`Error::Io`].
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(&VerifyOptions::new(), |_| {})
    }

    /// As [`verify`](Self::verify), at a rate, and tells `progress` of every block. For the same in the background see
    /// [`Options::scrub_interval`](field@crate::Options::scrub_interval).
    ///
    /// # Errors
    /// As for [`verify`](Self::verify); [`Error::Closed`] as soon as the database is closed meanwhile.
    pub fn verify_with(
        &self,
        options: &VerifyOptions,
        mut progress: impl FnMut(&VerifyProgress),
    ) -> Result<VerifyReport> {
        self.engine().verify(options, &mut progress)
    }

    /// The places at which stored bytes were found wrong since the database was opened: by reads, jobs,
    /// [`verify`](Self::verify) and scrub. At most 1,024. Other places stay readable; see [`DbBuilder::salvage`].
    #[must_use]
    pub fn damage(&self) -> Vec<DamagedPlace> {
        self.engine().events.places()
    }

    /// Figures of the engine.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.engine().metrics()
    }

    /// What the open of this database found in its log: how much was replayed, whether it was torn, what was skipped.
    #[must_use]
    pub fn recovery(&self) -> RecoveryReport {
        self.engine().recovery.get().cloned().unwrap_or_default()
    }

    /// What the database can still do.
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine().health.current()
    }

    /// Flushes what is in memory, waits for background work, and closes the database for all its handles. Later calls
    /// fail with [`Error::Closed`]; iterators go on, and fail with it only where they come to a table that somebody has
    /// removed who opened the database after that. A second close does nothing.
    ///
    /// # Errors
    /// What kept memtables from being flushed; the database is closed all the same and nothing acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        self.engine().close()
    }
}
