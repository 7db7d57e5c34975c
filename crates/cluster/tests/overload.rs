//! Queues that are full: what finds no room is refused by a typed error that says when to try again, has not happened, and leaves
//! nothing behind. The bounds are in the table of `docs/cluster.md`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
#[path = "common/idle.rs"]
mod idle;

use cluster::clock::{Context, Stamp};
use cluster::codec::message::{
    Answer, Coordinate, Coordinated, Gossip, Op, Read, Request, Wanted, WriteId,
};
use cluster::consensus::{Consensus, Proposal, ProposeError, SingleCopy};
use cluster::runtime::SimRuntime;
use cluster::topology::{Change, ProposalId, Topology};
use cluster::transport::{Advice, Call, Ended, Failure, Limits, Link, Transport};
use cluster::{Cluster, Epoch, Error, Found, GetOptions, NodeId, Pending, Put, PutOptions};
use common::{PATIENCE, builder};
use idle::idle;
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

const FRAME: usize = 64 << 10;
/// As long as any request of these tests may wait, and longer than they need.
const LATE_MICROS: u64 = 3_000_000;

/// Nodes whose frames, and so all whose bounds, are small.
fn small(nodes: u64, bytes_max: usize) -> (TempDir, Cluster) {
    with_inbox(nodes, bytes_max, bytes_max)
}

fn with_inbox(nodes: u64, bytes_max: usize, inbox_max: usize) -> (TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits { frame_bytes_max: FRAME, in_flight_bytes_max: 16 << 20, vital_bytes_max: 1 << 20 };
    let builder = builder(nodes)
        .limits(limits)
        .requests_bytes_max(bytes_max)
        .inbox_bytes_max(inbox_max)
        .hints_bytes_max(bytes_max as u64);
    let store = builder.open(dir.path()).unwrap();
    (dir, store)
}

fn is_overloaded(failure: &Failure) -> bool {
    let text = failure.to_string();
    matches!(failure, Failure::Overloaded { retry_after_micros } if *retry_after_micros > 0)
        && failure.advice() == Advice::Later
        && !failure.may_have_happened()
        && text.contains("try again later")
}

/// From and to this node everything is late.
fn slow_down(store: &Cluster, slow: NodeId, micros: u64) {
    let link = Link { delay_micros_min: micros, delay_micros_max: micros, ..Link::default() };
    for node in store.nodes().into_iter().filter(|node| *node != slow) {
        store.network().set_link(node, slow, link);
        store.network().set_link(slow, node, link);
    }
}

fn serves(store: &Cluster, key: &str) {
    store.put(key, "it serves").unwrap();
    assert_eq!(store.get(key).unwrap().siblings(), ["it serves"]);
}

#[test]
fn requests_of_clients_have_a_bound_in_bytes_at_each_node() {
    let bytes_max = 1 << 20;
    // Owners have room for all that it passes on: no write is refused half done.
    let (_dir, store) = with_inbox(3, bytes_max, 16 * bytes_max);
    // Nobody answers this one: what it takes it has to hold.
    let taker = NodeId(1);
    slow_down(&store, taker, LATE_MICROS);
    let keyspace = store.via(taker);
    let (value, options) = (vec![7u8; 15 << 10], PutOptions::new().beside().owners(3));
    let begun: Vec<Pending<Result<Put, Error>>> = (0..200)
        .map(|n| keyspace.put_later(format!("key{n}"), &value, &options).unwrap())
        .collect();
    let load = store.load(taker).unwrap();
    assert!(load.request_bytes <= bytes_max, "{load:?}");
    assert!(load.requests > 0 && load.requests <= bytes_max / value.len(), "{load:?}");
    // What is left of the room goes to small ones.
    let small: Vec<_> = (0..1_000)
        .map(|n| keyspace.put_later(format!("small{n}"), "x", &options).unwrap())
        .collect();
    // Reads find no room either, and scans; others have some.
    let read = keyspace.get("any").unwrap_err();
    let scan = keyspace.scan(..).next().unwrap().map(drop).unwrap_err();
    for error in [&read, &scan] {
        assert!(matches!(error, Error::Call(failure) if is_overloaded(failure)), "{error:?}");
    }
    serves_elsewhere(&store);
    let (mut taken, mut refused) = (0, Vec::new());
    for (n, put) in begun.into_iter().enumerate() {
        match put.wait().unwrap() {
            Ok(_) => taken += 1,
            Err(Error::Call(failure)) if is_overloaded(&failure) => refused.push(n),
            Err(other) => panic!("key{n}: {other:?}"),
        }
    }
    assert!(taken > 0 && refused.len() > 100, "{taken} taken, {} refused", refused.len());
    for put in small {
        let ended = put.wait().unwrap();
        assert!(
            matches!(&ended, Ok(_) | Err(Error::Call(Failure::Overloaded { .. }))),
            "{ended:?}"
        );
    }
    store.network().mend_all();
    idle(&store);
    for n in refused {
        let found = store.default_keyspace().get_with(format!("key{n}"), &all()).unwrap();
        assert_eq!(found.value(), None, "key{n} was refused, and written");
    }
    serves(&store.clone(), "after");
    keyspace.put("at the node itself", "it serves").unwrap();
}

fn all() -> GetOptions {
    GetOptions::new().owners(3)
}

fn serves_elsewhere(store: &Cluster) {
    store.via(NodeId(2)).put("elsewhere", "it serves").unwrap();
    assert_eq!(store.via(NodeId(3)).get("elsewhere").unwrap().siblings(), ["it serves"]);
}

#[test]
fn what_owners_answer_counts_and_many_keys_are_read_fewer_at_a_time() {
    let bytes_max = 512 << 10;
    let (_dir, store) = small(3, bytes_max);
    let keys: Vec<String> = (0..120).map(|n| format!("key{n:03}")).collect();
    for key in &keys {
        store.put(key, vec![7u8; 15 << 10]).unwrap();
    }
    // 1.8 MB of each of two owners: more than a node holds.
    let found = store.multi_get(&keys).unwrap();
    assert!(found.iter().all(|found| found.value().unwrap().len() == 15 << 10));
    // A scan holds no more than its pages.
    assert_eq!(store.scan(..).filter(Result::is_ok).count(), keys.len());
    idle(&store);
    // Many at the same time, by way of a node: some are refused, and those that are not are answered.
    let reads: Vec<_> = (0..20)
        .flat_map(|_| &keys)
        .map(|key| store.via(NodeId(1)).get_later(key, &GetOptions::new()).unwrap())
        .collect();
    let ended: Vec<_> = reads.into_iter().map(|read| read.wait().unwrap()).collect();
    assert!(ended.iter().any(Result::is_ok));
    for ended in ended {
        match ended {
            Ok(found) => assert_eq!(found.siblings().len(), 1),
            Err(Error::Call(failure)) => assert!(is_overloaded(&failure), "{failure:?}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    idle(&store);
    serves(&store, "after");
}

/// Calls from one node to another, made by hand, that end later.
fn calls(store: &Cluster, to: NodeId, count: usize, request: &Request) -> Receiver<Ended> {
    let (sender, receiver) = channel();
    for _ in 0..count {
        let (sender, request) = (sender.clone(), request.clone());
        let call = Call { from: NodeId(1), to, epoch: Epoch(0), timeout_micros: PATIENCE, request };
        store.network().send(call, Box::new(move |ended| sender.send(ended).unwrap()));
    }
    receiver
}

/// A read of two long keys, some 60 KiB.
fn large_read(store: &Cluster) -> Request {
    let (keyspace, _) = store.view().unwrap().keyspaces().next().unwrap();
    let keys = vec![vec![b'k'; 30 << 10].into(); 2];
    Read { keyspace, wanted: Wanted::Whole, keys, of_start: 0 }.into()
}

#[test]
fn what_is_under_way_to_a_node_has_a_bound_in_bytes_and_vital_messages_get_through() {
    let (_dir, store) = small(3, 1 << 20);
    slow_down(&store, NodeId(2), LATE_MICROS);
    let read = large_read(&store);
    let ended = calls(&store, NodeId(2), 400, &read);
    let room = store.network().limits().room_for(cluster::transport::Class::Read);
    let under_way = store.network().bytes_in_flight(NodeId(1), NodeId(2));
    assert!(under_way > room / 2 && under_way <= room + (1 << 20), "{under_way} of {room}");
    let counts = store.network().counts();
    assert!(counts.refused_overloaded > 100, "{counts:?}");
    // Failure detection has room of its own.
    let ping = calls(&store, NodeId(2), 1, &cluster::codec::message::Ping {}.into());
    assert!(ping.recv().unwrap().is_ok());
    let refused = ended.iter().filter(|ended| matches!(ended, Err(f) if is_overloaded(f))).count();
    // By the network, and by the inbox of the node for what came there all at once.
    assert!(refused as u64 >= counts.refused_overloaded, "{refused} of {counts:?}");
    store.network().mend_all();
    let left = || store.network().bytes_in_flight(NodeId(1), NodeId(2));
    while left() > 100 << 10 {
        std::thread::yield_now();
    }
    idle(&store);
    serves(&store, "after");
}

#[test]
fn an_inbox_has_a_bound_in_bytes() {
    let bytes_max = 256 << 10;
    let (_dir, store) = small(3, bytes_max);
    let read = large_read(&store);
    // More at once than it holds: the node answers some, and says to the others that there is no room.
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..200 {
        for ended in calls(&store, NodeId(2), 100, &read).iter().take(100) {
            match ended {
                Ok(_) => answered += 1,
                Err(failure) if is_overloaded(&failure) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(store.load(NodeId(2)).unwrap().inbox_bytes <= bytes_max / 8 * 9);
        if refused > 0 && answered > 0 {
            break;
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    while store.load(NodeId(2)).unwrap().inbox_bytes > 0 {
        std::thread::yield_now();
    }
    // What is vital has room of its own, and no more than that.
    let gossip = Request::from(Gossip { payload: vec![0; FRAME - 1000].into() });
    let ended = calls(&store, NodeId(2), 50, &gossip);
    for ended in ended.iter().take(50) {
        let fine = match &ended {
            Ok(_) | Err(Failure::NotUnderstood(_)) => true,
            Err(failure) => is_overloaded(failure),
        };
        assert!(fine, "{ended:?}");
    }
    idle(&store);
    serves(&store, "after");
}

#[test]
fn hints_have_a_bound_in_bytes_and_what_finds_no_room_is_brought_by_the_exchange() {
    let bytes_max = 256 << 10;
    let (_dir, store) = small(3, bytes_max);
    let away = NodeId(3);
    store.stop_node(away).unwrap();
    let value = vec![7u8; 15 << 10];
    for n in 0..100 {
        store.put(format!("key{n}"), &value).unwrap();
    }
    let kept = |node: NodeId| store.load(node).unwrap().hint_bytes;
    for node in store.nodes() {
        assert!(kept(node) <= bytes_max as u64, "{} at {node}", kept(node));
    }
    assert!(store.nodes().into_iter().map(kept).sum::<u64>() > bytes_max as u64 / 2);
    store.start_node(away).unwrap();
    store.hints_delivered(PATIENCE).unwrap();
    // Nothing is kept any more, and what was not kept comes all the same.
    while store.nodes().into_iter().map(kept).sum::<u64>() > 0 {
        std::thread::yield_now();
    }
    (0..100).for_each(|n| comes_to(&store, away, &format!("key{n}")));
    serves(&store, "after");
}

/// Waits until an owner of `key` has a value of it.
fn comes_to(store: &Cluster, owner: NodeId, key: &str) {
    let (at, alone) = (store.via(owner), GetOptions::new().owners(1));
    let has = |found: Found| found.served_by().contains(&owner) && found.value().is_some();
    while !has(at.get_with(key, &alone).unwrap()) {
        std::thread::yield_now();
    }
}

#[test]
fn hints_for_all_owners_together_have_a_bound_in_bytes() {
    let (dir, total) = (tempfile::tempdir().unwrap(), 256 << 10);
    let store = builder(5).hints_total_bytes_max(total).open(dir.path()).unwrap();
    let away = [NodeId(4), NodeId(5)];
    away.iter().for_each(|node| store.stop_node(*node).unwrap());
    let (value, one) = (vec![7u8; 15 << 10], PutOptions::new().owners(1).beside());
    let keys: Vec<String> = (0..150).map(|n| format!("key{n}")).collect();
    for key in &keys {
        store.default_keyspace().put_with(key, &value, &one).unwrap();
    }
    let kept: Vec<u64> =
        store.nodes().iter().map(|node| store.load(*node).unwrap().hint_bytes).collect();
    assert!(kept.iter().all(|bytes| *bytes <= total), "{kept:?}");
    assert!(kept.iter().any(|bytes| *bytes > total / 2), "{kept:?}");
    away.iter().for_each(|node| store.start_node(*node).unwrap());
    store.hints_delivered(PATIENCE).unwrap();
    // What found no room is brought by the exchange.
    let owned = |node: &NodeId, key: &String| store.owners_of(key).unwrap().contains(node);
    for node in away {
        keys.iter().filter(|key| owned(&node, key)).for_each(|key| comes_to(&store, node, key));
    }
    serves(&store, "after");
}

/// Passes writes of 16 keys on from node 1 to node 2, by hand, as its call `number`.
fn pass_on(store: &Cluster, start: u64, number: u64) -> Result<Coordinated, Failure> {
    let (keyspace, _) = store.view().unwrap().keyspaces().next().unwrap();
    let op = |n: usize| Op {
        key: format!("key{number}-{n}").as_str().into(),
        value: Some("v".into()),
        expires_micros: 0,
        replaces: Context::new(),
        after: Stamp::ZERO,
    };
    let id = WriteId { node: NodeId(1), number };
    let (owners_min, sloppy, ops) = (3, false, (0..16).map(op).collect());
    let call = Coordinate { keyspace, id, start, owners_min, sloppy, ops };
    match calls(store, NodeId(2), 1, &call.into()).recv().unwrap()?.answer {
        Answer::Coordinated(outcome) => Ok(outcome),
        other => panic!("{other:?}"),
    }
}

#[test]
fn outcomes_that_are_remembered_have_a_bound_in_bytes_and_none_is_carried_out_twice() {
    let (dir, bytes_max) = (tempfile::tempdir().unwrap(), 64 << 10);
    let store = builder(3).remembered_bytes_max(bytes_max).open(dir.path()).unwrap();
    let start = match pass_on(&store, 0, 1) {
        Err(Failure::OtherStart { current }) => current,
        other => panic!("{other:?}"),
    };
    let first = pass_on(&store, start, 1).unwrap();
    assert_eq!(pass_on(&store, start, 1).unwrap(), first, "it is carried out once");
    let mut most = 0;
    for number in 2..=100 {
        let outcome = pass_on(&store, start, number).unwrap();
        assert!(outcome.results.iter().all(Result::is_ok), "{outcome:?}");
        let load = store.load(NodeId(2)).unwrap();
        assert!(load.remembered_bytes <= bytes_max, "{load:?}");
        most = most.max(load.remembered_bytes);
    }
    assert!(most > bytes_max / 2, "{most}: so many are remembered that the bound is met");
    // Of those that were forgotten nobody knows the outcome; the last ones are answered again.
    let forgotten = pass_on(&store, start, 1).unwrap_err();
    assert_eq!(forgotten, Failure::Unknown { acknowledged: 0, wanted: 3 });
    assert!(forgotten.may_have_happened() && forgotten.to_string().contains("read before"));
    assert_eq!(pass_on(&store, start, 100), pass_on(&store, start, 100));
    for key in ["key1-0", "key100-0"] {
        let found = store.default_keyspace().get_with(key, &all()).unwrap();
        assert_eq!(found.siblings(), ["v"], "{key} was written twice");
    }
    idle(&store);
    serves(&store, "after");
}

#[test]
fn proposals_have_a_bound_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let db = lsm::Db::builder(dir.path()).open().unwrap();
    let runtime = SimRuntime::new(1);
    let first = || Topology::new(7, ring::Ring::new(16).unwrap());
    let copy = SingleCopy::open(db, runtime.clone(), first).unwrap();
    let (sender, receiver) = channel();
    let propose = |number: u64, address: String| {
        let (sender, zone) = (sender.clone(), "z".to_owned());
        let change = Change::AddMember { id: NodeId(number), address, zone, weight: 1 };
        let id = ProposalId { node: NodeId(1), number };
        let proposal = Proposal { id, expected: Epoch::FIRST, change };
        copy.propose(proposal, Box::new(move |result| sender.send((number, result)).unwrap()));
    };
    // Nothing is decided before the runtime runs. 100 MiB, of names that no member may have.
    (1..=100).for_each(|number| propose(number, "x".repeat(1 << 20)));
    let refused: Vec<_> = receiver.try_iter().collect();
    let waiting = 100 - refused.len();
    assert!((32..=64).contains(&waiting), "{waiting} wait");
    for (number, result) in refused {
        let error = result.unwrap_err();
        assert_eq!(error, ProposeError::Overloaded, "{number}");
        assert!(error.to_string().contains("try again later"), "{error}");
    }
    let bytes = copy.waiting_bytes();
    assert!(bytes >= waiting << 20 && bytes <= 64 << 20, "{bytes} wait");
    while runtime.step() {}
    assert_eq!(receiver.try_iter().count(), waiting, "each is told of its end");
    assert_eq!(copy.waiting_bytes(), 0);
    propose(101, String::new());
    while runtime.step() {}
    assert!(matches!(receiver.try_recv(), Ok((101, Ok(_)))));
}
