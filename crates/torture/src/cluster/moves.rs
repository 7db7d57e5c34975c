//! Nodes that come and go, and jobs that are paused, stopped and taken back, while everything else breaks.

use super::world::{World, below};
use base::rng::Rng;
use cluster::NodeId;
use cluster::topology::{Change, MemberState, Topology};

/// How many nodes may join.
const JOINS_MAX: usize = 3;

/// How often something was changed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) joins: u64,
    pub(super) leaves: u64,
    pub(super) jobs: u64,
    pub(super) drivers: u64,
}

/// Changes the members, and what becomes of jobs.
pub(super) struct Moves {
    rng: Rng,
    owners: usize,
    joined: usize,
    pub(super) tally: Tally,
}

impl Moves {
    pub(super) fn new(rng: &mut Rng, owners: usize) -> Moves {
        Moves { rng: Rng::new(rng.next_u64()), owners, joined: 0, tally: Tally::default() }
    }

    /// Something may change: every second or so.
    pub(super) fn turn(&mut self, world: &mut World) -> Result<(), String> {
        if self.rng.below(200) > 0 {
            return Ok(());
        }
        let topology = world.agreed();
        match self.rng.below(10) {
            0 | 1 => self.join(world, &topology)?,
            2 | 3 => self.leave(world, &topology),
            4 => self.stay(world, &topology),
            5 => self.weigh(world, &topology),
            6 => {
                world.drive()?;
                self.tally.drivers += 1;
            }
            _ => self.disturb(world, &topology),
        }
        Ok(())
    }

    fn join(&mut self, world: &mut World, topology: &Topology) -> Result<(), String> {
        if self.joined == JOINS_MAX || topology.members().len() < world.hosts.len() {
            return Ok(());
        }
        self.joined += 1;
        self.tally.joins += 1;
        world.join()
    }

    /// Somebody hands over what it holds; enough stay for all owners.
    fn leave(&mut self, world: &World, topology: &Topology) {
        let up: Vec<NodeId> = in_state(topology, MemberState::Up);
        if up.len() > self.owners {
            let id = up[below(&mut self.rng, up.len())];
            self.tally.leaves += 1;
            world.propose(Change::SetState { id, state: MemberState::Leaving });
        }
    }

    fn stay(&mut self, world: &World, topology: &Topology) {
        let leaving = in_state(topology, MemberState::Leaving);
        if !leaving.is_empty() {
            let id = leaving[below(&mut self.rng, leaving.len())];
            world.propose(Change::SetState { id, state: MemberState::Up });
        }
    }

    fn weigh(&mut self, world: &World, topology: &Topology) {
        let member = &topology.members()[below(&mut self.rng, topology.members().len())];
        let (id, address, zone) = (member.id, member.address.clone(), member.zone.clone());
        let weight = 1 + self.rng.below(3) as u32;
        world.propose(Change::SetMember { id, address, zone, weight });
    }

    /// The job is paused, goes on, ends where it stands, or is taken back.
    fn disturb(&mut self, world: &World, topology: &Topology) {
        let Some(job) = topology.job() else { return };
        self.tally.jobs += 1;
        let (id, bytes_per_second) = (job.id, 0);
        world.propose(match self.rng.below(6) {
            0 => Change::StopJob { job: id, hold: false },
            1 => Change::RollBackJob { job: id },
            2 => Change::SetJob { job: id, paused: true, bytes_per_second },
            3 => Change::SetJob { job: id, paused: false, bytes_per_second: 200 },
            _ => Change::SetJob { job: id, paused: false, bytes_per_second },
        });
    }
}

fn in_state(topology: &Topology, state: MemberState) -> Vec<NodeId> {
    let members = topology.members().iter().filter(|member| member.state == state);
    members.map(|member| member.id).collect()
}
