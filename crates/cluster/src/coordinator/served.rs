//! Which calls of other nodes were coordinated here: each is carried out once, however often it arrives.

use crate::codec::message::{Coordinated, WriteId};
use crate::transport::Responder;
use ring::NodeId;
use std::collections::BTreeMap;

/// Calls that are remembered of one node.
const CALLS_MAX: usize = 4096;
/// Of these the last ones with their outcomes.
const OUTCOMES_MAX: usize = 64;
/// About what it takes to remember that a call has ended, without its outcome.
const CALL_BYTES: usize = 64;

/// The calls of one session of this node.
///
/// Invariant: `bytes` is the sum of those of all windows, and at most `bytes_max` whenever a call has ended. Calls that run are held by the
/// inbox, with their requests.
#[derive(Debug)]
pub(crate) struct Served {
    origins: BTreeMap<NodeId, Window>,
    bytes: usize,
    bytes_max: usize,
}

/// The calls of one other node. Their numbers ascend, but they overtake each other.
///
/// Invariant: a call up to `forgotten` that is not in `calls` may have been carried out. `bytes` are those of the calls that have ended.
#[derive(Debug, Default)]
struct Window {
    forgotten: u64,
    calls: BTreeMap<u64, Call>,
    bytes: usize,
}

#[derive(Debug)]
enum Call {
    /// All of these wait for its outcome.
    Running(Vec<Responder>),
    /// Its outcome, if it is still remembered.
    Ended(Option<Coordinated>),
}

/// What to do with a call.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Carry it out and [`end`](Served::end) it.
    New,
    /// It is being carried out; who asked will be told.
    Running,
    /// It was carried out.
    Again(Responder, Coordinated),
    /// It may have been carried out.
    Forgotten(Responder),
}

impl Served {
    /// Remembers so many bytes of calls at most: those of the nodes that take most are forgotten first.
    pub(crate) fn new(bytes_max: usize) -> Served {
        Served { origins: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Enters a call, with who is to be told of its end.
    pub(crate) fn admit(&mut self, id: WriteId, responder: Responder) -> Admission {
        let window = self.origins.entry(id.node).or_default();
        match window.calls.get_mut(&id.number) {
            Some(Call::Running(waiting)) => {
                waiting.push(responder);
                Admission::Running
            }
            Some(Call::Ended(Some(outcome))) => Admission::Again(responder, outcome.clone()),
            Some(Call::Ended(None)) => Admission::Forgotten(responder),
            None if id.number <= window.forgotten => Admission::Forgotten(responder),
            None => {
                window.calls.insert(id.number, Call::Running(vec![responder]));
                Admission::New
            }
        }
    }

    /// Takes the outcome of a call; who waits for it.
    pub(crate) fn end(&mut self, id: &WriteId, outcome: &Coordinated) -> Vec<Responder> {
        let Some(window) = self.origins.get_mut(&id.node) else { return Vec::new() };
        self.bytes -= window.bytes;
        let waiting = window.end(id.number, outcome.clone());
        window.forget();
        self.bytes += window.bytes;
        self.shrink();
        waiting
    }

    /// Bytes of what is remembered of calls that have ended.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(heaviest) = self.origins.values_mut().max_by_key(|window| window.bytes) else {
                return;
            };
            self.bytes -= heaviest.bytes;
            heaviest.forget_half();
            self.bytes += heaviest.bytes;
        }
    }
}

impl Window {
    fn end(&mut self, number: u64, outcome: Coordinated) -> Vec<Responder> {
        self.bytes += CALL_BYTES + outcome.weight();
        match self.calls.insert(number, Call::Ended(Some(outcome))) {
            Some(Call::Running(waiting)) => waiting,
            Some(Call::Ended(before)) => {
                self.bytes -= CALL_BYTES + before.as_ref().map_or(0, Coordinated::weight);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn forget(&mut self) {
        let old = self.calls.iter_mut().rev().skip(OUTCOMES_MAX);
        for call in old.take(OUTCOMES_MAX).map(|(_, call)| call) {
            self.bytes -= call.forget_outcome();
        }
        while self.calls.len() > CALLS_MAX {
            let ended = self.calls.iter().find(|(_, call)| matches!(call, Call::Ended(_)));
            let Some((&number, _)) = ended else { return };
            self.remove(number);
        }
    }

    /// Forgets the older half of the outcomes; once there are none, the older half of the calls that have ended.
    fn forget_half(&mut self) {
        let half = |calls: usize| calls.div_ceil(2);
        let known = self.calls.values_mut().filter(|call| matches!(call, Call::Ended(Some(_))));
        let mut known: Vec<&mut Call> = known.collect();
        if !known.is_empty() {
            known.truncate(half(known.len()));
            self.bytes -= known.into_iter().map(Call::forget_outcome).sum::<usize>();
            return;
        }
        let ended = self.calls.iter().filter(|(_, call)| matches!(call, Call::Ended(_)));
        let mut ended: Vec<u64> = ended.map(|(number, _)| *number).collect();
        ended.truncate(half(ended.len()));
        ended.into_iter().for_each(|number| self.remove(number));
    }

    /// A call that has ended is not known any more.
    fn remove(&mut self, number: u64) {
        if let Some(mut call) = self.calls.remove(&number) {
            self.bytes -= CALL_BYTES + call.forget_outcome();
            self.forgotten = self.forgotten.max(number);
        }
    }
}

impl Call {
    /// How many bytes that frees.
    fn forget_outcome(&mut self) -> usize {
        match self {
            Call::Ended(outcome) => outcome.take().map_or(0, |outcome| outcome.weight()),
            Call::Running(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Actor, Context, Dot, Stamp};
    use crate::codec::message::{Answer, Written};
    use crate::transport::Failure;
    use base::sync::Mutex;
    use ring::Epoch;
    use std::sync::Arc;

    const BYTES_MAX: usize = 1 << 20;

    fn id(number: u64) -> WriteId {
        WriteId { node: NodeId(1), number }
    }

    fn outcome(wanted: u64) -> Coordinated {
        Coordinated { results: vec![Err(Failure::Unknown { acknowledged: 0, wanted })] }
    }

    /// One of a write to a key that many have written to.
    fn large() -> Coordinated {
        let dot = |n: u64| Dot::new(Actor(1), 2 * n);
        let context: Context = (1..=1000).map(dot).collect();
        let (owners, hinted, stamp) = (vec![NodeId(1)], Vec::new(), Stamp(1));
        let written = Written { dot: dot(1), stamp, context, owners, hinted };
        Coordinated { results: vec![Ok(written)] }
    }

    fn silent() -> Responder {
        Responder::new(|_, _| ())
    }

    fn served() -> Served {
        Served::new(BYTES_MAX)
    }

    /// One call from beginning to end, which is new.
    fn carry_out(served: &mut Served, id: WriteId, outcome: &Coordinated) {
        assert!(matches!(served.admit(id.clone(), silent()), Admission::New), "{id:?}");
        assert_eq!(served.end(&id, outcome).len(), 1);
        assert!(served.bytes() <= served.bytes_max, "{} bytes", served.bytes());
        assert_eq!(served.bytes(), counted(served));
    }

    /// The bytes of what is remembered, added up anew.
    fn counted(served: &Served) -> usize {
        let weight = |call: &Call| match call {
            Call::Running(_) => 0,
            Call::Ended(outcome) => CALL_BYTES + outcome.as_ref().map_or(0, Coordinated::weight),
        };
        served.origins.values().flat_map(|window| window.calls.values()).map(weight).sum()
    }

    #[test]
    fn a_call_is_new_once() {
        let answered = Arc::new(Mutex::new(0));
        let responder = || {
            let answered = Arc::clone(&answered);
            Responder::new(move |_, answer| {
                assert_eq!(answer, Answer::from(outcome(7)));
                *answered.lock() += 1;
            })
        };
        let mut served = served();
        assert!(matches!(served.admit(id(9), responder()), Admission::New));
        assert!(matches!(served.admit(id(9), responder()), Admission::Running));
        for waiting in served.end(&id(9), &outcome(7)) {
            waiting.answer(Epoch(1), outcome(7));
        }
        assert_eq!(*answered.lock(), 2);
        let Admission::Again(responder, again) = served.admit(id(9), responder()) else {
            panic!("it has ended")
        };
        responder.answer(Epoch(1), again);
    }

    #[test]
    fn what_is_forgotten_is_not_new_again() {
        let mut served = served();
        for number in 1..=2 * CALLS_MAX as u64 {
            carry_out(&mut served, id(number), &outcome(number));
        }
        for number in 1..=2 * CALLS_MAX as u64 {
            assert!(!matches!(served.admit(id(number), silent()), Admission::New), "{number}");
        }
        let window = &served.origins[&NodeId(1)];
        assert!(window.calls.len() <= CALLS_MAX);
        let kept = window.calls.values().filter(|call| matches!(call, Call::Ended(Some(_))));
        assert!(kept.count() <= 2 * OUTCOMES_MAX);
    }

    #[test]
    fn of_the_node_whose_calls_take_most_the_oldest_are_forgotten_first() {
        let mut served = served();
        let other = |number| WriteId { node: NodeId(2), number };
        (1..=10).for_each(|number| carry_out(&mut served, other(number), &outcome(number)));
        let held = 2 * BYTES_MAX / large().weight();
        assert!(held < OUTCOMES_MAX * 2, "so many would be forgotten by their number");
        (1..=held as u64).for_each(|number| carry_out(&mut served, id(number), &large()));
        for number in 1..=10 {
            let again = served.admit(other(number), silent());
            assert!(matches!(again, Admission::Again(_, it) if it == outcome(number)), "{number}");
        }
        assert!(matches!(served.admit(id(1), silent()), Admission::Forgotten(_)));
        let again = served.admit(id(held as u64), silent());
        assert!(matches!(again, Admission::Again(_, it) if it == large()));
    }

    #[test]
    fn whatever_is_remembered_has_room_and_none_is_carried_out_again() {
        // Not even one outcome, and not all calls without any.
        let mut served = Served::new(100 * CALL_BYTES);
        let of = |node, number| WriteId { node: NodeId(node), number };
        let all = || (1..=100).flat_map(|number| (1..=5).map(move |node| of(node, number)));
        all().for_each(|id| carry_out(&mut served, id, &large()));
        assert!(served.bytes() > 0);
        for id in all() {
            assert!(
                matches!(served.admit(id.clone(), silent()), Admission::Forgotten(_)),
                "{id:?}"
            );
        }
        // One that runs is remembered until it has ended.
        assert!(matches!(served.admit(of(1, 101), silent()), Admission::New));
        (102..=400).for_each(|number| carry_out(&mut served, of(1, number), &outcome(number)));
        assert!(matches!(served.admit(of(1, 101), silent()), Admission::Running));
        assert_eq!(served.end(&of(1, 101), &outcome(101)).len(), 2);
        assert!(!matches!(served.admit(of(1, 101), silent()), Admission::New));
    }
}
