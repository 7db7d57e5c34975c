//! The file system as the engine sees it: a small object-safe trait and three implementations.
//!
//! | type | what it is for |
//! | --- | --- |
//! | [`StdFs`] | the real disk |
//! | [`MemFs`] | memory; hands out crash images of any moment, see [`CrashProfile`] |
//! | [`FaultFs`] | wraps another `Fs` and fails the n-th operation, see [`Fault`] |
//!
//! A [`Layer`] passes on to another `Fs` what it does not change. [`suite`] holds the expectations that every implementation must meet.
//!
//! # What this crate does not know
//! Databases, logs, tables, formats: it moves bytes and returns [`std::io::Error`].

#![deny(unsafe_code)]

mod fault_fs;
mod fs;
mod layer;
#[cfg(unix)]
mod mapped;
mod mem;
mod rng;
mod std_fs;
pub mod suite;
mod util;

pub use fault_fs::{Fault, FaultFs, FaultPlan, OpKind};
pub use fs::{FileKind, FileLock, Fs, Metadata, RandomAccessFile, SegmentFile, WritableFile};
pub use layer::Layer;
pub use mem::{CrashProfile, MemFs, OpInfo, Snapshot, SyncOutcome};
pub use std_fs::StdFs;
pub use util::{copy, read_all, write_file_synced};
