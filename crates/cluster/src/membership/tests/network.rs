//! Three to seven nodes on the transport of one process.

use crate::codec::message::Request;
use crate::membership::{Config, Effect, Gossip, Liveness, Peer};
use crate::runtime::SimRuntime;
use crate::transport::{InProcess, Incoming, Limits, Link, Responder, Service, Transport};
use base::sync::Mutex;
use ring::{Epoch, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

const SECOND: u64 = 1_000_000;

struct Served(Arc<Gossip>);

impl Service for Served {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        match incoming.request {
            Request::Gossip(gossip) => {
                responder.answer(Epoch(0), self.0.receive(&gossip.payload));
            }
            other => unreachable!("nobody sends {}", other.name()),
        }
    }
}

type Heard = Arc<Mutex<Vec<String>>>;

struct Net {
    runtime: Arc<SimRuntime>,
    transport: Arc<InProcess>,
    nodes: BTreeMap<u64, Arc<Gossip>>,
    heard: BTreeMap<u64, Heard>,
}

impl Net {
    fn new(seed: u64, nodes: u64, link: Link) -> Net {
        let runtime = SimRuntime::new(seed);
        let transport = InProcess::new(Arc::clone(&runtime) as _, seed, Limits::default());
        transport.set_links(link);
        let (nodes_there, heard) = (BTreeMap::new(), BTreeMap::new());
        let mut net = Net { runtime, transport, nodes: nodes_there, heard };
        (1..=nodes).for_each(|id| net.start(id, 1));
        net
    }

    fn start(&mut self, id: u64, generation: u64) {
        let zone = Arc::from(format!("zone-{}", id % 3));
        let me = Peer { id: NodeId(id), generation, zone, weight: id as u32 };
        let heard = Arc::clone(self.heard.entry(id).or_default());
        let listener = Box::new(move |effect: &Effect| match effect {
            Effect::Up(peer) => heard.lock().push(format!("up {}", peer.id)),
            Effect::Down(peer) => heard.lock().push(format!("down {}", peer.id)),
            Effect::Renewed(me) => heard.lock().push(format!("renewed {}", me.generation)),
            other => unreachable!("{other:?} is not told"),
        });
        let seed = self.runtime.below(u64::MAX);
        let (runtime, transport) = (Arc::clone(&self.runtime), Arc::clone(&self.transport));
        let config = Config { nodes_max: 10, ..Config::default() };
        let gossip = Gossip::start(me, config, runtime, transport as _, seed, listener);
        let service = Arc::new(Served(Arc::clone(&gossip)));
        self.transport.bind(NodeId(id), service).expect("bound");
        gossip.join(&[NodeId(1), NodeId(2)]);
        self.nodes.insert(id, gossip);
    }

    fn crash(&mut self, id: u64) {
        self.transport.unbind(NodeId(id));
        self.nodes.remove(&id);
    }

    fn run(&self, micros: u64) {
        self.runtime.run_for(micros);
    }

    /// Seconds until each of `at` thinks so of each of `of`; `None` if that takes more than `max`.
    fn until(&self, at: &[u64], of: &[u64], liveness: Liveness, max: u64) -> Option<f64> {
        let agree = || {
            at.iter().all(|at| {
                let peers = self.nodes[at].peers();
                of.iter().filter(|of| *of != at).all(|of| {
                    let state = peers.iter().find(|state| state.peer.id == NodeId(*of));
                    state.is_some_and(|state| state.liveness == liveness)
                })
            })
        };
        (0..max * 10).find_map(|tenths| {
            let there = agree();
            if !there {
                self.run(SECOND / 10);
            }
            there.then_some(tenths as f64 / 10.0)
        })
    }

    fn all(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Deaths that were told, of anybody by anybody.
    fn deaths(&self) -> Vec<String> {
        let heard = self.heard.iter();
        heard
            .flat_map(|(at, heard)| {
                let heard = heard.lock().clone();
                heard.into_iter().map(move |what| format!("n{at}: {what}"))
            })
            .filter(|what| what.contains("down"))
            .collect()
    }
}

fn joined(seed: u64, nodes: u64, link: Link) -> Net {
    let net = Net::new(seed, nodes, link);
    let all = net.all();
    net.until(&all, &all, Liveness::Alive, 60).expect("all find all");
    net
}

#[test]
fn nodes_find_each_other_by_a_seed_and_say_who_they_are() {
    for nodes in 3..=7 {
        let net = Net::new(nodes, nodes, Link::near());
        let all = net.all();
        let seconds = net.until(&all, &all, Liveness::Alive, 20).expect("all find all");
        assert!(seconds <= 5.0, "{nodes} nodes: {seconds} s");
        let peers = net.nodes[&1].peers();
        let ids: Vec<u64> = peers.iter().map(|state| state.peer.id.0).collect();
        assert_eq!(ids, (2..=nodes).collect::<Vec<u64>>());
        assert!(peers.iter().all(|state| {
            let Peer { id, generation, zone, weight } = &state.peer;
            (*generation, u64::from(*weight)) == (1, id.0) && **zone == format!("zone-{}", id.0 % 3)
        }));
        assert_eq!(net.deaths(), Vec::<String>::new());
    }
}

#[test]
fn a_death_is_known_to_all_within_seconds_and_nobody_else_is_blamed() {
    for seed in 0..20 {
        let nodes = 3 + seed % 5;
        let mut net = joined(seed, nodes, Link::near());
        net.crash(nodes);
        let all = net.all();
        let seconds = net.until(&all, &[nodes], Liveness::Dead, 60).expect("it is found out");
        // The victim's turn to be probed comes after at most two rounds; then the suspicion has to age.
        assert!(seconds <= 2.0 * nodes as f64 + 6.0, "seed {seed}: {seconds} s");
        let deaths = net.deaths();
        assert!(deaths.iter().all(|what| what.ends_with(&format!("down n{nodes}"))), "{deaths:?}");
    }
}

#[test]
fn lost_messages_make_suspects_and_no_dead() {
    let mut refuted = 0;
    for seed in 0..10 {
        let link = Link { lost_per_mille: 50, ..Link::near() };
        let net = joined(seed, 3 + seed % 5, link);
        net.run(300 * SECOND);
        assert_eq!(net.deaths(), Vec::<String>::new(), "seed {seed}");
        let states = net.nodes.values().flat_map(|node| node.peers());
        refuted += states.filter(|state| state.incarnation > 0).count();
    }
    assert!(refuted > 0, "nobody was suspected: the test proves nothing");
}

#[test]
fn two_nodes_that_do_not_reach_each_other_live_by_way_of_a_third() {
    let net = joined(1, 5, Link::near());
    net.transport.cut_both(NodeId(1), NodeId(2));
    net.run(120 * SECOND);
    assert_eq!(net.deaths(), Vec::<String>::new());
    net.transport.mend_all();
    net.transport.set_links(Link::near());
    net.transport.cut(NodeId(3), NodeId(4));
    net.run(120 * SECOND);
    assert_eq!(net.deaths(), Vec::<String>::new());
}

#[test]
fn halves_that_were_apart_find_each_other_again() {
    let groups: [&[&[u64]]; 3] =
        [&[&[1, 2], &[3, 4, 5]], &[&[1], &[2, 3, 4, 5]], &[&[1], &[2], &[3], &[4], &[5]]];
    for (seed, groups) in (0..).zip(groups) {
        let net = joined(seed, 5, Link::near());
        let ids: Vec<Vec<NodeId>> =
            groups.iter().map(|group| group.iter().map(|id| NodeId(*id)).collect()).collect();
        let ids: Vec<&[NodeId]> = ids.iter().map(Vec::as_slice).collect();
        net.transport.partition(&ids);
        for group in groups {
            let others: Vec<u64> = net.all().into_iter().filter(|id| !group.contains(id)).collect();
            net.until(group, &others, Liveness::Dead, 60).expect("they are cut off");
        }
        net.transport.mend_all();
        net.transport.set_links(Link::near());
        let all = net.all();
        let seconds = net.until(&all, &all, Liveness::Alive, 120).expect("they meet again");
        assert!(seconds <= 60.0, "{groups:?}: {seconds} s");
        net.run(60 * SECOND);
        net.until(&all, &all, Liveness::Alive, 1).expect("and stay together");
    }
}

#[test]
fn a_node_whose_clock_went_back_is_taken_in_again() {
    let mut net = joined(3, 4, Link::near());
    net.crash(4);
    net.until(&[1, 2, 3], &[4], Liveness::Dead, 60).expect("it is found out");
    net.start(4, 1_800_000_000_000_000);
    net.until(&[1, 2, 3], &[4], Liveness::Alive, 30).expect("it is back");
    net.crash(4);
    net.until(&[1, 2, 3], &[4], Liveness::Dead, 60).expect("it is found out");
    // With a generation that is long gone.
    net.start(4, 7);
    net.until(&[1, 2, 3], &[4], Liveness::Alive, 60).expect("it is back");
    assert!(net.nodes[&4].me().generation > 1_800_000_000_000_000);
}

#[test]
fn one_that_leaves_is_known_to_be_gone_at_once() {
    let net = joined(4, 5, Link::near());
    net.nodes[&5].leave();
    let seconds = net.until(&[1, 2, 3, 4], &[5], Liveness::Dead, 10).expect("it said so");
    assert!(seconds <= 2.0, "{seconds} s");
    net.run(30 * SECOND);
    net.until(&[1, 2, 3, 4], &[5], Liveness::Dead, 1).expect("it stays away");
}

#[test]
fn a_changed_weight_spreads_and_is_no_death() {
    let net = joined(5, 5, Link::near());
    net.nodes[&2].change("zone-9", 77);
    net.run(10 * SECOND);
    for (id, node) in net.nodes.iter().filter(|(id, _)| **id != 2) {
        let state = node.peer(NodeId(2)).expect("known");
        assert_eq!((&*state.peer.zone, state.peer.weight), ("zone-9", 77), "at n{id}");
        assert_eq!(state.liveness, Liveness::Alive);
    }
    let last: Vec<String> =
        net.nodes.keys().filter_map(|id| net.heard[id].lock().last().cloned()).collect();
    assert!(last.iter().all(|what| !what.contains("down")), "{last:?}");
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut net = joined(seed, 5, Link::bad());
        net.run(20 * SECOND);
        net.crash(3);
        net.run(40 * SECOND);
        (net.runtime.trace(), net.transport.trace(), net.nodes[&1].peers())
    };
    assert_eq!(run(6), run(6));
    assert_ne!(run(6).0, run(7).0);
}

#[test]
fn noise_changes_nothing() {
    let net = joined(7, 3, Link::near());
    let before = net.nodes[&1].peers();
    let mut rng = base::rng::Rng::new(1);
    for len in 0..2000usize {
        let noise: Vec<u8> = (0..len % 200).map(|_| rng.next_u64() as u8).collect();
        drop(net.nodes[&1].receive(&noise.into()));
    }
    assert_eq!(net.nodes[&1].peers(), before);
}

#[test]
fn rules_of_the_configuration_are_told() {
    assert_eq!(Config::default().faults(), Vec::<String>::new());
    let wrong = Config {
        probe_timeout_micros: 600_000,
        packet_bytes_max: 10,
        gossip_fanout: 0,
        ..Config::default()
    };
    assert_eq!(wrong.faults().len(), 3, "{:?}", wrong.faults());
}
