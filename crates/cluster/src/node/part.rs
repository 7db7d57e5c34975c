//! One partition of one keyspace, in memory.

use super::meta::PartState;
use crate::clock::{Actor, Context, Stamp};
use crate::merkle::{Span, Tree};
use crate::record::Floor;
use base::sync::leaf;
use base::sync::{Mutex, MutexGuard};
use ring::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A partition at one replica. Whoever changes it holds it, also while the change is synced; whoever reads a key does not.
#[derive(Debug)]
pub(crate) struct Part {
    held: Mutex<Held>,
    /// A copy of what readers need. Written only under `held`.
    face: leaf::Mutex<Face>,
}

/// What one change after the other is made to.
#[derive(Debug)]
pub(crate) struct Held {
    /// As it is stored.
    pub(crate) state: PartState,
    /// Sums over what is stored.
    pub(crate) tree: Tree,
    /// Ranges that cannot be read, or are not filled again yet.
    pub(crate) holes: Vec<Span>,
    /// Owners with whom it was compared since the start, while it is not complete.
    pub(crate) compared: BTreeSet<NodeId>,
}

/// What a reader has to know of the partition.
#[derive(Debug, Clone)]
pub(crate) struct Face {
    /// The actor under which the replica is complete.
    pub(crate) actor: Actor,
    pub(crate) floor: Arc<Floor>,
    pub(crate) holes: Arc<[Span]>,
}

impl Part {
    pub(crate) fn new(state: PartState, tree: Tree) -> Part {
        let face =
            Face { actor: state.actor, floor: Arc::new(state.floor.clone()), holes: Arc::from([]) };
        let held = Held { state, tree, holes: Vec::new(), compared: BTreeSet::new() };
        Part { held: Mutex::new(held), face: leaf::Mutex::new(face) }
    }

    pub(crate) fn hold(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    pub(crate) fn face(&self) -> Face {
        self.face.lock().clone()
    }

    /// To be called by who changed state or holes, before it lets go of them.
    pub(crate) fn show(&self, held: &Held) {
        let mut face = self.face.lock();
        face.actor = held.state.actor;
        if *face.floor != held.state.floor {
            face.floor = Arc::new(held.state.floor.clone());
        }
        if *face.holes != held.holes[..] {
            face.holes = held.holes.clone().into();
        }
    }
}

impl Held {
    /// True if `key` lies in a range that is not whole.
    pub(crate) fn is_hole(&self, key: &[u8]) -> bool {
        self.holes.iter().any(|hole| hole.contains(key))
    }

    /// Takes `key` out of service until a peer has filled it again: until then nothing is said of it, and what comes is taken in.
    pub(crate) fn quarantine(&mut self, key: &[u8]) {
        if self.is_hole(key) {
            return;
        }
        let end = [key, &[0]].concat();
        let span = Span { start: key.into(), end: Some(end.into()) };
        self.tree.forget(&span);
        self.holes.push(span);
        self.holes.sort_by(|a, b| a.start.cmp(&b.start));
    }
}

impl Face {
    pub(crate) fn is_hole(&self, key: &[u8]) -> bool {
        self.holes.iter().any(|hole| hole.contains(key))
    }
}

impl PartState {
    /// That of a partition in which nothing was ever written.
    pub(crate) fn empty(actor: Actor) -> PartState {
        PartState {
            actor,
            counter: 0,
            seen: Context::new(),
            floor: Floor { round: 0, dots: Context::new(), stamp: Stamp::ZERO },
            promised: Stamp::ZERO,
        }
    }
}
