//! Nodes that come and go, and jobs that are paused, stopped and taken back, while everything else breaks.

use super::history::Left;
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
    pub(super) removed: u64,
    pub(super) given_up: u64,
    pub(super) jobs: u64,
    pub(super) drivers: u64,
}

/// Changes the members, and what becomes of jobs.
pub(super) struct Moves {
    rng: Rng,
    owners: usize,
    joined: usize,
    /// Disks may be lost.
    disks: bool,
    pub(super) tally: Tally,
}

impl Moves {
    pub(super) fn new(rng: &mut Rng, owners: usize, disks: bool) -> Moves {
        let (rng, tally) = (Rng::new(rng.next_u64()), Tally::default());
        Moves { rng, owners, joined: 0, disks, tally }
    }

    /// Something may change: every second or so. If a machine was lost for good, what others had then.
    pub(super) fn turn(&mut self, world: &mut World) -> Result<Option<Left>, String> {
        if self.rng.below(20) == 0 {
            tidy(world);
        }
        if self.rng.below(200) > 0 {
            return Ok(None);
        }
        let topology = world.agreed();
        match self.rng.below(12) {
            0 | 1 => self.join(world, &topology)?,
            2 | 3 => self.leave(world, &topology),
            4 => self.stay(world, &topology),
            5 => self.weigh(world, &topology),
            6 => {
                world.drive()?;
                self.tally.drivers += 1;
            }
            7 => self.remove(world, &topology),
            8 => return self.give_up(world, &topology),
            _ => self.disturb(world, &topology),
        }
        Ok(None)
    }

    /// One that has handed everything over goes.
    fn remove(&mut self, world: &mut World, topology: &Topology) {
        let leaving = in_state(topology, MemberState::Leaving);
        let can_go = |id: &NodeId| topology.apply(&Change::RemoveMember { id: *id }).is_ok();
        if let Some(id) = leaving.into_iter().find(can_go) {
            self.tally.removed += u64::from(world.remove(id));
        }
    }

    /// A machine is lost for good, and its place is given to others: one at a time, and only where everything is whole.
    fn give_up(&mut self, world: &mut World, topology: &Topology) -> Result<Option<Left>, String> {
        let up = in_state(topology, MemberState::Up);
        let lost = topology.members().iter().any(|member| world.is_gone(member.id));
        if !self.disks || lost || up.len() <= self.owners || !world.is_whole() {
            return Ok(None);
        }
        let id = up[below(&mut self.rng, up.len())];
        self.tally.given_up += 1;
        let left = world.lose_for_good(id)?;
        tidy(world);
        Ok(Some(left))
    }

    fn join(&mut self, world: &mut World, topology: &Topology) -> Result<(), String> {
        let running = world.hosts.iter().filter(|host| !world.is_gone(host.id)).count();
        if self.joined == JOINS_MAX || topology.members().len() < running {
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

/// Says of machines that are lost that they are, and forgets them once they own nothing. What is proposed at the same time as something
/// else is proposed again.
pub(super) fn tidy(world: &World) {
    let topology = world.agreed();
    let mut members = topology.members().iter();
    let Some(lost) = members.find(|member| world.is_gone(member.id)) else { return };
    let forget = Change::ForgetMember { id: lost.id };
    if lost.state != MemberState::Down {
        world.propose(Change::SetState { id: lost.id, state: MemberState::Down });
    } else if topology.apply(&forget).is_ok() {
        world.propose(forget);
    }
}

/// A job that was paused or slowed down goes on, and one that nobody lets begin by itself is begun.
pub(super) fn let_go(world: &World) {
    let topology = world.agreed();
    if let Some(job) = topology.job().filter(|job| job.paused || job.bytes_per_second > 0) {
        let (job, bytes_per_second) = (job.id, 0);
        world.propose(Change::SetJob { job, paused: false, bytes_per_second });
    }
    if topology.is_held()
        && topology.job().is_none()
        && let Ok(start) = topology.start_job(0)
    {
        world.propose(start);
    }
}

fn in_state(topology: &Topology, state: MemberState) -> Vec<NodeId> {
    let members = topology.members().iter().filter(|member| member.state == state);
    members.map(|member| member.id).collect()
}
