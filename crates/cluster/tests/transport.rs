//! The in-process network: the suite on virtual and on real time, and what faults do to it.

use base::rng::Rng;
use base::sync::Mutex;
use cluster::codec::message::{Ping, Pong, Read, Records, Request, Stored, Wanted};
use cluster::codec::{frame, samples};
use cluster::runtime::{Runtime, SimRuntime, ThreadRuntime};
use cluster::transport::suite::{self, Fixture};
use cluster::transport::{
    Call, Counts, Ended, Failure, InProcess, Incoming, Limits, Link, Responder, Service, Transport,
};
use cluster::{Epoch, KeyspaceId, NodeId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Virtual {
    runtime: Arc<SimRuntime>,
    link: Link,
}

impl Fixture for Virtual {
    fn transport(&self, limits: Limits) -> Arc<dyn Transport> {
        let network = InProcess::new(Arc::clone(&self.runtime) as Arc<dyn Runtime>, 1, limits);
        network.set_links(self.link);
        network
    }

    fn wait(&self, micros: u64, done: &mut dyn FnMut() -> bool) -> bool {
        self.runtime.run_until(micros, done)
    }
}

struct Real(Arc<ThreadRuntime>);

impl Fixture for Real {
    fn transport(&self, limits: Limits) -> Arc<dyn Transport> {
        InProcess::new(Arc::clone(&self.0) as Arc<dyn Runtime>, 1, limits)
    }

    #[expect(clippy::disallowed_methods, reason = "this is what waits for real time")]
    fn wait(&self, micros: u64, done: &mut dyn FnMut() -> bool) -> bool {
        use base::clock::Clock;
        let end = self.0.monotonic_micros() + micros;
        while !done() {
            if self.0.monotonic_micros() >= end {
                return done();
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        true
    }
}

#[test]
fn the_suite_on_virtual_time() {
    for (seed, link) in [(1, Link::default()), (2, Link::near())] {
        suite::run(&Virtual { runtime: SimRuntime::new(seed), link });
    }
}

#[test]
fn the_suite_on_real_time() {
    suite::run(&Real(ThreadRuntime::new(3)));
}

/// A transport that breaks a promise is found out.
#[test]
fn the_suite_notices_what_is_broken() {
    for (fault, check) in [
        (Link { lost_per_mille: 1000, ..Link::default() }, "a node may call itself"),
        (Link { damaged_per_mille: 1000, ..Link::default() }, "answers find their calls"),
        // Doubled requests are asked twice of a service, which must not be seen in the ends of calls; late ones time out.
        (
            Link { delay_micros_min: 30_000_000, delay_micros_max: 30_000_000, ..Link::default() },
            "failures arrive typed",
        ),
    ] {
        let (_, run) = suite::CHECKS.iter().find(|(name, _)| *name == check).expect("a check");
        let broken = Virtual { runtime: SimRuntime::new(3), link: fault };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&broken)));
        assert!(caught.is_err(), "{check} does not notice {fault:?}");
    }
}

// ---- faults ----

/// Answers reads with a number that belongs to the key, or not at all.
struct Echo {
    node: NodeId,
    silent: bool,
    served: Arc<Mutex<BTreeMap<u64, u32>>>,
}

fn number_of(request: &Request) -> u64 {
    let Request::Read(read) = request else { return 0 };
    read.keys[0].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Service for Echo {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        let number = number_of(&incoming.request);
        *self.served.lock().entry(number).or_default() += 1;
        if !self.silent {
            let digest = u128::from(self.node.0) << 64 | u128::from(number);
            responder.answer(Epoch(1), Records { records: vec![Stored::Digest(digest)] });
        } else {
            // Held for ever; the call has to end all the same.
            std::mem::forget(responder);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    ends: BTreeMap<u64, Ended>,
    counts: Counts,
    trace: (u64, u64),
}

/// Calls among five nodes on bad links that are cut and mended, while nodes come and go.
fn bad_day(seed: u64) -> Outcome {
    let (runtime, mut rng) = (SimRuntime::new(seed), Rng::new(seed ^ 1));
    let limits =
        Limits { frame_bytes_max: 1 << 10, in_flight_bytes_max: 4 << 10, vital_bytes_max: 1 << 10 };
    let network = InProcess::new(Arc::clone(&runtime) as Arc<dyn Runtime>, seed, limits);
    network.set_links(Link::bad());
    let served: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    let node = |rng: &mut Rng| NodeId(1 + rng.below(5));
    let bind = |node: NodeId, silent| {
        let service = Arc::new(Echo { node, silent, served: Arc::clone(&served) });
        network.bind(node, service).expect("nobody else is there");
    };
    (1..=5).for_each(|id| bind(NodeId(id), id == 5));
    let ends: Arc<Mutex<BTreeMap<u64, Ended>>> = Arc::default();
    let mut sent = BTreeMap::new();
    for number in 1..=300u64 {
        let (from, to) = (node(&mut rng), node(&mut rng));
        let key = [&number.to_le_bytes()[..], &vec![0; rng.below(1100) as usize]].concat();
        let request = Read {
            keyspace: KeyspaceId(0),
            wanted: Wanted::Digest,
            keys: vec![key.into()],
            of_start: 0,
        };
        let timeout_micros = 1_000 + rng.below(500_000);
        let call = Call { from, to, epoch: Epoch(1), timeout_micros, request: request.into() };
        let (told, to_number) = (Arc::clone(&ends), number);
        sent.insert(number, to);
        network.send(
            call,
            Box::new(move |ended| {
                let before = told.lock().insert(to_number, ended);
                assert_eq!(before, None, "call {to_number} has ended twice");
            }),
        );
        match rng.below(40) {
            0 => network.cut(node(&mut rng), node(&mut rng)),
            1 => network.mend(node(&mut rng), node(&mut rng)),
            2 => network.unbind(node(&mut rng)),
            3 => bind(node(&mut rng), rng.below(4) == 0),
            _ => {}
        }
        runtime.run_for(rng.below(20_000));
    }
    runtime.run_for(5_000_000);
    let ends = std::mem::take(&mut *ends.lock());
    assert_eq!(ends.len(), 300, "a call never ended");
    assert_eq!((network.calls_open(), runtime.waiting()), (0, 0), "something is left");
    for (a, b) in (1..=5).flat_map(|a| (1..=5).map(move |b| (a, b))) {
        assert_eq!(network.bytes_in_flight(NodeId(a), NodeId(b)), 0);
    }
    for (number, ended) in &ends {
        let times = served.lock().get(number).copied().unwrap_or(0);
        match ended {
            Ok(reply) => {
                let digest = u128::from(sent[number].0) << 64 | u128::from(*number);
                assert_eq!(reply.answer, Records { records: vec![Stored::Digest(digest)] }.into());
                assert!(times > 0);
            }
            // A copy that was doubled may be refused and served; then the first end counts.
            Err(Failure::TooLarge { .. } | Failure::Overloaded { .. }) => {
                assert_eq!(times, 0, "call {number}")
            }
            Err(failure) => assert!(
                matches!(
                    failure,
                    Failure::Timeout
                        | Failure::Unreachable
                        | Failure::Disconnected
                        | Failure::Closed
                ),
                "{failure}"
            ),
        }
    }
    Outcome { ends, counts: network.counts(), trace: (network.trace(), runtime.trace()) }
}

#[test]
fn every_call_ends_once_whatever_breaks_and_one_seed_is_one_run() {
    let mut all = Counts::default();
    for seed in 0..60 {
        let outcome = bad_day(seed);
        if seed < 10 {
            assert_eq!(outcome, bad_day(seed), "seed {seed}");
        }
        let counts = outcome.counts;
        assert!(
            counts.frames_arrived + counts.frames_damaged
                <= counts.frames_sent + counts.frames_doubled
        );
        all.frames_lost += counts.frames_lost;
        all.frames_doubled += counts.frames_doubled;
        all.frames_damaged += counts.frames_damaged;
        all.refused_overloaded += counts.refused_overloaded;
        all.refused_too_large += counts.refused_too_large;
        all.timeouts += counts.timeouts;
        all.answers_late += counts.answers_late;
    }
    let seen = [
        all.frames_lost,
        all.frames_doubled,
        all.frames_damaged,
        all.refused_overloaded,
        all.refused_too_large,
        all.timeouts,
        all.answers_late,
    ];
    assert!(seen.iter().all(|count| *count > 10), "too little went wrong: {all:?}");
}

#[test]
fn a_cut_has_a_direction() {
    let runtime = SimRuntime::new(1);
    let network = InProcess::new(Arc::clone(&runtime) as Arc<dyn Runtime>, 1, Limits::default());
    let served: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    for id in 1..=3 {
        let service = Echo { node: NodeId(id), silent: false, served: Arc::clone(&served) };
        network.bind(NodeId(id), Arc::new(service)).expect("nobody else is there");
    }
    let ask = |from: u64, to: u64| {
        let ended: Arc<Mutex<Option<Ended>>> = Arc::default();
        let told = Arc::clone(&ended);
        let (from, to) = (NodeId(from), NodeId(to));
        let request = Read {
            keyspace: KeyspaceId(0),
            wanted: Wanted::Digest,
            keys: vec!["12345678".into()],
            of_start: 0,
        };
        let call =
            Call { from, to, epoch: Epoch(1), timeout_micros: 1000, request: request.into() };
        network.send(call, Box::new(move |ended| *told.lock() = Some(ended)));
        runtime.run_for(1000);
        let ended = ended.lock().take().expect("its time is up");
        ended.map(drop)
    };
    let asked = || std::mem::take(&mut *served.lock()).into_values().sum::<u32>();
    network.cut(NodeId(1), NodeId(2));
    assert_eq!((ask(1, 2), asked()), (Err(Failure::Timeout), 0), "the request is lost");
    assert_eq!((ask(2, 1), asked()), (Err(Failure::Timeout), 1), "the answer is lost");
    assert_eq!((ask(1, 3), ask(3, 2)), (Ok(()), Ok(())));
    network.mend(NodeId(1), NodeId(2));
    assert_eq!(ask(1, 2), Ok(()));
    network.partition(&[&[NodeId(1)], &[NodeId(2), NodeId(3)]]);
    assert_eq!((ask(1, 3), ask(2, 1)), (Err(Failure::Timeout), Err(Failure::Timeout)));
    assert_eq!((ask(2, 3), ask(3, 2)), (Ok(()), Ok(())));
    network.mend_all();
    assert_eq!((ask(1, 3), ask(2, 1)), (Ok(()), Ok(())));
}

/// One copy of a request is served, and the other one comes after its node has stopped: nobody may be told that none was.
#[test]
fn a_copy_that_comes_too_late_does_not_say_that_nothing_happened() {
    let mut disconnected = 0;
    for seed in 0..20 {
        let runtime = SimRuntime::new(seed);
        let network =
            InProcess::new(Arc::clone(&runtime) as Arc<dyn Runtime>, seed, Limits::default());
        let served: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
        let service = Echo { node: NodeId(2), silent: false, served: Arc::clone(&served) };
        network.bind(NodeId(2), Arc::new(service)).expect("nobody else is there");
        network.set_links(Link {
            delay_micros_min: 10,
            delay_micros_max: 1_000,
            doubled_per_mille: 1_000,
            ..Link::default()
        });
        // Its answer is lost, and that it stops.
        network.cut(NodeId(2), NodeId(1));
        let ended: Arc<Mutex<Option<Ended>>> = Arc::default();
        let told = Arc::clone(&ended);
        let keys = vec!["12345678".into()];
        let request = Read { keyspace: KeyspaceId(0), wanted: Wanted::Digest, keys, of_start: 0 };
        let (from, to, epoch) = (NodeId(1), NodeId(2), Epoch(1));
        let call = Call { from, to, epoch, timeout_micros: 100_000, request: request.into() };
        network.send(call, Box::new(move |ended| *told.lock() = Some(ended)));
        assert!(runtime.run_until(1_000, &mut || !served.lock().is_empty()));
        network.unbind(NodeId(2));
        network.mend_all();
        runtime.run_for(200_000);
        let failure = ended.lock().take().expect("its time is up").expect_err("no answer");
        assert!(failure.may_have_happened(), "seed {seed}: {failure}");
        disconnected += u32::from(failure == Failure::Disconnected);
    }
    assert!(disconnected > 0, "no copy came too late");
}

/// What an encoded message costs; the figure is printed, the bound is what keeps it honest.
#[test]
fn frames_are_small() {
    let header = frame::Header {
        kind: 0,
        cluster: 1,
        call: 2,
        from: NodeId(3),
        to: NodeId(4),
        epoch: Epoch(5),
        budget_micros: 6,
    };
    assert_eq!(Request::from(Ping {}).encode(header).len(), frame::OVERHEAD);
    assert_eq!(
        cluster::codec::message::Answer::from(Pong {}).encode(header).len(),
        frame::OVERHEAD
    );
    let largest = samples::requests().iter().map(|request| request.encode(header).len()).max();
    assert!(largest < Some(400), "{largest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_bad_day_of_any_seed_ends(seed: u64) {
        bad_day(seed);
    }
}
