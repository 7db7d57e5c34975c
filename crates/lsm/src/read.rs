//! Point reads: memtables newest first, then tables newest first, and the first version found decides.
//!
//! For any user key, what lies in a newer source is newer than all that lies in older ones, range tombstones included.
//! So the first source that says anything about the key ends the search.

use crate::engine::Engine;
use crate::open_run::OpenRun;
use crate::tree::{Mem, Tree, View};
use base::checksum::key_hash;
use base::{Error, KeyspaceId, Result, SeqNo, Slice, ValueKind};

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

    /// What a failed read is told. Once the database is closed somebody may have opened it anew, and have removed tables that
    /// this read had not opened yet: then that it is closed is what there is to say.
    #[cold]
    pub(crate) fn read_failed(&self, e: Error, id: KeyspaceId) -> Error {
        if let Err(closed) = self.health.check_open() {
            return closed;
        }
        self.note_damage(&e, Some(id));
        e
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
        if let Some(answer) = search_memtables(&view, key, hash, seq) {
            return Ok(answer.map(|value| take(Found::Lent(value))));
        }
        let found = self.search_tables(&view, key, hash, seq, take);
        found.map_err(|e| self.read_failed(e, tree.id))
    }

    #[inline(always)]
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
            let passed = self.pass_run(run, &mut search, seq);
            passed.map_err(|e| self.read_failed(e, tree.id))?;
        }
        Ok(search.values)
    }

    /// Asks one run for all keys that are still open.
    ///
    /// In stages over many keys at a time, so that their cache misses overlap: filters, then indexes and blocks, then
    /// entries.
    fn pass_run<K: AsRef<[u8]>>(
        &self,
        run: &OpenRun,
        search: &mut MultiGet<'_, K>,
        seq: SeqNo,
    ) -> Result<()> {
        let mut maybe = std::mem::take(&mut search.maybe);
        maybe.clear();
        for (n, &(i, hash)) in search.open.iter().enumerate() {
            let Some(at) = run.find(search.keys[i].as_ref()) else { continue };
            let Some(table) = run.table(at, &self.tables)? else { continue };
            if table.may_contain(hash) || !table.range_tombstones().is_empty() {
                maybe.push((n, at));
            }
        }
        for few in maybe.chunks(STAGED) {
            let mut blocks = [const { None }; STAGED];
            for (&(n, at), block) in few.iter().zip(&mut blocks) {
                let key = search.keys[search.open[n].0].as_ref();
                let Some(table) = run.table(at, &self.tables)? else { continue };
                *block = Some((table.find_block(key, seq)?, table));
            }
            for (&(n, _), found) in few.iter().zip(&blocks) {
                let Some((block, table)) = found else { continue };
                let (i, hash) = search.open[n];
                let key = search.keys[if base::planted::is(40) { i & 0xfff } else { i }].as_ref();
                let entry = table.get_in(block, hash, key, seq)?.map(|e| (e.seq, e.kind, e.value));
                if let Some(value) =
                    answer(entry, table.range_tombstones().newest_covering(key, seq))
                {
                    search.values[i] = value;
                    search.open[n].0 = ANSWERED;
                }
            }
        }
        search.open.retain(|&(i, _)| i != ANSWERED);
        search.maybe = maybe;
        Ok(())
    }
}

/// Keys of a multi-get whose blocks are looked for together.
const STAGED: usize = 6;
/// In the place of a key that has its answer.
const ANSWERED: usize = usize::MAX;

enum Found<'a> {
    Lent(&'a [u8]),
    Owned(Slice),
}

/// What the memtables say about a key: nothing, or the value, or that there is none.
#[inline(always)]
#[expect(clippy::option_option, reason = "silent, absent, present")]
fn search_memtables<'a>(
    view: &'a View,
    key: &[u8],
    hash: u64,
    seq: SeqNo,
) -> Option<Option<&'a [u8]>> {
    match ask(&view.active, key, hash, seq) {
        None if !view.frozen.is_empty() => search_frozen(view, key, hash, seq),
        said => said,
    }
}

/// As [`search_memtables`], without the active one.
#[inline(never)]
#[expect(clippy::option_option, reason = "silent, absent, present")]
fn search_frozen<'a>(
    view: &'a View,
    key: &[u8],
    hash: u64,
    seq: SeqNo,
) -> Option<Option<&'a [u8]>> {
    view.frozen.iter().find_map(|mem| ask(mem, key, hash, seq))
}

/// What one memtable says about a key.
#[inline(always)]
#[expect(clippy::option_option, reason = "silent, absent, present")]
fn ask<'a>(mem: &'a Mem, key: &[u8], hash: u64, seq: SeqNo) -> Option<Option<&'a [u8]>> {
    // When nobody writes, the active one is empty.
    if mem.table.is_empty() {
        return None;
    }
    let entry = mem.table.get(hash, key, seq);
    let tombstone = mem.table.covering_tombstone(key, seq);
    if entry.is_none() && tombstone.is_none() {
        return None;
    }
    let there = is_there(entry.as_ref().map(|e| (e.seq, e.kind)), tombstone);
    Some(entry.filter(|_| there).map(|e| e.value))
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

/// The state of a multi-get.
struct MultiGet<'a, K> {
    keys: &'a [K],
    /// The keys that are still open, each with its hash.
    open: Vec<(usize, u64)>,
    values: Vec<Option<Slice>>,
    /// Of one run: which of the open keys it may hold, and in which table.
    maybe: Vec<(usize, usize)>,
}

impl<'a, K: AsRef<[u8]>> MultiGet<'a, K> {
    fn new(keys: &'a [K]) -> Self {
        let open: Vec<_> =
            keys.iter().enumerate().map(|(i, key)| (i, key_hash(key.as_ref()))).collect();
        let maybe = Vec::with_capacity(open.len());
        MultiGet { keys, open, values: vec![None; keys.len()], maybe }
    }

    /// Asks one source for all keys that are still open.
    fn pass(
        &mut self,
        mut look: impl FnMut(&[u8], u64) -> Result<Option<Option<Slice>>>,
    ) -> Result<()> {
        let mut failure = None;
        let (keys, values) = (self.keys, &mut self.values);
        self.open.retain(|&(i, hash)| {
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
