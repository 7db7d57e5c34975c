//! A cluster with every field in use: what golden bytes and fuzzers begin with.

use super::{Advance, Change, Cleaned, JobId, MemberState, Stage, Topology};
use crate::clock::Actor;
use crate::record::Mode;
use base::KeyspaceId;
use ring::{NodeId, Partition, Ring};

/// Changes, each of which fits the topology that those before it lead to, from an empty one of 16 partitions: one of every kind.
///
/// # Panics
/// Never: a test applies them all.
#[must_use]
pub fn changes() -> Vec<Change> {
    let mut way = Way { topology: empty(), changes: Vec::new() };
    let zones = ["north", "south", "west"];
    for (id, zone) in (1..=4).zip(zones.iter().cycle()) {
        let (address, zone) = (format!("10.0.0.{id}:7400"), (*zone).to_string());
        way.go(Change::AddMember { id: NodeId(id), address, zone, weight: 1 });
    }
    way.create("songs", 3, Mode::Siblings);
    way.create("charts", 2, Mode::LastWriterWins);
    way.create("drafts", 3, Mode::LastWriterWins);
    way.go(Change::DropKeyspace { id: KeyspaceId(2) });
    way.go(Change::RenewActor { id: NodeId(2), from: Actor(2) });
    let (address, zone) = ("[::1]:7400".to_string(), "west".to_string());
    way.go(Change::SetMember { id: NodeId(4), address, zone, weight: 2 });
    way.go(Change::AddMember {
        id: NodeId(5),
        address: String::new(),
        zone: "south".into(),
        weight: 1,
    });
    // A job that turns round half way, one that is stopped, and one that gets there.
    way.start(1 << 20);
    way.advance(3);
    way.go(Change::SetJob { job: JobId(1), paused: true, bytes_per_second: 0 });
    way.go(Change::RollBackJob { job: JobId(1) });
    way.finish();
    way.start(0);
    way.advance(5);
    let job = way.job();
    way.go(Change::StopJob { job, hold: true });
    way.go(Change::SetState { id: NodeId(1), state: MemberState::Leaving });
    way.start(0);
    way.finish();
    way.clean();
    way.go(Change::RemoveMember { id: NodeId(1) });
    way.go(Change::SetState { id: NodeId(3), state: MemberState::Down });
    way.start(0);
    way.finish();
    way.go(Change::ForgetMember { id: NodeId(3) });
    way.changes
}

/// The topology that all of these begin with.
#[must_use]
pub fn empty() -> Topology {
    let ring = Ring::new(16).expect("a power of two");
    Topology::new(0x0c1a, ring)
}

/// All topologies on the way of [`changes`], the last one last.
///
/// # Panics
/// Never: a test makes them.
#[must_use]
pub fn topologies() -> Vec<Topology> {
    let mut all = vec![empty()];
    for change in changes() {
        let next = all.last().expect("never empty").apply(&change);
        all.push(next.expect("each fits the one before"));
    }
    all
}

struct Way {
    topology: Topology,
    changes: Vec<Change>,
}

impl Way {
    fn go(&mut self, change: Change) {
        self.topology = self.topology.apply(&change).expect("it fits");
        self.changes.push(change);
    }

    fn create(&mut self, name: &str, replicas: u8, mode: Mode) {
        let change = self.topology.create_keyspace(name, replicas, mode, 16);
        self.go(change.expect("there are members"));
    }

    fn start(&mut self, bytes_per_second: u64) {
        let change = self.topology.start_job(bytes_per_second);
        self.go(change.expect("there are members"));
    }

    fn job(&self) -> JobId {
        self.topology.job().map_or(JobId(0), |job| job.id)
    }

    /// Some partitions one stage on, again and again, so that all stages are there side by side.
    fn advance(&mut self, rounds: usize) {
        for round in 0..rounds {
            let steps = self.ahead().into_iter().filter(|step| step.partition.index() % 4 <= round);
            let (job, steps) = (self.job(), steps.collect());
            self.go(Change::AdvanceJob { job, steps });
        }
    }

    fn finish(&mut self) {
        while !self.ahead().is_empty() {
            let (job, steps) = (self.job(), self.ahead());
            self.go(Change::AdvanceJob { job, steps });
        }
        let job = self.job();
        self.go(Change::EndJob { job });
    }

    /// The next stage of everything.
    fn ahead(&self) -> Vec<Advance> {
        let placements = self.topology.placements().iter();
        placements
            .flat_map(|placement| {
                let replicas = placement.replicas() as u8;
                placement.steps().filter_map(move |step| {
                    let to: Stage = placement.next_stage(step.partition)?;
                    Some(Advance { replicas, partition: step.partition, to })
                })
            })
            .collect()
    }

    fn clean(&mut self) {
        let copy = |replicas: usize, (partition, node): (Partition, NodeId)| Cleaned {
            replicas: replicas as u8,
            partition,
            node,
        };
        let placements = self.topology.placements().iter();
        let copies = placements
            .flat_map(|p| p.departing().map(move |held| copy(p.replicas(), held)))
            .collect();
        self.go(Change::Clean { copies });
    }
}
