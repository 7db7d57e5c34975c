//! Moving data: the job that brings partitions to their new owners while the cluster serves.
//!
//! What is agreed on (which partitions move, and how far each has come) is in the topology, so a job outlives every process that
//! works on it. Two state machines work on it:
//!
//! - [`Driver`] proposes the stages. One node runs it; if two do, each proposal is for one epoch, so no harm comes of it. It holds
//!   nothing that must not be lost: a new one asks again.
//! - [`Mover`] runs on every node. It fetches what its node is to receive, page by page, catches up, and deletes what its node is to
//!   hold no more. How far it has come is on its node's disk, in the batch that holds the data.
//!
//! | state of a move | where it is synced | next, once |
//! | --- | --- | --- |
//! | planned | topology: a step without a stage | the driver has room for it |
//! | copying | topology: `Copying`; receiver: cursor | the receiver has stored that it has all pages |
//! | catching up | topology: `Joint` | the sources said that they know of `Joint`, and after that an exchange was complete |
//! | ready | receiver: caught up since the epoch of `Joint` | the driver heard of it from every receiver |
//! | flipped | topology: `Flipped`, the source departs | the source has deleted its copy |
//! | cleaned | topology: the source departs no more | |
//!
//! Why this order loses nothing is said in [`topology`](crate::topology).
//!
//! # What this module does not know
//! Databases and messages: both machines say what they want done, and are told how it ended.

mod driver;
mod duty;
mod estimate;
mod mover;
mod record;

#[cfg(test)]
mod tests;

pub use driver::{Driver, DriverEffect, DriverEvent, DriverOptions};
pub use duty::{Duty, duty};
pub use estimate::{Estimate, JobProgress, progress};
pub use mover::{Mover, MoverEffect, MoverEvent, MoverOptions, Ticket};
pub use record::{Cursor, MoveRecord, MoveReport, Moving, Report};
