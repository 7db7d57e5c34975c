//! Point reads: memtables newest first, then tables newest first, and the first version found decides.
//!
//! For any user key, what lies in a newer source is newer than all that lies in older ones, range tombstones included.
//! So the first source that says anything about the key ends the search.

use crate::engine::Engine;
use crate::tree::{Tree, View};
use base::checksum::key_hash;
use base::{Error, Result, SeqNo, Slice, ValueKind};

/// What one source says about a key: an entry, and the newest range tombstone over it.
#[inline]
fn is_there(entry: Option<(SeqNo, ValueKind)>, tombstone: Option<SeqNo>) -> bool {
    match (entry, tombstone) {
        (Some((seq, ValueKind::Put)), Some(deleted)) => {
            base::probe!("value and range tombstone in one source");
            seq > deleted
        }
        (Some((_, kind)), None) => kind == ValueKind::Put,
        _ => false,
    }
}

impl Engine {
    /// The value of `key` at `snapshot`, or the newest visible one.
    pub(crate) fn get(
        &self,
        tree: &Tree,
        key: &[u8],
        snapshot: Option<SeqNo>,
    ) -> Result<Option<Slice>> {
        self.search(tree, key, snapshot, |found| match found {
            Found::Lent(value) => Slice::copy_from(value),
            Found::Owned(value) => value,
        })
    }

    /// Lends the value of `key` to `read`.
    pub(crate) fn get_with<R>(
        &self,
        tree: &Tree,
        key: &[u8],
        snapshot: Option<SeqNo>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.search(tree, key, snapshot, |found| match found {
            Found::Lent(value) => read(value),
            Found::Owned(value) => read(&value),
        })
    }

    /// A dropped keyspace is readable through snapshots taken before.
    #[inline]
    pub(crate) fn check_readable(&self, tree: &Tree, snapshot: Option<SeqNo>) -> Result<()> {
        self.health.check_open()?;
        if snapshot.is_none() && tree.is_dropped() {
            return Err(Error::KeyspaceNotFound { name: tree.name.clone() });
        }
        Ok(())
    }

    fn search<R>(
        &self,
        tree: &Tree,
        key: &[u8],
        snapshot: Option<SeqNo>,
        take: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        self.check_readable(tree, snapshot)?;
        base::limits::check_key(key)?;
        let hash = key_hash(key);
        // View before sequence number: see `iter::SourceOf::new`.
        let view = tree.view();
        let seq = snapshot.unwrap_or_else(|| self.visible());
        for mem in view.memtables() {
            let entry = mem.table.get(hash, key, seq);
            let tombstone = mem.table.covering_tombstone(key, seq);
            if entry.is_none() && tombstone.is_none() {
                continue;
            }
            let there = is_there(entry.as_ref().map(|e| (e.seq, e.kind)), tombstone);
            return Ok(entry.filter(|_| there).map(|e| take(Found::Lent(e.value))));
        }
        let found = self.search_tables(&view, key, hash, seq, take);
        found.inspect_err(|e| self.note_damage(e, Some(tree.id)))
    }

    fn search_tables<R>(
        &self,
        view: &View,
        key: &[u8],
        hash: u64,
        seq: SeqNo,
        take: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let mut take = Some(take);
        for run in &view.runs[..] {
            let Some(at) = run.find(key) else { continue };
            let Some(table) = run.table(at, &self.tables)? else { continue };
            let tombstones = table.range_tombstones();
            if tombstones.is_empty() {
                // Nearly always: what the table says is the answer, and the value is lent where it lies.
                let found = table.get_with(hash, key, seq, |_, kind, value| {
                    let take = take.take().filter(|_| kind == ValueKind::Put);
                    take.map(|take| take(Found::Lent(value)))
                })?;
                match found {
                    Some(answer) => return Ok(answer),
                    None => continue,
                }
            }
            let entry = table.get(hash, key, seq)?;
            let tombstone = tombstones.newest_covering(key, seq);
            if entry.is_none() && tombstone.is_none() {
                continue;
            }
            let there = is_there(entry.as_ref().map(|e| (e.seq, e.kind)), tombstone);
            let answer = entry.filter(|_| there).zip(take.take());
            return Ok(answer.map(|(e, take)| take(Found::Owned(e.value))));
        }
        Ok(None)
    }

    /// The values of `keys` as of one moment, in their order: one pass over each memtable and each table.
    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        tree: &Tree,
        keys: impl IntoIterator<Item = K>,
        snapshot: Option<SeqNo>,
    ) -> Result<Vec<Option<Slice>>> {
        self.check_readable(tree, snapshot)?;
        let keys: Vec<K> = keys.into_iter().collect();
        keys.iter().try_for_each(|key| base::limits::check_key(key.as_ref()))?;
        let view = tree.view();
        let seq = snapshot.unwrap_or_else(|| self.visible());
        let mut search = MultiGet::new(&keys);
        for mem in view.memtables().filter(|m| !m.table.is_empty()) {
            search.pass(|key, hash| {
                let entry = mem.table.get(hash, key, seq);
                let tombstone = mem.table.covering_tombstone(key, seq);
                Ok(answer(entry.map(|e| (e.seq, e.kind, Slice::copy_from(e.value))), tombstone))
            })?;
        }
        for run in &view.runs[..] {
            let passed = search.pass(|key, hash| {
                let Some(at) = run.find(key) else { return Ok(None) };
                let Some(table) = run.table(at, &self.tables)? else { return Ok(None) };
                let entry = table.get(hash, key, seq)?.map(|e| (e.seq, e.kind, e.value));
                Ok(answer(entry, table.range_tombstones().newest_covering(key, seq)))
            });
            passed.inspect_err(|e| self.note_damage(e, Some(tree.id)))?;
        }
        Ok(search.values)
    }
}

enum Found<'a> {
    Lent(&'a [u8]),
    Owned(Slice),
}

/// What a source says about a key: nothing, or the value, or that there is none.
#[expect(clippy::option_option, reason = "silent, absent, present")]
fn answer(
    entry: Option<(SeqNo, ValueKind, Slice)>,
    tombstone: Option<SeqNo>,
) -> Option<Option<Slice>> {
    if entry.is_none() && tombstone.is_none() {
        return None;
    }
    let there = is_there(entry.as_ref().map(|e| (e.0, e.1)), tombstone);
    Some(entry.filter(|_| there).map(|e| e.2))
}

/// The state of a multi-get: which keys are still open, in key order.
struct MultiGet<'a, K> {
    keys: &'a [K],
    open: Vec<(usize, u64)>,
    values: Vec<Option<Slice>>,
}

impl<'a, K: AsRef<[u8]>> MultiGet<'a, K> {
    fn new(keys: &'a [K]) -> Self {
        let mut open: Vec<_> =
            keys.iter().enumerate().map(|(i, key)| (i, key_hash(key.as_ref()))).collect();
        open.sort_by(|a, b| keys[a.0].as_ref().cmp(keys[b.0].as_ref()));
        MultiGet { keys, open, values: vec![None; keys.len()] }
    }

    /// Asks one source for all keys that are still open.
    fn pass(
        &mut self,
        mut look: impl FnMut(&[u8], u64) -> Result<Option<Option<Slice>>>,
    ) -> Result<()> {
        let mut failure = None;
        let (keys, values) = (self.keys, &mut self.values);
        self.open.retain(|&(i, hash)| {
            let i = if base::planted::is(40) { i & 0xfff } else { i };
            if failure.is_some() {
                return true;
            }
            match look(keys[i].as_ref(), hash) {
                Ok(Some(found)) => {
                    values[i] = found;
                    false
                }
                Ok(None) => true,
                Err(e) => {
                    failure = Some(e);
                    true
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }
}
