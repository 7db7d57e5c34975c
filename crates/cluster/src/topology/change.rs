//! What can become of a topology.

use super::job::{Job, JobId, JobKind};
use super::keyspace::{KEYSPACES_MAX, Keyspace};
use super::member::{Member, MemberState};
use super::placement::{Placement, Stage, Way};
use super::refusal::Refusal;
use super::{ENCODED_LEN_MAX, Topology};
use crate::clock::Actor;
use crate::codec::wire::fields;
use crate::record::Mode;
use base::KeyspaceId;
use ring::{Epoch, MEMBERS_MAX, NodeId, Partition};
use std::sync::Arc;

fields! {
    /// One partition goes on to its next stage.
    Advance {
        /// Of keyspaces with so many replicas.
        replicas: u8,
        /// The partition.
        partition: Partition,
        /// The stage that it goes to.
        to: Stage,
    }
}

fields! {
    /// One node has deleted its copy of one partition.
    Cleaned {
        /// Of keyspaces with so many replicas.
        replicas: u8,
        /// The partition.
        partition: Partition,
        /// The node.
        node: NodeId,
    }
}

/// What is proposed to become of a topology.
///
/// Applying one is a matter of comparisons: placements are found by whoever proposes, so that every version of this program that applies
/// the change makes the same of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A node becomes a member, with an actor of its own. It gets data with the next job.
    AddMember {
        /// Its id.
        id: NodeId,
        /// Where transports find it.
        address: String,
        /// What fails together with it.
        zone: String,
        /// Its capacity.
        weight: u32,
    },
    /// What a member says of itself is something else now. Zone and weight move data with the next job.
    SetMember {
        /// Its id.
        id: NodeId,
        /// Where transports find it.
        address: String,
        /// What fails together with it.
        zone: String,
        /// Its capacity.
        weight: u32,
    },
    /// Something else is intended with a member. Moves data with the next job.
    SetState {
        /// Its id.
        id: NodeId,
        /// What is intended.
        state: MemberState,
    },
    /// The disk of a member does not hold all dots it ever made: it makes them as somebody else from now on.
    RenewActor {
        /// Its id.
        id: NodeId,
        /// Whom it made them as.
        from: Actor,
    },
    /// A member that holds nothing any more goes.
    RemoveMember {
        /// Its id.
        id: NodeId,
    },
    /// A member that was given up and owns nothing any more goes, with the copies it could not delete.
    ForgetMember {
        /// Its id.
        id: NodeId,
    },
    /// A keyspace is made.
    CreateKeyspace {
        /// Its name.
        name: String,
        /// How many nodes hold each key.
        replicas: u8,
        /// What happens to concurrent writes.
        mode: Mode,
        /// Most siblings that a write may leave.
        siblings_max: u16,
        /// Where its partitions lie, if it is the first with so many replicas; see [`Topology::create_keyspace`].
        placement: Option<Arc<ring::Topology>>,
    },
    /// A keyspace is dropped, with its data.
    DropKeyspace {
        /// Its id.
        id: KeyspaceId,
    },
    /// Data begins to move; see [`Topology::start_job`].
    StartJob {
        /// Most bytes a second that each receiver is sent; 0 is no limit.
        bytes_per_second: u64,
        /// Where to, one for each placement, in their order.
        targets: Vec<Arc<ring::Topology>>,
    },
    /// Pauses, resumes or throttles the job.
    SetJob {
        /// Which one.
        job: JobId,
        /// No further step begins.
        paused: bool,
        /// Most bytes a second that each receiver is sent; 0 is no limit.
        bytes_per_second: u64,
    },
    /// Partitions go on to their next stages, each as `topology` says.
    AdvanceJob {
        /// Which one.
        job: JobId,
        /// The partitions.
        steps: Vec<Advance>,
    },
    /// The job ends where it stands: what was flipped stays so.
    StopJob {
        /// Which one.
        job: JobId,
        /// No job begins by itself before something else changes about the members.
        hold: bool,
    },
    /// The job turns into one that brings everything back to where it was. No job begins by itself before something else changes about
    /// the members.
    RollBackJob {
        /// Which one.
        job: JobId,
    },
    /// The job ends: every partition is flipped.
    EndJob {
        /// Which one.
        job: JobId,
    },
    /// Nodes have deleted their copies.
    Clean {
        /// Which ones of what.
        copies: Vec<Cleaned>,
    },
}

impl Change {
    /// The members ask for another placement after it, perhaps.
    fn may_move_data(&self) -> bool {
        matches!(
            self,
            Change::AddMember { .. }
                | Change::SetMember { .. }
                | Change::SetState { .. }
                | Change::StartJob { .. }
        )
    }
}

/// A tree of comparisons that ends in a refusal.
type Applied = Result<(), Refusal>;

impl Topology {
    /// The topology after `change`, one epoch later. A pure function.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn apply(&self, change: &Change) -> Result<Topology, Refusal> {
        let mut next = self.clone();
        let epoch = self.epoch.0.checked_add(1).ok_or(Refusal::Exhausted { what: "epoch" })?;
        next.epoch = Epoch(epoch);
        next.carry_out(change)?;
        base::invariant!(next.check().is_ok(), "{:?} after {change:?}", next.check());
        Ok(next)
    }

    /// The change that makes a keyspace, with a placement on the members that are up if that is needed.
    ///
    /// # Errors
    /// [`Refusal::Ring`] if there is nobody to place it on.
    pub fn create_keyspace(
        &self,
        name: &str,
        replicas: u8,
        mode: Mode,
        siblings_max: u16,
    ) -> Result<Change, Refusal> {
        let placement = match self.placement(usize::from(replicas)) {
            Some(_) => None,
            None => {
                let (partitions, members) = (self.ring.partitions(), self.placed());
                Some(Arc::new(ring::Topology::new(partitions, usize::from(replicas), &members)?))
            }
        };
        let name = name.to_string();
        Ok(Change::CreateKeyspace { name, replicas, mode, siblings_max, placement })
    }

    /// The change that begins to move data to where the members ask for. Complexity: that of [`ring::Topology::next`].
    ///
    /// # Errors
    /// [`Refusal::Ring`] if nobody can hold data. Whether there is anything to move is seen when it is applied.
    pub fn start_job(&self, bytes_per_second: u64) -> Result<Change, Refusal> {
        let members = self.placed();
        let target = |placement: &Placement| placement.base.next(&members).map(Arc::new);
        let targets = self.placements.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Change::StartJob { bytes_per_second, targets })
    }

    /// Members as placement sees them.
    fn placed(&self) -> Vec<ring::Member> {
        self.members.iter().map(Member::placed).collect()
    }

    fn carry_out(&mut self, change: &Change) -> Applied {
        self.held &= !change.may_move_data();
        match change {
            Change::AddMember { id, address, zone, weight } => {
                self.add_member(*id, address, zone, *weight)
            }
            Change::SetMember { id, address, zone, weight } => {
                self.set_member(*id, address, zone, *weight)
            }
            Change::SetState { id, state } => {
                self.member_mut(*id).map(|member| member.state = *state)
            }
            Change::RenewActor { id, from } => self.renew_actor(*id, *from),
            Change::RemoveMember { id } => self.remove_member(*id),
            Change::ForgetMember { id } => self.forget_member(*id),
            Change::CreateKeyspace { name, replicas, mode, siblings_max, placement } => {
                let id = KeyspaceId(self.keyspace_ids);
                let (name, replicas) = (name.clone(), *replicas);
                let siblings_max = *siblings_max;
                let keyspace = Keyspace { id, name, replicas, mode: *mode, siblings_max };
                self.add_keyspace(keyspace, placement.as_ref())
            }
            Change::DropKeyspace { id } => self.drop_keyspace(*id),
            Change::StartJob { bytes_per_second, targets } => {
                self.begin(*bytes_per_second, targets)
            }
            Change::SetJob { job, paused, bytes_per_second } => self.job_mut(*job).map(|job| {
                job.paused = *paused;
                job.bytes_per_second = *bytes_per_second;
            }),
            Change::AdvanceJob { job, steps } => self.advance(*job, steps),
            Change::StopJob { job, hold } => self.stop(*job, *hold),
            Change::RollBackJob { job } => self.roll_back(*job),
            Change::EndJob { job } => self.end(*job),
            Change::Clean { copies } => self.clean(copies),
        }
    }

    // ---- members ----

    fn add_member(&mut self, id: NodeId, address: &str, zone: &str, weight: u32) -> Applied {
        let at = match self.members.binary_search_by_key(&id, |member| member.id) {
            Ok(_) => return Err(Refusal::DuplicateMember { node: id }),
            Err(at) => at,
        };
        if self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::Exhausted { what: "members" });
        }
        let (address, zone) = (address.to_string(), zone.to_string());
        let (actor, state) = (self.give_actor()?, MemberState::Up);
        let member = Member { id, actor, address, zone, weight, state };
        bounded(member.is_within_bounds(), "member")?;
        self.members.insert(at, member);
        Ok(())
    }

    fn set_member(&mut self, id: NodeId, address: &str, zone: &str, weight: u32) -> Applied {
        let member = self.member_mut(id)?;
        (member.address, member.zone, member.weight) = (address.into(), zone.into(), weight);
        bounded(member.is_within_bounds(), "member")
    }

    fn renew_actor(&mut self, id: NodeId, from: Actor) -> Applied {
        let actor = self.give_actor()?;
        let member = self.member_mut(id)?;
        if member.actor != from {
            return Err(Refusal::ActorChanged { node: id });
        }
        member.actor = actor;
        Ok(())
    }

    fn remove_member(&mut self, node: NodeId) -> Applied {
        self.member_mut(node)?;
        if self.placements.iter().any(|placement| placement.uses(node)) {
            return Err(Refusal::MemberInUse { node });
        }
        self.members.retain(|member| member.id != node);
        Ok(())
    }

    fn forget_member(&mut self, node: NodeId) -> Applied {
        if self.member_mut(node)?.state != MemberState::Down {
            return Err(Refusal::MemberNotDown { node });
        }
        self.placements.iter_mut().for_each(|placement| placement.forget(node));
        self.remove_member(node)
    }

    fn member_mut(&mut self, node: NodeId) -> Result<&mut Member, Refusal> {
        let unknown = Refusal::UnknownMember { node };
        self.members.iter_mut().find(|member| member.id == node).ok_or(unknown)
    }

    fn give_actor(&mut self) -> Result<Actor, Refusal> {
        self.actors = self.actors.checked_add(1).ok_or(Refusal::Exhausted { what: "actors" })?;
        Ok(Actor(self.actors))
    }

    // ---- keyspaces ----

    fn add_keyspace(
        &mut self,
        keyspace: Keyspace,
        placement: Option<&Arc<ring::Topology>>,
    ) -> Applied {
        bounded(keyspace.is_within_bounds(), "keyspace")?;
        if self.keyspace_named(&keyspace.name).is_some() {
            return Err(Refusal::DuplicateKeyspace { name: keyspace.name });
        }
        if self.keyspaces.len() >= KEYSPACES_MAX {
            return Err(Refusal::Exhausted { what: "keyspaces" });
        }
        let replicas = usize::from(keyspace.replicas);
        self.keyspace_ids =
            keyspace.id.0.checked_add(1).ok_or(Refusal::Exhausted { what: "keyspace ids" })?;
        match (self.placement(replicas), placement) {
            (Some(_), None) => {}
            (None, Some(base)) if base.replicas() == replicas => self.place(base)?,
            _ => return Err(Refusal::PlacementMismatch { replicas }),
        }
        self.keyspaces.push(keyspace);
        Ok(())
    }

    /// Adds a placement. One that is added during a job is not part of it.
    fn place(&mut self, base: &Arc<ring::Topology>) -> Applied {
        self.check_target(base)?;
        let behind = |placement: &Placement| placement.replicas() < base.replicas();
        let at = self.placements.partition_point(behind);
        self.placements.insert(at, Placement::new(Arc::clone(base), self.epoch));
        Ok(())
    }

    fn drop_keyspace(&mut self, id: KeyspaceId) -> Applied {
        let Some(keyspace) = self.keyspace(id) else { return Err(Refusal::UnknownKeyspace { id }) };
        let replicas = keyspace.replicas;
        self.keyspaces.retain(|keyspace| keyspace.id != id);
        if self.keyspaces.iter().any(|keyspace| keyspace.replicas == replicas) {
            return Ok(());
        }
        if self.placement(usize::from(replicas)).is_some_and(|placement| placement.way.is_some()) {
            return Err(Refusal::JobUnderWay);
        }
        self.placements.retain(|placement| placement.replicas() != usize::from(replicas));
        Ok(())
    }

    // ---- jobs ----

    fn begin(&mut self, bytes_per_second: u64, targets: &[Arc<ring::Topology>]) -> Applied {
        if self.job.is_some() {
            return Err(Refusal::JobUnderWay);
        }
        let replicas = |targets: &[Arc<ring::Topology>]| -> Vec<usize> {
            targets.iter().map(|target| target.replicas()).collect()
        };
        let placed: Vec<usize> = self.placements.iter().map(Placement::replicas).collect();
        if placed != replicas(targets) {
            return Err(Refusal::PlacementMismatch { replicas: targets.len() });
        }
        for target in targets {
            self.check_target(target)?;
        }
        for (placement, target) in self.placements.iter_mut().zip(targets) {
            let way = Way::new(&placement.base, Arc::clone(target))?;
            placement.way = (!way.steps.is_empty()).then_some(way);
        }
        if self.placements.iter().all(|placement| placement.way.is_none()) {
            return Err(Refusal::NothingToMove);
        }
        self.give_job(JobKind::Forward, false, bytes_per_second)
    }

    fn give_job(&mut self, kind: JobKind, paused: bool, bytes_per_second: u64) -> Applied {
        self.job_ids = self.job_ids.checked_add(1).ok_or(Refusal::Exhausted { what: "jobs" })?;
        let id = JobId(self.job_ids);
        self.job = Some(Job { id, kind, paused, bytes_per_second, begun: self.epoch });
        Ok(())
    }

    fn advance(&mut self, job: JobId, steps: &[Advance]) -> Applied {
        self.job_mut(job)?;
        let epoch = self.epoch;
        for Advance { replicas, partition, to } in steps {
            let wrong = Refusal::WrongStage { partition: *partition };
            let placement = self.placement_mut(*replicas).ok_or(wrong.clone())?;
            if placement.next_stage(*partition) != Some(*to) {
                return Err(wrong);
            }
            placement.advance(*partition, *to, epoch);
        }
        Ok(())
    }

    fn stop(&mut self, job: JobId, hold: bool) -> Applied {
        self.job_mut(job)?;
        self.held = hold;
        let epoch = self.epoch;
        self.placements.iter_mut().try_for_each(|placement| placement.stop(epoch))?;
        self.job = None;
        Ok(())
    }

    fn roll_back(&mut self, job: JobId) -> Applied {
        let Job { bytes_per_second, .. } = *self.job_mut(job)?;
        let epoch = self.epoch;
        self.placements.iter_mut().try_for_each(|placement| placement.turn_back(epoch))?;
        let targets: Vec<NodeId> = self.receivers_ahead();
        let lost = |node: &NodeId| {
            self.member(*node).is_none_or(|member| member.state == MemberState::Down)
        };
        if let Some(&node) = targets.iter().find(|node| lost(node)) {
            return Err(Refusal::CannotRollBack { node });
        }
        (self.job, self.held) = (None, true);
        if targets.is_empty() && self.placements.iter().all(|placement| placement.way.is_none()) {
            return Ok(());
        }
        self.give_job(JobKind::Back, false, bytes_per_second)
    }

    /// All that are to receive something.
    fn receivers_ahead(&self) -> Vec<NodeId> {
        let ways = self.placements.iter().filter_map(|placement| placement.way.as_ref());
        ways.flat_map(|way| way.steps.values().flatten().filter_map(|handover| handover.to))
            .collect()
    }

    fn end(&mut self, job: JobId) -> Applied {
        self.job_mut(job)?;
        let ways = self.placements.iter().filter_map(|placement| placement.way.as_ref());
        let left = ways.map(Way::left).sum();
        if left > 0 {
            return Err(Refusal::Unfinished { left });
        }
        self.placements.iter_mut().for_each(Placement::arrive);
        self.job = None;
        Ok(())
    }

    fn clean(&mut self, copies: &[Cleaned]) -> Applied {
        for &Cleaned { replicas, partition, node } in copies {
            let held = self.placement_mut(replicas).is_some_and(|p| p.clean(partition, node));
            if !held {
                return Err(Refusal::NotDeparting { node, partition });
            }
        }
        Ok(())
    }

    fn job_mut(&mut self, id: JobId) -> Result<&mut Job, Refusal> {
        self.job.as_mut().filter(|job| job.id == id).ok_or(Refusal::UnknownJob)
    }

    fn placement_mut(&mut self, replicas: u8) -> Option<&mut Placement> {
        let replicas = usize::from(replicas);
        self.placements.iter_mut().find(|placement| placement.replicas() == replicas)
    }

    /// A placement that is proposed: of this ring, on members that are up, and not larger than what a topology may hold.
    fn check_target(&self, target: &ring::Topology) -> Applied {
        let (left, right) = (self.ring.partitions(), target.ring().partitions());
        if left != right {
            return Err(ring::Error::RingsDiffer { left, right }.into());
        }
        let holds =
            |node: NodeId| self.member(node).is_some_and(|member| member.state == MemberState::Up);
        let loads = target.loads();
        let unfit = loads.iter().find(|load| load.partitions > 0 && !holds(load.node));
        match unfit {
            Some(load) => Err(Refusal::PlacedOnUnfit { node: load.node }),
            None => bounded(target.members().len() <= MEMBERS_MAX, "placement"),
        }
    }
}

fn bounded(holds: bool, what: &'static str) -> Applied {
    if holds { Ok(()) } else { Err(Refusal::OutOfBounds { what }) }
}

const _: () = assert!(ENCODED_LEN_MAX > ring::ENCODED_LEN_MAX);
