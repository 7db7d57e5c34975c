//! Runs the failure detector of one node.

use super::peer::{Peer, PeerState};
use super::swim::{Config, Effect, Event, Swim};
use crate::codec::message::{Gossip as GossipMessage, Gossiped};
use crate::runtime::Runtime;
use crate::transport::{Call, Transport};
use base::Slice;
use base::sync::Mutex;
use ring::{Epoch, NodeId};
use std::fmt;
use std::sync::{Arc, Weak};

/// How long an answer to a packet is waited for, in microseconds. Nothing rests on it: packets are answered by packets.
const TIMEOUT_MICROS: u64 = 1_000_000;

/// Told of nodes that came and went, on any thread. Must not block.
pub type Listener = Box<dyn Fn(&Effect) + Send + Sync>;

/// The failure detector of one node, on a runtime and a transport. Its node hands it what arrives as `Gossip`.
pub struct Gossip {
    node: NodeId,
    runtime: Arc<dyn Runtime>,
    transport: Arc<dyn Transport>,
    this: Weak<Gossip>,
    swim: Mutex<Swim>,
    listener: Listener,
    sent: Mutex<Sent>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Gossip {
    /// A detector that begins now, alone. `seed` draws its order of probes; `listener` hears [`Effect::Up`], [`Effect::Down`] and
    /// [`Effect::Renewed`]. It ends when the last handle is dropped.
    #[must_use]
    pub fn start(
        me: Peer,
        config: Config,
        runtime: Arc<dyn Runtime>,
        transport: Arc<dyn Transport>,
        seed: u64,
        listener: Listener,
    ) -> Arc<Gossip> {
        let node = me.id;
        let swim = Mutex::new(Swim::new(me, config, seed));
        let gossip = Arc::new_cyclic(|this: &Weak<Gossip>| Gossip {
            node,
            runtime,
            transport,
            this: this.clone(),
            swim,
            listener,
            sent: Mutex::default(),
        });
        let effects = gossip.swim.lock().begin();
        gossip.carry_out(effects);
        gossip
    }

    /// Joins the cluster of these nodes. They are asked again whenever this one is alone.
    pub fn join(&self, seeds: &[NodeId]) {
        self.tell(Event::Join(seeds.to_vec()));
    }

    /// Takes a packet that arrived; the answer to it.
    #[must_use]
    pub fn receive(&self, packet: &Slice) -> Gossiped {
        self.tell(Event::Packet(packet.to_vec()));
        Gossiped { payload: Slice::from("") }
    }

    /// Says something else of this node from now on.
    pub fn change(&self, zone: &str, weight: u32) {
        self.tell(Event::Changed { zone: zone.into(), weight });
    }

    /// Tells others that this node goes, so that nobody has to find out. Nothing is done any more then.
    pub fn leave(&self) {
        self.tell(Event::Leave);
    }

    /// This node, as it says of itself.
    #[must_use]
    pub fn me(&self) -> Peer {
        self.swim.lock().me().clone()
    }

    /// All other nodes that were heard of, ascending by id.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        let mut peers: Vec<PeerState> = self.swim.lock().peers().collect();
        peers.sort_unstable_by_key(|state| state.peer.id);
        peers
    }

    /// What is thought of `node`; `None` if it was not heard of. Complexity: looks at all.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<PeerState> {
        self.swim.lock().peers().find(|state| state.peer.id == node)
    }

    /// What was sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        *self.sent.lock()
    }

    fn tell(&self, event: Event) {
        let effects = self.swim.lock().handle(event);
        self.carry_out(effects);
    }

    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => self.send(to, packet),
                Effect::After { micros, timer } => {
                    let this = self.this.clone();
                    let due = move || {
                        if let Some(this) = this.upgrade() {
                            this.tell(Event::Timer(timer));
                        }
                    };
                    self.runtime.after(micros, Box::new(due));
                }
                known => (self.listener)(&known),
            }
        }
    }

    fn send(&self, to: NodeId, packet: Vec<u8>) {
        {
            let mut sent = self.sent.lock();
            sent.packets += 1;
            sent.bytes += packet.len() as u64;
        }
        let request = GossipMessage { payload: Slice::from(packet) }.into();
        // Who is there does not depend on who owns what.
        let epoch = Epoch(0);
        let call = Call { from: self.node, to, epoch, timeout_micros: TIMEOUT_MICROS, request };
        self.transport.send(call, Box::new(drop));
    }
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.swim.lock().fmt(f)
    }
}
