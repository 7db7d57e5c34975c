//! The write-ahead log: one log for the whole database, in segments.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`record`] | the framing of records, shared by the log and the manifest |
//! | [`segment`] | segment header, link between segments, preparation and recycling of segment files |
//! | [`Log`] | appending, rolling, group commit |
//! | [`replay`](replay()) | reading the log back, and the four [`RecoveryMode`]s |
//!
//! An [`Lsn`] is a byte position over the life of the log: base of the segment plus offset in it.
//! Every record states how far the log had been synced when it was written; that is what tells a torn
//! tail (legal after a power cut) from damage (data that was proven durable is gone).
//!
//! # Life of a segment file
//! 1. [`prepare_segment`] creates it, or renames one that is no longer needed, and syncs file and name;
//! 2. the caller lists it in its manifest, durably; only then [`Log::install_spare`] gets it;
//! 3. the log rolls into it: a header and a link to the previous segment, then records;
//! 4. it is full and closed; [`Log::remove_before`] forgets it once its records are no longer needed;
//! 5. the caller takes it off its manifest, durably; only then it deletes or recycles the file.
//!
//! A number is used for one segment only, ever: a file found unused after a crash is recycled under a
//! new number or deleted, never written under its old one.
//!
//! # What this crate does not know
//! Batches, sequence numbers, keyspaces, the manifest: a payload is bytes.
#![forbid(unsafe_code)]

mod log;
mod lsn;
pub mod record;
mod replay;
pub mod segment;

pub use log::{Appended, Log, LogOptions, NeedSegment, SegmentInfo};
pub use lsn::Lsn;
pub use replay::{RecoveryMode, Replayed, SegmentToReplay, Torn, Visit, replay};
pub use segment::{ClosedSegment, PreparedSegment, database_of, make_durable, prepare_segment};
