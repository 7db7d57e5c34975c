//! What is known of a node.

use ring::NodeId;
use std::sync::Arc;

/// A node, as it says of itself.
///
/// Two of them are equal if id and generation are: a node that changes its zone or weight takes another generation.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the transport finds it.
    pub id: NodeId,
    /// Greater than any that the node had before: a count of its starts, or the wall clock at the start in microseconds.
    pub generation: u64,
    /// What fails together with it, at most [`ring::ZONE_LEN_MAX`] bytes.
    pub zone: Arc<str>,
    /// Its capacity.
    pub weight: u32,
}

impl Peer {
    /// The node `id`, of which nothing else is known: enough to send it a message.
    pub(super) fn stranger(id: NodeId) -> Peer {
        Peer { id, generation: 0, zone: Arc::from(""), weight: 0 }
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        (self.id, self.generation) == (other.id, other.generation)
    }
}

impl Eq for Peer {}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Peer> {
        Some(Peer { generation: self.generation.saturating_add(1), ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Peer) -> bool {
        self.generation > adversary.generation
    }
}

/// What a node thinks of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer, and has not refuted that yet.
    Suspected,
    /// It has not answered for long.
    Dead,
}

/// A node and what is thought of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// The node.
    pub peer: Peer,
    /// What is thought of it.
    pub liveness: Liveness,
    /// How often it has refuted a suspicion in this generation.
    pub incarnation: u16,
}

impl PeerState {
    pub(super) fn of(member: &foca::Member<Peer>) -> PeerState {
        let liveness = match member.state() {
            foca::State::Alive => Liveness::Alive,
            foca::State::Suspect => Liveness::Suspected,
            foca::State::Down => Liveness::Dead,
        };
        PeerState { peer: member.id().clone(), liveness, incarnation: member.incarnation() }
    }
}
