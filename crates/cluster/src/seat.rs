//! Where the topology is agreed on: tells nodes of it, and drives the jobs that move data.
//!
//! A seat sits beside a [`Consensus`] that decides. It has a place of its own in the network, so that nodes which are behind fetch what they
//! lack from it, as changes; it takes part in failure detection; and it runs a [`Driver`], which holds nothing that must not be lost. The driver
//! asks every member until it says that it is at the newest topology, so the last change reaches all, too.
//! Two seats do no harm.

#[cfg(test)]
mod tests;

use crate::codec::message::{Answer, Pong, Report as Ask, Reported, Request, TopologyIs};
use crate::consensus::{Consensus, Proposal, ProposeError, WatchId};
use crate::membership::{Config, Effect, Gossip, Peer};
use crate::rebalance::{Driver, DriverEffect, DriverEvent, DriverOptions};
use crate::runtime::Runtime;
use crate::topology::{Change, ProposalId};
use crate::transport::{Call, Failure, Incoming, NotUnderstood, Responder, Service, Transport};
use base::Slice;
use base::rng::Rng;
use base::sync::Mutex;
use base::sync::atomic::{AtomicBool, Ordering};
use ring::{Epoch, NodeId};
use std::fmt;
use std::sync::{Arc, Weak};

/// How long a node may take to say how far it is, in microseconds.
const ASK_MICROS: u64 = 400_000;

/// The place of a seat in the network. No node has it.
pub const SEAT: NodeId = NodeId(u64::MAX);

/// What a seat is made of.
#[derive(Debug, Clone)]
pub struct SeatParts {
    /// Clocks, timers, work that may block.
    pub runtime: Arc<dyn Runtime>,
    /// The way to the nodes.
    pub transport: Arc<dyn Transport>,
    /// What decides.
    pub consensus: Arc<dyn Consensus>,
    /// Tuning of the driver.
    pub driver: DriverOptions,
    /// Failure detection, as at the nodes; without it nobody is given up by itself.
    pub detector: Option<Config>,
    /// Draws the numbers of proposals, and the order in which nodes are probed.
    pub seed: u64,
}

/// A seat. Runs until it is stopped.
pub struct Seat {
    parts: SeatParts,
    rng: Mutex<Rng>,
    driver: Mutex<Driver>,
    gossip: Mutex<Option<Arc<Gossip>>>,
    watch: Mutex<Option<WatchId>>,
    stopped: AtomicBool,
    this: Weak<Seat>,
}

impl Seat {
    /// A seat that begins now, and goes on with the job that there is.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn start(parts: SeatParts) -> Result<Arc<Seat>, Failure> {
        let topology = parts.consensus.known();
        let seat = Arc::new_cyclic(|this| Seat {
            rng: Mutex::new(Rng::new(parts.seed)),
            driver: Mutex::new(Driver::new(parts.driver, Arc::clone(&topology))),
            gossip: Mutex::default(),
            watch: Mutex::default(),
            stopped: AtomicBool::new(false),
            this: this.clone(),
            parts,
        });
        seat.parts.transport.bind(SEAT, Arc::new(Front(Arc::downgrade(&seat))))?;
        seat.look_after(topology.members().iter().map(|member| member.id).collect());
        let this = Arc::downgrade(&seat);
        let watcher = move |_: &Arc<_>| {
            if let Some(seat) = this.upgrade() {
                seat.later(Seat::follow);
            }
        };
        *seat.watch.lock() = Some(seat.parts.consensus.watch(Box::new(watcher)));
        seat.later(|seat| seat.tell(DriverEvent::Woken));
        Ok(seat)
    }

    /// Takes the seat off the network. A job that is under way goes on when another one is started.
    pub fn stop(&self) {
        if self.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(watch) = self.watch.lock().take() {
            self.parts.consensus.unwatch(watch);
        }
        self.gossip.lock().take();
        self.parts.transport.unbind(SEAT);
    }

    /// The failure detector of the seat, if it has one.
    #[must_use]
    pub fn gossip(&self) -> Option<Arc<Gossip>> {
        self.gossip.lock().clone()
    }

    /// Takes part in failure detection.
    fn look_after(&self, members: Vec<NodeId>) {
        let Some(config) = self.parts.detector.clone() else { return };
        let generation = self.parts.runtime.wall_micros();
        let me = Peer { id: SEAT, generation, zone: Arc::from(""), weight: 0 };
        let this = self.this.clone();
        let listener = move |effect: &Effect| {
            let heard = match effect {
                Effect::Up(peer) => DriverEvent::Dead(peer.id, false),
                Effect::Down(peer) => DriverEvent::Dead(peer.id, true),
                _ => return,
            };
            if let Some(seat) = this.upgrade() {
                seat.later(move |seat| seat.tell(heard));
            }
        };
        let (runtime, transport) = (&self.parts.runtime, &self.parts.transport);
        let (runtime, transport) = (Arc::clone(runtime), Arc::clone(transport));
        let seed = self.rng.lock().next_u64();
        let gossip = Gossip::start(me, config, runtime, transport, seed, Box::new(listener));
        gossip.join(&members);
        *self.gossip.lock() = Some(gossip);
    }

    /// Runs `work` where it may block, unless the seat is stopped first.
    fn later(&self, work: impl FnOnce(&Arc<Seat>) + Send + 'static) {
        let this = self.this.clone();
        self.parts.runtime.run(Box::new(move || {
            if let Some(seat) = this.upgrade().filter(|seat| !seat.is_stopped()) {
                work(&seat);
            }
        }));
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    // ---- the driver ----

    fn follow(self: &Arc<Self>) {
        self.tell(DriverEvent::Topology(self.parts.consensus.known()));
    }

    fn tell(self: &Arc<Self>, event: DriverEvent) {
        let now = self.parts.runtime.monotonic_micros();
        let effects = self.driver.lock().handle(now, event);
        for effect in effects {
            match effect {
                DriverEffect::Ask(node) => self.ask(node),
                DriverEffect::Propose { expected, change } => self.propose(expected, change),
                DriverEffect::Wake(micros) => {
                    let this = self.this.clone();
                    let due = move || {
                        if let Some(seat) = this.upgrade() {
                            seat.later(|seat| seat.tell(DriverEvent::Woken));
                        }
                    };
                    self.parts.runtime.after(micros, Box::new(due));
                }
            }
        }
    }

    fn ask(&self, node: NodeId) {
        let epoch = self.parts.consensus.known().epoch();
        let (request, timeout_micros) = (Ask {}.into(), ASK_MICROS);
        let call = Call { from: SEAT, to: node, epoch, timeout_micros, request };
        let this = self.this.clone();
        let done = move |ended: crate::transport::Ended| {
            let (Some(seat), Ok(reply)) = (this.upgrade(), ended) else { return };
            if let Answer::Reported(Reported { report }) = reply.answer {
                seat.later(move |seat| seat.tell(DriverEvent::Report(node, report)));
            }
        };
        self.parts.transport.send(call, Box::new(done));
    }

    fn propose(&self, expected: Epoch, change: Change) {
        let id = ProposalId { node: SEAT, number: self.rng.lock().next_u64() };
        let this = self.this.clone();
        let done = move |result: Result<_, ProposeError>| {
            let Some(seat) = this.upgrade() else { return };
            if matches!(result, Err(ProposeError::Unknown(_))) {
                let this = seat.this.clone();
                let read = move |_: Result<_, _>| {
                    if let Some(seat) = this.upgrade() {
                        seat.later(Seat::proposed);
                    }
                };
                return seat.parts.consensus.read(Box::new(read));
            }
            seat.later(Seat::proposed);
        };
        self.parts.consensus.propose(Proposal { id, expected, change }, Box::new(done));
    }

    /// What became of the proposal is seen in the topology.
    fn proposed(self: &Arc<Self>) {
        self.follow();
        self.tell(DriverEvent::Proposed);
    }

    // ---- what nodes ask ----

    fn serve(&self, incoming: &Incoming, responder: Responder) {
        let epoch = self.parts.consensus.known().epoch();
        match &incoming.request {
            Request::Ping(_) => responder.answer(epoch, Pong {}),
            Request::Topology(asked) => {
                let update = self.parts.consensus.since(asked.known);
                let topology = update.map(|update| Slice::from(update.encode()));
                responder.answer(epoch, TopologyIs { topology });
            }
            Request::Gossip(gossip) => match self.gossip() {
                Some(detector) => responder.answer(epoch, detector.receive(&gossip.payload)),
                None => responder.fail(epoch, NotUnderstood::Kind.into()),
            },
            _ => responder.fail(epoch, NotUnderstood::Kind.into()),
        }
    }
}

/// The seat as the transport sees it: does not keep it alive.
struct Front(Weak<Seat>);

impl Service for Front {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        if let Some(seat) = self.0.upgrade().filter(|seat| !seat.is_stopped()) {
            seat.later(move |seat| seat.serve(&incoming, responder));
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}
