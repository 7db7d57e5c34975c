//! Nodes that come and go while clients read and write, through the public face, on real disks and real time.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "clients on threads")]

mod common;

use cluster::membership::Config;
use cluster::rebalance::progress;
use cluster::topology::{MemberState, Refusal, Topology};
use cluster::{Cluster, ClusterBuilder, Error, GetOptions, NodeId, NodeOptions, PutOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// How long a job may take, in microseconds: the machine may be busy.
const PATIENCE: u64 = 4 * common::PATIENCE;
const KEYS: usize = 400;

fn builder(nodes: u64) -> ClusterBuilder {
    common::builder(nodes).bytes_per_second(0)
}

fn key(n: usize) -> String {
    format!("song:{n:04}")
}

fn fill(store: &Cluster) {
    let pairs = (0..KEYS).map(|n| (key(n), format!("title {n}")));
    for put in store.multi_put(pairs).unwrap() {
        put.unwrap();
    }
    for n in (0..KEYS).step_by(10) {
        store.delete(key(n)).unwrap();
    }
}

/// Every key, as every one of its owners says it by itself.
fn check(store: &Cluster) {
    for n in 0..KEYS {
        let found = store.get(key(n)).unwrap();
        let wanted = if n % 10 == 0 { None } else { Some(format!("title {n}")) };
        assert_eq!(found.value().map(|v| v.to_vec()), wanted.map(String::into_bytes), "{n}");
    }
    assert_eq!(store.scan("song:".."song;").count(), KEYS - KEYS / 10);
}

/// Each node owns what the topology says, and nobody waits to delete anything.
fn check_placed(store: &Cluster) {
    let view = store.view().unwrap();
    let topology = view.topology();
    assert!(topology.job().is_none());
    for placement in topology.placements() {
        assert_eq!(placement.departing().count(), 0);
        let next = topology.start_job(0).unwrap();
        assert_eq!(topology.apply(&next).unwrap_err(), Refusal::NothingToMove);
    }
}

/// A client that writes and reads its own keys until it is told to end.
struct Client {
    stop: Arc<AtomicBool>,
    done: Receiver<()>,
    thread: std::thread::JoinHandle<BTreeMap<String, u64>>,
}

impl Client {
    fn start(store: &Cluster) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, done) = sync_channel(0);
        let (store, stopped) = (store.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut last = BTreeMap::new();
            let mut n = 0u64;
            while !stopped.load(Ordering::SeqCst) {
                let key = format!("live:{:02}", n % 40);
                store.put(&key, n.to_string()).unwrap();
                assert_eq!(store.get(&key).unwrap().siblings(), [&*n.to_string()]);
                last.insert(key, n);
                n += 1;
                // Only who waits right now hears of it.
                let _nobody_waits = tell.try_send(());
            }
            last
        });
        Client { stop, done, thread }
    }

    /// Waits until it has done some more: the cluster serves.
    fn goes_on(&self) {
        for _ in 0..5 {
            if self.done.recv().is_err() {
                // It has panicked, which is told at its end.
                return;
            }
        }
    }

    fn end(self, store: &Cluster) {
        self.goes_on();
        self.stop.store(true, Ordering::SeqCst);
        for (key, n) in self.thread.join().unwrap() {
            assert_eq!(store.get(&key).unwrap().siblings(), [&*n.to_string()], "{key}");
        }
    }
}

#[test]
fn a_node_joins_and_one_leaves_while_clients_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(4).open(dir.path()).unwrap();
    fill(&store);
    let client = Client::start(&store);
    let added = store.add_node(&NodeOptions::new().weight(1).zone("")).unwrap();
    assert_eq!(store.nodes().len(), 5);
    client.goes_on();
    store.rebalance().wait(PATIENCE).unwrap();
    check_placed(&store);
    let view = store.view().unwrap();
    let owned = view.topology().placements()[0].base().partitions_of(added).count();
    // A fifth of 16 partitions with 3 owners each.
    assert!((9..=10).contains(&owned), "{owned}");
    check(&store);
    client.goes_on();
    store.remove_node(NodeId(2), PATIENCE).unwrap();
    assert_eq!(store.nodes(), [NodeId(1), NodeId(3), NodeId(4), added]);
    check_placed(&store);
    check(&store);
    client.end(&store);
    store.close().unwrap();
    drop(store);
    let again = builder(4).open(dir.path()).unwrap();
    assert_eq!(again.nodes(), [NodeId(1), NodeId(3), NodeId(4), added]);
    check(&again);
    again.close().unwrap();
}

#[test]
fn what_cannot_be_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(3).rebalance_by_itself(false).open(dir.path()).unwrap();
    let few = store.remove_node(NodeId(1), PATIENCE).unwrap_err();
    assert_eq!(few, Error::TooFewNodes { left: 2, replicas: 3 });
    assert_eq!(store.give_up_node(NodeId(1)).unwrap_err(), few);
    let unknown = Error::UnknownNode { node: NodeId(9) };
    assert_eq!(store.set_weight(NodeId(9), 2).unwrap_err(), unknown);
    assert_eq!(store.forget_node(NodeId(9)).unwrap_err(), unknown);
    let up = store.forget_node(NodeId(1)).unwrap_err();
    assert_eq!(up, Error::Refused(Refusal::MemberNotDown { node: NodeId(1) }));
    let rebalance = store.rebalance();
    assert_eq!(rebalance.plan().unwrap().partitions, 0);
    assert_eq!(rebalance.start().unwrap(), None);
    assert!(rebalance.progress().is_none());
    assert_eq!(rebalance.pause().unwrap_err(), Error::Refused(Refusal::UnknownJob));
    rebalance.wait(PATIENCE).unwrap();
    store.close().unwrap();
}

#[test]
fn a_job_is_planned_throttled_paused_resumed_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(3).rebalance_by_itself(false).bytes_per_second(1).open(dir.path()).unwrap();
    fill(&store);
    let before: Vec<_> = (0..KEYS).map(|n| store.owners_of(key(n)).unwrap()).collect();
    store.add_node(&NodeOptions::new()).unwrap();
    let rebalance = store.rebalance();
    let plan = rebalance.plan().unwrap();
    // A fourth of 16 partitions with 3 owners each, and no copy more.
    assert_eq!((plan.partitions, plan.copies), (12, 12));
    assert!(plan.bytes > 0 && plan.micros > 0, "{plan:?}");
    let job = rebalance.start().unwrap().unwrap();
    assert_eq!(rebalance.start().unwrap(), Some(job));
    // One byte a second: the first pages arrive, and nothing else does.
    let flipped = |topology: &Topology| progress(topology).flipped;
    store.wait_until(PATIENCE, |topology| flipped(topology) > 0).unwrap();
    assert_eq!(rebalance.wait(0).unwrap_err(), Error::Unfinished);
    rebalance.pause().unwrap();
    rebalance.throttle(0).unwrap();
    let paused = rebalance.progress().unwrap();
    assert!(paused.paused && paused.job == job && paused.partitions.partitions == 12);
    // What was copied is handed over yet; the others are not begun.
    let waiting = |topology: &Topology| topology.job().is_some_and(|job| job.paused);
    check(&store);
    assert!(waiting(store.view().unwrap().topology()));
    let before_that = flipped(store.view().unwrap().topology());
    rebalance.resume().unwrap();
    // Some more arrives, then all of it goes back.
    let more = |topology: &Topology| topology.job().is_none() || flipped(topology) > before_that;
    store.wait_until(PATIENCE, more).unwrap();
    // It may have been over before.
    if rebalance.cancel().is_ok() {
        rebalance.wait(PATIENCE).unwrap();
        let after: Vec<_> = (0..KEYS).map(|n| store.owners_of(key(n)).unwrap()).collect();
        assert_eq!(before, after);
    }
    check(&store);
    if rebalance.start().unwrap().is_some() {
        rebalance.throttle(0).unwrap();
    }
    rebalance.wait(PATIENCE).unwrap();
    check_placed(&store);
    check(&store);
    store.close().unwrap();
}

#[test]
fn jobs_outlive_the_restart_of_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(4).open(dir.path()).unwrap();
    fill(&store);
    let added = store.add_node(&NodeOptions::new()).unwrap();
    // Sender, receiver and the node that clients talk to, one after the other.
    for node in [NodeId(1), added, NodeId(3)] {
        store.stop_node(node).unwrap();
        check(&store);
        store.start_node(node).unwrap();
        store.wait_serving(node, PATIENCE).unwrap();
    }
    // All of them at once, and what drives the job.
    store.close().unwrap();
    drop(store);
    let store = builder(4).open(dir.path()).unwrap();
    assert_eq!(store.nodes().len(), 5);
    store.rebalance().wait(PATIENCE).unwrap();
    check_placed(&store);
    check(&store);
    store.close().unwrap();
}

#[test]
fn a_node_that_is_lost_is_replaced_from_the_other_owners() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(5).open(dir.path()).unwrap();
    fill(&store);
    let lost = NodeId(4);
    store.stop_node(lost).unwrap();
    store.give_up_node(lost).unwrap();
    store.rebalance().wait(PATIENCE).unwrap();
    check(&store);
    store.forget_node(lost).unwrap();
    check_placed(&store);
    for n in 0..KEYS {
        let owners = store.owners_of(key(n)).unwrap();
        assert!(owners.len() == 3 && !owners.contains(&lost));
        // Each owner by itself, the new ones too.
        let all = GetOptions::new().owners(3);
        assert_eq!(store.default_keyspace().get_with(key(n), &all).unwrap().served_by().len(), 3);
    }
    store.default_keyspace().put_with("k", "v", &PutOptions::new().owners(3)).unwrap();
    assert!(matches!(store.start_node(lost), Err(Error::UnknownNode { .. })));
    store.close().unwrap();
}

/// Nobody says that the node is gone: the others notice.
#[test]
fn a_node_that_does_not_answer_is_given_up_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    // Sooner than by default, but not so soon that others look dead on a machine that is busy.
    let eager = Config {
        probe_period_micros: 1_000_000,
        probe_timeout_micros: 400_000,
        suspicion_periods: 3,
        ..Config::default()
    };
    let builder = builder(5).failure_detection(eager).give_up_after_micros(Some(2_000_000));
    let store = builder.open(dir.path()).unwrap();
    fill(&store);
    let lost = NodeId(5);
    store.stop_node(lost).unwrap();
    let given_up = |topology: &Topology| topology.member(lost).unwrap().state == MemberState::Down;
    store.wait_until(PATIENCE, given_up).expect("somebody notices");
    store.rebalance().wait(PATIENCE).unwrap();
    check(&store);
    store.forget_node(lost).unwrap();
    check_placed(&store);
    store.close().unwrap();
}
