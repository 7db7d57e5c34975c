//! Which calls of other nodes were coordinated here: each is carried out once, however often it arrives.

use crate::codec::message::{Coordinated, WriteId};
use crate::transport::Responder;
use ring::NodeId;
use std::collections::BTreeMap;

/// Calls that are remembered of one node.
const CALLS_MAX: usize = 4096;
/// Of these the last ones with their outcomes.
const OUTCOMES_MAX: usize = 64;

/// The calls of one session of this node.
#[derive(Debug, Default)]
pub(crate) struct Served {
    origins: BTreeMap<NodeId, Window>,
}

/// The calls of one other node. Their numbers ascend, but they overtake each other.
///
/// Invariant: a call up to `forgotten` that is not in `calls` may have been carried out.
#[derive(Debug, Default)]
struct Window {
    forgotten: u64,
    calls: BTreeMap<u64, Call>,
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
        let ended = window.calls.insert(id.number, Call::Ended(Some(outcome.clone())));
        window.forget();
        match ended {
            Some(Call::Running(waiting)) => waiting,
            _ => Vec::new(),
        }
    }
}

impl Window {
    fn forget(&mut self) {
        let old = self.calls.iter_mut().rev().skip(OUTCOMES_MAX);
        for call in old.take(OUTCOMES_MAX).map(|(_, call)| call) {
            if let Call::Ended(outcome) = call {
                *outcome = None;
            }
        }
        while self.calls.len() > CALLS_MAX {
            let ended = self.calls.iter().find(|(_, call)| matches!(call, Call::Ended(_)));
            let Some((&number, _)) = ended else { return };
            self.calls.remove(&number);
            self.forgotten = self.forgotten.max(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::message::Answer;
    use crate::transport::Failure;
    use base::sync::Mutex;
    use ring::Epoch;
    use std::sync::Arc;

    fn id(number: u64) -> WriteId {
        WriteId { node: NodeId(1), number }
    }

    fn outcome(wanted: u64) -> Coordinated {
        Coordinated { results: vec![Err(Failure::Unknown { acknowledged: 0, wanted })] }
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
        let mut served = Served::default();
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
        let mut served = Served::default();
        let silent = || Responder::new(|_, _| ());
        for number in 1..=2 * CALLS_MAX as u64 {
            assert!(matches!(served.admit(id(number), silent()), Admission::New), "{number}");
            assert_eq!(served.end(&id(number), &outcome(number)).len(), 1);
        }
        for number in 1..=2 * CALLS_MAX as u64 {
            assert!(!matches!(served.admit(id(number), silent()), Admission::New), "{number}");
        }
        let window = &served.origins[&NodeId(1)];
        assert!(window.calls.len() <= CALLS_MAX);
        let kept = window.calls.values().filter(|call| matches!(call, Call::Ended(Some(_))));
        assert!(kept.count() <= 2 * OUTCOMES_MAX);
    }
}
