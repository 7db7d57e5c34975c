//! Many detectors on one queue, without a transport.

use crate::membership::{Config, Effect, Event, Peer, Swim};
use base::rng::Rng;
use ring::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

const DELAY_MICROS_MAX: u64 = 1000;

pub(super) struct Crowd {
    swims: Vec<Option<Swim>>,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    pushed: u64,
    pub(super) now: u64,
    rng: Rng,
    lost_per_mille: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Deaths that were told: who, at whom, when.
    pub(super) deaths: Vec<(NodeId, usize, u64)>,
}

impl Crowd {
    /// So many nodes; all but the first know the first.
    pub(super) fn new(nodes: usize, config: &Config, lost_per_mille: u64, seed: u64) -> Crowd {
        let mut crowd = Crowd {
            swims: Vec::new(),
            queue: BTreeMap::new(),
            pushed: 0,
            now: 0,
            rng: Rng::new(seed),
            lost_per_mille,
            packets: 0,
            bytes: 0,
            deaths: Vec::new(),
        };
        let zones: Vec<Arc<str>> = (0..5).map(|zone| Arc::from(format!("zone-{zone}"))).collect();
        for node in 0..nodes {
            let zone = Arc::clone(&zones[node % zones.len()]);
            let me = Peer { id: NodeId(node as u64), generation: 1, zone, weight: 1 };
            let mut swim = Swim::new(me, config.clone(), crowd.rng.next_u64());
            let mut effects = swim.begin();
            effects.extend(swim.handle(Event::Join(vec![NodeId(0)])));
            crowd.swims.push(Some(swim));
            crowd.carry_out(node, effects);
        }
        crowd
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.swims[node] = None;
    }

    pub(super) fn run_for(&mut self, micros: u64) {
        let end = self.now + micros;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = entry.key().0;
            let (node, event) = entry.remove();
            let Some(swim) = &mut self.swims[node] else { continue };
            let effects = swim.handle(event);
            self.carry_out(node, effects);
        }
        self.now = end;
    }

    /// The fewest that any living node sees alive, itself not counted.
    pub(super) fn seen_min(&self) -> usize {
        self.swims.iter().flatten().map(Swim::peers_alive).min().unwrap_or(0)
    }

    /// The most news that wait at any node.
    pub(super) fn backlog_max(&self) -> usize {
        self.swims.iter().flatten().map(Swim::backlog).max().unwrap_or(0)
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => {
                    self.packets += 1;
                    self.bytes += packet.len() as u64;
                    if self.rng.below(1000) >= self.lost_per_mille {
                        let delay = 50 + self.rng.below(DELAY_MICROS_MAX);
                        self.push(delay, to.0 as usize, Event::Packet(packet));
                    }
                }
                Effect::After { micros, timer } => self.push(micros, node, Event::Timer(timer)),
                Effect::Down(peer) => self.deaths.push((peer.id, node, self.now)),
                Effect::Up(_) | Effect::Renewed(_) => {}
            }
        }
    }

    fn push(&mut self, micros: u64, node: usize, event: Event) {
        self.pushed += 1;
        self.queue.insert((self.now + micros, self.pushed), (node, event));
    }
}
