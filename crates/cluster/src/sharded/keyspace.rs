//! One keyspace in all databases.

use super::{Route, ShardedRange};
use lsm::{CasMismatch, Db, KeyRange, Keyspace, Result, Slice, WriteOptions};
use std::sync::Arc;

/// A keyspace over all databases of a store; the verbs of [`Keyspace`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardedKeyspace {
    route: Arc<Route>,
    /// By number of the database.
    keyspaces: Arc<[Keyspace]>,
}

impl ShardedKeyspace {
    pub(super) fn new(route: Arc<Route>, keyspaces: Vec<Keyspace>) -> Self {
        ShardedKeyspace { route, keyspaces: keyspaces.into() }
    }

    pub(super) fn route(&self) -> Arc<Route> {
        Arc::clone(&self.route)
    }

    /// Number of the database that holds `key`.
    #[must_use]
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> usize {
        self.route.shard(key.as_ref())
    }

    #[inline]
    fn of(&self, key: &[u8]) -> &Keyspace {
        &self.keyspaces[self.route.shard(key)]
    }

    /// As [`Keyspace::put`].
    ///
    /// # Errors
    /// Those of the database that holds the key; so for all verbs on one key.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.of(key.as_ref()).put(key.as_ref(), value)
    }

    /// As [`Keyspace::put_with`].
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: impl Into<WriteOptions>,
    ) -> Result<()> {
        self.of(key.as_ref()).put_with(key.as_ref(), value, options)
    }

    /// Sets all pairs, those of one database in one batch.
    pub(super) fn write_all<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        dbs: &[Db],
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let mut batches: Vec<_> = dbs.iter().map(Db::batch).collect();
        for (key, value) in pairs {
            let shard = self.route.shard(key.as_ref());
            batches[shard].put_in(&self.keyspaces[shard], key, value);
        }
        batches.into_iter().filter(|batch| !batch.is_empty()).try_for_each(lsm::WriteBatch::commit)
    }

    /// As [`Keyspace::get`].
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.of(key.as_ref()).get(key.as_ref())
    }

    /// As [`Keyspace::get_with`].
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    #[inline]
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.of(key.as_ref()).get_with(key.as_ref(), read)
    }

    /// As [`Keyspace::contains_key`].
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.of(key.as_ref()).contains_key(key.as_ref())
    }

    /// The values of `keys`, in their order; one pass over each database.
    ///
    /// # Errors
    /// Those of a database that holds some of them.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Slice>>> {
        let keys: Vec<K> = keys.into_iter().collect();
        let mut wanted = vec![Vec::new(); self.keyspaces.len()];
        for (at, key) in keys.iter().enumerate() {
            wanted[self.route.shard(key.as_ref())].push(at);
        }
        let mut values = vec![None; keys.len()];
        for (keyspace, wanted) in self.keyspaces.iter().zip(wanted) {
            let found = keyspace.multi_get(wanted.iter().map(|at| keys[*at].as_ref()))?;
            wanted.into_iter().zip(found).for_each(|(at, value)| values[at] = value);
        }
        Ok(values)
    }

    /// As [`Keyspace::delete`].
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.of(key.as_ref()).delete(key.as_ref())
    }

    /// Deletes all keys in `range`, database by database.
    ///
    /// # Errors
    /// The first failure of a database; in others the range may be deleted.
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        self.keyspaces.iter().try_for_each(|keyspace| keyspace.delete_range(range.bounds()))
    }

    /// As [`Keyspace::compare_and_swap`].
    ///
    /// # Errors
    /// As there.
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasMismatch>> {
        self.of(key.as_ref()).compare_and_swap(key.as_ref(), expected, new)
    }

    /// All pairs, in key order; double-ended.
    #[must_use]
    pub fn iter(&self) -> ShardedRange {
        self.range(..)
    }

    /// The pairs whose keys lie in `range`, in key order; double-ended.
    #[must_use]
    pub fn range(&self, range: impl KeyRange) -> ShardedRange {
        ShardedRange::new(self.keyspaces.iter().map(|keyspace| keyspace.range(range.bounds())))
    }

    /// The pairs whose keys start with `prefix`, in key order.
    #[must_use]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> ShardedRange {
        ShardedRange::new(self.keyspaces.iter().map(|keyspace| keyspace.prefix(prefix.as_ref())))
    }
}
