//! The model. A step is one event: a message that arrives, a synced write, a timer, a decision of the consensus.
//!
//! Disks hold what was synced; a write to a disk happens whole or not at all. Of a value only its version counts: the greatest wins, deletes are
//! values too. What a node does in memory is the real [`Mover`] and [`Driver`].

use crate::rebalance::{
    Cursor, Driver, DriverEffect, DriverEvent, DriverOptions, MoveRecord, Mover, MoverEffect,
    MoverEvent, MoverOptions, Moving, Report, Ticket,
};
use crate::record::Mode;
use crate::topology::{Change, Fence, Owners, Role, Topology};
use base::rng::Rng;
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition, Ring};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const KEYSPACE: KeyspaceId = KeyspaceId(0);
/// Keys of each partition.
const KEYS: u32 = 20;
const PAGE_KEYS: usize = 5;
const KEY_BYTES: u64 = 100;

type Version = u64;

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    /// Index of the topology.
    pub(super) topology: usize,
    pub(super) data: BTreeMap<Partition, BTreeMap<u32, Version>>,
    pub(super) records: BTreeMap<Moving, MoveRecord>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) disk: Disk,
    /// `None` while it is down.
    mover: Option<Mover>,
    /// Of its starts; what was sent to an earlier one is lost.
    start: u64,
    destroyed: bool,
}

/// Who is crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Node(NodeId),
    Driver,
}

#[derive(Debug, Clone)]
enum Event {
    Learn(NodeId, usize),
    /// A message of the start of a node to another one.
    Ask(NodeId, u64, NodeId, Question),
    /// What comes back to the start of a node.
    Answer(NodeId, u64, Answer),
    ToMover(NodeId, u64, MoverEvent),
    Local(NodeId, u64, MoverEffect),
    ToDriver(u64, DriverEvent),
    AskReport(u64, NodeId),
    Propose(u64, Epoch, Change),
    Write,
    Apply(usize, NodeId),
    Restart(Victim),
    Operator(Change),
}

#[derive(Debug, Clone)]
enum Question {
    Page(Ticket, Moving, MoveRecord),
    All(Ticket, Moving),
    Epoch(Ticket, Epoch),
}

#[derive(Debug, Clone)]
enum Answer {
    Page(Ticket, Moving, MoveRecord, Vec<(u32, Version)>, Option<Cursor>),
    All(Ticket, Moving, Vec<(u32, Version)>),
    Event(MoverEvent),
}

struct Write {
    partition: Partition,
    key: u32,
    version: Version,
    topology: usize,
    taken_by: Vec<NodeId>,
    acknowledged: bool,
}

/// What a run leaves out, to see that the checks notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omit {
    Nothing,
    /// An exchange brings nothing.
    CatchUp,
    /// Copies are deleted as soon as a partition is joint.
    Patience,
}

pub(super) struct World {
    pub(super) topologies: Vec<Arc<Topology>>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    driver: Option<Driver>,
    driver_start: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pushed: u64,
    now: u64,
    rng: Rng,
    writes: Vec<Write>,
    versions: Version,
    writing: bool,
    pub(super) w: usize,
    pub(super) steps: usize,
    pub(super) fetched: u64,
    omit: Omit,
    drivers: DriverOptions,
}

impl World {
    /// `nodes` members (from 1) of one zone each, a keyspace with so many replicas, and keys everywhere.
    pub(super) fn new(seed: u64, partitions: u32, nodes: u64, replicas: u8, omit: Omit) -> World {
        let mut topology = Topology::new(1, Ring::new(partitions).expect("a power of two"));
        for id in 1..=nodes {
            topology = topology.apply(&member(id)).expect("a new member");
        }
        let keyspace = topology.create_keyspace("k", replicas, Mode::Siblings, 16);
        topology = topology.apply(&keyspace.expect("members")).expect("a new keyspace");
        let drivers = DriverOptions { bytes_per_second: 0, ..DriverOptions::default() };
        let mut world = World {
            topologies: vec![Arc::new(topology)],
            nodes: BTreeMap::new(),
            driver: None,
            driver_start: 0,
            queue: BTreeMap::new(),
            pushed: 0,
            now: 0,
            rng: Rng::new(seed),
            writes: Vec::new(),
            versions: 0,
            writing: true,
            w: usize::from(replicas) / 2 + 1,
            steps: 0,
            fetched: 0,
            omit,
            drivers,
        };
        (1..=nodes).for_each(|id| world.add_node(NodeId(id)));
        world.fill();
        world.start_driver();
        world.push(1, Event::Write);
        world
    }

    fn fill(&mut self) {
        let topology = Arc::clone(self.last());
        for partition in topology.ring().iter() {
            let owners = topology.owners(KEYSPACE, partition).expect("it exists").list().to_vec();
            for key in 0..KEYS {
                self.versions += 1;
                let version = self.versions;
                for owner in &owners {
                    self.disk(*owner).data.entry(partition).or_default().insert(key, version);
                }
                let taken_by = owners.clone();
                let acknowledged = true;
                self.writes.push(Write {
                    partition,
                    key,
                    version,
                    topology: 0,
                    taken_by,
                    acknowledged,
                });
            }
        }
    }

    pub(super) fn last(&self) -> &Arc<Topology> {
        self.topologies.last().expect("never empty")
    }

    fn disk(&mut self, node: NodeId) -> &mut Disk {
        &mut self.nodes.get_mut(&node).expect("a node").disk
    }

    fn push(&mut self, micros: u64, event: Event) {
        self.pushed += 1;
        let micros = micros + self.rng.below(micros + 1);
        self.queue.insert((self.now + micros, self.pushed), event);
    }

    // ---- what is done to it ----

    pub(super) fn add_node(&mut self, id: NodeId) {
        let topology = self.topologies.len() - 1;
        let disk = Disk { topology, ..Disk::default() };
        self.nodes.insert(id, Node { disk, mover: None, start: 0, destroyed: false });
        self.start_node(id);
    }

    /// The operator wants a change, now.
    pub(super) fn operate(&mut self, change: Change) {
        self.push(0, Event::Operator(change));
    }

    /// The node never comes back, nor does what it held.
    pub(super) fn destroy(&mut self, id: NodeId) {
        self.crash(Victim::Node(id));
        let node = self.nodes.get_mut(&id).expect("a node");
        (node.destroyed, node.disk) = (true, Disk::default());
    }

    pub(super) fn crash(&mut self, victim: Victim) {
        match victim {
            Victim::Driver => self.driver = None,
            Victim::Node(id) => {
                let node = self.nodes.get_mut(&id).expect("a node");
                node.mover = None;
                node.start += 1;
            }
        }
    }

    pub(super) fn restart_in(&mut self, micros: u64, victim: Victim) {
        self.push(micros, Event::Restart(victim));
    }

    pub(super) fn stop_writing(&mut self) {
        self.writing = false;
    }

    pub(super) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// One event; false if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.steps += 1;
        self.handle(event);
        true
    }

    /// Until the job is over, `steps` at most. Said then: whether it is.
    pub(super) fn run(&mut self, steps: usize, check_every: usize) -> Result<bool, String> {
        for step in 0..steps {
            if self.is_over() {
                return Ok(true);
            }
            if !self.step() {
                return Ok(false);
            }
            if step % check_every == 0 {
                self.check()?;
            }
        }
        Ok(self.is_over())
    }

    fn is_over(&self) -> bool {
        let last = self.last();
        let asked = || self.queue.values().any(|event| matches!(event, Event::Operator(_)));
        let departing = |node: NodeId| !self.nodes[&node].destroyed;
        last.job().is_none()
            && !asked()
            && last.placements()[0].departing().all(|(_, node)| !departing(node))
            && (last.is_held() || self.nothing_to_move())
    }

    fn nothing_to_move(&self) -> bool {
        let change = self.last().start_job(0).expect("members");
        self.last().apply(&change).is_err()
    }

    // ---- events ----

    fn handle(&mut self, event: Event) {
        match event {
            Event::Learn(node, topology) => self.learn(node, topology),
            Event::Ask(from, start, to, question) => self.ask(from, start, to, question),
            Event::Answer(node, start, answer) if self.lives(node, start) => {
                self.answer(node, answer)
            }
            Event::ToMover(node, start, event) if self.lives(node, start) => self.tell(node, event),
            Event::Local(node, start, effect) if self.lives(node, start) => {
                self.local(node, effect)
            }
            Event::ToDriver(start, event) if start == self.driver_start => self.tell_driver(event),
            Event::AskReport(start, node) => self.ask_report(start, node),
            Event::Propose(start, expected, change) => self.propose(start, expected, &change),
            Event::Write => self.write(),
            Event::Apply(write, node) => self.apply(write, node),
            Event::Restart(Victim::Driver) => self.start_driver(),
            Event::Restart(Victim::Node(node)) => self.start_node(node),
            Event::Operator(change) => self.commit(&change),
            // For a start of somebody that is over.
            Event::Answer(..) | Event::ToMover(..) | Event::Local(..) | Event::ToDriver(..) => {}
        }
    }

    fn lives(&self, node: NodeId, start: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.start == start && node.mover.is_some())
    }

    fn start_node(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.destroyed || node.mover.is_some() {
            return;
        }
        let records = node.disk.records.clone();
        node.mover = Some(Mover::new(id, MoverOptions::default(), records));
        let topology = Arc::clone(&self.topologies[node.disk.topology]);
        self.tell(id, MoverEvent::Topology(topology));
        self.push(100, Event::Learn(id, self.topologies.len() - 1));
    }

    fn start_driver(&mut self) {
        self.driver_start += 1;
        self.driver = Some(Driver::new(self.drivers, Arc::clone(self.last())));
        self.tell_driver(DriverEvent::Woken);
    }

    fn commit(&mut self, change: &Change) {
        let Ok(next) = self.last().apply(change) else { return };
        self.topologies.push(Arc::new(next));
        let newest = self.topologies.len() - 1;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            // Some hear of it late.
            let late = self.rng.below(4) == 0;
            self.push(if late { 40_000 } else { 2000 }, Event::Learn(id, newest));
        }
        let topology = Arc::clone(self.last());
        self.push(1000, Event::ToDriver(self.driver_start, DriverEvent::Topology(topology)));
    }

    fn learn(&mut self, id: NodeId, topology: usize) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.mover.is_some() && topology > node.disk.topology {
            node.disk.topology = topology;
            let topology = Arc::clone(&self.topologies[topology]);
            self.tell(id, MoverEvent::Topology(topology));
        }
    }

    fn tell(&mut self, id: NodeId, event: MoverEvent) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let (start, known) = (node.start, node.disk.topology);
        let Some(mover) = &mut node.mover else { return };
        let epoch = self.topologies[known].epoch();
        for effect in mover.handle(self.now, event) {
            match effect {
                MoverEffect::Fetch { ticket, from, moving, record, .. } => {
                    let question = Question::Page(ticket, moving, record);
                    self.push(300, Event::Ask(id, start, from, question));
                }
                MoverEffect::CatchUp { ticket, with, moving } => {
                    self.push(300, Event::Ask(id, start, with, Question::All(ticket, moving)));
                }
                MoverEffect::AskEpoch { ticket, node } => {
                    self.push(300, Event::Ask(id, start, node, Question::Epoch(ticket, epoch)));
                }
                MoverEffect::Wake { micros } => {
                    self.push(micros, Event::ToMover(id, start, MoverEvent::Woken));
                }
                local => self.push(200, Event::Local(id, start, local)),
            }
        }
    }

    fn ask(&mut self, from: NodeId, start: u64, to: NodeId, question: Question) {
        let source = &self.nodes[&to];
        let up = source.mover.is_some();
        let topology = &self.topologies[source.disk.topology];
        let data = |moving: Moving| {
            let owner = topology.owners(KEYSPACE, moving.partition)?.role(to) == Some(Role::Owner);
            (up && owner)
                .then(|| source.disk.data.get(&moving.partition).cloned().unwrap_or_default())
        };
        let answer = match question {
            Question::Page(ticket, moving, record) => match data(moving) {
                Some(data) => page(ticket, moving, record, &data),
                None => Answer::Event(MoverEvent::Fetched(ticket, Err(()))),
            },
            Question::All(ticket, moving) => match data(moving) {
                Some(data) if self.omit != Omit::CatchUp => {
                    Answer::All(ticket, moving, data.into_iter().collect())
                }
                Some(_) => Answer::All(ticket, moving, Vec::new()),
                None => Answer::Event(MoverEvent::Done(ticket, Err(()))),
            },
            Question::Epoch(ticket, _) if !up => Answer::Event(MoverEvent::Epoch(ticket, Err(()))),
            Question::Epoch(ticket, newer) => {
                let epoch = topology.epoch();
                if newer > epoch {
                    self.push(500, Event::Learn(to, self.topologies.len() - 1));
                }
                Answer::Event(MoverEvent::Epoch(ticket, Ok(epoch)))
            }
        };
        self.push(300, Event::Answer(from, start, answer));
    }

    fn answer(&mut self, id: NodeId, answer: Answer) {
        let wanted = |moving: &Moving| self.holds(id, *moving);
        let event = match answer {
            Answer::Event(event) => event,
            // What comes late is not merged into what was deleted meanwhile.
            Answer::Page(ticket, moving, ..) if !wanted(&moving) => {
                MoverEvent::Fetched(ticket, Err(()))
            }
            Answer::All(ticket, moving, _) if !wanted(&moving) => MoverEvent::Done(ticket, Err(())),
            Answer::Page(ticket, moving, mut record, items, next) => {
                let bytes = items.len() as u64 * KEY_BYTES;
                self.merge(id, moving.partition, &items);
                record.cursor.clone_from(&next);
                record.bytes += bytes;
                self.fetched += bytes;
                self.disk(id).records.insert(moving, record);
                MoverEvent::Fetched(ticket, Ok((bytes, next)))
            }
            Answer::All(ticket, moving, items) => {
                self.merge(id, moving.partition, &items);
                MoverEvent::Done(ticket, Ok(()))
            }
        };
        // The disk has it; the node hears of that a little later.
        let start = self.nodes[&id].start;
        self.push(100, Event::ToMover(id, start, event));
    }

    /// True if the node owns or receives it, as far as it knows.
    fn holds(&self, id: NodeId, moving: Moving) -> bool {
        let owners = self.owners(self.nodes[&id].disk.topology, moving.partition);
        matches!(owners.role(id), Some(Role::Owner | Role::Receiver))
    }

    fn merge(&mut self, id: NodeId, partition: Partition, items: &[(u32, Version)]) {
        let stored = self.disk(id).data.entry(partition).or_default();
        for (key, version) in items {
            let slot = stored.entry(*key).or_default();
            *slot = (*slot).max(*version);
        }
    }

    /// Something that a node does on its own disk.
    fn local(&mut self, id: NodeId, effect: MoverEffect) {
        let holds = matches!(&effect, MoverEffect::Drop { moving, .. } if self.holds(id, *moving));
        let disk = self.disk(id);
        let event = match effect {
            MoverEffect::Store { ticket, moving, record } => {
                disk.records.insert(moving, record);
                MoverEvent::Done(ticket, Ok(()))
            }
            MoverEffect::Drop { ticket, moving } => {
                if !holds {
                    disk.data.remove(&moving.partition);
                    disk.records.remove(&moving);
                }
                MoverEvent::Done(ticket, if holds { Err(()) } else { Ok(()) })
            }
            MoverEffect::Forget { moving } => {
                disk.records.remove(&moving);
                return;
            }
            other => unreachable!("{other:?} is no local effect"),
        };
        let start = self.nodes[&id].start;
        self.push(100, Event::ToMover(id, start, event));
    }

    // ---- the driver ----

    fn tell_driver(&mut self, event: DriverEvent) {
        let Some(driver) = &mut self.driver else { return };
        let start = self.driver_start;
        for effect in driver.handle(self.now, event) {
            match effect {
                DriverEffect::Ask(node) => self.push(300, Event::AskReport(start, node)),
                DriverEffect::Wake(micros) => {
                    self.push(micros / 20, Event::ToDriver(start, DriverEvent::Woken));
                }
                DriverEffect::Propose { expected, change } => {
                    self.push(300, Event::Propose(start, expected, change));
                }
            }
        }
    }

    fn ask_report(&mut self, start: u64, id: NodeId) {
        let Some(mover) = self.nodes.get(&id).and_then(|node| node.mover.as_ref()) else { return };
        let report = Report::decode(&mover.report().encode()).expect("as it was encoded");
        self.push(300, Event::ToDriver(start, DriverEvent::Report(id, report)));
    }

    fn propose(&mut self, start: u64, expected: Epoch, change: &Change) {
        if expected == self.last().epoch() {
            if self.omit == Omit::Patience
                && let Change::AdvanceJob { steps, .. } = change
            {
                for step in steps.iter().filter(|s| s.to == crate::topology::Stage::Joint) {
                    let moving = Moving { replicas: step.replicas, partition: step.partition };
                    self.delete_early(moving);
                }
            }
            self.commit(change);
        }
        let topology = Arc::clone(self.last());
        self.push(300, Event::ToDriver(start, DriverEvent::Topology(topology)));
        // Later than the topology, whatever the delays are.
        self.push(1000, Event::ToDriver(start, DriverEvent::Proposed));
    }

    fn delete_early(&mut self, moving: Moving) {
        let step = self.last().placements()[0].step(moving.partition).expect("it moves");
        for from in step.handovers.iter().filter_map(|handover| handover.from) {
            self.disk(from).data.remove(&moving.partition);
        }
    }

    // ---- clients ----

    fn write(&mut self) {
        if !self.writing {
            return;
        }
        // Most clients are up to date, some are not.
        let late = if self.rng.below(5) == 0 { self.rng.below(4) as usize } else { 0 };
        let topology = (self.topologies.len() - 1).saturating_sub(late);
        let partitions = self.last().ring().partitions();
        let partition = Partition(self.rng.below(u64::from(partitions)) as u32);
        let key = self.rng.below(u64::from(KEYS)) as u32;
        self.versions += 1;
        let (version, number) = (self.versions, self.writes.len());
        let writers = self.owners(topology, partition).writers();
        let (taken_by, acknowledged) = (Vec::new(), false);
        self.writes.push(Write { partition, key, version, topology, taken_by, acknowledged });
        for node in writers {
            // One in ten is lost.
            if self.rng.below(10) > 0 {
                self.push(400, Event::Apply(number, node));
            }
        }
        self.push(4000, Event::Write);
    }

    fn owners(&self, topology: usize, partition: Partition) -> Owners<'_> {
        self.topologies[topology].owners(KEYSPACE, partition).expect("it exists")
    }

    fn apply(&mut self, number: usize, id: NodeId) {
        let Write { partition, key, version, topology, .. } = self.writes[number];
        let epoch = self.topologies[topology].epoch();
        let node = &self.nodes[&id];
        let fence = self.topologies[node.disk.topology].fence(KEYSPACE, partition, epoch);
        if node.mover.is_none() || fence != Fence::Serve {
            return;
        }
        self.merge(id, partition, &[(key, version)]);
        self.writes[number].taken_by.push(id);
        let count = self.owners(topology, partition).count(&self.writes[number].taken_by);
        if count >= self.w {
            self.writes[number].acknowledged = true;
        }
    }

    // ---- what must hold ----

    /// Whoever reads now, with R + W > N, sees every write that was acknowledged; and nobody counts as an owner who is gone.
    pub(super) fn check(&self) -> Result<(), String> {
        let newest = self.topologies.len() - 1;
        let mut latest: BTreeMap<(Partition, u32), Version> = BTreeMap::new();
        for write in self.writes.iter().filter(|write| write.acknowledged) {
            let slot = latest.entry((write.partition, write.key)).or_default();
            *slot = (*slot).max(write.version);
        }
        for ((partition, key), version) in latest {
            let owners = self.owners(newest, partition);
            let has = |node: NodeId| {
                let data = self.nodes[&node].disk.data.get(&partition);
                data.and_then(|data| data.get(&key)).is_some_and(|stored| *stored >= version)
            };
            let holders: Vec<NodeId> = self.nodes.keys().copied().filter(|n| has(*n)).collect();
            // A read asks both of a pair, so either of them shows it.
            let shows = |owner: &&NodeId| {
                let pair = owners.handovers().iter().find(|h| h.from == Some(**owner));
                let joint = owners.readers().len() > owners.list().len();
                let partner = pair.filter(|_| joint).and_then(|pair| pair.to);
                has(**owner) || partner.is_some_and(has)
            };
            let seen = owners.list().iter().filter(shows).count();
            let lost = owners.list().iter().filter(|owner| self.nodes[*owner].destroyed).count();
            if seen + lost < self.w.min(owners.list().len()) || seen == 0 {
                return Err(format!(
                    "{partition} key={key} version={version} is at {holders:?}, {owners:?}"
                ));
            }
        }
        Ok(())
    }

    /// At the end: nobody holds what is not theirs, and no trace of a job is left.
    pub(super) fn check_end(&self) -> Result<(), String> {
        self.check()?;
        for (id, node) in self.nodes.iter().filter(|(_, node)| !node.destroyed) {
            for (partition, data) in &node.disk.data {
                let owns = self.owners(self.topologies.len() - 1, *partition).list().contains(id);
                if !owns && !data.is_empty() {
                    return Err(format!("{id} still holds {partition}"));
                }
            }
        }
        Ok(())
    }

    /// Nobody who lives has a record left, once all have heard of the end.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.stop_writing();
        let end = self.now + 3_000_000;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at < end) {
            self.step();
        }
        self.check_end()?;
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.mover.is_some()) {
            if !node.disk.records.is_empty() {
                return Err(format!("{id} keeps {:?}", node.disk.records));
            }
        }
        Ok(())
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.acknowledged).count()
    }
}

pub(super) fn member(id: u64) -> Change {
    let zone = format!("z{id}");
    Change::AddMember { id: NodeId(id), address: String::new(), zone, weight: 1 }
}

fn page(
    ticket: Ticket,
    moving: Moving,
    record: MoveRecord,
    data: &BTreeMap<u32, Version>,
) -> Answer {
    let first = record.cursor.as_ref().map_or(0, |cursor| {
        let key: [u8; 4] = cursor.key.to_vec().try_into().expect("four bytes");
        u32::from_be_bytes(key)
    });
    let mut rest = data.range(first..).map(|(key, version)| (*key, *version));
    let items: Vec<(u32, Version)> = rest.by_ref().take(PAGE_KEYS).collect();
    let next = rest
        .next()
        .map(|(key, _)| Cursor { keyspace: KEYSPACE, key: Slice::copy_from(&key.to_be_bytes()) });
    Answer::Page(ticket, moving, record, items, next)
}
