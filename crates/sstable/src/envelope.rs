//! What every block is wrapped in on disk.
//!
//! ```text
//!     payload   as it is, or: u32 LE uncompressed length, LZ4 block
//!   1 tag       u8, compression: 0 none, 1 lz4, 2 reserved for zstd
//!   4 checksum  u32 LE, `base::checksum::block_checksum` of payload and tag, bound to table id and offset
//! ```
//! A length is believed only if the file has that many bytes, and an uncompressed length only if LZ4
//! could have made it from that many bytes and the table's properties allow it.

use crate::Compression;
use base::buffer::{BufferMut, Pool};
use base::checksum::block_checksum;
use base::{Error, IoContext, Result};
use std::path::Path;
use std::sync::Arc;
use vfs::RandomAccessFile;

const CHECKSUM_LEN: usize = size_of::<u32>();
/// Bytes after the payload.
pub(crate) const TRAILER_LEN: usize = 1 + CHECKSUM_LEN;
/// Bytes before the LZ4 block.
const LENGTH_LEN: usize = size_of::<u32>();
/// LZ4 makes at most this many bytes of one.
const LZ4_RATIO_MAX: usize = 255;

/// Where a block lies: its offset, and the bytes of its payload without the trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Handle {
    /// Bytes on disk, trailer included.
    pub(crate) fn stored_len(&self) -> u64 {
        self.len.saturating_add(TRAILER_LEN as u64)
    }

    /// Where the next block starts.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored_len())
    }
}

/// Wraps blocks, compressed by itself or elsewhere.
pub(crate) struct Sealer {
    table_id: u64,
    packer: Packer,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("table_id", &self.table_id).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(table_id: u64) -> Sealer {
        Sealer { table_id, packer: Packer::default() }
    }

    /// Appends `payload` and its trailer to `out`, as the block at `offset`. Returns its handle.
    pub(crate) fn seal(
        &mut self,
        payload: &[u8],
        compression: Compression,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Handle {
        let start = out.len();
        let packed = self.packer.pack(payload, compression, out);
        self.close(start, packed, offset, out)
    }

    /// The same for what a [`Packer`] made.
    pub(crate) fn seal_packed(
        &self,
        bytes: &[u8],
        packed: Compression,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Handle {
        let start = out.len();
        out.extend_from_slice(bytes);
        self.close(start, packed, offset, out)
    }

    /// Appends the trailer of the block that begins at `start` of `out`.
    fn close(&self, start: usize, packed: Compression, offset: u64, out: &mut Vec<u8>) -> Handle {
        let len = (out.len() - start) as u64;
        out.push(packed.tag());
        let (id, place) = bound_to(self.table_id, offset);
        let checksum = block_checksum(out.get(start..).unwrap_or_default(), id, place);
        out.extend_from_slice(&checksum.to_le_bytes());
        Handle { offset, len }
    }
}

/// Compresses blocks; keeps its buffers. What it makes of a block depends on nothing but the block.
#[derive(Default)]
pub(crate) struct Packer {
    compressed: Vec<u8>,
    small: lz4_flex::block::CompressTable,
    /// For blocks of [`LARGE_BYTES`]: a table that was made for these finds other matches in smaller ones.
    large: Option<lz4_flex::block::CompressTable>,
}

/// From so many bytes on `lz4_flex` uses another table.
const LARGE_BYTES: usize = u16::MAX as usize;

impl Packer {
    /// Appends `payload` to `out` as it is stored, and says how that is.
    pub(crate) fn pack(
        &mut self,
        payload: &[u8],
        compression: Compression,
        out: &mut Vec<u8>,
    ) -> Compression {
        match compression {
            Compression::Lz4 if self.compress(payload, out) => Compression::Lz4,
            _ => {
                out.extend_from_slice(payload);
                Compression::None
            }
        }
    }

    /// Appends the compressed payload if that saves an eighth.
    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        use lz4_flex::block::{compress_into_with_table, get_maximum_output_size};
        let room = get_maximum_output_size(payload.len());
        if self.compressed.len() < room {
            self.compressed.resize(room, 0);
        }
        let table = match payload.len() < LARGE_BYTES {
            true => &mut self.small,
            false => self.large.get_or_insert_default(),
        };
        let Ok(len) = compress_into_with_table(payload, &mut self.compressed, table) else {
            return false;
        };
        let saves = LENGTH_LEN + len <= payload.len() - payload.len() / 8;
        match (u32::try_from(payload.len()), self.compressed.get(..len)) {
            (Ok(uncompressed), Some(bytes)) if saves => {
                out.extend_from_slice(&uncompressed.to_le_bytes());
                out.extend_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

/// The bytes of a block; a raw one keeps its trailer behind `len`.
pub(crate) struct Payload {
    pub(crate) data: BufferMut,
    pub(crate) len: usize,
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.data.get(..self.len).unwrap_or_default()
    }
}

/// Opens the blocks of one table.
pub(crate) struct Opener<'a> {
    pub(crate) path: &'a Path,
    pub(crate) table_id: u64,
    /// Longest payload to accept after decompression; 0 = compressed blocks are refused.
    pub(crate) uncompressed_max: u64,
    /// Where payloads go; `None`: to the heap.
    pub(crate) pool: Option<&'a Arc<Pool>>,
}

impl Opener<'_> {
    /// Reads the block at `handle` from `file`, which has `file_len` bytes.
    pub(crate) fn read(
        &self,
        file: &dyn RandomAccessFile,
        file_len: u64,
        handle: Handle,
    ) -> Result<Payload> {
        let stored_len =
            usize::try_from(handle.stored_len()).ok().filter(|_| handle.end() <= file_len);
        let Some(stored_len) = stored_len else {
            return Err(self.damage(
                handle,
                format!("block leaves the file len={} file_len={file_len}", handle.len),
            ));
        };
        let mut data = BufferMut::zeroed(stored_len);
        match file.read_exact_at(&mut data, handle.offset) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.damage(handle, "file ends inside a block".into()));
            }
            other => other.context("read", self.path)?,
        }
        let (payload, compression) = self.check(&data, handle)?;
        match compression {
            Compression::None if self.pool.is_some() => Ok(self.copy(payload)),
            Compression::None => Ok(Payload { len: payload.len(), data }),
            Compression::Lz4 => self.decompress(payload, handle),
        }
    }

    /// Opens a block whose stored bytes are at hand already.
    pub(crate) fn open(&self, stored: &[u8], handle: Handle) -> Result<Payload> {
        let (payload, compression) = self.check(stored, handle)?;
        match compression {
            Compression::None => Ok(self.copy(payload)),
            Compression::Lz4 => self.decompress(payload, handle),
        }
    }

    /// Checks checksum and tag.
    fn check<'s>(&self, stored: &'s [u8], handle: Handle) -> Result<(&'s [u8], Compression)> {
        let short = || self.damage(handle, "block shorter than its trailer".into());
        let (tagged, checksum) = stored.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(short)?;
        let (id, place) = bound_to(self.table_id, handle.offset);
        let (stored, found) = (u32::from_le_bytes(*checksum), block_checksum(tagged, id, place));
        if stored != found && !base::planted::is(43) {
            base::probe!("block with a wrong checksum");
            return Err(self.damage(
                handle,
                format!("block checksum mismatch stored={stored:#x} found={found:#x}"),
            ));
        }
        let (&tag, payload) = tagged.split_last().ok_or_else(short)?;
        match Compression::from_tag(tag) {
            Some(compression) => Ok((payload, compression)),
            None => Err(self.damage(handle, format!("unknown compression tag={tag}"))),
        }
    }

    fn decompress(&self, payload: &[u8], handle: Handle) -> Result<Payload> {
        let Some((length, compressed)) = payload.split_first_chunk::<LENGTH_LEN>() else {
            return Err(self.damage(handle, "compressed block without a length".into()));
        };
        let len = u32::from_le_bytes(*length) as usize;
        let plausible = len <= compressed.len().saturating_mul(LZ4_RATIO_MAX).saturating_add(64);
        if !plausible || len as u64 > self.uncompressed_max {
            return Err(self.damage(handle, format!("uncompressed length out of range len={len}")));
        }
        let mut data = self.buffer(len);
        match lz4_flex::block::decompress_into(compressed, &mut data) {
            Ok(n) if n == len => Ok(Payload { data, len }),
            Ok(n) => {
                Err(self
                    .damage(handle, format!("uncompressed length mismatch stored={len} found={n}")))
            }
            Err(e) => Err(self.damage(handle, format!("lz4: {e}"))),
        }
    }

    fn copy(&self, payload: &[u8]) -> Payload {
        let mut data = self.buffer(payload.len());
        data.copy_from_slice(payload);
        Payload { len: payload.len(), data }
    }

    /// A fresh buffer for a payload.
    fn buffer(&self, len: usize) -> BufferMut {
        match self.pool {
            Some(pool) => BufferMut::in_pool(len, pool),
            None => BufferMut::zeroed(len),
        }
    }

    fn damage(&self, handle: Handle, detail: String) -> Error {
        Error::corruption(self.path, handle.offset, detail)
    }
}

/// What the checksum of a block depends on besides its bytes.
#[inline]
fn bound_to(table_id: u64, offset: u64) -> (u64, u64) {
    if base::planted::is(27) { (0, 0) } else { (table_id, offset) }
}
