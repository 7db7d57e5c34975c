//! What a caller can get wrong.

use crate::member::{MEMBERS_MAX, NodeId, REPLICAS_MAX, ZONE_LEN_MAX};
use crate::ring::PARTITIONS_MAX;
use crate::topology::Epoch;
use core::fmt;

/// Why a ring, a topology or a plan cannot be made. No retry helps: the arguments must change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The number of partitions is no power of two, or above [`PARTITIONS_MAX`].
    InvalidPartitions {
        /// The number given.
        partitions: u32,
    },
    /// The number of replicas is 0 or above [`REPLICAS_MAX`].
    InvalidReplicas {
        /// The number given.
        replicas: usize,
    },
    /// A membership without members.
    NoMembers,
    /// All members have weight 0: nobody may hold data.
    NoCapacity,
    /// More members than [`MEMBERS_MAX`].
    TooManyMembers {
        /// The number given.
        members: usize,
    },
    /// Two members have the same id.
    DuplicateNode {
        /// The id.
        node: NodeId,
    },
    /// The name of a zone is longer than [`ZONE_LEN_MAX`] bytes.
    ZoneTooLong {
        /// The member whose zone it is.
        node: NodeId,
        /// Bytes of the name.
        len: usize,
    },
    /// Two topologies of different rings: the number of partitions never changes.
    RingsDiffer {
        /// Partitions of the first.
        left: u32,
        /// Partitions of the second.
        right: u32,
    },
    /// The new topology is not newer than the old one.
    StaleEpoch {
        /// Epoch of the old topology.
        old: Epoch,
        /// Epoch of the new one.
        new: Epoch,
    },
    /// No epoch comes after this one.
    EpochsExhausted,
    /// A partition that the ring does not have.
    UnknownPartition {
        /// Its number.
        partition: u32,
    },
    /// A plan that was not made for this topology.
    PlanMismatch {
        /// First partition where they disagree.
        partition: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidPartitions { partitions } => {
                write!(
                    f,
                    "partitions must be a power of two partitions={partitions} max={PARTITIONS_MAX}"
                )
            }
            Error::InvalidReplicas { replicas } => {
                write!(f, "replicas out of range replicas={replicas} min=1 max={REPLICAS_MAX}")
            }
            Error::NoMembers => write!(f, "membership without members"),
            Error::NoCapacity => write!(f, "all members have weight 0"),
            Error::TooManyMembers { members } => {
                write!(f, "too many members members={members} max={MEMBERS_MAX}")
            }
            Error::DuplicateNode { node } => write!(f, "two members with one id node={node}"),
            Error::ZoneTooLong { node, len } => {
                write!(f, "name of zone too long node={node} len={len} max={ZONE_LEN_MAX}")
            }
            Error::RingsDiffer { left, right } => {
                write!(f, "topologies of different rings partitions={left} other={right}")
            }
            Error::StaleEpoch { old, new } => {
                write!(f, "topology is not newer old={old} new={new}")
            }
            Error::EpochsExhausted => write!(f, "no epoch is left"),
            Error::UnknownPartition { partition } => {
                write!(f, "no such partition partition={partition}")
            }
            Error::PlanMismatch { partition } => {
                write!(f, "plan was made for another topology partition={partition}")
            }
        }
    }
}

impl core::error::Error for Error {}
