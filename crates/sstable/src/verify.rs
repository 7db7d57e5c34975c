//! Checks a whole table against itself, from the file.

use crate::block::Cursor;
use crate::envelope::Handle;
use crate::filter::Filter;
use crate::index::Index;
use crate::reader::{TableReader, Tail};
use crate::{Properties, tombstones};
use base::checksum::key_hash;
use base::{Fragments, InternalKey, IoContext, Result, SeqNo, ValueKind};

/// What [`TableReader::verify`] has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Blocks of all kinds.
    pub blocks: u64,
    /// Bytes: the whole file.
    pub bytes: u64,
    /// Point entries.
    pub entries: u64,
}

/// A [`verify`](TableReader::verify) in steps of one data block. Every call takes the same table.
#[derive(Debug)]
pub struct Verification {
    report: VerifyReport,
    index: Index,
    found: Contents,
    /// The data block that comes next.
    next: usize,
}

impl Verification {
    /// Reads and checks all that is around the data blocks.
    ///
    /// # Errors
    /// As for [`TableReader::verify`].
    pub fn begin(table: &TableReader) -> Result<Verification> {
        let mut report = VerifyReport::default();
        table.verify_tail(&mut report)?;
        let index = table.read_index(|_| report.blocks += 1)?;
        // A damaged filter only slows reads down, but it is damage.
        let filter = table.read_filter()?;
        report.blocks += u64::from(filter.is_some());
        let found = Contents { filter, seq_min: SeqNo::MAX, ..Contents::default() };
        Ok(Verification { report, index, found, next: 0 })
    }

    /// Bytes that [`begin`](Self::begin) has read.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.report.bytes.saturating_sub(self.index.data_end())
    }

    /// True if no data block is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next >= self.index.len()
    }

    /// Reads and checks the next data block. Returns its bytes in the file; 0 if none is left.
    ///
    /// # Errors
    /// As for [`TableReader::verify`]. The next call goes on behind the block; then [`finish`](Self::finish) finds that
    /// entries are missing.
    pub fn step(&mut self, table: &TableReader) -> Result<u64> {
        let number = self.next;
        let Some(handle) = self.index.handle(number) else { return Ok(0) };
        self.next += 1;
        table.verify_block(&self.index, number, &mut self.found)?;
        Ok(handle.stored_len())
    }

    /// Compares what was found with what the table says of itself.
    ///
    /// # Errors
    /// As for [`TableReader::verify`].
    pub fn finish(mut self, table: &TableReader) -> Result<VerifyReport> {
        self.report.blocks += self.found.properties.data_blocks;
        self.report.entries = self.found.properties.entries;
        table.verify_properties(&self.index, self.found)?;
        Ok(self.report)
    }
}

impl TableReader {
    /// Reads every byte of the file, past all caches, and checks everything there is to check: that
    /// blocks and footer fill the file without a gap, checksums, the structure of every block, the order
    /// of keys, separators, that a lookup comes to the block that holds a version, that the filter
    /// knows every key, and every count and bound in the properties.
    ///
    /// # Errors
    /// [`base::Error::Corruption`] at the first thing that is wrong, with its offset; [`base::Error::Io`].
    pub fn verify(&self) -> Result<VerifyReport> {
        let mut verification = Verification::begin(self)?;
        while !verification.is_done() {
            verification.step(self)?;
        }
        verification.finish(self)
    }

    /// Footer, properties and range tombstones are in the file what they were when it was opened.
    fn verify_tail(&self, report: &mut VerifyReport) -> Result<()> {
        let footer_handle = Handle { offset: self.size_bytes(), len: 0 };
        let len = self.file().len().context("len", self.path())?;
        if len != self.size_bytes() {
            return Err(self.damage(footer_handle, &format!("file changed its length len={len}")));
        }
        let footer =
            Tail::read(self.file(), len, self.path())?.footer(self.path(), self.table_id())?;
        if footer != *self.footer() {
            return Err(self.damage(footer_handle, "footer changed since the table was opened"));
        }
        let properties = self.read_meta(footer.properties)?;
        if Properties::decode(properties.bytes()).as_ref() != Ok(self.properties()) {
            return Err(
                self.damage(footer.properties, "properties changed since the table was opened")
            );
        }
        report.bytes = len;
        report.blocks += 1;
        if footer.tombstones.len > 0 {
            let bytes = self.read_meta(footer.tombstones)?;
            if tombstones::decode(bytes.bytes()).as_ref() != Some(self.range_tombstones()) {
                return Err(self.damage(
                    footer.tombstones,
                    "range tombstones changed since the table was opened",
                ));
            }
            report.blocks += 1;
        }
        Ok(())
    }

    /// Entries of one data block: in order, between its separators, known to tags and filter.
    fn verify_block(&self, index: &Index, number: usize, found: &mut Contents) -> Result<()> {
        let handle = index.handle(number).unwrap_or_default();
        let block = self.read_block(handle)?;
        let after = number.checked_sub(1).and_then(|i| index.separator(i));
        let upto = index.separator(number);
        let above = |key: InternalKey<'_>, separator: Option<(&[u8], u64)>| {
            separator.is_none_or(|(k, trailer)| {
                key.user_key.cmp(k).then(trailer.cmp(&key.trailer())).is_gt()
            })
        };
        found.properties.data_blocks += 1;
        found.properties.block_bytes_max =
            found.properties.block_bytes_max.max(block.payload_len() as u64);
        let mut cursor = Cursor::new();
        let mut step = cursor.enter(block.clone(), 0, false);
        // A lookup of a version looks into one block: none may lie behind a separator that the lookup sorts before.
        if step.is_some()
            && cursor.valid()
            && after.is_some_and(|(k, trailer)| {
                k == cursor.key().user_key && (k, trailer) != found.last()
            })
        {
            return Err(self.damage(handle, "separator parts versions of a key"));
        }
        while step.is_some() && cursor.valid() {
            let key = cursor.key();
            let wrong = match found.add(key, cursor.value()) {
                Err(wrong) => Some(wrong),
                Ok((hash, same_key)) if !block.check_tag(cursor.at(), hash, same_key) => {
                    Some("tag of the wrong key")
                }
                Ok(_) if !above(key, after) => {
                    Some("entry not above the separator before its block")
                }
                Ok(_) if upto.is_none() || above(key, upto) => {
                    Some("entry above the separator of its block")
                }
                Ok(_) => None,
            };
            if let Some(wrong) = wrong {
                return Err(self.damage(handle, &format!("{wrong} entry={}", cursor.at())));
            }
            step = cursor.next();
        }
        step.ok_or_else(|| self.broken(handle))
    }

    /// What the properties claim is what was found.
    fn verify_properties(&self, index: &Index, found: Contents) -> Result<()> {
        let (claimed, footer) = (self.properties(), self.footer());
        let mut found = found.with_tombstones(self.range_tombstones());
        found.data_bytes = index.data_end();
        found.index_bytes = footer.filter.offset - index.data_end();
        found.filter_bytes = footer.tombstones.offset - footer.filter.offset;
        let claims_filter = claimed.filter_bits_per_key > 0 && found.entries > 0;
        // What is only a wish has nothing in the contents to be compared with.
        found.compression = claimed.compression;
        found.filter_bits_per_key = claimed.filter_bits_per_key;
        found.block_size_bytes = claimed.block_size_bytes;
        found.restart_interval = claimed.restart_interval;
        found.created_by.clone_from(&claimed.created_by);
        found.keyspace.clone_from(&claimed.keyspace);
        if found != *claimed || claims_filter != (footer.filter.len > 0) {
            let detail = format!(
                "properties disagree with the contents claimed={claimed:?} found={found:?}"
            );
            return Err(self.damage(footer.properties, &detail));
        }
        Ok(())
    }
}

/// What is in the table, counted entry by entry.
#[derive(Debug, Default)]
struct Contents {
    properties: Properties,
    filter: Option<Filter>,
    seq_min: SeqNo,
    last_key: Vec<u8>,
    last_trailer: u64,
}

impl Contents {
    /// Counts an entry. Returns its hash, and whether it has the user key of the one before it.
    fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(u64, bool), &'static str> {
        let p = &mut self.properties;
        let by_user_key = key.user_key.cmp(&self.last_key);
        let first = p.entries == 0;
        if !first && !by_user_key.then(self.last_trailer.cmp(&key.trailer())).is_gt() {
            return Err("keys not ascending");
        }
        let same_key = !first && by_user_key.is_eq();
        let hash = key_hash(key.user_key);
        if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash)) {
            return Err("key unknown to the filter");
        }
        if first {
            p.smallest = key.user_key.to_vec();
        }
        p.entries += 1;
        p.deletes += u64::from(key.kind == ValueKind::Delete);
        p.user_keys += u64::from(!same_key);
        p.raw_key_bytes += key.user_key.len() as u64;
        p.raw_value_bytes += value.len() as u64;
        p.seq_max = p.seq_max.max(key.seq);
        self.seq_min = self.seq_min.min(key.seq);
        self.last_key.clear();
        self.last_key.extend_from_slice(key.user_key);
        self.last_trailer = key.trailer();
        Ok((hash, same_key))
    }

    /// The entry counted last.
    fn last(&self) -> (&[u8], u64) {
        (&self.last_key, self.last_trailer)
    }

    /// The properties of the whole table.
    fn with_tombstones(self, fragments: &Fragments) -> Properties {
        let (mut p, mut seq_min) = (self.properties, self.seq_min);
        let empty = p.entries == 0;
        p.largest = self.last_key;
        for fragment in fragments.as_slice() {
            for &seq in &fragment.seqs {
                p.range_tombstones += 1;
                seq_min = seq_min.min(seq);
                p.seq_max = p.seq_max.max(seq);
            }
        }
        if let (Some(first), Some(last)) =
            (fragments.as_slice().first(), fragments.as_slice().last())
        {
            if empty || first.start < p.smallest {
                p.smallest.clone_from(&first.start);
            }
            if empty || last.end > p.largest {
                p.largest.clone_from(&last.end);
                p.largest_exclusive = true;
            }
        }
        p.seq_min = if empty && fragments.is_empty() { SeqNo(0) } else { seq_min };
        p
    }
}
