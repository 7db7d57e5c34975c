//! The seam between nodes: a request to a node, one answer or one failure.
//!
//! [`InProcess`] connects nodes of one process and breaks on demand. Another transport implements [`Transport`] and passes
//! [`suite::run`], which states what all of them promise.

mod failure;
mod in_process;
mod link;
pub mod suite;

pub use failure::{Advice, DETAIL_MAX, Detail, Failure, NotUnderstood};
pub use in_process::{Counts, InProcess};
pub use link::Link;

use crate::codec::message::{Answer, Failed, Request};
use ring::{Epoch, NodeId};
use std::fmt;
use std::sync::Arc;

/// How messages share the room for bytes under way to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Failure detection and topology: room of their own, so that load is never taken for death.
    Vital,
    /// Writes of clients: all of the room.
    Write,
    /// Point reads: three quarters of it.
    Read,
    /// Scans, repair, moves: half of it.
    Bulk,
}

/// Bounds of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame. Default 32 MiB.
    pub frame_bytes_max: usize,
    /// Most bytes of requests from one node to another that have no answer yet, but for vital ones. Default 64 MiB; at least
    /// two of the longest frames, so that every class has room for one.
    pub in_flight_bytes_max: usize,
    /// The same for vital requests. Default 1 MiB.
    pub vital_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: 32 << 20,
            in_flight_bytes_max: 64 << 20,
            vital_bytes_max: 1 << 20,
        }
    }
}

impl Limits {
    /// Most bytes that may be under way when a request of `class` is added, itself included. Vital ones count by themselves.
    #[must_use]
    pub fn room_for(&self, class: Class) -> usize {
        match class {
            Class::Vital => self.vital_bytes_max,
            Class::Write => self.in_flight_bytes_max,
            Class::Read => self.in_flight_bytes_max / 4 * 3,
            Class::Bulk => self.in_flight_bytes_max / 2,
        }
    }

    /// Every broken rule, a line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (frame, room) = (self.frame_bytes_max, self.in_flight_bytes_max);
        if !(1 << 10..=1 << 30).contains(&frame) {
            faults.push(format!("frame_bytes_max {frame} is outside 1 KiB to 1 GiB"));
        }
        if room / 2 < frame {
            faults.push(format!("in_flight_bytes_max {room} is below two frames of {frame}"));
        }
        if self.vital_bytes_max < 1 << 10 {
            faults.push(format!("vital_bytes_max {} is below 1 KiB", self.vital_bytes_max));
        }
        faults
    }
}

/// A request on its way to a node.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who asks.
    pub from: NodeId,
    /// Who is asked; it may be the same node.
    pub to: NodeId,
    /// The topology of who asks.
    pub epoch: Epoch,
    /// How long who asks will wait, in microseconds.
    pub timeout_micros: u64,
    /// What is asked.
    pub request: Request,
}

/// An answer as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The topology of who answered.
    pub epoch: Epoch,
    /// The answer, never [`Answer::Failed`]: that arrives as its [`Failure`].
    pub answer: Answer,
}

/// How a call ends.
pub type Ended = Result<Reply, Failure>;

/// Told how a call ended. May be called on any thread, also before [`Transport::send`] returns; must not block.
pub type Done = Box<dyn FnOnce(Ended) + Send>;

/// A request as it arrives.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Who asks.
    pub from: NodeId,
    /// The topology of who asks.
    pub epoch: Epoch,
    /// How long who asks still waits, in microseconds: work that takes longer is for nothing.
    pub budget_micros: u64,
    /// What is asked.
    pub request: Request,
}

/// Answers the requests to one node.
pub trait Service: Send + Sync + 'static {
    /// Takes a request. Answers by `responder`, now or later, on any thread; must not block.
    ///
    /// The same request may arrive more than once, and after its caller has given up.
    fn serve(&self, incoming: Incoming, responder: Responder);
}

/// Sends requests between nodes. Shared as `Arc<dyn Transport>`.
///
/// What it promises is listed, and checked, in [`suite`].
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// From now on `service` answers what is sent to `node`, in place of who did.
    ///
    /// # Errors
    /// [`Failure::Internal`] if the node cannot be reached by others, for instance because its address is taken.
    fn bind(&self, node: NodeId, service: Arc<dyn Service>) -> Result<(), Failure>;

    /// Takes `node` off the network: nobody answers for it, and the calls it made end with [`Failure::Closed`]. No answer of its
    /// service gets out any more, not even if the node is bound again.
    fn unbind(&self, node: NodeId);

    /// Sends a request and calls `done` once with its end.
    fn send(&self, call: Call, done: Done);

    /// The bounds in force.
    fn limits(&self) -> Limits;
}

type Answering = Box<dyn FnOnce(Epoch, Answer) + Send>;

/// Takes the answer to one request. Dropped without one, it answers [`Failure::Internal`], so that nobody waits in vain.
pub struct Responder {
    send: Option<Answering>,
}

impl Responder {
    /// Made by a transport: `send` is called once, with the epoch of who answers and the answer.
    #[must_use]
    pub fn new(send: impl FnOnce(Epoch, Answer) + Send + 'static) -> Responder {
        Responder { send: Some(Box::new(send)) }
    }

    /// Sends the answer; `epoch` is that of the topology of who answers.
    pub fn answer(mut self, epoch: Epoch, answer: impl Into<Answer>) {
        if let Some(send) = self.send.take() {
            send(epoch, answer.into());
        }
    }

    /// Says why there is no answer.
    pub fn fail(self, epoch: Epoch, failure: Failure) {
        self.answer(epoch, Failed { failure });
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            let failure = Failure::Internal(Detail::new("the request was dropped"));
            send(Epoch(0), Failed { failure }.into());
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_the_rules_and_broken_ones_are_told() {
        let limits = Limits::default();
        assert_eq!(limits.faults(), Vec::<String>::new());
        assert!(limits.room_for(Class::Bulk) >= limits.frame_bytes_max);
        let wrong = Limits { frame_bytes_max: 1 << 31, vital_bytes_max: 0, ..limits };
        assert_eq!(wrong.faults().len(), 3, "{:?}", wrong.faults());
    }
}
