//! Write batches: several operations, over any keyspaces, that happen together or not at all.

use crate::commit::Payload;
use crate::db::Handle;
use crate::iter::KeyRange;
use crate::keyspace::{Keyspace, checked_range};
use crate::options::WriteOptions;
use crate::tree::Tree;
use base::batch::{BatchBuilder, BatchOp};
use base::limits::{self, WriteLimits};
use base::{Error, Result, ValueKind};
use std::sync::Arc;

/// Operations that are committed as one: readers and crashes see all of them or none.
///
/// Of several operations on one key the last wins. A fault in an operation, such as an oversize key, is kept and returned
/// by [`commit`](Self::commit); then nothing of the batch happens.
#[derive(Debug)]
#[must_use = "a batch does nothing until it is committed"]
pub struct WriteBatch {
    handle: Arc<Handle>,
    default: Arc<Tree>,
    builder: BatchBuilder,
    /// The keyspaces named so far.
    trees: Vec<Arc<Tree>>,
    fault: Option<Error>,
    /// Bytes of ranges without an end, which take few in the batch and many in memory.
    unbounded_bytes: usize,
}

impl WriteBatch {
    pub(crate) fn new(handle: &Arc<Handle>, default: &Arc<Tree>) -> Self {
        WriteBatch {
            handle: Arc::clone(handle),
            default: Arc::clone(default),
            builder: BatchBuilder::new(),
            trees: Vec::new(),
            fault: None,
            unbounded_bytes: 0,
        }
    }

    /// Sets `key` to `value` in the default keyspace.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let tree = Arc::clone(&self.default);
        self.push_entry(&tree, ValueKind::Put, key.as_ref(), value.as_ref());
    }

    /// Sets `key` to `value` in `keyspace`.
    pub fn put_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push_entry(&keyspace.tree, ValueKind::Put, key.as_ref(), value.as_ref());
    }

    /// Deletes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        let tree = Arc::clone(&self.default);
        self.push_entry(&tree, ValueKind::Delete, key.as_ref(), &[]);
    }

    /// Deletes `key` from `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.push_entry(&keyspace.tree, ValueKind::Delete, key.as_ref(), &[]);
    }

    /// Deletes all keys of the default keyspace that lie in `range`.
    pub fn delete_range(&mut self, range: impl KeyRange) {
        let tree = Arc::clone(&self.default);
        self.push_range(&tree, &range);
    }

    /// Deletes all keys of `keyspace` that lie in `range`.
    pub fn delete_range_in(&mut self, keyspace: &Keyspace, range: impl KeyRange) {
        self.push_range(&keyspace.tree, &range);
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.builder.count()
    }

    /// True without operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Bytes that the batch takes in the log.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.builder.len()
    }

    /// Commits with the durability of the database's options.
    ///
    /// # Errors
    /// The first fault of an operation, and those of [`Db::put`](crate::Db::put).
    pub fn commit(self) -> Result<()> {
        self.commit_with(WriteOptions::default())
    }

    /// Commits with `options`.
    ///
    /// # Errors
    /// The first fault of an operation, and those of [`Db::put`](crate::Db::put).
    pub fn commit_with(mut self, options: impl Into<WriteOptions>) -> Result<()> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let bytes = self.builder.len() + self.unbounded_bytes;
        self.limits().check_batch(bytes, self.builder.count())?;
        let engine = &self.handle.engine;
        let durability = options.into().durability.unwrap_or(engine.options.durability);
        if self.builder.is_empty() {
            return engine.write_nothing(durability);
        }
        engine.write(Payload::Many(&mut self.builder), &self.trees, durability, None)?;
        Ok(())
    }

    fn limits(&self) -> WriteLimits {
        self.handle.engine.options.write_limits()
    }

    fn push_range(&mut self, tree: &Arc<Tree>, range: &impl KeyRange) {
        match checked_range(range, &self.limits()) {
            Ok(Some((start, end))) => self.push(tree, ValueKind::RangeDelete, &start, &end),
            Ok(None) => {}
            Err(fault) => self.refuse(fault),
        }
    }

    fn push_entry(&mut self, tree: &Arc<Tree>, kind: ValueKind, key: &[u8], value: &[u8]) {
        let limits = self.limits();
        match limits.check_key(key).and_then(|()| limits.check_value(value)) {
            Ok(()) => self.push(tree, kind, key, value),
            Err(fault) => self.refuse(fault),
        }
    }

    /// The first fault is the one that the commit returns.
    fn refuse(&mut self, fault: Error) {
        self.fault.get_or_insert(fault);
    }

    /// Adds an operation that was checked by itself.
    fn push(&mut self, tree: &Arc<Tree>, kind: ValueKind, key: &[u8], value: &[u8]) {
        // Stop growing before a batch that can never be committed takes all memory.
        let taken = self.builder.len() + self.unbounded_bytes;
        let bytes = taken.saturating_add(key.len() + value.len());
        if let Err(fault) = self.limits().check_batch(bytes, self.builder.count() + 1) {
            return self.refuse(fault);
        }
        if !self.is_ours(tree) {
            return self.refuse(Error::KeyspaceNotFound { name: tree.name.clone() });
        }
        if !self.trees.iter().any(|t| t.id == tree.id) {
            self.trees.push(Arc::clone(tree));
        }
        if kind == ValueKind::RangeDelete && value == limits::UNBOUNDED {
            self.unbounded_bytes += value.len();
        }
        self.builder.push(BatchOp { keyspace: tree.id, kind, key, value });
    }

    /// True unless the keyspace belongs to another database, or was dropped.
    fn is_ours(&self, tree: &Arc<Tree>) -> bool {
        Arc::ptr_eq(tree, &self.default)
            || self.trees.iter().any(|t| Arc::ptr_eq(t, tree))
            || self.handle.engine.trees.read().get(&tree.id).is_some_and(|t| Arc::ptr_eq(t, tree))
    }
}
