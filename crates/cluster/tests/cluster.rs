//! A cluster of one process through its public face, on real disks and real time.
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use cluster::transport::Failure;
use cluster::{Cluster, Error, GetOptions, KeyspaceOptions, NodeId, PutOptions};
use common::builder;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

fn small(nodes: u64, dir: &Path) -> Cluster {
    builder(nodes).open(dir).unwrap()
}

/// A key whose owners are as wanted.
fn key_owned_by(store: &Cluster, wanted: &dyn Fn(&[NodeId]) -> bool) -> String {
    let mut keys = (0..10_000).map(|n| format!("key{n}"));
    keys.find(|key| wanted(&store.owners_of(key).unwrap())).unwrap()
}

#[test]
fn verbs_over_five_nodes_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(5, dir.path());
    let pairs: BTreeMap<String, String> =
        (0..300).map(|n| (format!("song:{n:03}"), format!("title {n}"))).collect();
    for put in store.multi_put(&pairs).unwrap() {
        assert!(put.unwrap().owners().len() >= 2);
    }
    // Any node answers, also for keys that it does not own.
    for node in store.nodes() {
        let found = store.via(node).get("song:007").unwrap();
        assert_eq!(found.siblings(), ["title 7"]);
        assert!(found.served_by().len() >= 2);
        let owners = store.owners_of("song:007").unwrap();
        assert!(found.served_by().iter().all(|served| owners.contains(served)));
    }
    store.put("song:007", "another title").unwrap();
    assert_eq!(store.get("song:007").unwrap().siblings(), ["another title"]);
    store.delete("song:008").unwrap();
    assert_eq!(store.get("song:008").unwrap().value(), None);
    let scanned: Vec<_> = store.scan("song:005".."song:010").map(|pair| pair.unwrap().0).collect();
    assert_eq!(scanned, ["song:005", "song:006", "song:007", "song:009"]);
    let back: Vec<_> =
        store.default_keyspace().scan_back("song:005"..="song:010").map(|p| p.unwrap().0).collect();
    assert_eq!(back, ["song:010", "song:009", "song:007", "song:006", "song:005"]);
    assert_eq!(store.scan(..).count(), 299);
    store.close().unwrap();
    drop(store);
    let again = small(5, dir.path());
    let found = again.multi_get(pairs.keys()).unwrap();
    assert_eq!(found.iter().filter(|found| found.value().is_some()).count(), 299);
    again.close().unwrap();
    drop(again);
    let other = Cluster::builder().nodes(5).partitions(32).open(dir.path());
    assert!(matches!(other, Err(Error::Options { .. })), "{other:?}");
}

#[test]
fn concurrent_writes_are_siblings_until_they_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(3, dir.path());
    store.put("cart", "milk").unwrap();
    let seen = store.get("cart").unwrap();
    let keyspace = store.default_keyspace();
    let with = PutOptions::new().token(seen.token());
    keyspace.put_with("cart", "milk, bread", &with).unwrap();
    keyspace.put_with("cart", "milk, eggs", &with).unwrap();
    let both = store.get("cart").unwrap();
    assert_eq!(both.siblings().len(), 2);
    let merge = PutOptions::new().token(both.token());
    keyspace.put_with("cart", "milk, bread, eggs", &merge).unwrap();
    assert_eq!(store.get("cart").unwrap().siblings(), ["milk, bread, eggs"]);
    let wrong = keyspace.put_with("other", "x", &merge);
    assert!(matches!(wrong, Err(Error::Token(_))), "{wrong:?}");
    for n in 0..16 {
        keyspace.put_with("full", format!("{n}"), &PutOptions::new().beside()).unwrap();
    }
    let one_more = keyspace.put_with("full", "x", &PutOptions::new().beside());
    assert_eq!(one_more.unwrap_err(), Error::Call(Failure::TooManySiblings { max: 16 }));
}

#[test]
fn a_node_that_is_away_costs_nothing_and_learns_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(5, dir.path());
    let away = NodeId(2);
    let key = key_owned_by(&store, &|owners| owners.contains(&away));
    store.put(&key, "before").unwrap();
    store.stop_node(away).unwrap();
    assert!(matches!(store.via(away).get(&key), Err(Error::NodeIsDown { .. })));
    for n in 0..40 {
        store.put(&key, format!("after {n}")).unwrap();
    }
    assert_eq!(store.get(&key).unwrap().siblings(), ["after 39"]);
    let all = PutOptions::new().owners(3).timeout_micros(20_000_000);
    let unknown = store.default_keyspace().put_with(&key, "all", &all).unwrap_err();
    assert!(unknown.may_have_happened(), "{unknown:?}");
    store.start_node(away).unwrap();
    // It asks itself first: in the end it says what the others say.
    let alone = GetOptions::new().owners(1);
    let mut tries = 0;
    loop {
        let found = store.via(away).get_with(&key, &alone).unwrap();
        if found.served_by() == [away] && found.siblings() == ["all"] {
            break;
        }
        tries += 1;
        assert!(tries < 100_000, "{found:?}");
    }
    let impossible = store.default_keyspace().put_with(&key, "x", &PutOptions::new().owners(4));
    assert_eq!(
        impossible.unwrap_err(),
        Error::Call(Failure::Unavailable { reached: 3, wanted: 4 })
    );
    store.close().unwrap();
}

#[test]
fn sloppy_writes_are_kept_by_stand_ins_and_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(5, dir.path());
    let owners = store.owners_of("key").unwrap();
    for owner in &owners[1..] {
        store.stop_node(*owner).unwrap();
    }
    let strict = PutOptions::new().beside().timeout_micros(20_000_000);
    let unknown = store.default_keyspace().put_with("key", "strict", &strict).unwrap_err();
    assert!(matches!(unknown, Error::Call(Failure::Unknown { wanted: 2, .. })), "{unknown:?}");
    let sloppy = PutOptions::new().beside().sloppy();
    let put = store.default_keyspace().put_with("key", "sloppy", &sloppy).unwrap();
    assert_eq!(put.owners(), &owners[..1]);
    assert!(!put.hinted().is_empty() && put.hinted().iter().all(|node| !owners.contains(node)));
    for owner in &owners[1..] {
        store.start_node(*owner).unwrap();
    }
    store.hints_delivered(30_000_000).unwrap();
    let alone = GetOptions::new().owners(1);
    for owner in &owners {
        let found = store.via(*owner).get_with("key", &alone).unwrap();
        assert_eq!(found.siblings().len(), 2, "{owner} {found:?}");
    }
    store.close().unwrap();
}

#[test]
fn keyspaces_have_their_own_rules() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(4, dir.path());
    let last = KeyspaceOptions::new().replication(2).last_writer_wins();
    let clocks = store.keyspace("clocks", last.clone()).unwrap();
    for n in 0..20 {
        clocks.put("tick", format!("{n}")).unwrap();
    }
    let found = clocks.get_with("tick", &GetOptions::new().monotonic()).unwrap();
    assert_eq!(found.siblings(), ["19"]);
    assert_eq!(clocks.owners_of("tick").unwrap().len(), 2);
    assert_eq!(store.get("tick").unwrap().value(), None);
    clocks.delete("tick").unwrap();
    assert_eq!(clocks.get("tick").unwrap().value(), None);
    let other = store.keyspace("clocks", KeyspaceOptions::new());
    assert!(matches!(other, Err(Error::Options { .. })));
    store.keyspace("clocks", last.clone()).unwrap();
    store.close().unwrap();
    drop((store, clocks));
    let again = small(4, dir.path());
    again.keyspace("clocks", last).unwrap().put("tick", "20").unwrap();
}

struct Nobody;
impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn answers_can_be_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let store = small(3, dir.path());
    let put = store.default_keyspace().put_later("k", "v", &PutOptions::new()).unwrap();
    assert!(block_on(put).unwrap().unwrap().owners().len() >= 2);
    let get = store.default_keyspace().get_later("k", &GetOptions::new()).unwrap();
    assert_eq!(block_on(get).unwrap().unwrap().siblings(), ["v"]);
}

fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Nobody)));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::yield_now();
    }
}
