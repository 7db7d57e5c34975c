//! What grows with the number of nodes: gossip, topologies, plans, digests, jobs, identities that are gone; counted by simulation, no
//! network and no disk.
//!
//! ```text
//! cargo run --release --example scale                   10, 100 and 1,000 nodes
//! cargo run --release --example scale -- 3 30 300
//! ```
//! What is counted is the same in every run; what is timed depends on the machine.
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use base::rng::Rng;
use cluster::NodeId;
use cluster::clock::{Actor, Context, Stamp, Subject, Token};
use cluster::codec::message::EntryDigest;
use cluster::membership::{Config, Effect, Event, Peer, Swim};
use cluster::merkle::{Span, Tree};
use cluster::rebalance::{
    Driver, DriverEffect, DriverEvent, DriverOptions, Estimate, MoveRecord, MoveReport, Moving,
    Report,
};
use cluster::record::Mode;
use cluster::topology::{Advance, Change, Entry, MemberState, ProposalId, Topology, Update};
use ring::Ring;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const SECOND: u64 = 1_000_000;
const REPLICAS: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let sizes: Result<Vec<u64>, _> = args.iter().map(|arg| arg.parse::<u64>()).collect();
    let sizes = match sizes {
        Ok(sizes) if sizes.is_empty() => vec![10, 100, 1000],
        Ok(sizes) if sizes.iter().all(|nodes| (3..=16_000).contains(nodes)) => sizes,
        _ => {
            eprintln!("usage: scale [NODES ..], from 3 to 16000");
            return ExitCode::FAILURE;
        }
    };
    topologies(&sizes);
    jobs(&sizes);
    gossip(&sizes);
    digests();
    identities();
    ExitCode::SUCCESS
}

// ---- topologies ----

fn member(id: u64) -> Change {
    let (address, zone) = (format!("10.0.0.{id}:7400"), format!("zone-{}", id % 5));
    Change::AddMember { id: NodeId(id), address, zone, weight: 1 }
}

fn go(topology: &Topology, change: &Change) -> Topology {
    topology.apply(change).expect("each change fits the one before")
}

fn grown(nodes: u64) -> Topology {
    let partitions = Ring::partitions_for(nodes as usize, usize::from(REPLICAS));
    let ring = Ring::new(partitions).expect("a power of two");
    let topology = (0..nodes).fold(Topology::new(1, ring), |t, id| go(&t, &member(id)));
    let keyspace = topology.create_keyspace("k", REPLICAS, Mode::Siblings, 16);
    go(&topology, &keyspace.expect("there are members"))
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let made = work();
    (start.elapsed().as_secs_f64() * 1e3, made)
}

fn topologies(sizes: &[u64]) {
    println!("topology, 3 replicas, one keyspace; a change is one partition to its next stage");
    println!(
        "{:>6} {:>10} {:>12} {:>12} {:>12} {:>10} {:>10} {:>10}",
        "nodes",
        "partitions",
        "bytes",
        "in a job",
        "of a change",
        "apply ms",
        "decode ms",
        "plan ms"
    );
    for &nodes in sizes {
        let topology = go(&grown(nodes), &member(nodes));
        let (plan, start) = timed(|| topology.start_job(0).expect("there are members"));
        let job = go(&topology, &start);
        let placement = &job.placements()[0];
        let step = placement.steps().next().expect("something moves");
        let to = placement.next_stage(step.partition).expect("it has not begun");
        let steps = vec![Advance { replicas: REPLICAS, partition: step.partition, to }];
        let id = job.job().expect("it began").id;
        let change = Change::AdvanceJob { job: id, steps };
        let (apply, next) = timed(|| go(&job, &change));
        let proposal = ProposalId { node: NodeId(1), number: u64::MAX };
        let entry = Entry { epoch: next.epoch(), id: proposal, change };
        let bytes = job.encode();
        let (decode, _) = timed(|| Topology::decode(&bytes).expect("as it was encoded"));
        println!(
            "{nodes:>6} {:>10} {:>12} {:>12} {:>12} {apply:>10.2} {decode:>10.2} {plan:>10.1}",
            job.ring().partitions(),
            topology.encode().len(),
            bytes.len(),
            Update::Entries(vec![entry]).encode().len(),
        );
    }
    println!();
}

// ---- jobs ----

fn jobs(sizes: &[u64]) {
    println!(
        "a job: copies of partitions over the least that even shares allow; then what the driver asks and proposes,"
    );
    println!("4 moves at a node, nodes that are through at once");
    println!(
        "{:>6} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "nodes", "copies", "join", "leave", "lost", "proposals", "questions", "bytes", "driver ms"
    );
    for &nodes in sizes {
        let topology = grown(nodes);
        let copies = f64::from(topology.ring().partitions()) * f64::from(REPLICAS);
        let moved = |change: &Change| {
            let topology = go(&topology, change);
            let job = go(&topology, &topology.start_job(0).expect("there are members"));
            Estimate::of(&job, false, |_| 1).copies
        };
        let joined = moved(&member(nodes));
        let state = |state| Change::SetState { id: NodeId(1), state };
        let over = |copies_moved: u64, nodes: u64| copies_moved as f64 / (copies / nodes as f64);
        let driven = drive(&go(&topology, &member(nodes)));
        println!(
            "{nodes:>6} {joined:>8} {:>8.3} {:>8.3} {:>8.3} {:>10} {:>10} {:>10} {:>10.1}",
            over(joined, nodes + 1),
            over(moved(&state(MemberState::Leaving)), nodes),
            over(moved(&state(MemberState::Down)), nodes),
            driven.proposals,
            driven.questions,
            driven.bytes,
            driven.millis,
        );
    }
    println!();
}

#[derive(Default)]
struct Driven {
    proposals: u64,
    questions: u64,
    /// Of the changes, as each member fetches them.
    bytes: usize,
    millis: f64,
}

/// A job from its beginning to its end, with movers that answer at once.
fn drive(topology: &Topology) -> Driven {
    let start = Instant::now();
    let mut driven = Driven::default();
    let mut topology = Arc::new(topology.clone());
    let mut driver = Driver::new(DriverOptions::default(), Arc::clone(&topology));
    let mut effects = VecDeque::from(driver.handle(0, DriverEvent::Woken));
    while let Some(effect) = effects.pop_front() {
        let event = match effect {
            DriverEffect::Wake(_) if topology.job().is_none() && driven.proposals > 1 => continue,
            DriverEffect::Wake(_) => DriverEvent::Woken,
            DriverEffect::Ask(node) => {
                driven.questions += 1;
                DriverEvent::Report(node, through(&topology, node))
            }
            DriverEffect::Propose { change, .. } => {
                driven.proposals += 1;
                topology = Arc::new(go(&topology, &change));
                let id = ProposalId { node: NodeId(0), number: driven.proposals };
                driven.bytes += Entry { epoch: topology.epoch(), id, change }.encode().len();
                let told = DriverEvent::Topology(Arc::clone(&topology));
                effects.extend(driver.handle(0, told));
                DriverEvent::Proposed
            }
        };
        effects.extend(driver.handle(0, event));
    }
    driven.millis = start.elapsed().as_secs_f64() * 1e3;
    driven
}

/// What a node says that has done everything.
fn through(topology: &Topology, node: NodeId) -> Report {
    let placement = &topology.placements()[0];
    let mut report = Report { epoch: topology.epoch(), moves: Vec::new(), cleaned: Vec::new() };
    let moving = |partition| Moving { replicas: REPLICAS, partition };
    for (partition, _) in placement.under_way() {
        let (Some(job), Some(owners)) = (topology.job(), placement.owners(partition)) else {
            continue;
        };
        if owners.role(node).is_some() {
            let mut record = MoveRecord::begin(job.id);
            (record.copied, record.caught_up) = (true, Some(owners.since()));
            report.moves.push(MoveReport { moving: moving(partition), record });
        }
    }
    let held = placement.departing().filter(|(_, held)| *held == node);
    report.cleaned = held.map(|(partition, _)| moving(partition)).collect();
    report
}

// ---- gossip ----

fn gossip(sizes: &[u64]) {
    println!(
        "gossip, 1 % of the packets lost, 1 ms on their way; all join by one seed, then a hundredth of them (at least one) dies"
    );
    println!(
        "{:>6} {:>8} {:>12} {:>12} {:>10} {:>10} {:>8} {:>10} {:>10}",
        "nodes", "join s", "packets/s", "B/s a node", "first s", "all s", "false", "KiB", "run s"
    );
    for &nodes in sizes {
        let start = Instant::now();
        let found = watch(nodes as usize);
        println!(
            "{nodes:>6} {:>8.1} {:>12.2} {:>12.0} {:>10.1} {:>10.1} {:>8} {:>10.1} {:>10.1}",
            found.join,
            found.packets_per_second,
            found.bytes_per_second,
            found.first,
            found.last,
            found.wrong,
            found.kib,
            start.elapsed().as_secs_f64(),
        );
    }
    println!(
        "packets and bytes are those of one node in quiet times; KiB is what one node keeps of the others, as encoded"
    );
    println!();
}

struct Found {
    join: f64,
    packets_per_second: f64,
    bytes_per_second: f64,
    first: f64,
    last: f64,
    wrong: usize,
    kib: f64,
}

fn watch(nodes: usize) -> Found {
    let config = Config { nodes_max: nodes as u32, ..Config::default() };
    let mut crowd = Crowd::new(nodes, &config);
    while crowd.swims.iter().flatten().any(|swim| swim.peers_alive() < nodes - 1) {
        crowd.run_for(SECOND / 10);
    }
    let join = crowd.now;
    while crowd.swims.iter().flatten().any(|swim| swim.backlog() > 0) {
        crowd.run_for(SECOND);
    }
    let (at, packets, bytes) = (crowd.now, crowd.packets, crowd.bytes);
    crowd.run_for(30 * SECOND);
    let node_seconds = (crowd.now - at) as f64 / SECOND as f64 * nodes as f64;
    let false_before = crowd.deaths.len();
    let victims: BTreeSet<usize> = (0..(nodes / 100).max(1)).map(|n| n * 97 % nodes).collect();
    victims.iter().for_each(|victim| crowd.swims[*victim] = None);
    let (death, living) = (crowd.now, nodes - victims.len());
    let (packets, bytes) = (crowd.packets - packets, crowd.bytes - bytes);
    crowd.run_for(config.suspicion_micros() + (2 * nodes as u64).clamp(10, 30) * SECOND);
    let told = |(node, at, _): &&(NodeId, usize, u64)| {
        victims.contains(&(node.0 as usize)) && !victims.contains(at)
    };
    let true_ones: Vec<u64> = crowd.deaths.iter().filter(told).map(|told| told.2 - death).collect();
    let complete = true_ones.len() >= living * victims.len();
    let seconds = |micros: Option<&u64>| micros.map_or(f64::NAN, |m| *m as f64 / SECOND as f64);
    let peer_bytes = bytes_of_a_peer();
    Found {
        join: join as f64 / SECOND as f64,
        packets_per_second: packets as f64 / node_seconds,
        bytes_per_second: bytes as f64 / node_seconds,
        first: seconds(true_ones.iter().min()),
        last: if complete { seconds(true_ones.iter().max()) } else { f64::NAN },
        wrong: false_before + (crowd.deaths.len() - false_before - true_ones.len()),
        kib: nodes as f64 * peer_bytes / 1024.0,
    }
}

/// Id, generation, zone, weight, incarnation and state.
fn bytes_of_a_peer() -> f64 {
    (2 + 8 + 7 + 1 + 1 + 1) as f64
}

/// Detectors on one queue.
struct Crowd {
    swims: Vec<Option<Swim>>,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    pushed: u64,
    now: u64,
    packets: u64,
    bytes: u64,
    /// Who was said to be dead, at whom, when.
    deaths: Vec<(NodeId, usize, u64)>,
    chance: u64,
}

impl Crowd {
    fn new(nodes: usize, config: &Config) -> Crowd {
        let mut crowd = Crowd {
            swims: Vec::new(),
            queue: BTreeMap::new(),
            pushed: 0,
            now: 0,
            packets: 0,
            bytes: 0,
            deaths: Vec::new(),
            chance: 1,
        };
        for node in 0..nodes {
            let zone: Arc<str> = format!("zone-{}", node % 5).into();
            let me = Peer { id: NodeId(node as u64), generation: 1, zone, weight: 1 };
            let mut swim = Swim::new(me, config.clone(), node as u64);
            let mut effects = swim.begin();
            effects.extend(swim.handle(Event::Join(vec![NodeId(0)])));
            crowd.swims.push(Some(swim));
            crowd.carry_out(node, effects);
        }
        crowd
    }

    fn run_for(&mut self, micros: u64) {
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

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => {
                    self.packets += 1;
                    self.bytes += packet.len() as u64;
                    if self.below(100) > 0 {
                        let delay = 500 + self.below(1000);
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

    /// A number below `n`, the same in every run.
    fn below(&mut self, n: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.chance >> 33) % n
    }
}

// ---- digests ----

fn digests() {
    println!("digests of one partition, keys of 16 bytes");
    println!("{:>10} {:>8} {:>12} {:>14}", "keys", "leaves", "bytes", "bytes a key");
    for keys in [1_000u32, 10_000, 100_000, 1_000_000] {
        let entry = |n: u32| EntryDigest {
            key: format!("user:{n:011}").as_str().into(),
            fingerprint: u128::from(n) << 64 | 1,
        };
        let entries: Vec<EntryDigest> = (0..keys).map(entry).collect();
        let mut tree = Tree::uncounted();
        tree.count(&Span::all(), &entries);
        tree.tidy();
        let bytes = tree.encode().len();
        println!(
            "{keys:>10} {:>8} {bytes:>12} {:>14.3}",
            tree.leaves(),
            bytes as f64 / f64::from(keys)
        );
    }
}

// ---- identities that are gone ----

/// So many contexts are encoded, decoded and merged in a turn; the fastest turn counts, so that what else the machine does does not.
const ROUNDS: u32 = 100;
const TURNS: u32 = 100;

/// What an owner has seen of a partition in which three owners write, and so many did that are gone.
fn seen(gone: u64, rng: &mut Rng) -> Context {
    let mut seen = Context::new();
    for _ in 0..gone + 3 {
        // Drawn as nodes draw theirs, with the writes of a partition in some days or months.
        let writes = 2 << rng.below(20);
        seen.raise(Actor((rng.next_u64() >> 16).max(1)), 1 + rng.below(writes));
    }
    seen
}

fn identities() {
    println!("\nidentities that are gone, in a partition in which three owners write");
    println!(
        "{:>8} {:>10} {:>12} {:>16} {:>12} {:>10} {:>10} {:>10}",
        "gone",
        "seen, B",
        "of each, B",
        "with a write, B",
        "a token, B",
        "encode us",
        "decode us",
        "merge us"
    );
    let mut rng = Rng::new(7);
    for gone in [0u64, 10, 100, 1_000] {
        let one = seen(gone, &mut rng);
        let bytes = one.encode();
        let token = Token { context: one.clone(), stamp: Stamp::ZERO };
        let keyspace = cluster::KeyspaceId(0);
        let token = token.seal(&Subject { cluster: 1, keyspace, key: b"user:0123456789" }).len();
        // Another owner is some writes ahead.
        let mut other = one.clone();
        one.runs().iter().for_each(|run| other.raise(run.actor, run.last.saturating_add(3)));
        let micros = |work: &dyn Fn() -> usize| {
            let turn = || timed(|| (0..ROUNDS).map(|_| work()).sum::<usize>());
            let turns: Vec<(f64, usize)> = (0..TURNS).map(|_| turn()).collect();
            assert!(turns.iter().all(|(_, made)| *made > 0), "nothing was made");
            let least = turns.iter().map(|(millis, _)| *millis).fold(f64::MAX, f64::min);
            least * 1e3 / f64::from(ROUNDS)
        };
        let encode = micros(&|| one.encode().len());
        let decode = micros(&|| Context::decode(&bytes).map_or(0, |context| context.runs().len()));
        let merge = micros(&|| one.union(&other).runs().len());
        let each = bytes.len() as f64 / (gone + 3) as f64;
        // `seen` and `floor` are stored with it.
        println!(
            "{gone:>8} {:>10} {each:>12.1} {:>16} {token:>12} {encode:>10.2} {decode:>10.2} {merge:>10.2}",
            bytes.len(),
            2 * bytes.len(),
        );
    }
}
