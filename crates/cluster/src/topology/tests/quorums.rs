//! The rule by which a partition changes hands, against a model: nodes that know of epochs late, clients whose requests are under
//! way for long, and a read that must see every write acknowledged before it began.

use crate::record::Mode;
use crate::topology::{Advance, Change, Fence, Handover, MemberState, Stage, Step, Topology};
use base::KeyspaceId;
use base::rng::Rng;
use ring::{NodeId, Partition, Ring};
use std::collections::{BTreeMap, BTreeSet};

const KEYSPACE: KeyspaceId = KeyspaceId(0);
const PARTITION: Partition = Partition(0);

/// What a run leaves out, to see that the rule needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Omit {
    Nothing,
    /// The exchange begins though its sources do not know of `Joint`.
    Barrier,
    /// No exchange.
    Exchange,
    /// Owners that hand over count alone.
    Partners,
    /// Nodes serve requests of any epoch.
    Fences,
}

#[derive(Debug, Default, Clone)]
struct Node {
    /// Index of the topology that it knows.
    knows: usize,
    writes: BTreeSet<u32>,
    dead: bool,
}

/// A request on its way to nodes, one after the other.
#[derive(Debug, Clone)]
struct Op {
    /// The topology of the client.
    at: usize,
    /// The write; `None` reads.
    write: Option<u32>,
    to_ask: Vec<NodeId>,
    answered: Vec<NodeId>,
    seen: BTreeSet<u32>,
    /// Writes acknowledged when it began.
    before: BTreeSet<u32>,
}

struct Model {
    topologies: Vec<Topology>,
    nodes: BTreeMap<NodeId, Node>,
    ops: Vec<Op>,
    acknowledged: BTreeSet<u32>,
    writes: u32,
    reads: usize,
    rng: Rng,
    omit: Omit,
    w: usize,
    r: usize,
    /// Exchanges of the step that are done: (from, to).
    exchanged: BTreeSet<(NodeId, NodeId)>,
    flips: usize,
}

impl Model {
    fn new(seed: u64, omit: Omit) -> Model {
        let mut rng = Rng::new(seed);
        let replicas = 1 + rng.below(4) as usize;
        let w = 1 + rng.below(replicas as u64) as usize;
        let r = replicas - w + 1 + rng.below(w as u64) as usize;
        let mut topology = Topology::new(1, Ring::new(1).expect("a power of two"));
        let members = replicas as u64 + rng.below(3);
        for id in 0..members {
            topology = topology.apply(&member(id)).expect("a new member");
        }
        let keyspace = topology.create_keyspace("k", replicas as u8, Mode::Siblings, 16);
        topology = topology.apply(&keyspace.expect("members")).expect("a new keyspace");
        let nodes = (0..members).map(|id| (NodeId(id), Node::default())).collect();
        let (topologies, ops, exchanged) = (vec![topology], Vec::new(), BTreeSet::new());
        let acknowledged = BTreeSet::new();
        let (writes, reads, flips) = (0, 0, 0);
        Model {
            topologies,
            nodes,
            ops,
            acknowledged,
            writes,
            reads,
            rng,
            omit,
            w,
            r,
            exchanged,
            flips,
        }
    }

    fn last(&self) -> &Topology {
        self.topologies.last().expect("never empty")
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.below(items.len() as u64) as usize]
    }

    fn change(&mut self, change: &Change) {
        if let Ok(next) = self.last().apply(change) {
            self.topologies.push(next);
        }
    }

    fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            match self.rng.below(100) {
                0..2 => self.reshape(),
                2..14 => self.drive(),
                14..34 => self.learn(),
                34..46 => self.begin_op(),
                _ => self.deliver()?,
            }
        }
        Ok(())
    }

    // ---- members come and go ----

    fn reshape(&mut self) {
        let next = self.nodes.len() as u64;
        let ids: Vec<NodeId> = self.last().members().iter().map(|member| member.id).collect();
        let id = self.pick(&ids);
        match self.rng.below(4) {
            0 => {
                self.nodes.insert(NodeId(next), Node::default());
                self.change(&member(next));
            }
            1 => self.change(&Change::SetState { id, state: MemberState::Leaving }),
            2 => self.change(&Change::SetState { id, state: MemberState::Up }),
            // A node dies for good. One at a time: no write is on fewer than W owners, and W has to be above 1.
            _ if self.w > 1
                && self.nodes.values().all(|node| !node.dead)
                && self.last().job().is_none() =>
            {
                self.nodes.get_mut(&id).expect("a member").dead = true;
                self.change(&Change::SetState { id, state: MemberState::Down });
            }
            _ => {}
        }
        if let Some(job) = self.last().job().map(|job| job.id) {
            if self.chance(10) {
                let back = self.chance(50);
                let change = if back {
                    Change::RollBackJob { job }
                } else {
                    Change::StopJob { job, hold: true }
                };
                self.change(&change);
                self.exchanged.clear();
            }
        } else if let Ok(start) = self.last().start_job(0) {
            self.change(&start);
            self.exchanged.clear();
        }
    }

    // ---- what the rebalancer does ----

    fn drive(&mut self) {
        let Some(job) = self.last().job().map(|job| job.id) else { return };
        let placement = &self.last().placements()[0];
        let Some(step) = placement.step(PARTITION) else { return };
        let replicas = placement.replicas() as u8;
        let Some(to) = placement.next_stage(PARTITION) else {
            return self.change(&Change::EndJob { job });
        };
        if to == Stage::Flipped && !self.caught_up(&step) {
            return;
        }
        self.flips += usize::from(to == Stage::Flipped);
        let steps = vec![Advance { replicas, partition: PARTITION, to }];
        self.change(&Change::AdvanceJob { job, steps });
    }

    /// One exchange at a time; true once all that the rule asks for are done.
    fn caught_up(&mut self, step: &Step) -> bool {
        if self.omit == Omit::Exchange {
            return true;
        }
        let joint = self.topologies.len() - 1;
        let owners: Vec<NodeId> =
            self.last().owners(KEYSPACE, PARTITION).expect("it exists").list().to_vec();
        for handover in &step.handovers {
            for (from, to) in self.exchanges(*handover, &owners, step) {
                let source = &self.nodes[&from];
                let fenced = source.knows >= self.since_joint(joint) || self.omit == Omit::Barrier;
                if self.exchanged.contains(&(from, to)) {
                    continue;
                }
                if fenced && !source.dead && !self.nodes[&to].dead {
                    let brought = source.writes.clone();
                    self.nodes.get_mut(&to).expect("a member").writes.extend(brought);
                    self.exchanged.insert((from, to));
                }
                return false;
            }
        }
        true
    }

    /// The first topology of which the partition is joint as it is now.
    fn since_joint(&self, joint: usize) -> usize {
        let since = self.topologies[joint].owners(KEYSPACE, PARTITION).expect("it exists").since();
        let at = self.topologies.iter().position(|topology| topology.epoch() == since);
        at.expect("it was an epoch")
    }

    /// Who has to send what it has to whom.
    fn exchanges(
        &self,
        handover: Handover,
        owners: &[NodeId],
        step: &Step,
    ) -> Vec<(NodeId, NodeId)> {
        let leaving = |node: &NodeId| step.handovers.iter().any(|h| h.from == Some(*node));
        let receivers: Vec<NodeId> = match handover.to {
            Some(to) => vec![to],
            None => owners.iter().copied().filter(|owner| !leaving(owner)).collect(),
        };
        let sources: Vec<NodeId> = match handover.from {
            Some(from) if !self.nodes[&from].dead => vec![from],
            _ => owners.iter().copied().filter(|owner| !self.nodes[owner].dead).collect(),
        };
        let pairs = sources.iter().flat_map(|from| receivers.iter().map(move |to| (*from, *to)));
        pairs.filter(|(from, to)| from != to).collect()
    }

    // ---- nodes and clients ----

    fn learn(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let (id, newest) = (self.pick(&ids), self.topologies.len() - 1);
        let node = self.nodes.get_mut(&id).expect("picked");
        node.knows += self.rng.below((newest - node.knows) as u64 + 1) as usize;
    }

    fn begin_op(&mut self) {
        let newest = self.topologies.len() as u64;
        // Mostly up to date, sometimes far behind.
        let late =
            if self.chance(30) { self.rng.below(newest) } else { self.rng.below(newest.min(3)) };
        let at = (newest - 1 - late) as usize;
        let owners = self.topologies[at].owners(KEYSPACE, PARTITION).expect("it exists");
        let write = self.rng.below(2) == 0;
        let mut to_ask = if write { owners.writers() } else { owners.readers() };
        shuffle(&mut to_ask, &mut self.rng);
        self.writes += u32::from(write);
        let write = write.then_some(self.writes);
        let (answered, seen, before) = (Vec::new(), BTreeSet::new(), self.acknowledged.clone());
        self.ops.push(Op { at, write, to_ask, answered, seen, before });
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.ops.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.ops.len() as u64) as usize;
        let Some(to) = self.ops[at].to_ask.pop() else {
            self.ops.swap_remove(at);
            return Ok(());
        };
        if self.chance(10) {
            return Ok(());
        }
        let op = &mut self.ops[at];
        let node = self.nodes.get_mut(&to).expect("a member");
        let epoch = self.topologies[op.at].epoch();
        let fence = self.topologies[node.knows].fence(KEYSPACE, PARTITION, epoch);
        if node.dead || (fence != Fence::Serve && self.omit != Omit::Fences) {
            return Ok(());
        }
        match op.write {
            Some(write) => drop(node.writes.insert(write)),
            None => op.seen.extend(&node.writes),
        }
        op.answered.push(to);
        self.judge(at)
    }

    fn judge(&mut self, at: usize) -> Result<(), String> {
        let op = &self.ops[at];
        let owners = self.topologies[op.at].owners(KEYSPACE, PARTITION).expect("it exists");
        let count = match self.omit {
            Omit::Partners => owners.list().iter().filter(|o| op.answered.contains(o)).count(),
            _ => owners.count(&op.answered),
        };
        match op.write {
            Some(write) if count >= self.w => drop(self.acknowledged.insert(write)),
            None if count >= self.r => {
                let op = self.ops.swap_remove(at);
                self.reads += 1;
                let missed: Vec<u32> = op.before.difference(&op.seen).copied().collect();
                if !missed.is_empty() {
                    return Err(format!("R={} W={} missed={missed:?} {op:?}", self.r, self.w));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn member(id: u64) -> Change {
    let zone = format!("z{}", id % 3);
    Change::AddMember { id: NodeId(id), address: String::new(), zone, weight: 1 }
}

fn shuffle(items: &mut [NodeId], rng: &mut Rng) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.below(at as u64 + 1) as usize);
    }
}

fn first_fault(omit: Omit, seeds: u64) -> (Option<(u64, String)>, usize, usize) {
    let (mut reads, mut flips) = (0, 0);
    for seed in 0..seeds {
        let mut model = Model::new(seed, omit);
        if let Err(fault) = model.run(3000) {
            return (Some((seed, fault)), reads, flips);
        }
        reads += model.reads;
        flips += model.flips;
    }
    (None, reads, flips)
}

#[test]
fn a_read_sees_what_was_acknowledged_before_it_whatever_moves() {
    let (fault, reads, flips) = first_fault(Omit::Nothing, 300);
    assert_eq!(fault, None);
    assert!(reads > 10_000 && flips > 500, "reads={reads} flips={flips}");
}

#[test]
fn the_rule_needs_each_of_its_parts() {
    for omit in [Omit::Barrier, Omit::Exchange, Omit::Partners, Omit::Fences] {
        let (fault, ..) = first_fault(omit, 2000);
        assert!(fault.is_some(), "without {omit:?} nothing goes wrong");
    }
}
