//! Who takes part, and how much each can carry.

use crate::error::Error;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Most members of one topology.
pub const MEMBERS_MAX: usize = 1 << 14;
/// Most replicas of one partition.
pub const REPLICAS_MAX: usize = 16;
/// Bytes of the longest name of a zone.
pub const ZONE_LEN_MAX: usize = 64;

/// Identity of a node, chosen by whoever forms the cluster. A node that lost its disk comes back
/// under a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One node, as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Identity, unique in a membership.
    pub id: NodeId,
    /// Capacity in any unit, the same for all members: twice the weight, twice the data. A node of
    /// weight 0 stays a member and holds nothing; that is how a node is drained.
    pub weight: u32,
    /// What fails together: a rack, a building. At most [`ZONE_LEN_MAX`] bytes; nodes whose zone is
    /// the empty string share one zone, like any other name.
    pub zone: String,
}

impl Member {
    /// A node of `weight` in `zone`.
    #[must_use]
    pub fn new(id: u64, weight: u32, zone: &str) -> Member {
        Member { id: NodeId(id), weight, zone: String::from(zone) }
    }
}

/// `members` in the order of their ids, whatever order they came in.
pub(crate) fn checked(members: &[Member]) -> Result<Vec<Member>, Error> {
    if members.is_empty() {
        return Err(Error::NoMembers);
    }
    if members.len() > MEMBERS_MAX {
        return Err(Error::TooManyMembers { members: members.len() });
    }
    if let Some(member) = members.iter().find(|member| member.zone.len() > ZONE_LEN_MAX) {
        return Err(Error::ZoneTooLong { node: member.id, len: member.zone.len() });
    }
    let mut sorted = members.to_vec();
    sorted.sort_by_key(|member| member.id);
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Error::DuplicateNode { node: pair[0].id });
    }
    if sorted.iter().all(|member| member.weight == 0) {
        return Err(Error::NoCapacity);
    }
    Ok(sorted)
}
