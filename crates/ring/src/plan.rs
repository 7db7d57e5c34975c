//! What has to be done to get from one topology to another.

use crate::error::Error;
use crate::member::NodeId;
use crate::ring::Partition;
use crate::topology::{Topology, rank, same_ring};
use alloc::vec::Vec;

/// Which owner a node becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The first.
    Primary,
    /// Any other.
    Replica,
}

/// A partition gets a new owner: its data has to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// What moves.
    pub partition: Partition,
    /// The owner whose place is taken, of the same zone where there is one; it may be gone already.
    /// Any owner in the old topology has the data. `None` if the partition gets an owner more.
    pub from: Option<NodeId>,
    /// The new owner.
    pub to: NodeId,
    /// What it becomes.
    pub role: Role,
}

/// An owner that goes without another in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Removal {
    /// What is dropped.
    pub partition: Partition,
    /// Who removals it.
    pub node: NodeId,
}

/// An owner that has the data already becomes the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promotion {
    /// Of what.
    pub partition: Partition,
    /// The new primary.
    pub to: NodeId,
}

/// The difference of two topologies, in the order of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Data to copy: one partition to one node each.
    pub moves: Vec<Move>,
    /// Data to delete, beside that of the owners that moves replace.
    pub removals: Vec<Removal>,
    /// Primaries that change between owners that stay.
    pub promotions: Vec<Promotion>,
}

/// What leads from `old` to `new`. A pure function; neither need be made from the other.
///
/// # Errors
/// [`Error::RingsDiffer`]; [`Error::StaleEpoch`] unless `new` is the newer one.
pub fn plan(old: &Topology, new: &Topology) -> Result<Plan, Error> {
    same_ring(old.ring, new.ring)?;
    if new.epoch <= old.epoch {
        return Err(Error::StaleEpoch { old: old.epoch, new: new.epoch });
    }
    let mut plan = Plan::default();
    for partition in old.ring.iter() {
        plan.add(partition, old, new);
    }
    Ok(plan)
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.removals.is_empty() && self.promotions.is_empty()
    }

    fn add(&mut self, partition: Partition, old: &Topology, new: &Topology) {
        let (before, after) = (old.owners(partition), new.owners(partition));
        let mut leaving: Vec<NodeId> =
            before.iter().copied().filter(|node| !after.contains(node)).collect();
        let primary = after.first().copied();
        let mut arriving: Vec<NodeId> =
            after.iter().copied().filter(|node| !before.contains(node)).collect();
        let zone = |node: NodeId| {
            new.member(node).or_else(|| old.member(node)).map(|member| member.zone.as_str())
        };
        // Those with a partner in their zone choose first.
        arriving.sort_by_key(|&node| !leaving.iter().any(|&from| zone(from) == zone(node)));
        for to in arriving {
            let at = leaving.iter().position(|&from| zone(from) == zone(to));
            let from = (!leaving.is_empty()).then(|| leaving.remove(at.unwrap_or(0)));
            let role = if Some(to) == primary { Role::Primary } else { Role::Replica };
            self.moves.push(Move { partition, from, to, role });
        }
        self.removals.extend(leaving.into_iter().map(|node| Removal { partition, node }));
        if let Some(to) = primary
            && before.contains(&to)
            && before.first() != primary.as_ref()
        {
            self.promotions.push(Promotion { partition, to });
        }
    }

    /// The owners after the plan is carried out on `old`: those of the topology it leads to, in
    /// the order of partitions.
    ///
    /// # Errors
    /// [`Error::PlanMismatch`] if it does not fit `old`: a node leaves that is no owner, or one
    /// arrives that is.
    pub fn applied_to(&self, old: &Topology) -> Result<Vec<Vec<NodeId>>, Error> {
        let mut owners: Vec<Vec<NodeId>> =
            old.ring.iter().map(|partition| old.owners(partition).to_vec()).collect();
        let mut first: Vec<Option<NodeId>> =
            owners.iter().map(|owners| owners.first().copied()).collect();
        for step in &self.moves {
            let partition = step.partition.0;
            let mismatch = Error::PlanMismatch { partition };
            let list = owners.get_mut(partition as usize).ok_or(mismatch.clone())?;
            if list.contains(&step.to) {
                return Err(mismatch);
            }
            match step.from {
                None => list.push(step.to),
                Some(from) => {
                    let at = list.iter().position(|&node| node == from).ok_or(mismatch)?;
                    list[at] = step.to;
                }
            }
            if step.role == Role::Primary {
                first[partition as usize] = Some(step.to);
            }
        }
        for removal in &self.removals {
            let mismatch = Error::PlanMismatch { partition: removal.partition.0 };
            let list = owners.get_mut(removal.partition.index()).ok_or(mismatch.clone())?;
            let at = list.iter().position(|&node| node == removal.node).ok_or(mismatch)?;
            list.remove(at);
        }
        for promotion in &self.promotions {
            let mismatch = Error::PlanMismatch { partition: promotion.partition.0 };
            let list = owners.get(promotion.partition.index()).ok_or(mismatch.clone())?;
            if !list.contains(&promotion.to) {
                return Err(mismatch);
            }
            first[promotion.partition.index()] = Some(promotion.to);
        }
        for (p, (list, first)) in owners.iter_mut().zip(first).enumerate() {
            list.sort_by_cached_key(|&id| (Some(id) != first, rank(p, id), id));
        }
        Ok(owners)
    }
}
