//! Table footer: the fixed tail a reader parses before anything else.
//!
//! ```text
//! offset size field
//!      0   16 top index         u64 LE offset, u64 LE length in bytes without the block trailer
//!     16   16 filter            the same; length 0 = absent, and then no trailer either
//!     32   16 range tombstones  the same; length 0 = absent
//!     48   16 properties        the same
//!     64    8 table id          u64 LE
//!     72    4 version           u32 LE, see `FORMAT_VERSION`
//!     76    4 checksum          u32 LE, `block_checksum` of bytes 0..76, bound to table id and offset
//!     80    8 magic             b"ESKERSST"
//! ```
//! Invariant: length, version, checksum and magic keep their places in every version, so that a
//! table of a newer version is told apart from a damaged one.
//!
//! The four blocks follow one another and end at the footer; [`Footer::decode`] checks that.

use crate::envelope::Handle;
use base::checksum::block_checksum;
use base::coding::Reader;
use base::{Error, Result};
use std::path::Path;

/// Newest version of the format that this build reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"ESKERSST";
const HANDLE_LEN: usize = 2 * size_of::<u64>();
const TABLE_ID_OFFSET: usize = 4 * HANDLE_LEN;
const VERSION_OFFSET: usize = TABLE_ID_OFFSET + size_of::<u64>();
const CHECKSUM_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const MAGIC_OFFSET: usize = CHECKSUM_OFFSET + size_of::<u32>();
/// Bytes of the footer.
pub const FOOTER_LEN: usize = MAGIC_OFFSET + MAGIC.len();
const _: () = assert!(FOOTER_LEN == 88, "drawing and constants disagree");

/// The footer's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) top_index: Handle,
    pub(crate) filter: Handle,
    pub(crate) tombstones: Handle,
    pub(crate) properties: Handle,
}

impl Footer {
    /// The footer's bytes, to be written at `offset`.
    pub(crate) fn encode(&self, table_id: u64, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        for handle in self.handles() {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&table_id.to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&block_checksum(&out, table_id, offset).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }

    fn handles(&self) -> [Handle; 4] {
        [self.top_index, self.filter, self.tombstones, self.properties]
    }

    /// Reads the footer, the last bytes of the table `table_id`, which lies at `offset` of `path`.
    pub(crate) fn decode(
        bytes: &[u8; FOOTER_LEN],
        path: &Path,
        table_id: u64,
        offset: u64,
    ) -> Result<Footer> {
        let damage = |detail: String| Error::corruption(path, offset, detail);
        if bytes[MAGIC_OFFSET..] != MAGIC {
            return Err(damage("not a table: magic missing".into()));
        }
        let mut r = Reader::new(bytes);
        let mut handle = || Some(Handle { offset: r.u64()?, len: r.u64()? });
        let handles = (handle(), handle(), handle(), handle());
        let (Some(found_id), Some(version), Some(stored)) = (r.u64(), r.u32(), r.u32()) else {
            return Err(damage("footer ends early".into()));
        };
        let checksum = block_checksum(&bytes[..CHECKSUM_OFFSET], found_id, offset);
        if checksum != stored {
            return Err(damage(format!(
                "footer checksum mismatch stored={stored:#x} found={checksum:#x}"
            )));
        }
        if version == 0 || version > FORMAT_VERSION {
            let path = path.to_path_buf();
            return Err(Error::UnsupportedFormat {
                path,
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        if found_id != table_id {
            return Err(damage(format!(
                "another table's file expected={table_id} found={found_id}"
            )));
        }
        let (Some(top_index), Some(filter), Some(tombstones), Some(properties)) = handles else {
            return Err(damage("footer ends early".into()));
        };
        let footer = Footer { top_index, filter, tombstones, properties };
        footer.check_chain(offset).ok_or_else(|| damage("footer handles do not chain".into()))?;
        Ok(footer)
    }

    /// The id in the bytes of a footer, which may be damaged.
    pub(crate) fn table_id(bytes: &[u8; FOOTER_LEN]) -> u64 {
        let id = bytes[TABLE_ID_OFFSET..].first_chunk().copied();
        u64::from_le_bytes(id.unwrap_or_default())
    }

    /// The four blocks lie one behind the other up to the footer at `offset`.
    fn check_chain(&self, offset: u64) -> Option<()> {
        let end_of = |handle: Handle, optional: bool| {
            let absent = optional && handle.len == 0;
            let stored_len =
                if absent { 0 } else { handle.len.checked_add(Handle::default().stored_len())? };
            handle.offset.checked_add(stored_len)
        };
        let chained = end_of(self.top_index, false)? == self.filter.offset
            && end_of(self.filter, true)? == self.tombstones.offset
            && end_of(self.tombstones, true)? == self.properties.offset
            && end_of(self.properties, false)? == offset;
        chained.then_some(())
    }
}
