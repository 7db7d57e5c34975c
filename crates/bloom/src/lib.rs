//! Blocked Bloom filters over 64-bit hashes: a probe touches one 64-byte line, so a lookup costs
//! at most one cache miss.
//!
//! ```
//! let hashes = [0x9e37_79b9_7f4a_7c15_u64, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
//! let mut builder = bloom::Builder::new(10)?;
//! hashes.iter().for_each(|&hash| builder.add(hash));
//! let filter = bloom::Filter::parse(builder.finish())?;
//! assert!(hashes.iter().all(|&hash| filter.may_contain(hash)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this crate does not know
//! Keys, hash functions, tables, files, checksums. The caller hashes (any function whose 64 output
//! bits are uniform, such as xxh3-64) and guards the stored bytes.
//!
//! # Source
//! Bloom, CACM 13(7), 1970; blocked: Putze, Sanders and Singler, "Cache-, Hash- and
//! Space-Efficient Bloom Filters", WEA 2007.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod builder;
mod filter;
mod format;
mod plan;
mod probe;

pub use builder::Builder;
pub use filter::Filter;
pub use format::{FOOTER_LEN, LINE_LEN, ParseError, VERSION};
pub use plan::{BITS_PER_KEY_MAX, FilterPlan, LINES_MAX, PlanError, plan, theoretical_fpr};
