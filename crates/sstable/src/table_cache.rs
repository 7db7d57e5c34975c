//! Open tables, a bounded number of them.

use crate::pinned::Pins;
use crate::{BlockCache, PinnedTable, TableReader, TableUsage};
use base::sync::RwLock;
use base::{FileName, FileNum, IoContext, Result, SeqNo};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vfs::Fs;

/// Tables per shard below which more shards would only make the bound coarser.
const SHARD_MIN: usize = 64;
const SHARDS_MAX: usize = 16;

/// Opens the tables of one directory and keeps at most `max_open` of them open.
///
/// Which one is closed is decided by CLOCK: a table used since the hand last passed stays. Closing only
/// lets go of the reader: whoever holds it goes on reading, so a file handle may outlive its place here.
#[derive(Debug)]
pub struct TableCache {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    block_cache: Arc<BlockCache>,
    /// All tables opened here share it, so that one opened again finds its blocks in the cache.
    space: u64,
    shard_max: usize,
    shards: Box<[RwLock<Shard>]>,
    usage: Arc<TableUsage>,
    /// The shard that closes a table for its memory next.
    turn: AtomicUsize,
    pins: Arc<Pins>,
}

#[derive(Debug, Default)]
struct Shard {
    tables: BTreeMap<FileNum, Slot>,
    /// The table that the hand of the clock passed last.
    hand: Option<FileNum>,
}

#[derive(Debug)]
struct Slot {
    reader: Arc<TableReader>,
    used: AtomicBool,
}

impl TableCache {
    /// A cache over the tables in `dir`, of which at most `max_open` (at least 1) are kept open.
    #[must_use]
    pub fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        max_open: usize,
        block_cache: Arc<BlockCache>,
    ) -> TableCache {
        // One half for tables that somebody pins.
        let pins = Pins::new(max_open / 2);
        let max_open = (max_open - max_open / 2).max(1);
        let shards = (max_open / SHARD_MIN).clamp(1, SHARDS_MAX);
        let space = block_cache.new_space();
        TableCache {
            fs,
            dir,
            block_cache,
            space,
            shard_max: max_open / shards,
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            usage: Arc::default(),
            turn: AtomicUsize::new(0),
            pins: Arc::new(pins),
        }
    }

    /// Bounds the bytes that the block cache and open tables take together, and those of the block cache alone
    /// (`None`: it is shared with others, and is not touched).
    ///
    /// Tables are closed while they take more than half; the block cache has what they leave. Kept at each call, and
    /// whenever a table is opened; what a table reads after that, index and filter, is weighed against it at the next.
    pub fn limit_memory(&self, together_bytes_max: usize, cache_bytes_max: Option<usize>) {
        self.usage.set_limit(together_bytes_max, cache_bytes_max.unwrap_or(usize::MAX));
        self.settle(None);
    }

    /// Keeps the limit, if there is one; `keep` stays open.
    fn settle(&self, keep: Option<FileNum>) {
        let Some(tables_max) = self.usage.tables_max() else { return };
        for _ in 0..self.shards.len() {
            if self.usage.table_bytes() <= tables_max {
                break;
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            self.close_tables(&self.shards[turn], tables_max, keep);
        }
        self.usage.fit(&self.block_cache);
    }

    /// Closes tables of `shard` until all together take no more than `bytes_max`. One that is read meanwhile goes on
    /// taking memory, and counts, until its readers are gone.
    fn close_tables(&self, shard: &RwLock<Shard>, bytes_max: usize, keep: Option<FileNum>) {
        while self.usage.table_bytes() > bytes_max {
            let closed = shard.write().close_one(keep);
            if closed.is_none() {
                return;
            }
            // The file is closed here, when no lock is held.
            drop(closed);
        }
    }

    /// Keeps `table` open as long as the result lives, so that its reads need not come here. `None` if as many tables are
    /// pinned as the cache allows: half of its bound, and under a limit of memory half of what tables may take.
    #[must_use]
    pub fn pin(&self, table: &Arc<TableReader>) -> Option<PinnedTable> {
        PinnedTable::new(table, &self.pins, self.usage.tables_max())
    }

    /// The table in file `file`, opened if it is not. `sequence` is for a table written without sequence numbers,
    /// see [`TableReader::with_sequence`]; it must be the same at every call.
    ///
    /// # Errors
    /// Those of [`TableReader::open`]; [`base::Error::Io`] if the file cannot be opened.
    pub fn get(&self, file: FileNum, table_id: u64, sequence: SeqNo) -> Result<Arc<TableReader>> {
        if let Some(slot) = self.shard(file).read().tables.get(&file) {
            if !slot.used.load(Ordering::Relaxed) {
                slot.used.store(true, Ordering::Relaxed);
            }
            if slot.reader.table_id() == table_id {
                return Ok(Arc::clone(&slot.reader));
            }
        }
        self.open(file, table_id, sequence)
    }

    /// Opens the file without holding a lock; of two threads that do, the first one's reader stays.
    #[cold]
    fn open(&self, file: FileNum, table_id: u64, sequence: SeqNo) -> Result<Arc<TableReader>> {
        let path = FileName::Table(file).in_dir(&self.dir);
        let handle = self.fs.open(&path).context("open", &path)?;
        let (cache, usage) = (Arc::clone(&self.block_cache), Arc::clone(&self.usage));
        let reader = TableReader::open_in_space(handle, &path, table_id, cache, self.space, usage)?;
        let reader = Arc::new(reader.with_sequence(sequence));
        let mut closed = Vec::new();
        let mut shard = self.shard(file).write();
        let slot = shard
            .tables
            .entry(file)
            .or_insert_with(|| Slot { reader: Arc::clone(&reader), used: AtomicBool::new(false) });
        if slot.reader.table_id() != table_id {
            slot.reader = reader;
        }
        let reader = Arc::clone(&slot.reader);
        while shard.tables.len() > self.shard_max {
            closed.extend(shard.close_one(Some(file)));
        }
        drop(shard);
        // Files are closed here, when no lock is held.
        drop(closed);
        self.settle(Some(file));
        Ok(reader)
    }

    /// Closes the table in `file`, if it is open: it was removed.
    pub fn evict(&self, file: FileNum) {
        let slot = self.shard(file).write().tables.remove(&file);
        drop(slot);
    }

    /// Tables open now.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().tables.len()).sum()
    }

    /// Bytes in use outside the block cache.
    #[must_use]
    pub fn usage(&self) -> &Arc<TableUsage> {
        &self.usage
    }

    /// The block cache that the tables share.
    #[must_use]
    pub fn block_cache(&self) -> &Arc<BlockCache> {
        &self.block_cache
    }

    #[inline]
    fn shard(&self, file: FileNum) -> &RwLock<Shard> {
        &self.shards[(file.0 % self.shards.len() as u64) as usize]
    }
}

impl Shard {
    /// Takes out the next table behind the hand that was not used since it passed; never `keep`.
    fn close_one(&mut self, keep: Option<FileNum>) -> Option<Slot> {
        // Two rounds: the first clears all marks at the latest.
        for _ in 0..2 * self.tables.len() {
            let behind = self
                .hand
                .and_then(|hand| self.tables.range(FileNum(hand.0.saturating_add(1))..).next());
            let (&file, slot) = behind.or_else(|| self.tables.iter().next())?;
            self.hand = Some(file);
            if !slot.used.swap(false, Ordering::Relaxed) && Some(file) != keep {
                return self.tables.remove(&file);
            }
        }
        // Readers marked every table meanwhile.
        let file = self.tables.keys().copied().find(|&file| Some(file) != keep)?;
        self.tables.remove(&file)
    }
}
