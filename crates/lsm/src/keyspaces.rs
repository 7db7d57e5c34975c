//! Creating, opening, listing and dropping keyspaces, and their stored options.
//!
//! ```text
//! stored options: fields, each  tag varint | length varint | bytes
//!   1 memtable size    varint, bytes
//!   2 block size       varint, bytes
//!   3 compression      one byte a level, as in `sstable::Compression::tag`
//!   4 filter bits      varint, bits per key
//!   5 compaction       as `compaction::Policy::encode` writes it
//! Unknown tags are skipped; a missing field has the default of `Options`.
//! ```

use crate::commit::Payload;
use crate::engine::Engine;
use crate::memory::spare_bytes_max;
use crate::options::{Compression, Durability, KeyspaceOptions, Options, TreeOptions};
use crate::tree::{LEVELS, Tree};
use base::batch::BatchOp;
use base::coding::{Reader, put_length_prefixed, put_varint};
use base::sync::atomic::Ordering;
use base::{Error, KeyspaceId, Result, SeqNo, ValueKind, limits};
use manifest::{NewKeyspace, Version, VersionEdit};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Name of the keyspace that every database has.
pub(crate) const DEFAULT_NAME: &str = "default";

mod tag {
    pub(super) const MEMTABLE_SIZE: u64 = 1;
    pub(super) const BLOCK_SIZE: u64 = 2;
    pub(super) const COMPRESSION: u64 = 3;
    pub(super) const FILTER_BITS: u64 = 4;
    pub(super) const COMPACTION: u64 = 5;
}

impl TreeOptions {
    /// The bytes kept in the manifest.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut field = |tag, bytes: &[u8]| {
            put_varint(&mut out, tag);
            put_length_prefixed(&mut out, bytes);
        };
        field(tag::MEMTABLE_SIZE, &varint_bytes(self.memtable_size_bytes as u64));
        field(tag::BLOCK_SIZE, &varint_bytes(self.block_size_bytes as u64));
        let compression: Vec<u8> =
            (0..LEVELS).map(|level| self.compression.at(level).tag()).collect();
        field(tag::COMPRESSION, &compression);
        field(tag::FILTER_BITS, &varint_bytes(u64::from(self.filter_bits_per_key)));
        field(tag::COMPACTION, &self.compaction.encode());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if the bytes are damaged or the result is out of bounds.
    pub(crate) fn decode(bytes: &[u8]) -> Option<TreeOptions> {
        let mut options = KeyspaceOptions::default();
        let mut fields = Reader::new(bytes);
        while !fields.is_empty() {
            let (tag, value) = (fields.varint()?, fields.length_prefixed()?);
            let number = || Reader::new(value).varint();
            match tag {
                tag::MEMTABLE_SIZE => {
                    options.memtable_size_bytes = Some(usize::try_from(number()?).ok()?);
                }
                tag::BLOCK_SIZE => {
                    options.block_size_bytes = Some(usize::try_from(number()?).ok()?)
                }
                tag::COMPRESSION => {
                    let levels: Option<Vec<_>> =
                        value.iter().map(|&tag| Compression::from_tag(tag)).collect();
                    options.compression = Some(levels?[..].into());
                }
                tag::FILTER_BITS => {
                    options.filter_bits_per_key = Some(u32::try_from(number()?).ok()?);
                }
                tag::COMPACTION => {
                    options.compaction = Some(compaction::Policy::decode(value).ok()?)
                }
                _ => {}
            }
        }
        options.resolve(&Options::default()).ok()
    }
}

fn varint_bytes(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

/// What the log says of a keyspace: an operation on no key, a range tombstone without an end whose start is this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Note {
    /// The manifest has it from here on.
    Created = 1,
    /// The manifest has dropped it.
    Dropped = 2,
}

impl Note {
    /// The note that `op` is; `None` for every operation that a user can make.
    pub(crate) fn of(op: &BatchOp<'_>) -> Option<Note> {
        let is_note = op.kind == ValueKind::RangeDelete && op.value.is_empty();
        match op.key {
            [1] if is_note => Some(Note::Created),
            [2] if is_note => Some(Note::Dropped),
            _ => None,
        }
    }
}

/// The trees of a recovered state.
///
/// The default keyspace follows the options the database is opened with; the others have their own.
pub(crate) fn trees_of(
    state: &manifest::State,
    options: &Options,
    manifest: &Path,
) -> Result<BTreeMap<KeyspaceId, Arc<Tree>>> {
    let mut trees = BTreeMap::new();
    for (&id, keyspace) in &state.keyspaces {
        let tree_options = if id == KeyspaceId::DEFAULT {
            KeyspaceOptions::default().resolve(options)?
        } else {
            TreeOptions::decode(&keyspace.options).ok_or_else(|| {
                let detail = format!("bad options of keyspace {:?}", keyspace.name);
                Error::corruption(manifest, 0, detail)
            })?
        };
        let version = Arc::clone(&keyspace.version);
        let (name, flushed) = (keyspace.name.clone(), keyspace.flushed_seq);
        let spares = spare_bytes_max(options, tree_options.memtable_size_bytes);
        trees.insert(id, Tree::new(id, name, tree_options, version, flushed, spares));
    }
    Ok(trees)
}

impl Engine {
    /// The tree of `name`, if there is one.
    pub(crate) fn find_keyspace(&self, name: &str) -> Option<Arc<Tree>> {
        self.trees.read().values().find(|t| t.name == name).cloned()
    }

    /// The tree of `name`, made with `options` if there is none.
    pub(crate) fn open_or_create(
        self: &Arc<Self>,
        name: &str,
        options: &KeyspaceOptions,
    ) -> Result<Arc<Tree>> {
        self.health.check_open()?;
        limits::check_keyspace_name(name)?;
        if let Some(tree) = self.find_keyspace(name) {
            return Ok(tree);
        }
        let tree_options = options.resolve(&self.options)?;
        self.health.check_writable()?;
        let _call = self.begin_call()?;
        self.begin_writing()?;
        // A later power loss takes a suffix of what happened: not older writes while the keyspace stays.
        self.sync()?;
        let _one_at_a_time = self.exclusive.lock();
        if let Some(tree) = self.find_keyspace(name) {
            return Ok(tree);
        }
        let id = self.manifest.lock().state.next_keyspace;
        let new = NewKeyspace { id, name: name.into(), options: tree_options.encode() };
        let edit = VersionEdit { keyspaces_created: vec![new], ..VersionEdit::default() };
        let empty = Arc::new(Version::empty());
        let spares = spare_bytes_max(&self.options, tree_options.memtable_size_bytes);
        let tree = Tree::new(id, name.into(), tree_options, empty, SeqNo(0), spares);
        self.apply_edit(&edit, |_| {
            self.trees.write().insert(id, Arc::clone(&tree));
        })?;
        self.note(id, Note::Created);
        Ok(tree)
    }

    /// Puts a note into the log behind an edit of the manifest, so that an open notices if the manifest has lost it.
    fn note(self: &Arc<Self>, keyspace: KeyspaceId, note: Note) {
        let op = BatchOp { keyspace, kind: ValueKind::RangeDelete, key: &[note as u8], value: &[] };
        // Without the note a loss that is unlikely anyway is not noticed; the edit itself is durable.
        drop(self.write(Payload::One(op), &[], Durability::Buffered, None));
    }

    /// Drops `tree` and all that is in it. Snapshots and iterators keep what they see.
    pub(crate) fn drop_keyspace(self: &Arc<Self>, tree: &Arc<Tree>) -> Result<()> {
        self.health.check_writable()?;
        let _call = self.begin_call()?;
        if tree.id == KeyspaceId::DEFAULT {
            return Err(Error::invalid("keyspace", "the default keyspace cannot be dropped"));
        }
        self.begin_writing()?;
        let _one_at_a_time = self.exclusive.lock();
        if tree.is_dropped() {
            return Err(Error::KeyspaceNotFound { name: tree.name.clone() });
        }
        {
            // No write is between its check and its log record now, and none comes after.
            let _commit = self.commits.lock();
            tree.dropped.store(true, Ordering::Release);
        }
        let edit = VersionEdit { keyspaces_dropped: vec![tree.id], ..VersionEdit::default() };
        if base::planted::is(16) {
            self.trees.write().remove(&tree.id);
            return Ok(());
        }
        let dropped = self.sync().and_then(|()| {
            self.apply_edit(&edit, |_| {
                self.trees.write().remove(&tree.id);
                let version = Arc::clone(&tree.view().version);
                let files: Vec<_> = version.tables().map(|(_, _, t)| t.file).collect();
                self.graveyard.lock().bury(&version, &files);
            })
        });
        match dropped {
            // Its files go once no snapshot, iterator or handle holds the tree any more.
            Ok(()) => {
                self.note(tree.id, Note::Dropped);
                drop(self.trim_log());
            }
            Err(_) => tree.dropped.store(false, Ordering::Release),
        }
        self.event.notify();
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::CompactionPolicy;

    #[test]
    fn stored_options_come_back() {
        let options = KeyspaceOptions::new()
            .memtable_size_bytes(5 << 20)
            .block_size_bytes(512)
            .compression(&[Compression::None, Compression::Lz4][..])
            .filter_bits_per_key(0)
            .compaction(CompactionPolicy::default());
        let resolved = options.resolve(&Options::default()).expect("valid");
        let bytes = resolved.encode();
        assert_eq!(TreeOptions::decode(&bytes), Some(resolved));
        // A cut inside a field is damage; one between fields leaves defaults.
        let whole = (1..bytes.len()).filter(|&cut| TreeOptions::decode(&bytes[..cut]).is_some());
        assert_eq!(whole.count(), 4);
        assert_eq!(TreeOptions::decode(&[tag::COMPRESSION as u8, 1, 9]), None);
        assert!(TreeOptions::decode(&[77, 2, 1, 1]).is_some(), "unknown tags are skipped");
    }
}
