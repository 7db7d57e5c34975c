//! Sorted table files: one immutable file of internal entries in key order.
//!
//! ```text
//! offset 0   data block, data block, ...      entries, see `block`
//!            index partition, ...             separators and lengths of data blocks, see `index`
//!            top index                        the same over the partitions
//!            filter                           Bloom filter of the user keys (absent: 0 bytes)
//!            range tombstones                 fragments, see `tombstones` (absent: 0 bytes)
//!            properties                       tagged fields, see `properties`
//!  len - 88  footer                           handles, table id, version, checksum, magic, see `footer`
//! ```
//! Blocks follow one another without a gap, so every byte belongs to a block or the footer, and a
//! handle that does not chain is damage. Every block ends in a compression tag and a checksum over
//! its bytes, its tag, the id of the table and its offset (`envelope`).
//!
//! # What may come without a new format version
//! Value kinds 3 to 15 (merge operands, expiry, separated values), compression tag 2 (zstd), properties
//! with new tags: below 128 old readers skip them, from 128 on they refuse the table.
//!
//! # What this crate does not know
//! Levels, versions, snapshots as objects, and whether a range tombstone hides an entry: it hands out
//! both and the engine above decides.
//!
//! # Sources
//! Layout and two-level index after LevelDB and RocksDB (`table/block_based`). New here: entries share
//! their prefix with the *restart* key, not with their predecessor, so that each decodes alone; and
//! the in-block hash index is one byte of hash per entry, searched eight at a time.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod bench;
mod block;
mod cache;
mod digits;
mod envelope;
mod filter;
mod footer;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod iter;
mod line;
mod options;
mod pinned;
mod pipeline;
mod properties;
mod reader;
mod remains;
mod sealing;
mod table_cache;
mod tombstones;
mod usage;
mod verify;
mod writer;

pub use cache::BlockCache;
pub use footer::{FOOTER_LEN, FORMAT_VERSION};
pub use iter::TableIterator;
pub use options::{CacheHint, Compression, KeyspaceLabel, TableOptions};
pub use pinned::PinnedTable;
pub use pipeline::Helper;
pub use properties::Properties;
pub use reader::{BlockRef, Entry, TableReader};
pub use remains::{LostBlocks, TableRemains};
pub use table_cache::TableCache;
pub use usage::TableUsage;
pub use verify::{Verification, VerifyReport};
pub use writer::{TableSummary, TableWriter};

#[cfg(test)]
mod tests;
