//! Why a change is not made.

use base::KeyspaceId;
use ring::{NodeId, Partition};

/// Why a change does not fit the topology it was proposed for. Nothing has changed then; the same change fails again until something
/// else has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is a member with this id.
    #[error("there is a member with this id; remove it first node={node}")]
    DuplicateMember {
        /// The id.
        node: NodeId,
    },
    /// There is no member with this id.
    #[error("no member with this id node={node}")]
    UnknownMember {
        /// The id.
        node: NodeId,
    },
    /// The member holds data, or is about to: let it leave and run a job first, or give it up.
    #[error("member holds data; set it leaving and run a job first node={node}")]
    MemberInUse {
        /// The id.
        node: NodeId,
    },
    /// Only a member that was given up can be forgotten.
    #[error("member was not given up; set it down first node={node}")]
    MemberNotDown {
        /// The id.
        node: NodeId,
    },
    /// The member makes dots as somebody else by now.
    #[error("member has another actor by now; fetch the topology node={node}")]
    ActorChanged {
        /// The id.
        node: NodeId,
    },
    /// A text or number is outside its bounds.
    #[error("outside its bounds field={what}")]
    OutOfBounds {
        /// Which one.
        what: &'static str,
    },
    /// There is a keyspace with this name.
    #[error("there is a keyspace with this name name={name}")]
    DuplicateKeyspace {
        /// The name.
        name: String,
    },
    /// There is no such keyspace.
    #[error("no keyspace with this id id={id}")]
    UnknownKeyspace {
        /// The id.
        id: KeyspaceId,
    },
    /// The keyspace has a number of replicas that no other has, so its partitions are on no disk yet: the change has to bring a
    /// placement. Or it brings one that is there already.
    #[error("placement is missing or there already replicas={replicas}")]
    PlacementMismatch {
        /// The number of replicas.
        replicas: usize,
    },
    /// A placement names a node that is no member that is up.
    #[error("placement names a node that is not up node={node}")]
    PlacedOnUnfit {
        /// The node.
        node: NodeId,
    },
    /// A job is under way: wait for it, stop it, or roll it back.
    #[error("a job is under way; wait for it, stop it, or roll it back")]
    JobUnderWay,
    /// That job is not under way.
    #[error("that job is not under way")]
    UnknownJob,
    /// Every partition is where the members ask for.
    #[error("nothing is to be moved")]
    NothingToMove,
    /// The partition is not at the stage before this one.
    #[error("not the next stage of this partition partition={partition}")]
    WrongStage {
        /// The partition.
        partition: Partition,
    },
    /// Partitions are on their way still.
    #[error("partitions are on their way still left={left}")]
    Unfinished {
        /// How many.
        left: usize,
    },
    /// The node has no copy to delete.
    #[error("node has no copy to delete node={node} partition={partition}")]
    NotDeparting {
        /// The node.
        node: NodeId,
        /// The partition.
        partition: Partition,
    },
    /// The way back leads to a node that was given up.
    #[error("cannot roll back to a node that is down or gone; stop the job instead node={node}")]
    CannotRollBack {
        /// The node.
        node: NodeId,
    },
    /// As many as there can be.
    #[error("no more of these what={what}")]
    Exhausted {
        /// Of what.
        what: &'static str,
    },
    /// No placement can be made.
    #[error("no such placement can be made: {0}")]
    Ring(#[from] ring::Error),
}
