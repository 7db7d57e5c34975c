//! Which files make up the database: tables in runs and levels, log segments, keyspaces.
//!
//! | item | what it is |
//! | --- | --- |
//! | [`TableMeta`], [`UpperBound`] | one table file and the keys it spans |
//! | [`Version`], [`Level`], [`Run`] | the tables of one keyspace, immutable |
//! | [`VersionEdit`] | a change of the whole database, applied whole or not at all |
//! | [`State`] | what the edits so far add up to |
//! | [`Manifest`] | the log of edits on disk |
//! | [`remains`](remains()) | what damaged manifests still say, for salvage |
//!
//! # What this crate does not know
//! What is in a table or in a log segment, when to compact, which files are still being read: it
//! records decisions, it takes none.
#![forbid(unsafe_code)]

mod codec;
mod current;
mod edit;
mod frame;
mod io;
mod remains;
mod replay;
mod state;
mod store;
mod table;
#[cfg(test)]
mod testing;
mod version;

pub use codec::DecodeError;
pub use edit::{AddedTable, ClosedSegment, NewKeyspace, TableChanges, VersionEdit};
pub use remains::{ManifestRemains, Remains, remains};
pub use state::{KeyspaceState, SegmentState, State};
pub use store::{Manifest, ManifestOptions};
pub use table::{TableMeta, UpperBound};
pub use version::{LEVELS_MAX, Level, Run, RunId, Version};
