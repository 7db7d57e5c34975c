//! Which tables to merge, what may be dropped on the way, and the merge itself.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`policy`] | [`Policy::pick`]: a pure function from a [`View`] to a [`Task`] |
//! | [`leveled`], [`size_tiered`], [`lazy_leveled`], [`fifo`] | the four policies |
//! | [`task`] | [`Task`]: inputs, output, what it may run beside, the edit it ends in |
//! | [`drop_rules`] | which versions no reader can see any more |
//! | [`runner`] | [`run`]: one merge from tables to tables |
//! | [`simulator`] | amplification of a policy for a shape of data, without a disk |
//!
//! # The order that everything here keeps
//! A tree is a list of sorted runs: level by level, within a level by descending run id. For any user
//! key, whatever an earlier run holds is newer than whatever a later run holds. A task takes data
//! down that list and never past older data of an overlapping range (`tree::Tree::build`).
//!
//! # What this crate does not know
//! Threads, manifests on disk, memtables, snapshots as objects: it gets lists and numbers.
#![forbid(unsafe_code)]

mod codec;
pub mod drop_rules;
pub mod fifo;
pub mod lazy_leveled;
pub mod leveled;
mod manual;
mod output;
pub mod policy;
mod run_iter;
pub mod runner;
pub mod simulator;
pub mod size_tiered;
pub mod task;
mod tombstones;
mod tree;

#[cfg(test)]
mod picker_tests;
#[cfg(test)]
mod runner_tests;
#[cfg(test)]
mod scripted_tests;
#[cfg(test)]
mod testing;

pub use drop_rules::{DropRules, OlderData};
pub use fifo::Fifo;
pub use lazy_leveled::LazyLeveled;
pub use leveled::Leveled;
pub use output::table_meta;
pub use policy::{Debt, Policy, View};
pub use runner::{Job, run, write_tables};
pub use size_tiered::SizeTiered;
pub use task::{InputRun, Task, TaskKind};
