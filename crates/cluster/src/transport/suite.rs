//! What every transport promises, as checks.
//!
//! 1. Every call ends exactly once, with an answer or a failure, at the latest a little after its time is up.
//! 2. The answer is the one that the service gave to this call. Request and answer arrive as they were sent, with their true
//!    sender and epoch.
//! 3. A failure says whether the request may have been carried out: after [`Failure::Unreachable`], [`Failure::TooLarge`] and
//!    [`Failure::Overloaded`] no service has seen it.
//! 4. What is too large is refused before it is sent. A peer that is slow costs bounded memory, and vital messages still get
//!    through to it.
//! 5. A node that is unbound is not served. Answers of an earlier binding are never taken for those of a later one.
//!
//! A transport of your own passes [`run`]:
//!
//! ```
//! use cluster::runtime::SimRuntime;
//! use cluster::transport::{InProcess, Limits, Transport, suite};
//! use std::sync::Arc;
//!
//! struct Mine(Arc<SimRuntime>);
//!
//! impl suite::Fixture for Mine {
//!     fn transport(&self, limits: Limits) -> Arc<dyn Transport> {
//!         InProcess::new(Arc::clone(&self.0) as _, 1, limits)
//!     }
//!     fn wait(&self, micros: u64, done: &mut dyn FnMut() -> bool) -> bool {
//!         self.0.run_until(micros, done)
//!     }
//! }
//! suite::run(&Mine(SimRuntime::new(1)));
//! ```

use super::{Call, Class, Ended, Failure, Incoming, Limits, Reply, Responder, Service, Transport};
use crate::codec::message::{
    Answer, Gossip, Gossiped, Ping, Pong, Read, Records, Request, Scan, StoreHint, Stored, Wanted,
};
use crate::codec::samples;
use base::sync::Mutex;
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::sync::Arc;

/// A transport to check.
pub trait Fixture {
    /// A new transport between nodes 1 to 3, none of them bound, without faults.
    fn transport(&self, limits: Limits) -> Arc<dyn Transport>;

    /// Waits until `done` says so, at most about `micros`; what it said last. Steps virtual time, or sleeps.
    fn wait(&self, micros: u64, done: &mut dyn FnMut() -> bool) -> bool;
}

/// A check by its name.
pub type Check = (&'static str, fn(&dyn Fixture));

/// Every check.
pub const CHECKS: &[Check] = &[
    ("messages arrive as they were sent", messages_arrive_as_they_were_sent),
    ("answers find their calls", answers_find_their_calls),
    ("a node may call itself", a_node_may_call_itself),
    ("failures arrive typed", failures_arrive_typed),
    ("nobody there is unreachable", nobody_there_is_unreachable),
    ("silence ends in a timeout", silence_ends_in_a_timeout),
    ("a request that is dropped is told", a_request_that_is_dropped_is_told),
    ("too large is refused", too_large_is_refused),
    ("a slow peer costs bounded memory", a_slow_peer_costs_bounded_memory),
    ("a binding ends", a_binding_ends),
    ("a caller that is closed is told", a_caller_that_is_closed_is_told),
];

/// Runs every check.
///
/// # Panics
/// If the transport breaks a promise.
pub fn run(fixture: &dyn Fixture) {
    for (name, check) in CHECKS {
        println!("transport suite: {name}");
        check(fixture);
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
/// Longer than any check takes that does not wait for a timeout.
const PATIENCE: u64 = 20_000_000;
/// How much later than asked for a timeout may come.
const SLACK: u64 = 5_000_000;
const SMALL: Limits =
    Limits { frame_bytes_max: 16 << 10, in_flight_bytes_max: 64 << 10, vital_bytes_max: 4 << 10 };

// ---- tools ----

type Answering = Box<dyn Fn(&Incoming, Responder) + Send + Sync>;

/// A service that does what a closure says, and keeps what it was asked.
struct Asked {
    seen: Mutex<Vec<Incoming>>,
    answer: Answering,
}

impl Asked {
    fn by(answer: impl Fn(&Incoming, Responder) + Send + Sync + 'static) -> Arc<Asked> {
        Arc::new(Asked { seen: Mutex::default(), answer: Box::new(answer) })
    }

    fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

impl Service for Asked {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        self.seen.lock().push(incoming.clone());
        (self.answer)(&incoming, responder);
    }
}

/// Services that answer later: what they were asked waits here.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Responder>>>);

impl Kept {
    fn service(&self) -> Arc<Asked> {
        let kept = self.clone();
        Asked::by(move |_, responder| kept.0.lock().push(responder))
    }

    fn take(&self) -> Vec<Responder> {
        std::mem::take(&mut *self.0.lock())
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// How the calls of a check ended.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<(usize, Ended)>>>);

impl Ends {
    fn send(&self, transport: &dyn Transport, number: usize, call: Call) {
        let ends = self.clone();
        transport.send(call, Box::new(move |ended| ends.0.lock().push((number, ended))));
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Waits for `count` ends and no more; they are ordered by the number of their call.
    fn wait(&self, fixture: &dyn Fixture, count: usize, micros: u64) -> Vec<Ended> {
        let all = fixture.wait(micros, &mut || self.count() >= count);
        assert!(all, "{} of {count} calls have ended", self.count());
        // A call that ends twice would do so soon.
        fixture.wait(20_000, &mut || false);
        let mut ends = std::mem::take(&mut *self.0.lock());
        ends.sort_by_key(|(number, _)| *number);
        let numbers: Vec<usize> = ends.iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "a call has ended twice: {numbers:?}");
        assert_eq!(ends.len(), count);
        ends.into_iter().map(|(_, ended)| ended).collect()
    }
}

fn call(from: NodeId, to: NodeId, timeout_micros: u64, request: impl Into<Request>) -> Call {
    Call { from, to, epoch: Epoch(7), timeout_micros, request: request.into() }
}

/// One call to its end.
fn ask(fixture: &dyn Fixture, transport: &dyn Transport, call: Call) -> Ended {
    let ends = Ends::default();
    let patience = call.timeout_micros.saturating_add(SLACK);
    ends.send(transport, 0, call);
    ends.wait(fixture, 1, patience).remove(0)
}

fn bind(transport: &dyn Transport, node: NodeId, service: Arc<Asked>) {
    transport.bind(node, service).expect("nobody else is there");
}

fn pong() -> Arc<Asked> {
    Asked::by(|_, responder| responder.answer(Epoch(9), Pong {}))
}

/// A request of `class` whose frame is about `bytes` long.
fn request_of(class: Class, bytes: usize) -> Request {
    let payload = Slice::from(vec![b'x'; bytes]);
    let (keyspace, partition) = (KeyspaceId(0), Partition(0));
    let request: Request = match class {
        Class::Vital => Gossip { payload }.into(),
        Class::Read => {
            Read { keyspace, wanted: Wanted::Whole, keys: vec![payload], of_start: 0 }.into()
        }
        Class::Write => {
            let item = crate::codec::message::Item {
                key: payload,
                record: samples::record(),
                made_by: None,
            };
            StoreHint { target: C, keyspace, partition, items: vec![item] }.into()
        }
        Class::Bulk => Scan {
            keyspace,
            partition,
            start: payload,
            end: None,
            backward: false,
            entries_max: 1,
            bytes_max: 1,
        }
        .into(),
    };
    assert_eq!(request.class(), class);
    request
}

// ---- checks ----

fn messages_arrive_as_they_were_sent(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    let next = Mutex::new(
        samples::answers()
            .into_iter()
            .filter(|answer| !matches!(answer, Answer::Failed(_)))
            .cycle(),
    );
    let service = Asked::by(move |_, responder| {
        let answer = next.lock().next().expect("it goes round");
        responder.answer(Epoch(9), answer);
    });
    bind(&*transport, B, Arc::clone(&service));
    let mut expected = samples::answers();
    expected.retain(|answer| !matches!(answer, Answer::Failed(_)));
    for (request, answer) in samples::requests().into_iter().zip(expected.into_iter().cycle()) {
        let reply = ask(fixture, &*transport, call(A, B, PATIENCE, request.clone()));
        assert_eq!(reply, Ok(Reply { epoch: Epoch(9), answer }));
        let incoming = service.seen.lock().pop().expect("it was asked");
        assert_eq!((incoming.request, incoming.from, incoming.epoch), (request, A, Epoch(7)));
        assert!(incoming.budget_micros <= PATIENCE);
    }
}

fn answers_find_their_calls(fixture: &dyn Fixture) {
    const CALLS: usize = 300;
    let transport = fixture.transport(Limits::default());
    let digest = |incoming: &Incoming| match &incoming.request {
        Request::Read(read) => {
            u128::from(incoming.from.0) << 64 | base::checksum::xxh3_64(&read.keys[0]) as u128
        }
        other => panic!("asked for {}", other.name()),
    };
    let kept: Arc<Mutex<Vec<(u128, Responder)>>> = Arc::default();
    for node in [A, B, C] {
        let kept = Arc::clone(&kept);
        let service =
            move |incoming: &Incoming, responder| kept.lock().push((digest(incoming), responder));
        bind(&*transport, node, Asked::by(service));
    }
    let ends = Ends::default();
    let nodes = |number: usize| ([A, B, C][number % 3], [A, B, C][number / 3 % 3]);
    let key = |number: usize| Slice::from(format!("key {number}").as_str());
    for number in 0..CALLS {
        let (from, to) = nodes(number);
        let read = Read {
            keyspace: KeyspaceId(0),
            wanted: Wanted::Digest,
            keys: vec![key(number)],
            of_start: 0,
        };
        ends.send(&*transport, number, call(from, to, PATIENCE, read));
    }
    assert!(fixture.wait(PATIENCE, &mut || kept.lock().len() == CALLS), "not all have arrived");
    // In another order than they came.
    let mut all = std::mem::take(&mut *kept.lock());
    all.sort_by_key(|(digest, _)| base::checksum::xxh3_64(&digest.to_le_bytes()));
    for (digest, responder) in all {
        responder.answer(Epoch(9), Records { records: vec![Stored::Digest(digest)] });
    }
    for (number, ended) in ends.wait(fixture, CALLS, PATIENCE).into_iter().enumerate() {
        let digest =
            u128::from(nodes(number).0.0) << 64 | u128::from(base::checksum::xxh3_64(&key(number)));
        let answer = Records { records: vec![Stored::Digest(digest)] }.into();
        assert_eq!(ended, Ok(Reply { epoch: Epoch(9), answer }), "call {number}");
    }
}

fn a_node_may_call_itself(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    bind(&*transport, A, pong());
    let reply = ask(fixture, &*transport, call(A, A, PATIENCE, Ping {}));
    assert_eq!(reply, Ok(Reply { epoch: Epoch(9), answer: Pong {}.into() }));
}

fn failures_arrive_typed(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    for failure in samples::failures() {
        let said = failure.clone();
        bind(&*transport, B, Asked::by(move |_, responder| responder.fail(Epoch(9), said.clone())));
        assert_eq!(ask(fixture, &*transport, call(A, B, PATIENCE, Ping {})), Err(failure));
    }
}

fn nobody_there_is_unreachable(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    let ended = ask(fixture, &*transport, call(A, B, 2_000_000, Ping {}));
    assert_eq!(ended, Err(Failure::Unreachable));
    assert!(!Failure::Unreachable.may_have_happened());
}

fn silence_ends_in_a_timeout(fixture: &dyn Fixture) {
    const TIMEOUT: u64 = 200_000;
    let transport = fixture.transport(Limits::default());
    let (kept, ends) = (Kept::default(), Ends::default());
    bind(&*transport, B, kept.service());
    ends.send(&*transport, 0, call(A, B, TIMEOUT, Ping {}));
    assert!(!fixture.wait(TIMEOUT / 2, &mut || ends.count() > 0), "ended before its time was up");
    assert_eq!(ends.wait(fixture, 1, TIMEOUT + SLACK), [Err(Failure::Timeout)]);
    // An answer that comes now comes too late, and does not end the next call.
    ends.send(&*transport, 1, call(A, B, TIMEOUT, Ping {}));
    assert!(fixture.wait(TIMEOUT / 2, &mut || kept.len() == 2), "the second has arrived");
    let mut responders = kept.take();
    responders.remove(0).answer(Epoch(1), Gossiped { payload: "late".into() });
    fixture.wait(TIMEOUT / 4, &mut || false);
    responders.remove(0).answer(Epoch(9), Pong {});
    let answer = Pong {}.into();
    assert_eq!(ends.wait(fixture, 1, TIMEOUT + SLACK), [Ok(Reply { epoch: Epoch(9), answer })]);
}

fn a_request_that_is_dropped_is_told(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    bind(&*transport, B, Asked::by(|_, responder| drop(responder)));
    let ended = ask(fixture, &*transport, call(A, B, PATIENCE, Ping {}));
    assert!(matches!(ended, Err(Failure::Internal(_))), "{ended:?}");
}

fn too_large_is_refused(fixture: &dyn Fixture) {
    let transport = fixture.transport(SMALL);
    assert_eq!(transport.limits(), SMALL);
    let large = |len: usize| Gossiped { payload: Slice::from(vec![b'x'; len]) };
    let service = Asked::by(move |incoming, responder| match &incoming.request {
        Request::Ping(_) => responder.answer(Epoch(9), large(SMALL.frame_bytes_max)),
        _ => responder.answer(Epoch(9), large(SMALL.frame_bytes_max / 2)),
    });
    bind(&*transport, B, Arc::clone(&service));
    let too_long = request_of(Class::Read, SMALL.frame_bytes_max);
    let ended = ask(fixture, &*transport, call(A, B, PATIENCE, too_long));
    let max = SMALL.frame_bytes_max as u64;
    assert!(
        matches!(ended, Err(Failure::TooLarge { bytes, max: limit }) if bytes > max && limit == max),
        "{ended:?}"
    );
    assert_eq!(service.count(), 0, "a request that is too large has arrived");
    let ended = ask(fixture, &*transport, call(A, B, PATIENCE, Ping {}));
    assert!(
        matches!(ended, Err(Failure::AnswerTooLarge { bytes, .. }) if bytes > max),
        "{ended:?}"
    );
    let ended = ask(
        fixture,
        &*transport,
        call(A, B, PATIENCE, request_of(Class::Read, SMALL.frame_bytes_max / 2)),
    );
    assert!(ended.is_ok(), "half of the limit is not too large: {ended:?}");
}

fn a_slow_peer_costs_bounded_memory(fixture: &dyn Fixture) {
    const BYTES: usize = 4000;
    let transport = fixture.transport(SMALL);
    let kept = Kept::default();
    let keep = kept.service();
    let service = Asked::by(move |incoming, responder| match incoming.request.class() {
        Class::Vital => responder.answer(Epoch(9), Pong {}),
        _ => keep.serve(incoming.clone(), responder),
    });
    bind(&*transport, B, Arc::clone(&service));
    // Each class is refused where its share of the room ends: bulk first, writes last.
    let ends = Ends::default();
    let mut accepted = 0;
    for (class, room) in [(Class::Bulk, 2), (Class::Read, 3), (Class::Write, 4)] {
        loop {
            let before = ends.count();
            ends.send(&*transport, accepted, call(A, B, PATIENCE, request_of(class, BYTES)));
            let arrived = accepted + 1;
            assert!(
                fixture.wait(PATIENCE, &mut || ends.count() > before || kept.len() == arrived),
                "lost"
            );
            if ends.count() > before {
                break;
            }
            accepted += 1;
        }
        let (_, ended) = ends.0.lock().pop().expect("it ended");
        assert!(matches!(ended, Err(Failure::Overloaded { .. })), "{class:?}: {ended:?}");
        let (bytes, limit) = (accepted * BYTES, SMALL.in_flight_bytes_max / 4 * room);
        assert!(bytes <= limit && bytes + 2 * BYTES > limit, "{class:?}: {bytes} of {limit}");
    }
    let ended = ask(fixture, &*transport, call(A, B, PATIENCE, Ping {}));
    assert!(ended.is_ok(), "a vital message finds no room: {ended:?}");
    assert!(service.seen.lock().iter().all(|incoming| incoming.from == A));
    let from_elsewhere =
        ask(fixture, &*transport, call(C, B, 300_000, request_of(Class::Bulk, BYTES)));
    assert_eq!(from_elsewhere, Err(Failure::Timeout), "room is by peer");
    // Answered, they make room again.
    kept.take().into_iter().for_each(|responder| responder.answer(Epoch(9), Pong {}));
    assert!(ends.wait(fixture, accepted, PATIENCE).iter().all(Result::is_ok));
    ends.send(&*transport, 0, call(A, B, PATIENCE, request_of(Class::Bulk, BYTES)));
    assert!(fixture.wait(PATIENCE, &mut || kept.len() == 1), "no room again");
    kept.take().into_iter().for_each(|responder| responder.answer(Epoch(9), Pong {}));
    assert!(ends.wait(fixture, 1, PATIENCE)[0].is_ok());
}

fn a_binding_ends(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    let (kept, ends) = (Kept::default(), Ends::default());
    bind(&*transport, B, kept.service());
    ends.send(&*transport, 0, call(A, B, 1_000_000, Ping {}));
    assert!(fixture.wait(PATIENCE, &mut || kept.len() == 1), "it has arrived");
    transport.unbind(B);
    let ended = ends.wait(fixture, 1, 1_000_000 + SLACK).remove(0);
    assert!(matches!(ended, Err(Failure::Disconnected | Failure::Timeout)), "{ended:?}");
    assert_eq!(
        ask(fixture, &*transport, call(A, B, 2_000_000, Ping {})),
        Err(Failure::Unreachable)
    );
    // The old one answers while the new one thinks.
    let again = Kept::default();
    bind(&*transport, B, again.service());
    ends.send(&*transport, 0, call(A, B, PATIENCE, Ping {}));
    assert!(fixture.wait(PATIENCE, &mut || again.len() == 1), "it has arrived");
    kept.take()
        .into_iter()
        .for_each(|old| old.answer(Epoch(1), Gossiped { payload: "old".into() }));
    assert!(!fixture.wait(100_000, &mut || ends.count() > 0), "ended by the old binding");
    again.take().into_iter().for_each(|new| new.answer(Epoch(9), Pong {}));
    let answer = Pong {}.into();
    assert_eq!(ends.wait(fixture, 1, PATIENCE), [Ok(Reply { epoch: Epoch(9), answer })]);
}

fn a_caller_that_is_closed_is_told(fixture: &dyn Fixture) {
    let transport = fixture.transport(Limits::default());
    let (kept, ends) = (Kept::default(), Ends::default());
    bind(&*transport, A, pong());
    bind(&*transport, B, kept.service());
    ends.send(&*transport, 0, call(A, B, PATIENCE, Ping {}));
    ends.send(&*transport, 1, call(C, B, PATIENCE, Ping {}));
    assert!(fixture.wait(PATIENCE, &mut || kept.len() == 2), "both have arrived");
    transport.unbind(A);
    assert!(fixture.wait(SLACK, &mut || ends.count() == 1), "the call of a closed node goes on");
    assert_eq!(ends.0.lock().pop(), Some((0, Err(Failure::Closed))));
    kept.take().into_iter().for_each(|responder| responder.answer(Epoch(9), Pong {}));
    assert!(ends.wait(fixture, 1, PATIENCE)[0].is_ok(), "the call of another node is not touched");
}
