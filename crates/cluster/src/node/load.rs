//! How much a node holds for others: requests of clients that it has not answered, and requests of nodes that it has not carried out. Both
//! have a bound in bytes; what finds no room is refused, and has not happened.

use super::Node;
use crate::codec::message::Request;
use crate::facade::{Pending, Teller, pending};
use crate::transport::{Class, Failure, Responder};
use base::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How often it is looked whether a node is idle, in microseconds. Twice, so that a request that is just being handed over is seen.
const LOOK_MICROS: u64 = 20_000;
/// When it may be worth to try again where there was no room.
const RETRY_AFTER_MICROS: u64 = 10_000;
/// Of the room of an inbox so much is had by vital requests on top: one part in so many.
const VITAL_PART: usize = 8;

/// What a node holds at a moment. All of it is bounded; see the table in `docs/cluster.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Load {
    /// Requests of clients that it has taken and not answered.
    pub requests: usize,
    /// Their bytes, and those of what owners answered to them.
    pub request_bytes: usize,
    /// Bytes of requests of nodes that it has not answered.
    pub inbox_bytes: usize,
    /// Bytes of what it remembers of calls of other nodes that have ended.
    pub remembered_bytes: usize,
    /// Bytes of hints that it keeps for other nodes, on disk.
    pub hint_bytes: u64,
}

/// So many bytes may be held at a time.
#[derive(Debug)]
struct Room {
    used: AtomicUsize,
    max: usize,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    fn new(max: usize) -> Arc<Room> {
        Arc::new(Room { used: AtomicUsize::new(0), max })
    }

    /// Holds `bytes`, if no more than `max` are held then.
    fn hold(self: &Arc<Self>, bytes: usize, max: usize) -> Result<Held, Failure> {
        // Given back by the guard where it is refused.
        let held = Held { room: Arc::clone(self), bytes };
        let before = self.used.fetch_add(bytes, Ordering::SeqCst);
        match before.saturating_add(bytes) <= max {
            true => Ok(held),
            false => Err(Failure::Overloaded { retry_after_micros: RETRY_AFTER_MICROS }),
        }
    }

    fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// Requests of clients.
#[derive(Debug)]
pub(super) struct Requests {
    count: Arc<AtomicUsize>,
    room: Arc<Room>,
}

/// One request of a client that was taken. Dropped when it is answered.
#[derive(Debug)]
pub(crate) struct Taken {
    count: Arc<AtomicUsize>,
    room: Arc<Room>,
    held: Vec<Held>,
}

impl Requests {
    pub(super) fn new(bytes_max: usize) -> Requests {
        Requests { count: Arc::default(), room: Room::new(bytes_max) }
    }
}

impl Taken {
    /// Holds more for the same request: what owners answer.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if there is no room for it.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        self.held.push(self.room.hold(bytes, self.room.max)?);
        Ok(())
    }

    /// What was held is handed out; the request itself is not answered yet.
    pub(crate) fn hand_out(&mut self) {
        self.held.clear();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.held.clear();
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Requests of nodes. Vital ones have room of their own, so that load is never taken for death.
#[derive(Debug)]
pub(super) struct Inbox {
    room: Arc<Room>,
    vital: Arc<Room>,
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Inbox {
        Inbox { room: Room::new(bytes_max), vital: Room::new(bytes_max / VITAL_PART) }
    }

    /// Who answers a request that there is room for: it is held until then. Bulk finds half of the room, reads three quarters, writes all.
    pub(super) fn admit(
        &self,
        request: &Request,
        responder: Responder,
    ) -> Result<Responder, (Failure, Responder)> {
        let (room, max) = match request.class() {
            Class::Vital => (&self.vital, self.vital.max),
            Class::Write => (&self.room, self.room.max),
            Class::Read => (&self.room, self.room.max / 4 * 3),
            Class::Bulk => (&self.room, self.room.max / 2),
        };
        match room.hold(request.weight(), max) {
            Ok(held) => Ok(Responder::new(move |epoch, answer| {
                responder.answer(epoch, answer);
                drop(held);
            })),
            Err(failure) => Err((failure, responder)),
        }
    }
}

impl Node {
    /// What it holds for others now.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            requests: self.requests.count.load(Ordering::SeqCst),
            request_bytes: self.requests.room.used(),
            inbox_bytes: self.inbox.room.used() + self.inbox.vital.used(),
            remembered_bytes: self.served().lock().bytes(),
            hint_bytes: self.hint_bytes(),
        }
    }

    /// Counts a request of `bytes` until what this returns is dropped.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if too much is held for others.
    pub(crate) fn take_request(&self, bytes: usize) -> Result<Taken, Failure> {
        let Requests { count, room } = &self.requests;
        count.fetch_add(1, Ordering::SeqCst);
        let mut taken =
            Taken { count: Arc::clone(count), room: Arc::clone(room), held: Vec::new() };
        taken.grow(bytes)?;
        Ok(taken)
    }

    /// Ends when all requests of clients are answered. For a node that is given no new ones.
    pub(crate) fn when_idle(&self, patience_micros: u64) -> Pending<()> {
        let (teller, pending) = pending(patience_micros);
        self.look_for_rest(teller, false);
        pending
    }

    fn look_for_rest(&self, teller: Teller<()>, was_idle: bool) {
        self.later(LOOK_MICROS, move |node| match node.load().requests {
            0 if was_idle => teller.tell(()),
            taken => node.look_for_rest(teller, taken == 0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_leaves_none_taken() {
        let room = Room::new(100);
        let one = room.hold(60, room.max).expect("there is room");
        assert!(matches!(room.hold(50, room.max), Err(Failure::Overloaded { .. })));
        assert!(room.hold(1, 50).is_err(), "of a class that has less");
        assert_eq!(room.used(), 60);
        let other = room.hold(40, room.max).expect("exactly full");
        drop((one, other));
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn a_request_is_held_until_it_is_answered_or_dropped() {
        let inbox = Inbox::new(1 << 20);
        let gossip =
            |bytes: usize| crate::codec::message::Gossip { payload: vec![0; bytes].into() }.into();
        let responder = || Responder::new(|_, _| ());
        let held = inbox.admit(&gossip(1000), responder()).expect("there is room");
        assert!(inbox.vital.used() >= 1000);
        drop(held);
        let held = inbox.admit(&gossip(1000), responder()).expect("there is room");
        held.answer(ring::Epoch(1), crate::codec::message::Pong {});
        assert_eq!(inbox.vital.used(), 0);
        assert!(inbox.admit(&gossip(1 << 20), responder()).is_err());
        assert_eq!((inbox.vital.used(), inbox.room.used()), (0, 0));
    }
}
