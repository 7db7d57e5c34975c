//! Writes a table, front to back.

use crate::block::BlockBuilder;
use crate::envelope::Handle;
use crate::footer::Footer;
use crate::index::shortest_separator;
use crate::pipeline::{Aside, Back, Helper};
use crate::sealing::Sealing;
use crate::usage::BufferCharge;
use crate::{Compression, Properties, TableOptions, TableUsage, tombstones};
use base::checksum::key_hash;
use base::limits::{check_bound, check_key, check_value};
use base::{Error, Fragments, InternalKey, IoContext, Result, SeqNo, ValueKind};
use std::path::Path;
use std::sync::Arc;
use vfs::Fs;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// The id given to [`TableWriter::create`].
    pub table_id: u64,
    /// Size of the file.
    pub size_bytes: u64,
    /// Point entries, deletes included.
    pub entries: u64,
    /// Point entries that are deletes.
    pub deletes: u64,
    /// Range tombstones, counted in every fragment that they cover.
    pub range_tombstones: u64,
    /// User keys and values of point entries, uncompressed.
    pub raw_bytes: u64,
    /// Smallest user key of an entry or range tombstone.
    pub smallest: Vec<u8>,
    /// Largest user key of an entry, or the end of the last range tombstone if that is beyond it.
    pub largest: Vec<u8>,
    /// True if `largest` is a range tombstone's end, which is not part of it.
    pub largest_exclusive: bool,
    /// Smallest sequence number of entries and range tombstones; 0 if there are none.
    pub seq_min: SeqNo,
    /// Largest sequence number of entries and range tombstones; 0 if there are none.
    pub seq_max: SeqNo,
}

/// Writes one table. Entries come in ascending order; [`finish`](Self::finish) makes it a table.
///
/// Holds one block, the index, and 8 bytes per distinct key for the filter. A writer dropped without
/// `finish` leaves a part of a file, for the caller to remove. After an error every later call fails.
#[derive(Debug)]
pub struct TableWriter {
    table_id: u64,
    options: TableOptions,
    block: BlockBuilder,
    back: Back,
    filter: Option<bloom::Builder>,
    fragments: Option<Fragments>,
    properties: Properties,
    last_key: Vec<u8>,
    last_trailer: u64,
    charge: BufferCharge,
}

impl TableWriter {
    /// Creates or truncates the file at `path`. `table_id` must be unique among all tables that might be
    /// mistaken for one another; readers must know it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options out of range; [`Error::Io`], [`Error::NoSpace`].
    pub fn create(
        fs: &dyn Fs,
        path: &Path,
        table_id: u64,
        options: TableOptions,
    ) -> Result<TableWriter> {
        options.validate()?;
        let bits = options.filter_bits_per_key;
        let filter = (bits > 0).then(|| bloom::Builder::new(bits)).transpose();
        let filter = filter.map_err(|e| Error::invalid("filter_bits_per_key", e.to_string()))?;
        let properties = Properties {
            compression: options.compression,
            filter_bits_per_key: bits,
            block_size_bytes: options.block_size_bytes as u64,
            restart_interval: options.restart_interval as u64,
            seq_min: SeqNo::MAX,
            keyspace: options.keyspace.clone(),
            ..Properties::created_here()
        };
        let file = fs.create(path).context("create", path)?;
        let sealing = Sealing::new(
            file,
            path.to_path_buf(),
            table_id,
            options.compression,
            options.index_block_size_bytes,
        );
        Ok(TableWriter {
            table_id,
            block: BlockBuilder::new(options.restart_interval),
            back: Back::Here(Box::new(sealing)),
            filter,
            fragments: None,
            properties,
            last_key: Vec::new(),
            last_trailer: 0,
            charge: BufferCharge::default(),
            options,
        })
    }

    /// Counts what the writer holds in memory in [`TableUsage::buffer_bytes`] of `usage`.
    #[must_use]
    pub fn counted_in(mut self, usage: &Arc<TableUsage>) -> TableWriter {
        self.charge = BufferCharge::to(usage);
        self
    }

    /// Writes to another file than the one created.
    #[cfg(test)]
    pub(crate) fn written_to(mut self, file: Box<dyn vfs::WritableFile>) -> TableWriter {
        let (path, options) = (Path::new("elsewhere").to_path_buf(), &self.options);
        let (compression, index) = (options.compression, options.index_block_size_bytes);
        let sealing = Sealing::new(file, path, self.table_id, compression, index);
        self.back = Back::Here(Box::new(sealing));
        self
    }

    /// Has blocks compressed and written by `helper` while the next ones are built. Which bytes are written does not depend on when
    /// it runs what it is given, or whether it does. Takes some 800 KiB more.
    #[must_use]
    pub fn helped_by(mut self, helper: Helper) -> TableWriter {
        if let Back::Here(sealing) = self.back {
            self.back = Back::Aside(Box::new(Aside::new(sealing, helper)));
        }
        self
    }

    /// Bytes held in memory, with what a filter takes in the end.
    fn buffer_bytes(&self) -> usize {
        let filter = self.filter.as_ref().map_or(0, |f| {
            // Its list of hashes grows by doubling.
            f.len().next_power_of_two() * size_of::<u64>() + f.plan().size_bytes() as usize
        });
        self.back.buffer_bytes() + 2 * self.options.block_size_bytes + filter
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `key` is not above the key before it, is neither a put nor a delete,
    /// or key or value are too large: the entry is then not part of the table, and the writer can go on.
    /// [`Error::Io`] or [`Error::NoSpace`]: the writer cannot go on.
    pub fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<()> {
        self.back.check_failed()?;
        let same_key = self.check_entry(key, value)?;
        if !self.block.is_empty()
            && self.block.size_after(key, value.len()) > self.options.block_size_bytes
        {
            self.close_block(Some(key.user_key))?;
        }
        let hash = key_hash(key.user_key);
        self.block.add(key, value, hash, same_key);
        self.count_entry(key, value, hash, same_key);
        self.last_key.clear();
        self.last_key.extend_from_slice(key.user_key);
        self.last_trailer = key.trailer();
        Ok(())
    }

    /// Whether the entry has the user key of the one before it, if it may follow that one at all.
    fn check_entry(&self, key: InternalKey<'_>, value: &[u8]) -> Result<bool> {
        check_key(key.user_key)?;
        check_value(value)?;
        if key.kind == ValueKind::RangeDelete || key.seq > SeqNo::MAX {
            return Err(Error::invalid("entry", format!("{key:?} is not a point entry")));
        }
        if self.properties.entries == 0 {
            return Ok(false);
        }
        let by_user_key = key.user_key.cmp(&self.last_key);
        if by_user_key.then_with(|| self.last_trailer.cmp(&key.trailer())).is_le() {
            return Err(Error::invalid("entry", format!("{key:?} is not above the key before it")));
        }
        Ok(by_user_key.is_eq())
    }

    fn count_entry(&mut self, key: InternalKey<'_>, value: &[u8], hash: u64, same_key: bool) {
        let p = &mut self.properties;
        if p.entries == 0 {
            p.smallest = key.user_key.to_vec();
        }
        p.entries += 1;
        p.deletes += u64::from(key.kind == ValueKind::Delete);
        p.raw_key_bytes += key.user_key.len() as u64;
        p.raw_value_bytes += value.len() as u64;
        p.seq_min = p.seq_min.min(key.seq);
        p.seq_max = p.seq_max.max(key.seq);
        if !same_key {
            p.user_keys += 1;
            let forgotten = base::planted::is(60) && hash.is_multiple_of(1000);
            if let Some(filter) = self.filter.as_mut().filter(|_| !forgotten) {
                filter.add(hash);
            }
        }
    }

    /// Takes the range tombstones of the table; once, at any time before `finish`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if called twice, or if a key is too large.
    pub fn add_range_tombstones(&mut self, fragments: &Fragments) -> Result<()> {
        self.back.check_failed()?;
        if self.fragments.is_some() {
            return Err(Error::invalid("range tombstones", "given twice"));
        }
        for fragment in fragments.as_slice() {
            check_bound(&fragment.start)?;
            check_bound(&fragment.end)?;
        }
        self.fragments = Some(fragments.clone());
        Ok(())
    }

    /// About how large the file would be if it were finished now.
    #[must_use]
    pub fn file_size_estimate(&self) -> u64 {
        let filter = self.filter.as_ref().map_or(0, |f| f.plan().size_bytes());
        let open = if self.block.is_empty() { 0 } else { self.block.size() as u64 };
        self.back.size_estimate() + open + filter + 512
    }

    /// True if nothing was added, range tombstones included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.properties.entries == 0 && self.fragments.as_ref().is_none_or(Fragments::is_empty)
    }

    /// User key of the last entry; empty if there is none.
    #[must_use]
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Point entries so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// Writes what is left, and syncs the file, but not its directory.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`]; the file is then not a table.
    pub fn finish(mut self) -> Result<TableSummary> {
        self.back.check_failed()?;
        if !self.block.is_empty() {
            self.close_block(None)?;
        }
        let sealing = self.back.here()?;
        self.properties.data_bytes = sealing.offset();
        let top_index = sealing.write_index()?;
        self.properties.index_bytes = sealing.offset() - self.properties.data_bytes;
        let filter = self.write_filter()?;
        let tombstones = self.write_tombstones()?;
        self.complete_properties();
        let sealing = self.back.here()?;
        let properties = sealing.block(&self.properties.encode(), Compression::None)?;
        let footer = Footer { top_index, filter, tombstones, properties };
        sealing.write_last(&footer.encode(self.table_id, sealing.offset()))?;
        if !base::planted::is(10) {
            sealing.sync()?;
        }
        let size_bytes = sealing.offset();
        Ok(self.summary(size_bytes))
    }

    /// Closes the current block, whose separator stands before the user key `next`.
    fn close_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        let payload = self.block.finish();
        if payload.len() > self.options.block_size_bytes {
            base::probe!("block larger than its target");
        }
        self.properties.data_blocks += 1;
        self.properties.block_bytes_max = self.properties.block_bytes_max.max(payload.len() as u64);
        let separated;
        let (separator, trailer) = match next {
            Some(next) if next == self.last_key => {
                base::probe!("versions of a key in two blocks");
                (next, self.last_trailer)
            }
            Some(next) => {
                separated = shortest_separator(&self.last_key, next);
                (&separated[..], 0)
            }
            None => (&self.last_key[..], 0),
        };
        self.back.data_block(payload, separator, trailer)?;
        self.block.clear(&self.last_key);
        self.charge.set(self.buffer_bytes());
        Ok(())
    }

    fn write_filter(&mut self) -> Result<Handle> {
        let sealing = self.back.here()?;
        let start = sealing.offset();
        let handle = match self.filter.take() {
            Some(filter) if self.properties.entries > 0 => {
                sealing.block(&filter.finish(), Compression::None)?
            }
            _ => Handle { offset: start, len: 0 },
        };
        self.properties.filter_bytes = sealing.offset() - start;
        Ok(handle)
    }

    fn write_tombstones(&mut self) -> Result<Handle> {
        let sealing = self.back.here()?;
        match &self.fragments {
            Some(fragments) if !fragments.is_empty() => {
                sealing.block(&tombstones::encode(fragments), Compression::None)
            }
            _ => Ok(Handle { offset: sealing.offset(), len: 0 }),
        }
    }

    /// Widens the bounds by the range tombstones.
    fn complete_properties(&mut self) {
        let p = &mut self.properties;
        let empty = p.entries == 0;
        p.largest = self.last_key.clone();
        let fragments = self.fragments.as_ref().map(Fragments::as_slice).unwrap_or_default();
        let seqs = || fragments.iter().flat_map(|f| &f.seqs);
        p.range_tombstones = seqs().count() as u64;
        p.seq_min = seqs().copied().fold(p.seq_min, SeqNo::min);
        p.seq_max = seqs().copied().fold(p.seq_max, SeqNo::max);
        if let (Some(first), Some(last)) = (fragments.first(), fragments.last()) {
            if empty || first.start < p.smallest {
                p.smallest.clone_from(&first.start);
            }
            if empty || last.end > p.largest {
                p.largest.clone_from(&last.end);
                base::probe!("table ends with a range tombstone");
                p.largest_exclusive = true;
            }
        }
        if empty && fragments.is_empty() {
            p.seq_min = SeqNo(0);
        }
    }

    fn summary(self, size_bytes: u64) -> TableSummary {
        let p = self.properties;
        TableSummary {
            table_id: self.table_id,
            size_bytes,
            entries: p.entries,
            deletes: p.deletes,
            range_tombstones: p.range_tombstones,
            raw_bytes: p.raw_key_bytes + p.raw_value_bytes,
            smallest: p.smallest,
            largest: p.largest,
            largest_exclusive: p.largest_exclusive,
            seq_min: p.seq_min,
            seq_max: p.seq_max,
        }
    }
}
