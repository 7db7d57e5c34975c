//! Damage: what cannot be read any more is taken out of service, brought back from the other owners, and served again.
//!
//! A range of which something was lost is a *hole*: nothing of it is read, digested or purged, nothing is merged into it, and the
//! replica takes part in no round. The hole is stored before the damaged blocks are [cut out](lsm::Keyspace::cut_damage) of the database; what is
//! left in it then may be older than what was lost. So a hole is filled like a replica whose disk is older than it was: all that each
//! other owner stores there is taken in, whatever was seen before, and what an owner has seen and stores no more is dropped. An owner that is
//! damaged in the same place has nothing to tell. When all others were asked, and one of them could tell, the hole is closed.

mod fill;
mod find;
#[cfg(test)]
mod tests;

use crate::node::Node;
use std::sync::Arc;

impl Node {
    /// Looks for damage and mends it, again and again.
    pub(crate) fn mend(self: &Arc<Self>) {
        self.later(self.mend_micros(), |node| node.work_in_background(Node::mend_some));
    }

    fn mend_some(self: &Arc<Self>) {
        // What cannot be taken out of service now is found again.
        drop(self.take_out_damage());
        match self.next_hole() {
            Some(hole) => self.fill(hole),
            None => self.mend(),
        }
    }
}
