//! One store over several databases in this process, one for each disk: the simplest use of the ring.
//!
//! ```
//! # fn main() -> lsm::Result<()> {
//! # let (disk1, disk2) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
//! use cluster::sharded::Sharded;
//!
//! let store = Sharded::open([disk1.path().join("data"), disk2.path().join("data")])?;
//! store.put("fruit:apple", "red")?;
//! store.put("fruit:plum", "blue")?;
//! let fruits = store.prefix("fruit:").collect::<Result<Vec<_>, _>>()?;    // in key order, from both
//! assert_eq!(fruits.len(), 2);
//! store.close()
//! # }
//! ```
//!
//! Each key lives in one database, which its hash says, so there is one copy of it: if a disk is lost, its share of the keys is
//! lost. What concerns one key is as atomic and durable as in that database. What concerns many is not one step: a
//! [`multi_put`](Sharded::multi_put) is atomic in each database, a scan sees each database as of a moment of its own.
//!
//! Which databases belong together is stored in each of them, and checked. Their number is fixed when the store is made.

mod builder;
mod identity;
mod keyspace;
mod range;

pub use builder::ShardedBuilder;
pub use keyspace::ShardedKeyspace;
pub use range::ShardedRange;

use lsm::{CasMismatch, Db, Error, KeyRange, KeyspaceOptions, Result, Slice, WriteOptions};
use ring::{Ring, Topology};
use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

/// Which database holds which key.
#[derive(Debug)]
struct Route {
    ring: Ring,
    /// By partition.
    shard_of: Box<[u16]>,
    /// All keys are in one database: no hash is needed to know where.
    is_single: bool,
}

impl Route {
    fn new(topology: &Topology) -> Route {
        let ring = topology.ring();
        let shard = |partition| topology.primary(partition).map_or(0, |node| node.0 as u16);
        let is_single = topology.members().len() == 1;
        Route { ring, shard_of: ring.iter().map(shard).collect(), is_single }
    }

    #[inline]
    fn shard(&self, key: &[u8]) -> usize {
        if self.is_single {
            return 0;
        }
        usize::from(self.shard_of[self.ring.partition_of(key).index()])
    }
}

/// Several databases as one. Cheap to clone; all clones are the same store.
///
/// The verbs are those of [`Db`], on the default keyspace.
#[derive(Debug, Clone)]
pub struct Sharded {
    dbs: Arc<[Db]>,
    default: ShardedKeyspace,
}

impl Sharded {
    /// Opens the store that lies in `dirs`, or makes one there, with default options and equal shares.
    ///
    /// # Errors
    /// As for [`ShardedBuilder::open`].
    pub fn open<D: AsRef<Path>>(dirs: impl IntoIterator<Item = D>) -> Result<Sharded> {
        dirs.into_iter().fold(Sharded::builder(), |builder, dir| builder.shard(dir)).open()
    }

    /// Opens with options and weights of your own.
    pub fn builder() -> ShardedBuilder {
        ShardedBuilder::new()
    }

    fn new(dbs: Vec<Db>, topology: &Topology) -> Sharded {
        let keyspaces = dbs.iter().map(|db| db.default_keyspace().clone()).collect();
        let default = ShardedKeyspace::new(Arc::new(Route::new(topology)), keyspaces);
        Sharded { dbs: dbs.into(), default }
    }

    /// The databases, by number.
    #[must_use]
    pub fn shards(&self) -> &[Db] {
        &self.dbs
    }

    /// Number of the database that holds `key`.
    #[must_use]
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> usize {
        self.default.shard_of(key)
    }

    /// The keyspace that the verbs without one act on.
    #[must_use]
    pub fn default_keyspace(&self) -> &ShardedKeyspace {
        &self.default
    }

    /// The keyspace `name` in all databases: opened, or created with `options`.
    ///
    /// # Errors
    /// As for [`Db::keyspace`]; [`Error::InvalidArgument`] for a name that begins with `_`. If one database fails, others may
    /// have created theirs; the next call goes on from there.
    pub fn keyspace(
        &self,
        name: impl AsRef<str>,
        options: impl Borrow<KeyspaceOptions>,
    ) -> Result<ShardedKeyspace> {
        let (name, options) = (name.as_ref(), options.borrow());
        if name.starts_with('_') {
            return Err(Error::invalid(
                "keyspace name",
                format!("{name:?}; names with _ in front are not for users"),
            ));
        }
        let keyspaces =
            self.dbs.iter().map(|db| db.keyspace(name, options)).collect::<Result<_>>()?;
        Ok(ShardedKeyspace::new(self.default.route(), keyspaces))
    }

    /// As [`Db::put`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// As [`Db::put_with`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.default.put_with(key, value, options)
    }

    /// Sets all pairs; those of one database in one atomic batch. Of several pairs with one key the last wins.
    ///
    /// # Errors
    /// The first failure of a database; the pairs of others may be there.
    pub fn multi_put<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        self.default.write_all(&self.dbs, pairs)
    }

    /// As [`Db::get`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.default.get(key)
    }

    /// As [`Db::get_with`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    #[inline]
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default.get_with(key, read)
    }

    /// As [`Db::contains_key`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains_key(key)
    }

    /// The values of `keys`, in their order; one pass over each database, each as of a moment of its own.
    ///
    /// # Errors
    /// Those of a database that holds some of them.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        self.default.multi_get(keys)
    }

    /// As [`Db::delete`].
    ///
    /// # Errors
    /// Those of the database that holds the key.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// Deletes all keys in `range`, database by database.
    ///
    /// # Errors
    /// The first failure of a database; in others the range may be deleted.
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        self.default.delete_range(range)
    }

    /// As [`Db::compare_and_swap`].
    ///
    /// # Errors
    /// As there.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasMismatch>> {
        self.default.compare_and_swap(key, expected, new)
    }

    /// All pairs, in key order; double-ended.
    #[must_use]
    pub fn iter(&self) -> ShardedRange {
        self.default.range(..)
    }

    /// The pairs whose keys lie in `range`, in key order; double-ended.
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> ShardedRange {
        self.default.range(range)
    }

    /// The pairs whose keys start with `prefix`, in key order.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> ShardedRange {
        self.default.prefix(prefix)
    }

    /// As [`Db::sync`], for each database.
    ///
    /// # Errors
    /// The first failure; the others are synced all the same.
    pub fn sync(&self) -> Result<()> {
        self.each(Db::sync)
    }

    /// As [`Db::flush`], for each database.
    ///
    /// # Errors
    /// The first failure; the others are flushed all the same.
    pub fn flush(&self) -> Result<()> {
        self.each(Db::flush)
    }

    /// As [`Db::wait_idle`], for each database.
    ///
    /// # Errors
    /// The first failure; the others are waited for all the same.
    pub fn wait_idle(&self) -> Result<()> {
        self.each(Db::wait_idle)
    }

    /// As [`Db::close`], for each database.
    ///
    /// # Errors
    /// The first failure; the others are closed all the same.
    pub fn close(&self) -> Result<()> {
        self.each(Db::close)
    }

    fn each(&self, run: impl Fn(&Db) -> Result<()>) -> Result<()> {
        let results: Vec<Result<()>> = self.dbs.iter().map(run).collect();
        results.into_iter().collect()
    }
}
