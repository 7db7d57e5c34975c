//! The back half of a table writer: takes finished blocks in order, compresses and wraps them, and hands them to the file.

use crate::Compression;
use crate::envelope::{Handle, Sealer};
use crate::index::IndexBlockBuilder;
use base::{Error, IoContext, Result};
use std::path::PathBuf;
use vfs::WritableFile;

/// Bytes gathered before they are handed to the file system.
const WRITE_BYTES: usize = 256 << 10;

/// What lies behind the block builder. After an error every later call fails.
#[derive(Debug)]
pub(crate) struct Sealing {
    file: Box<dyn WritableFile>,
    path: PathBuf,
    /// Bytes not yet handed to the file, and where they will lie.
    out: Vec<u8>,
    out_offset: u64,
    sealer: Sealer,
    compression: Compression,
    index: IndexWriter,
    failed: Option<Error>,
}

impl Sealing {
    pub(crate) fn new(
        file: Box<dyn WritableFile>,
        path: PathBuf,
        table_id: u64,
        compression: Compression,
        index_partition_bytes: usize,
    ) -> Sealing {
        Sealing {
            file,
            path,
            out: Vec::new(),
            out_offset: 0,
            sealer: Sealer::new(table_id),
            compression,
            index: IndexWriter::new(index_partition_bytes),
            failed: None,
        }
    }

    /// Writes a data block. Its keys are at most `(separator, trailer)`, those of the next block are above.
    pub(crate) fn data_block(
        &mut self,
        payload: &[u8],
        separator: &[u8],
        trailer: u64,
    ) -> Result<()> {
        let handle = self.block(payload, self.compression)?;
        self.index.add(separator, trailer, handle);
        Ok(())
    }

    /// The same for what a [`Packer`](crate::envelope::Packer) made of a block.
    pub(crate) fn packed_block(
        &mut self,
        bytes: &[u8],
        packed: Compression,
        separator: &[u8],
        trailer: u64,
    ) -> Result<()> {
        self.check_failed()?;
        let offset = self.offset();
        let handle = self.sealer.seal_packed(bytes, packed, offset, &mut self.out);
        self.write_if_much()?;
        self.index.add(separator, trailer, handle);
        Ok(())
    }

    /// What data blocks are compressed by.
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Writes any block.
    pub(crate) fn block(&mut self, payload: &[u8], compression: Compression) -> Result<Handle> {
        self.check_failed()?;
        let offset = self.offset();
        let handle = self.sealer.seal(payload, compression, offset, &mut self.out);
        self.write_if_much()?;
        Ok(handle)
    }

    /// Writes the index; no data block comes behind it. Returns the handle of its top.
    pub(crate) fn write_index(&mut self) -> Result<Handle> {
        let mut top = IndexBlockBuilder::default();
        for partition in self.index.take_partitions() {
            let handle = self.block(&partition.encode(), Compression::None)?;
            let (user_key, trailer) = partition.last();
            top.add(user_key, trailer, handle);
        }
        self.block(&top.encode(), Compression::None)
    }

    /// Writes bytes that are no block, and all that was gathered.
    pub(crate) fn write_last(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_failed()?;
        self.out.extend_from_slice(bytes);
        self.write_out()
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync().context("sync", &self.path)
    }

    /// Where the next block will lie.
    pub(crate) fn offset(&self) -> u64 {
        self.out_offset + self.out.len() as u64
    }

    /// Bytes of the index so far.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index.size()
    }

    /// Bytes held in memory.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.out.capacity() + self.index.size() as usize
    }

    pub(crate) fn check_failed(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn write_if_much(&mut self) -> Result<()> {
        if self.out.len() >= WRITE_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<()> {
        let written = self.file.append(&self.out).context("append", &self.path);
        if let Err(e) = &written {
            self.failed = Some(e.clone());
        }
        self.out_offset += self.out.len() as u64;
        self.out.clear();
        written
    }
}

/// Collects the index; it is written behind the data.
#[derive(Debug)]
struct IndexWriter {
    partition_bytes: usize,
    done: Vec<IndexBlockBuilder>,
    done_bytes: usize,
    current: IndexBlockBuilder,
}

impl IndexWriter {
    fn new(partition_bytes: usize) -> IndexWriter {
        let current = IndexBlockBuilder::default();
        IndexWriter { partition_bytes, done: Vec::new(), done_bytes: 0, current }
    }

    fn add(&mut self, user_key: &[u8], trailer: u64, handle: Handle) {
        self.current.add(user_key, trailer, handle);
        if self.current.len() >= self.partition_bytes {
            base::probe!("index in several partitions");
            self.done_bytes += self.current.len();
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn size(&self) -> u64 {
        (self.done_bytes + self.current.len()) as u64
    }

    fn take_partitions(&mut self) -> Vec<IndexBlockBuilder> {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
        std::mem::take(&mut self.done)
    }
}
