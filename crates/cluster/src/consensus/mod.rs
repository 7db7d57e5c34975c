//! The seam for agreement: who proposes a change of the topology learns whether it was made, and everybody sees the same changes in the
//! same order.
//!
//! [`SingleCopy`] keeps the topology in one database, for clusters whose one process is also the place of agreement. One over several
//! machines, by Raft, fits the same trait: a proposal may come back as [`ProposeError::NotLeader`], or as [`ProposeError::Unknown`] when
//! leadership was lost on the way, and what became of it is found out by [`outcome`].
//!
//! # Promises
//! Of an implementation, whoever stands behind it:
//! 1. a proposal that ends with `Ok` was made at the epoch after the expected one, and is on disk wherever that is needed for it never to
//!    be lost;
//! 2. one that ends with an error other than `Unknown` was not made, and never will be;
//! 3. a read answers a topology at least as new as any that was answered, or shown to a watcher, before the read began;
//! 4. a watcher sees epochs ascend; it may miss some. `known` is never older than what a watcher of this node has seen;
//! 5. `done` is called once.

mod queue;
mod single;

#[cfg(test)]
mod tests;

pub use single::{OpenError, SingleCopy};

use crate::topology::{Change, Entry, ProposalId, Refusal, Topology, Update};
use crate::transport::Detail;
use ring::{Epoch, NodeId};
use std::fmt;
use std::sync::Arc;

/// A change that is to be made to one topology and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Names it.
    pub id: ProposalId,
    /// The epoch of the topology that the change was made up for.
    pub expected: Epoch,
    /// The change.
    pub change: Change,
}

/// Why a proposal was not made, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The topology is another one by now. Look at it, and propose again what is still wanted.
    #[error("topology has changed; look at it and propose again current={current}")]
    Conflict {
        /// Its epoch.
        current: Epoch,
    },
    /// The change does not fit the topology.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node cannot decide; another one can.
    #[error("this node does not lead; ask the one that does")]
    NotLeader {
        /// Which one, if it is known.
        leader: Option<NodeId>,
    },
    /// As many proposals wait as may, or as many bytes of them.
    #[error("too many proposals wait; try again later")]
    Overloaded,
    /// It may have been made, or be made yet. Read, then ask [`outcome`].
    #[error("outcome unknown; read the topology and look for the proposal: {0}")]
    Unknown(Detail),
    /// Agreement has ended here: its disk failed, or it was closed.
    #[error("agreement has stopped here: {0}")]
    Stopped(Detail),
}

/// Why the topology cannot be read. Trying again later may help, unless it stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Nobody who could tell was reached.
    #[error("nobody who knows the newest topology was reached")]
    Unavailable,
    /// Agreement has ended here.
    #[error("agreement has stopped here: {0}")]
    Stopped(Detail),
}

/// Told how a proposal ended.
pub type Proposed = Box<dyn FnOnce(Result<Arc<Topology>, ProposeError>) + Send>;

/// Told what was read.
pub type Read = Box<dyn FnOnce(Result<Arc<Topology>, ReadError>) + Send>;

/// Told of new topologies, on any thread, one call after the other. Must not block.
pub type Watcher = Box<dyn Fn(&Arc<Topology>) + Send + Sync>;

/// A watcher that is called. Not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Agreement on the topology. Shared as `Arc<dyn Consensus>`.
pub trait Consensus: fmt::Debug + Send + Sync + 'static {
    /// Proposes a change, and calls `done` with the topology it led to.
    fn propose(&self, proposal: Proposal, done: Proposed);

    /// Reads the newest topology there is.
    fn read(&self, done: Read);

    /// The newest topology that this node knows, at once.
    fn known(&self) -> Arc<Topology>;

    /// What brings a topology of epoch `from` to [`Consensus::known`]; `None` if it is as new. Changes, or the whole where changes so
    /// old are not kept.
    fn since(&self, from: Epoch) -> Option<Update>;

    /// Calls `watcher` with the topology known now, soon, and then with later ones.
    fn watch(&self, watcher: Watcher) -> WatchId;

    /// Ends a watch. A call that has begun may still be under way.
    fn unwatch(&self, watch: WatchId);
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was made.
    Made,
    /// It was not, and never will be.
    NotMade,
    /// The topology has not changed since: it may be made yet. Propose it again; only one of them can be made.
    Open,
    /// It is too long ago. The topology says whether what was wanted is there.
    Forgotten,
}

/// What became of the proposal `id` for epoch `expected`, by what [`Consensus::since`] says of that epoch *after* a read.
#[must_use]
pub fn outcome(id: ProposalId, expected: Epoch, since: Option<&Update>) -> Outcome {
    let made = |entries: &[Entry]| {
        let next = entries.iter().find(|entry| entry.epoch.0 == expected.0.saturating_add(1));
        match next {
            Some(entry) if entry.id == id => Outcome::Made,
            Some(_) => Outcome::NotMade,
            None => Outcome::Forgotten,
        }
    };
    match since {
        None => Outcome::Open,
        Some(Update::Entries(entries)) => made(entries),
        Some(Update::Whole(_)) => Outcome::Forgotten,
    }
}
