//! The words of the Esker storage engine, which every other crate of the family speaks.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`key`] | [`SeqNo`], [`ValueKind`], [`InternalKey`] and their order |
//! | [`buffer`] | bytes that many share, behind one thin pointer; all `unsafe` code of the crate |
//! | [`pages`] | memory in huge pages |
//! | [`batch`] | the bytes of a write batch |
//! | [`iter`], [`merging`] | the iterator contract, and the merge of many into one |
//! | [`range_del`] | range tombstones and their fragments |
//! | [`coding`], [`checksum`] | integers, checksums and hashes as they lie on disk |
//! | [`ids`], [`limits`] | ids, file names, what is too large |
//! | [`clock`], [`rng`] | the seams for time and randomness |
//! | [`sync`] | locks, atomics and threads, with a seam for checkers |
//! | [`probe`](mod@probe), [`planted`] | for tests of the tests: states to reach, and mistakes to notice |
//!
//! # What this crate does not know
//! Files, logs, tables, levels: it holds the words, not the sentences.
#![deny(unsafe_code)]

pub mod batch;
#[expect(
    unsafe_code,
    reason = "a counted pointer of one word to header and bytes; fenced in one module"
)]
pub mod buffer;
pub mod bytes;
pub mod checksum;
pub mod clock;
pub mod coding;
mod error;
pub mod ids;
mod invariant;
pub mod iter;
pub mod key;
pub mod limits;
pub mod merging;
pub mod pages;
pub mod planted;
pub mod probe;
pub mod range_del;
pub mod rng;
mod slice;
pub mod sync;

pub use error::{Error, ErrorKind, IoContext, Result};
pub use ids::{FileName, FileNum, KeyspaceId};
pub use invariant::INVARIANTS;
pub use iter::InternalIterator;
pub use key::{InternalKey, SeqNo, ValueKind};
pub use merging::MergingIterator;
pub use range_del::{Fragment, Fragments, RangeTombstone};
pub use slice::Slice;
