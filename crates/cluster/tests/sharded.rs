//! Several databases as one, against a map.

use cluster::sharded::{Sharded, ShardedRange};
use lsm::{Db, Error, KeyspaceOptions, Options};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn dirs(root: &tempfile::TempDir, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| root.path().join(name)).collect()
}

fn small() -> Options {
    Options::default()
        .memtable_size_bytes(64 << 10)
        .block_cache_bytes(64 << 10)
        .disk_reserve_bytes(0)
}

fn open(dirs: &[PathBuf]) -> lsm::Result<Sharded> {
    dirs.iter().fold(Sharded::builder(), |builder, dir| builder.shard(dir)).options(small()).open()
}

fn pairs(range: ShardedRange) -> Vec<(Vec<u8>, Vec<u8>)> {
    range
        .map(|pair| pair.expect("readable"))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

#[derive(Debug, Clone)]
enum Op {
    Put(u16, u8),
    Delete(u16),
    DeleteRange(u16, u16),
    MultiPut(Vec<(u16, u8)>),
    Swap(u16, u8),
    Flush,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..200u16;
    prop_oneof![
        8 => (key(), any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        3 => key().prop_map(Op::Delete),
        1 => (key(), 0..30u16).prop_map(|(from, len)| Op::DeleteRange(from, from + len)),
        2 => vec((key(), any::<u8>()), 0..20).prop_map(Op::MultiPut),
        2 => (key(), any::<u8>()).prop_map(|(key, value)| Op::Swap(key, value)),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
    ]
}

fn name(key: u16) -> Vec<u8> {
    format!("key/{key:05}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_map(ops in vec(op(), 1..80), shards in 1..5usize, from in 0..200u16, len in 0..200u16, ends in vec(any::<bool>(), 40)) {
        let root = tempfile::tempdir().expect("a directory");
        let mut dirs = dirs(&root, &["a", "b", "c", "d"][..shards]);
        let (mut store, mut model) = (open(&dirs).expect("opens"), BTreeMap::new());
        for op in ops {
            match op {
                Op::Put(key, value) => {
                    store.put(name(key), [value]).expect("written");
                    model.insert(name(key), vec![value]);
                }
                Op::Delete(key) => {
                    store.delete(name(key)).expect("written");
                    model.remove(&name(key));
                }
                Op::DeleteRange(from, to) => {
                    store.delete_range(name(from)..name(to)).expect("written");
                    model.retain(|key, _| *key < name(from) || *key >= name(to));
                }
                Op::MultiPut(all) => {
                    store.multi_put(all.iter().map(|(key, value)| (name(*key), [*value]))).expect("written");
                    model.extend(all.into_iter().map(|(key, value)| (name(key), vec![value])));
                }
                Op::Swap(key, value) => {
                    let current = model.get(&name(key)).cloned();
                    let swapped = store.compare_and_swap(name(key), current.as_deref(), Some(&[value]));
                    prop_assert_eq!(swapped.expect("written"), Ok(()));
                    model.insert(name(key), vec![value]);
                }
                Op::Flush => store.flush().expect("flushed"),
                Op::Reopen => {
                    store.close().expect("closed");
                    dirs.rotate_left(1);
                    store = open(&dirs).expect("opens in any order");
                }
            }
        }
        let all: Vec<_> = model.clone().into_iter().collect();
        prop_assert_eq!(pairs(store.iter()), all.clone());
        prop_assert_eq!(pairs(store.prefix("key/")), all);
        let keys: Vec<_> = (0..200).map(name).collect();
        let values = store.multi_get(&keys).expect("readable");
        for (key, value) in keys.iter().zip(values) {
            prop_assert_eq!(value.as_deref(), model.get(key).map(|value| &value[..]));
            let got = store.get_with(key, <[u8]>::to_vec).expect("readable");
            prop_assert_eq!(got.as_ref(), model.get(key));
            prop_assert_eq!(store.contains_key(key).expect("readable"), model.contains_key(key));
            let home = store.shards()[store.shard_of(key)].get(key).expect("readable");
            prop_assert_eq!(home.as_deref(), model.get(key).map(|value| &value[..]), "its shard has it");
        }
        // From both ends, until they meet.
        let (lower, upper) = (name(from), name(from + len));
        let mut expected = model.range(lower.clone()..upper.clone());
        let mut range = store.range(lower..upper);
        for front in ends.into_iter().cycle() {
            let (next, expected) = if front { (range.next(), expected.next()) } else { (range.next_back(), expected.next_back()) };
            let next = next.map(|pair| pair.expect("readable"));
            prop_assert_eq!(next.as_ref().map(|(key, value)| (&key[..], &value[..])), expected.map(|(k, v)| (&k[..], &v[..])));
            if expected.is_none() {
                break;
            }
        }
        prop_assert!(range.next().is_none() && range.next_back().is_none());
    }
}

#[test]
fn shares_follow_weights_and_keyspaces_are_apart() {
    let root = tempfile::tempdir().expect("a directory");
    let dirs = dirs(&root, &["small", "large"]);
    let builder = || {
        Sharded::builder().weighted_shard(&dirs[0], 1).weighted_shard(&dirs[1], 3).options(small())
    };
    let store = builder().open().expect("opens");
    let users = store.keyspace("users", KeyspaceOptions::default()).expect("made");
    let mut counts = [0; 2];
    for n in 0..4000 {
        let key = format!("key {n}");
        counts[users.shard_of(&key)] += 1;
        users.put(&key, "v").expect("written");
    }
    assert!((800..1200).contains(&counts[0]), "a quarter: {counts:?}");
    assert_eq!((users.iter().count(), store.iter().count()), (4000, 0));
    assert!(matches!(
        store.keyspace("_shard", KeyspaceOptions::default()),
        Err(Error::InvalidArgument { .. })
    ));
    store.close().expect("closed");
    let store = builder().open().expect("opens again");
    assert_eq!(
        store.keyspace("users", KeyspaceOptions::default()).expect("there").iter().count(),
        4000
    );
    store.close().expect("closed");
    let equal = open(&dirs);
    assert!(matches!(equal, Err(Error::InvalidArgument { what: "shards", .. })), "{equal:?}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let [a, b, c, own] = ["a", "b", "c", "own"].map(|name| root.path().join(name));
    let refused = |dirs: &[PathBuf], says: &str| match open(dirs) {
        Err(Error::InvalidArgument { what: "shards", detail }) => {
            assert!(detail.contains(says), "{detail}")
        }
        other => panic!("{says}: {other:?}"),
    };
    refused(&[], "1 to");
    let store = open(&[a.clone(), b.clone()]).expect("opens");
    store.put("k", "v").expect("written");
    store.close().expect("closed");
    open(std::slice::from_ref(&c)).expect("opens").close().expect("closed");
    refused(std::slice::from_ref(&a), "the store has 2");
    refused(&[a.clone(), c.clone()], "belongs to another store");
    refused(&[a.clone(), b.clone(), c.clone()], "the store has 2");
    let db = Db::builder(&own).options(small()).open().expect("opens");
    db.put("k", "v").expect("written");
    db.close().expect("closed");
    refused(std::slice::from_ref(&own), "database of its own");
    assert!(matches!(open(&[a.clone(), a.clone()]), Err(Error::Locked { .. })));
    assert_eq!(
        open(&[b, a]).expect("opens").get("k").expect("readable").as_deref(),
        Some(&b"v"[..])
    );
}

/// A power cut between the identities of a new store: the next open goes on. A disk that was lost is something else.
#[test]
fn a_store_whose_making_was_cut_short_is_finished_and_a_lost_disk_is_told() {
    let root = tempfile::tempdir().expect("a directory");
    let dirs = dirs(&root, &["a", "b", "c"]);
    open(&dirs).expect("opens").close().expect("closed");
    remove(&dirs[1]);
    match open(&dirs) {
        Err(Error::InvalidArgument { what: "shards", detail }) => {
            assert!(detail.contains("disk is lost"), "{detail}")
        }
        other => panic!("a share of the keys is lost, and nobody is told: {other:?}"),
    }
    remove(&dirs[1]);
    for dir in [&dirs[0], &dirs[2]] {
        let db = Db::builder(dir).options(small()).open().expect("opens");
        db.open_keyspace("_shard").expect("there").delete("complete").expect("written");
        db.close().expect("closed");
    }
    let store = open(&dirs).expect("goes on");
    for n in 0..100 {
        store.put(format!("{n}"), "v").expect("written");
    }
    store.close().expect("closed");
    assert_eq!(open(&dirs).expect("opens").iter().count(), 100);
}

#[expect(clippy::disallowed_methods, reason = "a disk is taken away")]
fn remove(dir: &PathBuf) {
    std::fs::remove_dir_all(dir).expect("removed");
}
