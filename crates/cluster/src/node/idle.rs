//! Requests of clients that a node has taken and not answered: one that goes answers them first.

use super::Node;
use crate::facade::{Pending, Teller, pending};
use base::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How often it is looked whether a node is idle, in microseconds. Twice, so that a request that is just being handed over is seen.
const LOOK_MICROS: u64 = 20_000;

/// One request that was taken. Dropped when it is answered.
#[derive(Debug)]
pub(crate) struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Node {
    /// Counts a request until what this returns is dropped.
    pub(crate) fn take_request(&self) -> Taken {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Taken(Arc::clone(&self.taken))
    }

    /// Ends when all requests of clients are answered. For a node that is given no new ones.
    pub(crate) fn when_idle(&self, patience_micros: u64) -> Pending<()> {
        let (teller, pending) = pending(patience_micros);
        self.look_for_rest(teller, false);
        pending
    }

    fn look_for_rest(&self, teller: Teller<()>, was_idle: bool) {
        self.later(LOOK_MICROS, move |node| match node.taken.load(Ordering::SeqCst) {
            0 if was_idle => teller.tell(()),
            taken => node.look_for_rest(teller, taken == 0),
        });
    }
}
