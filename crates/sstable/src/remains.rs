//! What can still be read of a damaged table, block by block.
//!
//! An ordinary reader refuses a table whose footer, properties or index are damaged. This one takes what there is:
//!
//! - every data block that an intact part of the index names;
//! - where the index is damaged, the blocks that can be found one behind the other: the length of a block is not
//!   written in it, but its checksum, bound to table and offset, fits one length only;
//! - range tombstones and properties, each for itself.
//!
//! What cannot be read is reported with the keys that may have been in it.

use crate::Properties;
use crate::block::{Block, Cursor, FLAGS};
use crate::envelope::{Handle, Opener, TRAILER_LEN};
use crate::footer::{FOOTER_LEN, Footer};
use crate::index;
use crate::reader::{Tail, UNCOMPRESSED_MAX};
use crate::tombstones;
use base::checksum::block_checksum;
use base::coding::Reader;
use base::{Error, Fragments, InternalKey, IoContext, Result};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::RandomAccessFile;

/// Longest block that is looked for without an index.
const SCAN_BLOCK_MAX: usize = 2 << 20;
/// Bytes looked at first: most blocks are shorter.
const SCAN_READ: usize = 64 << 10;
/// Bytes hashed in the search for one block, so that no contents make it endless.
const SCAN_HASHED_MAX: usize = 1 << 30;
/// Bytes behind the entries of a block, see `block`.
const BLOCK_TAIL_LEN: usize = 8;

/// A stretch of a table that cannot be read.
#[derive(Debug)]
pub struct LostBlocks {
    /// Where it begins in the file.
    pub offset: u64,
    /// No user key in it is smaller; `None`: the smallest of the table.
    pub lower: Option<Vec<u8>>,
    /// No user key in it is larger; `None`: the largest of the table.
    pub upper: Option<Vec<u8>>,
    /// Why.
    pub error: Error,
}

/// The readable part of a table, as a walk over its entries. Blocks are read when the walk gets there.
#[derive(Debug)]
pub struct TableRemains {
    file: Arc<dyn RandomAccessFile>,
    file_len: u64,
    path: PathBuf,
    table_id: Option<u64>,
    properties: Option<Properties>,
    tombstones: Option<Fragments>,
    /// The first thing that was wrong with footer, properties, range tombstones or index.
    damage: Option<Error>,
    /// Entries that the table is known to have.
    entries: Option<u64>,
    pieces: VecDeque<Piece>,
    cursor: Cursor,
    /// Largest user key of the block that `cursor` is in, if an index says so.
    upper: Option<Vec<u8>>,
    /// No entry that is still to come has a smaller user key.
    lower: Option<Vec<u8>>,
    last: Option<(Vec<u8>, u64)>,
    read: u64,
    scan: ScanWindow,
}

/// What comes next.
#[derive(Debug)]
enum Piece {
    /// A block that the index names.
    Block { handle: Handle, upper: Vec<u8> },
    /// Blocks from `start` that no index names. `end` is where they end, if `is_exact`, else a limit.
    Unnamed { start: u64, end: u64, is_exact: bool, upper: Option<Vec<u8>> },
}

impl TableRemains {
    /// Looks at the table in `file`. `table_id` is the one it was created with, and `entries` the number of its entries,
    /// where they are known: without an id and without a footer nothing can be read, without the number a table that has lost its index and
    /// properties is never known to be whole.
    #[must_use]
    pub fn open(
        file: Arc<dyn RandomAccessFile>,
        path: &Path,
        table_id: Option<u64>,
        entries: Option<u64>,
    ) -> TableRemains {
        let mut remains = TableRemains {
            file,
            file_len: 0,
            path: path.to_path_buf(),
            table_id,
            properties: None,
            tombstones: None,
            damage: None,
            entries,
            pieces: VecDeque::new(),
            cursor: Cursor::new(),
            upper: None,
            lower: None,
            last: None,
            read: 0,
            scan: ScanWindow::default(),
        };
        let looked = remains.look_at_tail();
        let footer = remains.note(looked);
        let properties = footer.map(|footer| remains.read_properties(&footer));
        remains.properties = properties.and_then(|read| remains.note(read));
        remains.entries = remains.entries.or(remains.properties.as_ref().map(|p| p.entries));
        let tombstones = footer.map(|footer| remains.read_tombstones(&footer));
        remains.tombstones = tombstones.and_then(|read| remains.note(read));
        remains.plan(footer.as_ref());
        remains
    }

    /// What the table says about itself; `None` if that cannot be read.
    #[must_use]
    pub fn properties(&self) -> Option<&Properties> {
        self.properties.as_ref()
    }

    /// The range tombstones of the table; `None` if they cannot be read.
    #[must_use]
    pub fn range_tombstones(&self) -> Option<&Fragments> {
        self.tombstones.as_ref()
    }

    /// The first thing found wrong outside the data blocks. Not all of it loses data.
    #[must_use]
    pub fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Entries read so far.
    #[must_use]
    pub fn entries_read(&self) -> u64 {
        self.read
    }

    /// True if the walk stands on an entry. It does not before the first [`advance`](Self::advance), nor after the last.
    #[must_use]
    pub fn valid(&self) -> bool {
        self.cursor.valid()
    }

    /// The entry's key, with the sequence number that is stored.
    #[must_use]
    pub fn key(&self) -> InternalKey<'_> {
        self.cursor.key()
    }

    /// The entry's value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.cursor.value()
    }

    /// Moves to the next entry that can be read; tells `lost` of what is passed over.
    pub fn advance(&mut self, lost: &mut dyn FnMut(LostBlocks)) {
        if self.cursor.valid() {
            let step = self.cursor.next();
            if self.accept(step, lost) {
                return;
            }
        }
        while let Some(piece) = self.pieces.pop_front() {
            if self.enter(piece, lost) {
                return;
            }
        }
        self.cursor.leave();
    }

    // --- what is around the data blocks ---

    /// Keeps the first error.
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(found) => Some(found),
            Err(e) => {
                self.damage.get_or_insert(e);
                None
            }
        }
    }

    fn look_at_tail(&mut self) -> Result<Footer> {
        self.file_len = self.file.len().context("len", &self.path)?;
        let tail = Tail::read(&*self.file, self.file_len, &self.path)?;
        let table_id = match self.table_id {
            Some(id) => id,
            None => tail.table_id().ok_or_else(|| {
                Error::corruption(&self.path, self.file_len, "file shorter than a footer")
            })?,
        };
        let footer = tail.footer(&self.path, table_id)?;
        self.table_id = Some(table_id);
        Ok(footer)
    }

    fn opener(&self, uncompressed_max: u64) -> Opener<'_> {
        Opener {
            path: &self.path,
            table_id: self.table_id.unwrap_or(0),
            uncompressed_max,
            pool: None,
        }
    }

    fn read_properties(&self, footer: &Footer) -> Result<Properties> {
        let bytes = self.opener(0).read(&*self.file, self.file_len, footer.properties)?;
        Properties::decode(bytes.bytes())
            .map_err(|detail| Error::corruption(&self.path, footer.properties.offset, detail))
    }

    fn read_tombstones(&self, footer: &Footer) -> Result<Fragments> {
        if footer.tombstones.len == 0 {
            return Ok(Fragments::default());
        }
        let bytes = self.opener(0).read(&*self.file, self.file_len, footer.tombstones)?;
        tombstones::decode(bytes.bytes()).ok_or_else(|| {
            let detail = "range tombstones do not decode";
            Error::corruption(&self.path, footer.tombstones.offset, detail)
        })
    }

    /// Lists what is to be read, as far as the index says.
    fn plan(&mut self, footer: Option<&Footer>) {
        let Some(footer) = footer else {
            let end = self.file_len.saturating_sub(FOOTER_LEN as u64);
            self.pieces.push_back(unnamed(0, end, false, None));
            return;
        };
        let planned = self.plan_by_index(footer);
        if self.note(planned).is_none() {
            self.pieces.clear();
            let data_bytes = self.properties.as_ref().map(|p| p.data_bytes);
            let end = data_bytes.unwrap_or(footer.top_index.offset);
            self.pieces.push_back(unnamed(0, end, data_bytes.is_some(), None));
        }
    }

    /// Follows the top index. A damaged partition leaves a stretch of unnamed blocks.
    fn plan_by_index(&mut self, footer: &Footer) -> Result<()> {
        let handle = footer.top_index;
        let broken = || Error::corruption(&self.path, handle.offset, "top index does not decode");
        let top = self.opener(0).read(&*self.file, self.file_len, handle)?;
        let partitions_start = Reader::new(top.bytes()).varint().ok_or_else(broken)?;
        let (mut partitions, mut end) = (Vec::new(), partitions_start);
        let decoded = index::decode(top.bytes(), &mut end, |entry| {
            partitions.push((entry.handle, entry.user_key.to_vec()));
            Some(())
        });
        // The top index of a table without entries lists nothing.
        decoded.filter(|()| partitions.is_empty() || end == handle.offset).ok_or_else(broken)?;
        let (mut next, mut missing): (u64, Option<Vec<u8>>) = (0, None);
        for (partition, separator) in &partitions {
            let blocks = self.read_partition(*partition);
            let Some(blocks) = self.note(blocks) else {
                missing = Some(separator.clone());
                continue;
            };
            let start = blocks.first().map_or(next, |(handle, _)| handle.offset);
            if start > next {
                self.pieces.push_back(unnamed(next, start, true, missing.take()));
            }
            for (handle, upper) in blocks {
                next = handle.end();
                self.pieces.push_back(Piece::Block { handle, upper });
            }
        }
        if missing.is_some() {
            self.pieces.push_back(unnamed(next, partitions_start, true, missing));
        }
        Ok(())
    }

    fn read_partition(&self, handle: Handle) -> Result<Vec<(Handle, Vec<u8>)>> {
        let bytes = self.opener(0).read(&*self.file, self.file_len, handle)?;
        let mut blocks = Vec::new();
        let decoded = Reader::new(bytes.bytes()).varint().and_then(|mut next_offset| {
            index::decode(bytes.bytes(), &mut next_offset, |entry| {
                blocks.push((entry.handle, entry.user_key.to_vec()));
                Some(())
            })
        });
        let detail = "index partition does not decode";
        decoded.ok_or_else(|| Error::corruption(&self.path, handle.offset, detail))?;
        Ok(blocks)
    }

    // --- the walk ---

    /// Goes to the first entry of `piece`; false if there is none to be had.
    fn enter(&mut self, piece: Piece, lost: &mut dyn FnMut(LostBlocks)) -> bool {
        match piece {
            Piece::Block { handle, upper } => {
                self.upper = Some(upper);
                let read = self.opener(UNCOMPRESSED_MAX).read(&*self.file, self.file_len, handle);
                let block = read.and_then(|payload| {
                    Block::parse(payload.data, payload.len)
                        .map_err(|detail| Error::corruption(&self.path, handle.offset, detail))
                });
                match block {
                    Ok(block) => self.enter_block(block, lost),
                    Err(error) => {
                        self.lose(handle.offset, error, lost);
                        false
                    }
                }
            }
            Piece::Unnamed { start, end, is_exact, upper } => {
                self.enter_unnamed(start, end, is_exact, upper, lost)
            }
        }
    }

    fn enter_block(&mut self, block: Block, lost: &mut dyn FnMut(LostBlocks)) -> bool {
        let step = self.cursor.enter(block, 0, false);
        self.accept(step, lost)
    }

    fn enter_unnamed(
        &mut self,
        start: u64,
        end: u64,
        is_exact: bool,
        upper: Option<Vec<u8>>,
        lost: &mut dyn FnMut(LostBlocks),
    ) -> bool {
        let is_complete = if is_exact { start >= end } else { self.entries == Some(self.read) };
        if is_complete {
            return false;
        }
        self.upper.clone_from(&upper);
        let found = self.find_block(start, end);
        match found {
            Ok((block, len)) => {
                self.pieces.push_front(unnamed(start + len, end, is_exact, upper));
                // Its last key is not known, but none of the stretch is behind the end of it.
                self.enter_block(block, lost)
            }
            Err(error) => {
                self.lose(start, error, lost);
                false
            }
        }
    }

    /// The block at `start`, and its length in the file.
    fn find_block(&mut self, start: u64, end: u64) -> Result<(Block, u64)> {
        let end = end.min(self.file_len);
        let mut hashed = 0;
        let mut from = 1;
        for want in [SCAN_READ, SCAN_BLOCK_MAX] {
            let bytes = self.scan.at(&*self.file, &self.path, start, want, end)?;
            let until = bytes.len().min(want).saturating_sub(TRAILER_LEN);
            for len in from..=until {
                if !may_end(bytes, len) {
                    continue;
                }
                hashed += len;
                if hashed > SCAN_HASHED_MAX {
                    break;
                }
                let stored = bytes.get(..len + TRAILER_LEN).unwrap_or_default();
                if let Some(block) = open_unnamed(stored, &self.path, self.table_id, start, len) {
                    return Ok((block, stored.len() as u64));
                }
            }
            from = until + 1;
        }
        Err(Error::corruption(&self.path, start, "no block is found here, and no index names one"))
    }

    /// Takes the entry that a step led to, if it may stand there; else gives up the rest of the block.
    fn accept(&mut self, step: Option<()>, lost: &mut dyn FnMut(LostBlocks)) -> bool {
        if step.is_some() && !self.cursor.valid() {
            // The end of a block.
            if let Some(upper) = self.upper.take().filter(|_| self.next_is_named()) {
                self.lower = Some(upper);
            }
            return false;
        }
        let key = self.cursor.key();
        let follows = self.last.as_ref().is_none_or(|(last, trailer)| {
            key.user_key.cmp(last).then(trailer.cmp(&key.trailer())) == Ordering::Greater
        });
        let within = self.upper.as_deref().is_none_or(|upper| key.user_key <= upper);
        if step.is_none() || !follows || !within {
            let error = Error::corruption(&self.path, 0, "entries of a block are out of order");
            self.cursor.leave();
            self.lose(0, error, lost);
            return false;
        }
        let (user_key, trailer) = (key.user_key, key.trailer());
        let last = self.last.get_or_insert_default();
        last.0.clear();
        last.0.extend_from_slice(user_key);
        last.1 = trailer;
        self.read += 1;
        true
    }

    /// False while blocks of the same unnamed stretch follow: its upper end is not that of the block.
    fn next_is_named(&self) -> bool {
        !matches!(self.pieces.front(), Some(Piece::Unnamed { start, .. }) if *start > 0)
    }

    fn lose(&mut self, offset: u64, error: Error, lost: &mut dyn FnMut(LostBlocks)) {
        let seen = self.last.as_ref().map(|(key, _)| key.clone());
        let lower = self.lower.clone().max(seen);
        let upper = self.upper.take();
        if upper.is_some() {
            self.lower.clone_from(&upper);
        }
        lost(LostBlocks { offset, lower, upper, error });
    }
}

fn unnamed(start: u64, end: u64, is_exact: bool, upper: Option<Vec<u8>>) -> Piece {
    Piece::Unnamed { start, end, is_exact, upper }
}

/// False if no data block can end its payload at `len`: cheaper than a checksum.
fn may_end(bytes: &[u8], len: usize) -> bool {
    let tail = |payload: &[u8]| {
        let [n0, n1, n2, n3, i0, i1, f0, f1] = *payload.last_chunk::<BLOCK_TAIL_LEN>()?;
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u16::from_le_bytes([f0, f1]);
        let interval = u16::from_le_bytes([i0, i1]);
        Some(count > 0 && count as usize <= payload.len() && interval > 0 && flags & !FLAGS == 0)
    };
    match bytes.get(len) {
        Some(0) => bytes.get(..len).and_then(tail).unwrap_or(false),
        Some(1) => true,
        _ => false,
    }
}

/// The block in `stored`, if its checksum says that it is one.
fn open_unnamed(
    stored: &[u8],
    path: &Path,
    table_id: Option<u64>,
    offset: u64,
    len: usize,
) -> Option<Block> {
    let (tagged, checksum) = stored.split_last_chunk::<4>()?;
    let table_id = table_id?;
    if block_checksum(tagged, table_id, offset) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let opener = Opener { path, table_id, uncompressed_max: UNCOMPRESSED_MAX, pool: None };
    let payload = opener.open(stored, Handle { offset, len: len as u64 }).ok()?;
    Block::parse(payload.data, payload.len).ok()
}

/// Bytes of the file around the place that is searched.
#[derive(Debug, Default)]
struct ScanWindow {
    bytes: Vec<u8>,
    start: u64,
}

impl ScanWindow {
    /// The bytes of `file` from `offset`, `want` of them unless they would reach past `end`.
    fn at(
        &mut self,
        file: &dyn RandomAccessFile,
        path: &Path,
        offset: u64,
        want: usize,
        end: u64,
    ) -> Result<&[u8]> {
        let want = (want as u64).min(end.saturating_sub(offset));
        let kept = offset >= self.start
            && offset.saturating_add(want) <= self.start.saturating_add(self.bytes.len() as u64);
        if !kept {
            let len = want.max(4 * SCAN_READ as u64).min(end.saturating_sub(offset));
            self.start = offset;
            self.bytes.clear();
            self.bytes.resize(usize::try_from(len).unwrap_or(0), 0);
            let read = file.read_exact_at(&mut self.bytes, offset);
            read.inspect_err(|_| self.bytes.clear()).context("read", path)?;
        }
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}
