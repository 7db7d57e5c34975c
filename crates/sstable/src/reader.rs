//! Reads a table: point lookups, and the parts that iterators and `verify` are made of.
//!
//! Open reads the footer, the properties and the range tombstones, usually with one system call. The
//! index and the filter are read at first use and then stay in memory.

use crate::block::Block;
use crate::cache::{BlockCache, BlockKey, Slots};
use crate::envelope::{Handle, Opener};
use crate::filter::{Aligned, Filter};
use crate::footer::{FOOTER_LEN, Footer};
use crate::index::{self, Index};
use crate::iter::TableIterator;
use crate::{CacheHint, Properties, TableUsage, tombstones};
use base::buffer::{Buffer, Pool};
use base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use base::sync::leaf::Lent;
use base::{Error, Fragments, IoContext, Result, SeqNo, Slice, ValueKind};
use parking_lot::Mutex;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vfs::RandomAccessFile;

/// Longest data block after decompression: one entry of the largest key and value, and what is around it.
pub(crate) const UNCOMPRESSED_MAX: u64 = (KEY_BYTES_MAX + VALUE_BYTES_MAX + 1024) as u64;
/// What the index keeps of a block, about.
const INDEX_BYTES_A_BLOCK: usize = 64;
/// Bytes of the file's end that open reads at once, in the hope that properties are among them.
const TAIL_READ: u64 = 4 << 10;

/// A visible version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was written.
    pub seq: SeqNo,
    /// Whether it is a value or a delete.
    pub kind: ValueKind,
    /// The value; shares the block, which stays in memory as long as this lives.
    pub value: Slice,
}

impl Entry {
    #[inline]
    fn shared(buffer: &Buffer, seq: SeqNo, kind: ValueKind, value: Range<usize>) -> Entry {
        let value = Slice::from_shared(buffer, value.start, value.len()).unwrap_or_default();
        Entry { seq, kind, value }
    }
}

/// A block that may hold a key, see [`TableReader::find_block`]. For a short time only.
pub struct BlockRef {
    number: usize,
    place: Place,
}

enum Place {
    /// Not empty.
    Lent(Lent<Option<Buffer>>),
    Loaded(Block),
    /// All keys of the table are smaller.
    Nowhere,
}

impl BlockRef {
    #[inline]
    fn block(&self) -> Option<Block<&Buffer>> {
        match &self.place {
            Place::Lent(lent) => lent.as_ref().map(Block::lent),
            Place::Loaded(block) => Some(Block::lent(block.data())),
            Place::Nowhere => None,
        }
    }
}

impl std::fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockRef").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The index, and where the blocks that it names are found in memory.
#[derive(Debug)]
struct Indexed {
    index: Index,
    slots: Arc<Slots>,
}

/// An open table. Shared as `Arc<TableReader>` by any number of threads.
#[derive(Debug)]
pub struct TableReader {
    file: Arc<dyn RandomAccessFile>,
    file_len: u64,
    path: PathBuf,
    table_id: u64,
    cache: Arc<BlockCache>,
    space: u64,
    footer: Footer,
    properties: Properties,
    tombstones: Arc<Fragments>,
    index: OnceLock<Indexed>,
    /// `None` if the table has no filter or a damaged one: then every key is a maybe.
    filter: OnceLock<Option<Filter>>,
    /// See [`with_sequence`](Self::with_sequence).
    sequence: Option<SeqNo>,
    /// Held while index or filter are being loaded, so that only one thread does it.
    loading: Mutex<()>,
    /// Where [`memory_bytes`](Self::memory_bytes) is counted while it lives.
    usage: Arc<TableUsage>,
}

impl TableReader {
    /// Opens the table in `file`. `path` is for error messages; `table_id` is the one it was created with.
    ///
    /// # Errors
    /// [`Error::Corruption`] if the file is not that table or its footer, properties or range
    /// tombstones are damaged; [`Error::UnsupportedFormat`] if a newer version wrote it; [`Error::Io`].
    pub fn open(
        file: Arc<dyn RandomAccessFile>,
        path: &Path,
        table_id: u64,
        cache: Arc<BlockCache>,
    ) -> Result<TableReader> {
        let space = cache.new_space();
        TableReader::open_in_space(file, path, table_id, cache, space, Arc::default())
    }

    /// Opens a table whose cached blocks belong to `space`.
    pub(crate) fn open_in_space(
        file: Arc<dyn RandomAccessFile>,
        path: &Path,
        table_id: u64,
        cache: Arc<BlockCache>,
        space: u64,
        usage: Arc<TableUsage>,
    ) -> Result<TableReader> {
        let file_len = file.len().context("len", path)?;
        let tail = Tail::read(&*file, file_len, path)?;
        let footer = tail.footer(path, table_id)?;
        let opener = Opener { path, table_id, uncompressed_max: 0, pool: None };
        let bytes = tail.block(&opener, &*file, footer.properties)?;
        let properties = Properties::decode(bytes.bytes())
            .map_err(|detail| Error::corruption(path, footer.properties.offset, detail))?;
        let mut fragments = Fragments::default();
        if footer.tombstones.len > 0 {
            let bytes = tail.block(&opener, &*file, footer.tombstones)?;
            fragments = tombstones::decode(bytes.bytes()).ok_or_else(|| {
                Error::corruption(path, footer.tombstones.offset, "range tombstones do not decode")
            })?;
        }
        let reader = TableReader {
            file,
            file_len,
            path: path.to_path_buf(),
            table_id,
            cache,
            space,
            footer,
            properties,
            tombstones: Arc::new(fragments),
            sequence: None,
            index: OnceLock::new(),
            filter: OnceLock::new(),
            loading: Mutex::new(()),
            usage,
        };
        reader.usage.add_tables(reader.memory_bytes(), &reader.cache);
        Ok(reader)
    }

    pub(crate) fn usage(&self) -> &TableUsage {
        &self.usage
    }

    /// Gives the entries of a table that was written without sequence numbers, that is with 0 for all, the number
    /// `sequence`. Other tables are not changed.
    ///
    /// So sorted input can be written before it is known when it counts as written.
    /// Source: the global sequence number of RocksDB's ingested files.
    #[must_use]
    pub fn with_sequence(mut self, sequence: SeqNo) -> TableReader {
        base::probe!("table opened");
        let unsequenced = self.properties.seq_max == SeqNo(0) && self.properties.entries > 0;
        self.sequence = unsequenced.then_some(sequence);
        self
    }

    /// The sequence number of all entries, if they were written without.
    #[inline]
    pub(crate) fn sequence(&self) -> Option<SeqNo> {
        self.sequence
    }

    /// False only if no entry has the user key with this [`key_hash`](base::checksum::key_hash).
    /// A missing, unreadable or damaged filter answers true.
    #[inline]
    #[must_use]
    pub fn may_contain(&self, hash: u64) -> bool {
        if base::planted::is(24) && hash >> 52 == 0xfff {
            return false;
        }
        match self.filter.get() {
            Some(Some(filter)) => filter.may_contain(hash),
            Some(None) => true,
            None => self.load_filter().is_none_or(|filter| filter.may_contain(hash)),
        }
    }

    /// The newest version of `user_key` that a read at `snapshot` sees, deletes included, range
    /// tombstones not applied. `hash` is the [`key_hash`](base::checksum::key_hash) of `user_key`.
    ///
    /// # Errors
    /// [`Error::Corruption`] or [`Error::Io`] if index or block cannot be read.
    pub fn get(&self, hash: u64, user_key: &[u8], snapshot: SeqNo) -> Result<Option<Entry>> {
        self.locate(hash, user_key, snapshot, Entry::shared)
    }

    /// As [`get`](Self::get), but lends the value where it lies.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_with<R>(
        &self,
        hash: u64,
        user_key: &[u8],
        snapshot: SeqNo,
        f: impl FnOnce(SeqNo, ValueKind, &[u8]) -> R,
    ) -> Result<Option<R>> {
        self.locate(hash, user_key, snapshot, |buffer, seq, kind, value| {
            f(seq, kind, buffer.get(value).unwrap_or_default())
        })
    }

    /// The first half of a lookup of `user_key`: finds the block that would hold it and has the processor fetch its first
    /// bytes. The second half is [`get_in`](Self::get_in). Whoever looks up several keys takes the first halves together,
    /// so that their cache misses overlap; a handful, since few blocks can be lent to a thread at a time without a count.
    ///
    /// Does not ask the filter: see [`may_contain`](Self::may_contain).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn find_block(&self, user_key: &[u8], snapshot: SeqNo) -> Result<BlockRef> {
        let Indexed { index, slots } = self.indexed()?;
        let number = index.find_version(user_key, snapshot);
        if let Some(lent) = slots.get(number)
            && let Some(buffer) = &*lent
        {
            self.cache.count(true);
            buffer.mark();
            return Ok(BlockRef { number, place: Place::Lent(lent) });
        }
        let place = match index.handle(number) {
            Some(handle) => Place::Loaded(self.load_block(number, handle, CacheHint::Fill)?),
            None => Place::Nowhere,
        };
        Ok(BlockRef { number, place })
    }

    /// The second half of a lookup: as [`get`](Self::get), with what [`find_block`](Self::find_block) returned for the same
    /// key and snapshot.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_in(
        &self,
        at: &BlockRef,
        hash: u64,
        user_key: &[u8],
        snapshot: SeqNo,
    ) -> Result<Option<Entry>> {
        match at.block() {
            Some(block) if self.sequence.is_none_or(|seq| seq <= snapshot) => {
                self.look(block.data(), at.number, hash, user_key, snapshot, Entry::shared)
            }
            _ => Ok(None),
        }
    }

    // Not inlined: in the loop of a caller over several tables, what is computed from the key alone would be kept for all
    // of them, in memory, for want of registers.
    #[inline(never)]
    fn locate<R>(
        &self,
        hash: u64,
        user_key: &[u8],
        snapshot: SeqNo,
        take: impl FnOnce(&Buffer, SeqNo, ValueKind, Range<usize>) -> R,
    ) -> Result<Option<R>> {
        if !self.may_contain(hash) || self.sequence.is_some_and(|seq| seq > snapshot) {
            return Ok(None);
        }
        let Indexed { index, slots } = self.indexed()?;
        let number = index.find_version(user_key, snapshot);
        if let Some(lent) = slots.get(number)
            && let Some(buffer) = &*lent
        {
            self.cache.count(true);
            buffer.mark();
            return self.look(buffer, number, hash, user_key, snapshot, take);
        }
        let Some(block) = self.loaded_block(number)? else { return Ok(None) };
        self.look_again(block.data(), number, hash, user_key, snapshot, take)
    }

    /// Block `number`, which is not in memory; `None` if there is no such block.
    #[cold]
    fn loaded_block(&self, number: usize) -> Result<Option<Block>> {
        let handle = self.index()?.handle(number);
        handle.map(|handle| self.load_block(number, handle, CacheHint::Fill)).transpose()
    }

    /// Searches one block.
    #[inline(always)]
    fn look<R>(
        &self,
        buffer: &Buffer,
        number: usize,
        hash: u64,
        user_key: &[u8],
        snapshot: SeqNo,
        take: impl FnOnce(&Buffer, SeqNo, ValueKind, Range<usize>) -> R,
    ) -> Result<Option<R>> {
        match Block::lent(buffer).newest(hash, user_key) {
            Some(Some(raw)) if raw.seq <= snapshot => {
                let seq = self.sequence.unwrap_or(raw.seq);
                Ok(Some(take(buffer, seq, raw.kind, raw.value..raw.end)))
            }
            Some(None) => Ok(self.absent()),
            _ => self.look_again(buffer, number, hash, user_key, snapshot, take),
        }
    }

    /// No visible version of a key is in the block that would hold it.
    #[inline]
    fn absent<R>(&self) -> Option<R> {
        if self.filter.get().is_some_and(Option::is_some) {
            base::probe!("filter let an absent key through");
        }
        None
    }

    /// As [`look`](Self::look), for all that is not usual: an older version is wanted, the block has no tags, or is broken.
    #[cold]
    fn look_again<R>(
        &self,
        buffer: &Buffer,
        number: usize,
        hash: u64,
        user_key: &[u8],
        snapshot: SeqNo,
        take: impl FnOnce(&Buffer, SeqNo, ValueKind, Range<usize>) -> R,
    ) -> Result<Option<R>> {
        match Block::lent(buffer).get(hash, user_key, snapshot) {
            Some(Some(raw)) => {
                let seq = self.sequence.unwrap_or(raw.seq);
                Ok(Some(take(buffer, seq, raw.kind, raw.value..raw.end)))
            }
            Some(None) => Ok(self.absent()),
            None => Err(self.broken(self.index()?.handle(number).unwrap_or_default())),
        }
    }

    /// The range tombstones of the table.
    #[must_use]
    pub fn range_tombstones(&self) -> &Arc<Fragments> {
        &self.tombstones
    }

    /// An iterator over all entries, not positioned yet.
    #[must_use]
    pub fn iter(self: &Arc<Self>, hint: CacheHint) -> TableIterator {
        TableIterator::new(Arc::clone(self), hint)
    }

    /// What the table says about itself.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The id that the table was opened with.
    #[must_use]
    pub fn table_id(&self) -> u64 {
        self.table_id
    }

    /// The path that the table was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.file_len
    }

    /// Bytes held in memory outside the block cache: index, filter, range tombstones, properties.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let of = |indexed: &Indexed| indexed.index.memory_bytes() + indexed.slots.memory_bytes();
        let index = self.index.get().map_or(0, of);
        let filter = filter_bytes(self.filter.get().and_then(Option::as_ref));
        let fragment = |f: &base::Fragment| {
            size_of_val(f)
                + f.start.capacity()
                + f.end.capacity()
                + f.seqs.capacity() * size_of::<SeqNo>()
        };
        let tombstones: usize = self.tombstones.as_slice().iter().map(fragment).sum();
        let keys = self.properties.smallest.capacity() + self.properties.largest.capacity();
        size_of::<TableReader>() + index + filter + tombstones + keys
    }

    /// What [`memory_bytes`](Self::memory_bytes) will be, about, once index and filter have been read.
    pub(crate) fn memory_bytes_expected(&self) -> usize {
        let blocks = usize::try_from(self.properties.data_blocks).unwrap_or(usize::MAX);
        let filter = usize::try_from(self.footer.filter.len).unwrap_or(usize::MAX);
        blocks.saturating_mul(INDEX_BYTES_A_BLOCK).saturating_add(filter)
    }

    /// About how many bytes of the file lie before `user_key`: 0 if the index cannot be read.
    #[must_use]
    pub fn approximate_offset(&self, user_key: &[u8]) -> u64 {
        let Ok(index) = self.index() else {
            return 0;
        };
        let number = index.find_version(user_key, SeqNo::MAX);
        index.handle(number).map_or(index.data_end(), |handle| handle.offset)
    }

    /// The index, read at first use.
    #[inline]
    pub(crate) fn index(&self) -> Result<&Index> {
        Ok(&self.indexed()?.index)
    }

    #[inline]
    fn indexed(&self) -> Result<&Indexed> {
        match self.index.get() {
            Some(indexed) => Ok(indexed),
            None => self.load_index(),
        }
    }

    #[cold]
    fn load_index(&self) -> Result<&Indexed> {
        let _loading = self.loading.lock();
        if let Some(indexed) = self.index.get() {
            return Ok(indexed);
        }
        let index = self.read_index(|_| ())?;
        let slots = Slots::new(index.len());
        self.usage.add_tables(index.memory_bytes() + slots.memory_bytes(), &self.cache);
        Ok(self.index.get_or_init(|| Indexed { index, slots }))
    }

    /// Reads the whole index from the file and checks that data blocks, partitions and top index
    /// follow one another from the start of the file. `visit` sees each index block.
    pub(crate) fn read_index(&self, mut visit: impl FnMut(Handle)) -> Result<Index> {
        let top_handle = self.footer.top_index;
        let top = self.read_meta(top_handle)?;
        let partitions = index::partitions(top.bytes(), top_handle.offset)
            .ok_or_else(|| self.damage(top_handle, "top index does not decode"))?;
        let (mut index, mut data_end) = (Index::default(), 0);
        for handle in &partitions {
            let bytes = self.read_meta(*handle)?;
            visit(*handle);
            index::decode(bytes.bytes(), &mut data_end, |entry| index.push(&entry))
                .ok_or_else(|| self.damage(*handle, "index partition does not decode"))?;
        }
        visit(top_handle);
        let index =
            index.freeze().ok_or_else(|| self.damage(top_handle, "index does not decode"))?;
        let partitions_start = partitions.first().unwrap_or(&top_handle).offset;
        if data_end != partitions_start || !index::top_agrees(top.bytes(), &partitions, &index) {
            return Err(self.damage(top_handle, "top index disagrees with its partitions"));
        }
        Ok(index)
    }

    /// Loads the filter; `None` if there is none to ask.
    #[cold]
    fn load_filter(&self) -> Option<&Filter> {
        let _loading = self.loading.lock();
        if let Some(filter) = self.filter.get() {
            return filter.as_ref();
        }
        let filter = match self.read_filter() {
            Ok(filter) => filter,
            // Damage stays; another failure to read may not happen again.
            Err(e) if e.is_corruption() => {
                base::probe!("damaged filter ignored");
                None
            }
            Err(_) => {
                base::probe!("filter could not be read");
                return None;
            }
        };
        self.usage.add_tables(filter_bytes(filter.as_ref()), &self.cache);
        self.filter.get_or_init(|| filter).as_ref()
    }

    /// Reads the filter from the file; `None` if the table was written without one.
    pub(crate) fn read_filter(&self) -> Result<Option<Filter>> {
        let handle = self.footer.filter;
        if handle.len == 0 {
            return Ok(None);
        }
        let bytes = self.read_meta(handle)?;
        let filter = Filter::parse(Aligned::copy_from(bytes.bytes()));
        filter.map(Some).map_err(|e| self.damage(handle, &e.to_string()))
    }

    /// A block that is never compressed.
    pub(crate) fn read_meta(&self, handle: Handle) -> Result<crate::envelope::Payload> {
        let opener = Opener { uncompressed_max: 0, ..self.opener() };
        opener.read(&*self.file, self.file_len, handle)
    }

    fn opener(&self) -> Opener<'_> {
        let uncompressed_max = self.properties.block_bytes_max.min(UNCOMPRESSED_MAX);
        Opener { path: &self.path, table_id: self.table_id, uncompressed_max, pool: None }
    }

    /// Data block `number`, from the cache or the file. `None` if there is no such block.
    #[inline]
    pub(crate) fn block(&self, number: usize, hint: CacheHint) -> Result<Option<Block>> {
        let Indexed { index, slots } = self.indexed()?;
        if let Some(lent) = slots.get(number)
            && let Some(buffer) = &*lent
        {
            self.cache.count(true);
            buffer.mark();
            return Ok(Some(Block::lent(buffer).share()));
        }
        index.handle(number).map(|handle| self.load_block(number, handle, hint)).transpose()
    }

    #[cold]
    fn load_block(&self, number: usize, handle: Handle, hint: CacheHint) -> Result<Block> {
        let slots = &self.indexed()?.slots;
        let table_id = if base::planted::is(51) { 0 } else { self.table_id };
        let key = BlockKey { space: self.space, table_id, offset: handle.offset };
        let adopted = self.cache.adopt(key, slots, number);
        self.cache.count(adopted.is_some());
        if let Some(block) = adopted {
            return Ok(block);
        }
        let pool = self.cache.pool().filter(|_| hint == CacheHint::Fill);
        let block = self.read_block_into(pool, handle)?;
        if hint == CacheHint::Fill {
            self.cache.insert(key, block.clone(), slots, number);
        }
        Ok(block)
    }

    /// Data block `number` if it is in the cache; does not make it hotter.
    pub(crate) fn peek_block(&self, number: usize) -> Option<Block> {
        let lent = self.index.get()?.slots.get(number)?;
        self.cache.count(lent.is_some());
        lent.as_ref().map(|buffer| Block::lent(buffer).share())
    }

    /// Has the processor fetch the cache lines at `offsets` of data block `number`, if that is in memory. Only a hint.
    #[inline]
    pub(crate) fn fetch_block(&self, number: usize, offsets: impl Iterator<Item = usize>) {
        if let Some(Indexed { slots, .. }) = self.index.get()
            && let Some(lent) = slots.get(number)
            && let Some(buffer) = &*lent
        {
            offsets.for_each(|offset| buffer.prefetch(offset));
        }
    }

    /// A data block from the file.
    pub(crate) fn read_block(&self, handle: Handle) -> Result<Block> {
        self.read_block_into(None, handle)
    }

    fn read_block_into(&self, pool: Option<&Arc<Pool>>, handle: Handle) -> Result<Block> {
        let opener = Opener { pool, ..self.opener() };
        let payload = opener.read(&*self.file, self.file_len, handle)?;
        Block::parse(payload.data, payload.len).map_err(|detail| self.damage(handle, detail))
    }

    /// A data block whose stored bytes have been read already.
    pub(crate) fn open_block(&self, stored: &[u8], handle: Handle) -> Result<Block> {
        let payload = self.opener().open(stored, handle)?;
        Block::parse(payload.data, payload.len).map_err(|detail| self.damage(handle, detail))
    }

    pub(crate) fn file(&self) -> &dyn RandomAccessFile {
        &*self.file
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The error for a block that `Block::parse` let through although it should not have.
    #[cold]
    pub(crate) fn broken(&self, handle: Handle) -> Error {
        self.damage(handle, "data block is inconsistent")
    }

    pub(crate) fn damage(&self, handle: Handle, detail: &str) -> Error {
        Error::corruption(&self.path, handle.offset, detail)
    }
}

impl Drop for TableReader {
    fn drop(&mut self) {
        self.usage.sub_tables(self.memory_bytes());
    }
}

fn filter_bytes(filter: Option<&Filter>) -> usize {
    filter.map_or(0, |f| f.as_bytes().len() + 64)
}

/// The last bytes of the file.
pub(crate) struct Tail {
    bytes: Vec<u8>,
    start: u64,
    file_len: u64,
}

impl Tail {
    pub(crate) fn read(file: &dyn RandomAccessFile, file_len: u64, path: &Path) -> Result<Tail> {
        let len = file_len.min(TAIL_READ);
        let (start, mut bytes) = (file_len - len, vec![0; len as usize]);
        match file.read_exact_at(&mut bytes, start) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::corruption(path, start, "file ends before its length"));
            }
            other => other.context("read", path)?,
        }
        Ok(Tail { bytes, start, file_len })
    }

    pub(crate) fn footer(&self, path: &Path, table_id: u64) -> Result<Footer> {
        let Some(footer) = self.bytes.last_chunk::<FOOTER_LEN>() else {
            let detail = format!("file shorter than a footer len={}", self.file_len);
            return Err(Error::corruption(path, 0, detail));
        };
        Footer::decode(footer, path, table_id, self.file_len - FOOTER_LEN as u64)
    }

    /// The id that the footer claims, unchecked.
    pub(crate) fn table_id(&self) -> Option<u64> {
        self.bytes.last_chunk::<FOOTER_LEN>().map(Footer::table_id)
    }

    /// A block out of these bytes if it lies in them, else from the file.
    fn block(
        &self,
        opener: &Opener<'_>,
        file: &dyn RandomAccessFile,
        handle: Handle,
    ) -> Result<crate::envelope::Payload> {
        let stored = handle.offset.checked_sub(self.start).and_then(|at| {
            let (at, len) = (usize::try_from(at).ok()?, usize::try_from(handle.stored_len()).ok()?);
            self.bytes.get(at..at.checked_add(len)?)
        });
        match stored {
            Some(stored) => opener.open(stored, handle),
            None => opener.read(file, self.file_len, handle),
        }
    }
}
