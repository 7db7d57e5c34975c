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
    pub(crate) fn new(state: PartState, mut tree: Tree, holes: Vec<Span>) -> Part {
        holes.iter().for_each(|hole| tree.forget(hole));
        let face = Face {
            actor: state.actor,
            floor: Arc::new(state.floor.clone()),
            holes: holes.clone().into(),
        };
        let held = Held { state, tree, holes, compared: BTreeSet::new() };
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
        self.open_hole(Span { start: key.into(), end: Some(end.into()) });
    }

    /// Takes a range out of service. Holes that touch become one.
    pub(crate) fn open_hole(&mut self, mut span: Span) {
        self.tree.forget(&span);
        let touches = |hole: &Span| {
            let before = hole.end.as_ref().is_some_and(|end| *end < span.start);
            let behind = span.end.as_ref().is_some_and(|end| *end < hole.start);
            !before && !behind
        };
        let (joined, mut apart): (Vec<Span>, Vec<Span>) =
            std::mem::take(&mut self.holes).into_iter().partition(touches);
        for hole in joined {
            span.start = span.start.min(hole.start);
            span.end = span.end.zip(hole.end).map(|(a, b)| a.max(b));
        }
        apart.push(span);
        apart.sort_by(|a, b| a.start.cmp(&b.start));
        self.holes = apart;
    }

    /// The next leaf to count, without what lies in holes; `None` if all is counted that can be.
    pub(crate) fn next_to_count(&mut self) -> Option<Span> {
        for hole in self.holes.clone() {
            self.tree.part_at(&hole.start);
            hole.end.iter().for_each(|end| self.tree.part_at(end));
        }
        let holes = &self.holes;
        self.tree.next_to_count(&|leaf| holes.iter().any(|hole| hole.contains(&leaf.start)))
    }
}

impl Face {
    /// True if the floor has not changed from one to the other.
    pub(crate) fn is_of_the_floor_of(&self, before: &Face) -> bool {
        Arc::ptr_eq(&self.floor, &before.floor)
    }

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
