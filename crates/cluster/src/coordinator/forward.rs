//! Writes, as the node that a client talks to hands them on.

use super::check;
use super::write::{AGAIN_MICROS, Goal, Outcomes};
use crate::codec::message::{Answer, Coordinate, Op, WriteId, Written};
use crate::node::{Node, View};
use crate::record::Bounds;
use crate::transport::{Advice, Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, planted};
use ring::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often one node is asked whose start is not known.
const STARTS_MAX: u32 = 3;

/// What a client wants of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// W: owners that have to have each write synced before it is `Ok`.
    pub owners_min: usize,
    /// Stand-ins may take the place of owners that cannot be reached; the outcome says so.
    pub sloppy: bool,
    /// How long the client waits.
    pub timeout_micros: u64,
}

/// Told of the outcomes of writes, in their order.
type Done = Box<dyn FnOnce(Vec<Result<Written, Failure>>) + Send>;

/// Writes of a client that are under way.
struct Forward {
    keyspace: KeyspaceId,
    options: WriteOptions,
    deadline_micros: u64,
    ops: Vec<Op>,
    state: Mutex<State>,
}

struct State {
    ways: Vec<Way>,
    open: usize,
    done: Option<Done>,
}

/// One write: whom it can be given to.
struct Way {
    /// Owners to be asked, the next one last.
    left: Vec<NodeId>,
    /// The node that has it now did not know that it was meant, so many times.
    starts: u32,
    /// The best reason why it has not been carried out.
    refused: Failure,
    /// Somebody who was asked sees other owners: once both have followed, all are asked again.
    stale: bool,
    outcome: Option<Result<Written, Failure>>,
}

impl Node {
    /// Carries out writes of a client, each as one of its owners does it; `done` is told their outcomes, in their order.
    ///
    /// # Errors
    /// Each outcome for itself. [`Failure::Unknown`] and [`Failure::Timeout`]: it may be carried out yet, at most once.
    /// [`Failure::Unavailable`]: there are not as many owners as are wanted. [`Failure::TooManySiblings`], [`Failure::Invalid`]: the write
    /// is refused. [`Failure::NotReady`], [`Failure::Overloaded`] and others of which
    /// [`may_have_happened`](Failure::may_have_happened) is false: no owner takes it now.
    pub fn write(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        ops: Vec<Op>,
        options: WriteOptions,
        done: impl FnOnce(Vec<Result<Written, Failure>>) + Send + 'static,
    ) {
        let view = self.view();
        let way = |op: &Op| {
            let wanted = options.owners_min as u64;
            let refused = Failure::Unavailable { reached: 0, wanted };
            let left = self.owners_to_ask(&view, keyspace, op);
            Way { left, starts: 0, refused, stale: false, outcome: None }
        };
        let ways: Vec<Way> = ops.iter().map(way).collect();
        let open = ways.len();
        let weights: usize = ops.iter().map(Op::weight).sum();
        let taken = match self.take_request(weights) {
            Ok(taken) => taken,
            Err(failure) => return done(ops.iter().map(|_| Err(failure.clone())).collect()),
        };
        let done: Done = Box::new(move |results| {
            done(results);
            drop(taken);
        });
        let state = Mutex::new(State { ways, open, done: Some(done) });
        let deadline_micros =
            self.runtime().monotonic_micros().saturating_add(options.timeout_micros);
        let forward = Arc::new(Forward { keyspace, options, deadline_micros, ops, state });
        let known = view.policy(keyspace).and_then(|policy| {
            check::goal(policy, options.owners_min, options.timeout_micros)?;
            Ok(check::bounds(policy, self.frame_bytes_max()))
        });
        self.work(move |node| match known {
            Ok(bounds) => forward.begin(node, &bounds),
            Err(failure) => forward.refuse_all(&failure),
        });
    }

    /// Owners that may carry a write out, the best one last.
    fn owners_to_ask(&self, view: &View, keyspace: KeyspaceId, op: &Op) -> Vec<NodeId> {
        let owners = view.owners(keyspace, view.ring().partition_of(&op.key));
        let mut left = self.by_promise(owners);
        left.reverse();
        left
    }
}

impl Forward {
    /// Hands on what an owner may take; the other writes are refused.
    fn begin(self: &Arc<Self>, node: &Arc<Node>, bounds: &Bounds) {
        let mut fit = Vec::with_capacity(self.ops.len());
        for (at, op) in self.ops.iter().enumerate() {
            match check::op(op, bounds) {
                Ok(()) => fit.push(at),
                Err(failure) => self.settle(at, Err(failure)),
            }
        }
        self.hand_on(node, fit);
    }

    fn refuse_all(&self, failure: &Failure) {
        for at in 0..self.ops.len() {
            self.settle(at, Err(failure.clone()));
        }
        self.tell_if_done();
    }

    /// Gives each of the writes to the next of its owners.
    fn hand_on(self: &Arc<Self>, node: &Arc<Node>, writes: Vec<usize>) {
        let mut to: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let mut again = Vec::new();
        let in_time = node.runtime().monotonic_micros() + AGAIN_MICROS < self.deadline_micros;
        for at in writes {
            let (next, stale, refused) = {
                let way = &mut self.state.lock().ways[at];
                (way.left.pop(), way.stale, way.refused.clone())
            };
            match next {
                Some(owner) => to.entry(owner).or_default().push(at),
                None if stale && in_time => again.push(at),
                None => self.settle(at, Err(refused)),
            }
        }
        if !again.is_empty() {
            self.begin_again(node, again);
        }
        for (owner, writes) in to {
            for piece in self.in_pieces(writes, node.frame_bytes_max() / 2) {
                self.give(node, owner, piece);
            }
        }
        self.tell_if_done();
    }

    /// So many writes at a time as one frame holds.
    fn in_pieces(&self, writes: Vec<usize>, bytes_max: usize) -> Vec<Vec<usize>> {
        let (mut pieces, mut bytes): (Vec<Vec<usize>>, usize) = (Vec::new(), 0);
        for at in writes {
            let weight = self.ops[at].weight();
            bytes += weight;
            if pieces.is_empty() || bytes > bytes_max {
                pieces.push(Vec::new());
                bytes = weight;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(at);
            }
        }
        pieces
    }

    /// Asks the owners of a later topology. Nothing has happened so far.
    fn begin_again(self: &Arc<Self>, node: &Arc<Node>, writes: Vec<usize>) {
        let this = Arc::clone(self);
        node.later(AGAIN_MICROS, move |node| {
            node.work(move |node| {
                let view = node.view();
                for &at in &writes {
                    let left = node.owners_to_ask(&view, this.keyspace, &this.ops[at]);
                    let way = &mut this.state.lock().ways[at];
                    (way.left, way.stale) = (left, false);
                }
                this.hand_on(node, writes);
            });
        });
    }

    fn give(self: &Arc<Self>, node: &Arc<Node>, owner: NodeId, writes: Vec<usize>) {
        let budget_micros = self.deadline_micros.saturating_sub(node.runtime().monotonic_micros());
        let ops: Vec<Op> = writes.iter().map(|at| self.ops[*at].clone()).collect();
        let this = Arc::clone(self);
        if owner == node.id() {
            let goal = Goal {
                keyspace: self.keyspace,
                owners_min: self.options.owners_min,
                sloppy: self.options.sloppy,
                budget_micros,
            };
            let done: Outcomes =
                Box::new(move |node, results| this.heard(node, owner, writes, Ok(results)));
            return node.coordinate(goal, ops, done);
        }
        let believed = node.start_of(owner);
        let call = Coordinate {
            keyspace: self.keyspace,
            id: WriteId { node: node.id(), number: node.next_call() },
            start: believed,
            owners_min: self.options.owners_min as u8,
            sloppy: self.options.sloppy,
            ops,
        };
        node.ask(owner, budget_micros, call, move |node, ended| {
            let results = match ended {
                Ok(Answer::Coordinated(done)) if done.results.len() == writes.len() => {
                    Ok(done.results)
                }
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            let results = match results {
                Err(Failure::OtherStart { current }) => {
                    node.learn_start(owner, current);
                    // Meant for no start, it was not carried out by any; else the one before may have done it.
                    Err(if believed == 0 {
                        Failure::OtherStart { current }
                    } else {
                        Failure::Timeout
                    })
                }
                results => results,
            };
            this.heard(node, owner, writes, results);
        });
    }

    /// Takes what an owner made of writes. What it has not carried out, and never will, goes to the next one.
    fn heard(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        writes: Vec<usize>,
        ended: Result<Vec<Result<Written, Failure>>, Failure>,
    ) {
        let results = match ended {
            Ok(results) => results,
            Err(failure) => writes.iter().map(|_| Err(failure.clone())).collect(),
        };
        let mut further = Vec::new();
        for (at, result) in writes.into_iter().zip(results) {
            match result {
                Err(Failure::OtherStart { .. }) => {
                    let way = &mut self.state.lock().ways[at];
                    way.starts += 1;
                    if way.starts < STARTS_MAX {
                        way.left.push(owner);
                    }
                    further.push(at);
                }
                Err(failure) if can_go_elsewhere(&failure) => {
                    let way = &mut self.state.lock().ways[at];
                    way.stale |= matches!(failure, Failure::StaleEpoch { .. });
                    way.refused = failure;
                    further.push(at);
                }
                Err(failure) if failure.may_have_happened() => {
                    let wanted = self.options.owners_min as u64;
                    let acknowledged = match failure {
                        Failure::Unknown { acknowledged, .. } => acknowledged,
                        _ => 0,
                    };
                    self.settle(at, Err(Failure::Unknown { acknowledged, wanted }));
                }
                result => self.settle(at, result),
            }
        }
        self.hand_on(node, further);
    }

    fn settle(&self, at: usize, outcome: Result<Written, Failure>) {
        let state = &mut *self.state.lock();
        if state.ways[at].outcome.is_none() {
            state.ways[at].outcome = Some(outcome);
            state.open -= 1;
        }
    }

    fn tell_if_done(&self) {
        let (done, outcomes) = {
            let mut state = self.state.lock();
            if state.open > 0 {
                return;
            }
            let Some(done) = state.done.take() else { return };
            let outcomes = state.ways.iter_mut().filter_map(|way| way.outcome.take()).collect();
            (done, outcomes)
        };
        done(outcomes);
    }
}

/// True if the write was not carried out, and another owner may do it.
fn can_go_elsewhere(failure: &Failure) -> bool {
    let elsewhere = match failure.advice() {
        Advice::Elsewhere => true,
        Advice::Later => !matches!(failure, Failure::Unavailable { .. }),
        Advice::Refresh => matches!(failure, Failure::StaleEpoch { .. }),
        Advice::FixCall => false,
    };
    elsewhere && (!failure.may_have_happened() || planted::is(88))
}
