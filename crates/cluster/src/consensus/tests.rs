use super::*;
use crate::record::Mode;
use crate::runtime::SimRuntime;
use crate::topology::{MemberState, samples};
use base::sync::Mutex;
use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Options};
use ring::Ring;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, Fs, MemFs};

const CLUSTER: u64 = 5;

fn first() -> Topology {
    Topology::new(CLUSTER, Ring::new(16).expect("a power of two"))
}

fn db(fs: Arc<dyn Fs>) -> lsm::Result<Db> {
    let options = Options::default().disk_reserve_bytes(0);
    Db::builder("/consensus").fs(fs).options(options).executor(ManualExecutor::new()).open()
}

fn open(fs: Arc<dyn Fs>, runtime: &Arc<SimRuntime>) -> Arc<SingleCopy> {
    let db = db(fs).expect("it opens");
    SingleCopy::open(db, Arc::clone(runtime) as _, first).expect("it holds a topology")
}

type Ends = Arc<Mutex<Vec<(u64, Result<Epoch, ProposeError>)>>>;

/// Proposes `change` as number `number`; its end is pushed.
fn propose(consensus: &SingleCopy, expected: Epoch, number: u64, change: Change, ends: &Ends) {
    let id = ProposalId { node: NodeId(1), number };
    let ends = Arc::clone(ends);
    let done: Proposed = Box::new(move |result| {
        ends.lock().push((number, result.map(|topology| topology.epoch())));
    });
    consensus.propose(Proposal { id, expected, change }, done);
}

fn settle(runtime: &SimRuntime) {
    while runtime.step() {}
}

/// All of the samples, one after the other; the epochs they led to.
fn play(consensus: &SingleCopy, runtime: &SimRuntime) -> Ends {
    let ends = Ends::default();
    for (number, change) in (0..).zip(samples::changes()) {
        let expected = consensus.known().epoch();
        propose(consensus, expected, number, change, &ends);
        settle(runtime);
    }
    ends
}

#[test]
fn what_was_made_is_there_after_any_crash() {
    let (runtime, mem) = (SimRuntime::new(1), MemFs::new());
    let consensus = open(Arc::new(mem.clone()), &runtime);
    let ends = Ends::default();
    for (number, change) in (0..).zip(samples::changes()) {
        let expected = consensus.known().epoch();
        propose(&consensus, expected, number, change, &ends);
        settle(&runtime);
        assert_eq!(ends.lock().last(), Some(&(number, Ok(Epoch(expected.0 + 1)))));
        for profile in [CrashProfile::DropAll, CrashProfile::Strict, CrashProfile::KeepAll] {
            let again = open(Arc::new(mem.crash(profile, number)), &runtime);
            assert_eq!(again.known(), consensus.known(), "{profile:?}");
            assert_eq!(again.since(Epoch::FIRST), consensus.since(Epoch::FIRST));
        }
    }
}

/// Fails each operation of the disk in turn: what ended well is there, what was refused is not, and for the one of which nobody knows,
/// the changes tell.
#[test]
fn a_failed_disk_makes_one_outcome_unknown_and_then_nothing_more() {
    let (mut unknown, mut made, mut at) = (0, 0, 0);
    loop {
        let (runtime, mem) = (SimRuntime::new(at), MemFs::new());
        let faults = FaultFs::over_mem(mem.clone());
        let consensus = open(Arc::new(faults.clone()), &runtime);
        faults.inject(FaultPlan::any(Fault::Eio).skip(at).times(1));
        let ends = play(&consensus, &runtime);
        let failed = ends.lock().iter().any(|(_, end)| end.is_err());
        drop(consensus);
        faults.clear();
        let profile = [CrashProfile::DropAll, CrashProfile::KeepAll][at as usize % 2];
        let again = open(Arc::new(mem.crash(profile, at)), &runtime);
        let mut epoch = Epoch::FIRST;
        for (number, end) in ends.lock().iter() {
            let id = ProposalId { node: NodeId(1), number: *number };
            let found = outcome(id, epoch, again.since(epoch).as_ref());
            match end {
                Ok(led_to) => {
                    assert_eq!((found, led_to.0), (Outcome::Made, epoch.0 + 1));
                    epoch = *led_to;
                }
                Err(ProposeError::Unknown(_)) => {
                    unknown += 1;
                    made += usize::from(found == Outcome::Made);
                    assert!(matches!(found, Outcome::Made | Outcome::Open), "{found:?}");
                }
                Err(error) => {
                    assert!(matches!(error, ProposeError::Stopped(_)), "{error}");
                    assert_ne!(found, Outcome::Made);
                }
            }
        }
        if !failed {
            break;
        }
        at += 1;
    }
    assert!(unknown > 10 && made > 0 && made < unknown, "unknown={unknown} made={made}");
}

#[test]
fn of_proposals_for_one_epoch_one_is_made() {
    let (runtime, ends) = (SimRuntime::new(2), Ends::default());
    let consensus = open(Arc::new(MemFs::new()), &runtime);
    for number in 0..50 {
        let (id, address, zone) = (NodeId(number), String::new(), String::new());
        let change = Change::AddMember { id, address, zone, weight: 1 };
        propose(&consensus, Epoch(1 + number % 5), number, change, &ends);
    }
    settle(&runtime);
    let ends = ends.lock();
    let made: Vec<u64> =
        ends.iter().filter(|(_, end)| end.is_ok()).map(|(number, _)| *number).collect();
    assert_eq!(made, [0, 1, 2, 3, 4]);
    assert_eq!(ends.len(), 50);
    assert_eq!(ends[49].1, Err(ProposeError::Conflict { current: Epoch(6) }));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let (runtime, ends) = (SimRuntime::new(3), Ends::default());
    let consensus = open(Arc::new(MemFs::new()), &runtime);
    let change = Change::SetState { id: NodeId(1), state: MemberState::Up };
    propose(&consensus, Epoch::FIRST, 1, change, &ends);
    settle(&runtime);
    let refusal = Refusal::UnknownMember { node: NodeId(1) };
    assert_eq!(ends.lock()[..], [(1, Err(ProposeError::Refused(refusal)))]);
    assert_eq!((consensus.known().epoch(), consensus.since(Epoch::FIRST)), (Epoch::FIRST, None));
    consensus.stop();
    let change = Change::RemoveMember { id: NodeId(1) };
    propose(&consensus, Epoch::FIRST, 2, change, &ends);
    assert!(matches!(ends.lock()[1].1, Err(ProposeError::Stopped(_))));
    let stopped = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&stopped);
    consensus.read(Box::new(move |read| *seen.lock() = read.is_err()));
    assert!(*stopped.lock());
}

#[test]
fn watchers_see_epochs_ascend_and_begin_with_the_one_there_is() {
    let runtime = SimRuntime::new(4);
    let consensus = open(Arc::new(MemFs::new()), &runtime);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watch = |seen: &Arc<Mutex<Vec<Epoch>>>| {
        let seen = Arc::clone(seen);
        consensus.watch(Box::new(move |topology| seen.lock().push(topology.epoch())))
    };
    let first = watch(&seen);
    settle(&runtime);
    play(&consensus, &runtime);
    let all: Vec<Epoch> = (1..=consensus.known().epoch().0).map(Epoch).collect();
    assert_eq!(*seen.lock(), all);
    let late = Arc::new(Mutex::new(Vec::new()));
    watch(&late);
    consensus.unwatch(first);
    let change = consensus.known().create_keyspace("late", 2, Mode::Siblings, 1);
    let expected = consensus.known().epoch();
    propose(&consensus, expected, 99, change.expect("members"), &Ends::default());
    settle(&runtime);
    assert_eq!(*seen.lock(), all, "no watch any more");
    // Told of the one there was, or at once of the next.
    let now = consensus.known().epoch();
    assert!([vec![expected, now], vec![now]].contains(&late.lock()), "{:?}", late.lock());
}

#[test]
fn after_many_changes_the_log_is_short_and_followers_get_the_whole() {
    let (runtime, mem, ends) = (SimRuntime::new(5), MemFs::new(), Ends::default());
    let consensus = open(Arc::new(mem.clone()), &runtime);
    let add = |id| Change::AddMember {
        id: NodeId(id),
        address: String::new(),
        zone: String::new(),
        weight: 1,
    };
    propose(&consensus, Epoch(1), 1, add(1), &ends);
    for epoch in 2..3000 {
        let state = [MemberState::Leaving, MemberState::Up][epoch as usize % 2];
        let change = Change::SetState { id: NodeId(1), state };
        propose(&consensus, Epoch(epoch), epoch, change, &ends);
        if epoch % 100 == 0 {
            settle(&runtime);
        }
    }
    settle(&runtime);
    assert!(ends.lock().iter().all(|(_, end)| end.is_ok()));
    assert!(matches!(consensus.since(Epoch(1)), Some(Update::Whole(_))));
    let Some(Update::Entries(entries)) = consensus.since(Epoch(2900)) else { panic!("too old") };
    assert_eq!(entries.len(), 100);
    let id = ProposalId { node: NodeId(1), number: 2900 };
    assert_eq!(outcome(id, Epoch(2900), consensus.since(Epoch(2900)).as_ref()), Outcome::Made);
    let db = db(Arc::new(mem.crash(CrashProfile::DropAll, 1))).expect("it opens");
    let keyspace = db.open_keyspace("_topology").expect("it is there");
    let again = SingleCopy::open(db, runtime, first).expect("it holds a topology");
    assert_eq!(again.known(), consensus.known());
    assert_eq!(again.since(Epoch(2000)), consensus.since(Epoch(2000)));
    let stored = keyspace.iter().count();
    assert!(stored < 1400, "{stored} values are stored");
}

#[test]
fn a_log_with_a_gap_is_not_opened() {
    let (runtime, mem) = (SimRuntime::new(6), MemFs::new());
    play(&open(Arc::new(mem.clone()), &runtime), &runtime);
    let fs = Arc::new(mem.crash(CrashProfile::DropAll, 0));
    let db = db(fs).expect("it opens");
    let keyspace = db.open_keyspace("_topology").expect("it is there");
    let key = [&b"e"[..], &5u64.to_be_bytes()].concat();
    keyspace.delete_with(key, Durability::Sync).expect("deleted");
    let error = SingleCopy::open(db, runtime, first).expect_err("there is a gap");
    assert!(matches!(error, OpenError::Gap { epoch: Epoch(5) }), "{error}");
}
