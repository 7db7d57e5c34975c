//! Who takes part.

use crate::clock::Actor;
use crate::codec::wire::{fields, tags};
use ring::NodeId;

/// Bytes of the longest address.
pub const ADDRESS_LEN_MAX: usize = 255;

tags! {
    /// What the cluster intends with a member. Whether it answers right now is known to the failure detector.
    MemberState {
        /// It owns its share.
        Up = 1,
        /// It hands its share over, and can be removed then.
        Leaving = 2,
        /// It was given up: what it owns is copied from the other owners.
        Down = 3,
    }
}

fields! {
    /// One node.
    Member {
        /// Its place in the topology.
        id: NodeId,
        /// Whom it makes dots as, as long as its disk holds all it ever made.
        actor: Actor,
        /// Where a transport finds it, at most [`ADDRESS_LEN_MAX`] bytes; nothing in here looks at it.
        address: String,
        /// What fails together with it, at most [`ring::ZONE_LEN_MAX`] bytes.
        zone: String,
        /// Its capacity, in any unit that is the same for all.
        weight: u32,
        /// What is intended with it.
        state: MemberState,
    }
}

impl Member {
    /// The member as placement sees it: only one that is up gets data.
    pub(super) fn placed(&self) -> ring::Member {
        let weight = if self.state == MemberState::Up { self.weight } else { 0 };
        ring::Member { id: self.id, weight, zone: self.zone.clone() }
    }

    pub(super) fn is_within_bounds(&self) -> bool {
        self.address.len() <= ADDRESS_LEN_MAX && self.zone.len() <= ring::ZONE_LEN_MAX
    }
}
