//! The mover of a node, run: it is told of topologies and of how things ended, and what it wants done is done.

use super::Node;
use crate::codec::message::{Ping, Reported};
use crate::membership::{Gossip, Peer};
use crate::rebalance::{MoverEffect, MoverEvent};
use crate::seat::SEAT;
use crate::topology::Topology;
use base::KeyspaceId;
use std::sync::Arc;

impl Node {
    /// Goes on with the moves of this node under `topology`, which is stored and in force.
    pub(super) fn move_under(self: &Arc<Self>, topology: Arc<Topology>) {
        self.move_on(MoverEvent::Topology(topology));
    }

    /// Takes part in failure detection, if it is to.
    pub(super) fn look_after_others(&self) {
        let Some(config) = self.options.detector.clone() else { return };
        let view = self.view();
        let member = view.topology().member(self.id);
        let me = Peer {
            id: self.id,
            generation: self.runtime.wall_micros(),
            zone: member.map_or("", |member| member.zone.as_str()).into(),
            weight: member.map_or(0, |member| member.weight),
        };
        let (runtime, transport) = (Arc::clone(&self.runtime), Arc::clone(&self.transport));
        // What it thinks of others is asked for; who gives nodes up is the seat, which takes part itself.
        let gossip = Gossip::start(me, config, runtime, transport, self.nonce(), Box::new(|_| ()));
        let others = view.members().iter().copied().filter(|node| *node != self.id);
        gossip.join(&others.chain([SEAT]).collect::<Vec<_>>());
        *self.gossip.lock() = Some(gossip);
    }

    /// Its failure detector, if it has one.
    #[must_use]
    pub fn gossip(&self) -> Option<Arc<Gossip>> {
        self.gossip.lock().clone()
    }

    /// Bytes of keys and records that this node stores of a keyspace, before compression. Those that were replaced and not
    /// compacted yet count too.
    #[must_use]
    pub fn stored_bytes(&self, keyspace: KeyspaceId) -> u64 {
        let name = format!("k-{keyspace}");
        let metrics = self.db().metrics();
        let found = metrics.keyspaces.iter().find(|one| one.name == name);
        found.map_or(0, |one| one.data_bytes)
    }

    /// How far the moves of this node have come.
    pub(super) fn report(&self) -> Reported {
        Reported { report: self.mover.lock().report() }
    }

    pub(super) fn move_on(self: &Arc<Self>, event: MoverEvent) {
        let now = self.runtime.monotonic_micros();
        let effects = self.mover.lock().handle(now, event);
        for effect in effects {
            self.do_for_mover(effect);
        }
    }

    fn do_for_mover(self: &Arc<Self>, effect: MoverEffect) {
        match effect {
            MoverEffect::AskEpoch { ticket, node } => {
                // The question says which epoch this node is at, so one that is behind fetches it.
                self.call(self.epoch(), node, self.patience(), Ping {}, move |node, ended| {
                    let epoch = ended.map(|reply| reply.epoch).map_err(drop);
                    node.move_on(MoverEvent::Epoch(ticket, epoch));
                });
            }
            MoverEffect::Wake { micros } => {
                self.later(micros, |node| node.work(|node| node.move_on(MoverEvent::Woken)));
            }
            effect => self.work_in_background(move |node| node.carry_out(effect)),
        }
    }
}
