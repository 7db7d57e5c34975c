//! What a client gets wrong is refused by a typed error that says what to do next; nothing has happened then, and nothing is held.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
#[path = "common/idle.rs"]
mod idle;

use cluster::clock::{Actor, Context, Dot, Stamp, TokenError};
use cluster::codec::message::{Answer, Apply, Cause, Item, Read, Wanted};
use cluster::record::{Bounds, Mode, Record, Write};
use cluster::transport::{Advice, Call, Ended, Failure, Limits, Transport};
use cluster::{
    Cluster, Epoch, Error, GetOptions, KeyspaceOptions, NodeId, NodeOptions, PutOptions,
};
use common::{PATIENCE, builder};
use idle::idle;
use std::fmt::Debug;
use std::sync::mpsc;
use tempfile::TempDir;

const KEY_BYTES_MAX: usize = cluster::layout::KEY_BYTES_MAX;

fn small(nodes: u64) -> (TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(nodes).open(dir.path()).unwrap();
    (dir, store)
}

/// The error says what to do, nothing may have happened, nothing is left of it, and the next request is served.
fn refused<T: Debug>(store: &Cluster, result: Result<T, Error>, says: &str) -> Error {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(says), "{text:?} does not say {says:?}");
    assert!(!error.may_have_happened(), "{text}");
    idle(store);
    store.put("served after it", "yes").unwrap();
    assert_eq!(store.get("served after it").unwrap().siblings(), ["yes"]);
    error
}

fn is_absent(store: &Cluster, key: &[u8]) {
    assert_eq!(stored(store, key), 0, "something was written");
}

/// How many values all owners of a key have together.
fn stored(store: &Cluster, key: &[u8]) -> usize {
    let all = GetOptions::new().owners(3);
    store.default_keyspace().get_with(key, &all).unwrap().siblings().len()
}

#[test]
fn nodes_that_do_not_exist() {
    let (_dir, store) = small(3);
    let nobody = NodeId(99);
    let says = "Cluster::view";
    let unknown = Error::UnknownNode { node: nobody };
    let via = store.via(nobody);
    assert_eq!(refused(&store, via.get("k"), says), unknown);
    assert_eq!(refused(&store, via.put("k", "v"), says), unknown);
    assert_eq!(refused(&store, via.delete("k"), says), unknown);
    assert_eq!(refused(&store, via.multi_put([("k", "v")]), says), unknown);
    assert_eq!(refused(&store, via.multi_get(["k"]), says), unknown);
    assert_eq!(refused(&store, via.owners_of("k"), says), unknown);
    assert_eq!(refused(&store, via.scan(..).next().unwrap(), says), unknown);
    assert_eq!(refused(&store, store.stop_node(nobody), says), unknown);
    assert_eq!(refused(&store, store.start_node(nobody), says), unknown);
    assert_eq!(refused(&store, store.metrics(nobody), says), unknown);
    assert_eq!(refused(&store, store.load(nobody), says), unknown);
    assert_eq!(refused(&store, store.drain_node(nobody).map(drop), says), unknown);
    assert_eq!(refused(&store, store.remove_node(nobody, PATIENCE), says), unknown);
    assert_eq!(refused(&store, store.set_weight(nobody, 2), says), unknown);
    assert_eq!(refused(&store, store.give_up_node(nobody), says), unknown);
    assert_eq!(refused(&store, store.forget_node(nobody), says), unknown);
    refused(&store, store.start_node(NodeId(1)), "stop it first");
    is_absent(&store, b"k");
    store.stop_node(NodeId(2)).unwrap();
    let down = refused(&store, store.via(NodeId(2)).get("k"), "start it");
    assert_eq!(down, Error::NodeIsDown { node: Some(NodeId(2)) });
    refused(&store, store.stop_node(NodeId(2)), "start it");
}

#[test]
fn too_few_nodes_for_the_owners_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let few = builder(2).replication(3).open(dir.path()).map(drop).unwrap_err();
    assert_eq!(few, Error::TooFewNodes { left: 2, replicas: 3 });
    assert!(few.to_string().contains("add nodes first"), "{few}");
    let (_dir, store) = small(3);
    let five = KeyspaceOptions::new().replication(5);
    let error = refused(&store, store.keyspace("five", five).map(drop), "add nodes first");
    assert_eq!(error, Error::TooFewNodes { left: 3, replicas: 5 });
    let left = refused(&store, store.remove_node(NodeId(1), PATIENCE), "add nodes first");
    assert_eq!(left, Error::TooFewNodes { left: 2, replicas: 3 });
    refused(&store, store.give_up_node(NodeId(1)), "add nodes first");
    refused(&store, store.drain_node(NodeId(1)).map(drop), "add nodes first");
    assert_eq!(store.nodes().len(), 3);
    store.add_node(&NodeOptions::new()).unwrap();
}

#[test]
fn options_that_make_no_cluster_and_no_keyspace() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        (builder(0), "at least one"),
        (builder(3).replication(0), "at least 1"),
        (builder(3).timeout_micros(0), "give a longer one"),
        (builder(3).partitions(3), "power of two"),
        (builder(3).limits(Limits { frame_bytes_max: 1, ..Limits::default() }), "1 KiB"),
    ];
    for (builder, says) in wrong {
        let error = builder.open(dir.path()).map(drop).unwrap_err();
        assert!(matches!(error, Error::Options { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let store = builder(3).open(dir.path()).unwrap();
    for name in ["", "a b", "a/b", "é", "..", "name\0", &"x".repeat(65)] {
        let made = store.keyspace(name, KeyspaceOptions::new()).map(drop);
        let error = refused(&store, made, "use 1 to 64 characters of A-Z a-z 0-9 _ -");
        assert!(matches!(error, Error::Options { .. }), "{error:?}");
    }
    store.keyspace("x".repeat(64), KeyspaceOptions::new()).unwrap();
    for n in [0, 256, usize::MAX] {
        let made = store.keyspace("n", KeyspaceOptions::new().replication(n)).map(drop);
        refused(&store, made, "give 1 to");
    }
    for siblings_max in [0, 257, 1 << 16] {
        let mut options = KeyspaceOptions::new();
        options.bounds = Bounds { siblings_max, ..Bounds::default() };
        refused(&store, store.keyspace("n", options).map(drop), "give 1 to 256");
    }
    let names: Vec<_> = store.view().unwrap().keyspaces().map(|(_, p)| p.name.clone()).collect();
    assert_eq!(names, ["default".to_owned(), "x".repeat(64)]);
}

#[test]
fn owners_that_are_none_or_too_many_and_no_time() {
    let (_dir, store) = small(3);
    let keyspace = store.default_keyspace();
    let put = |options: &PutOptions| keyspace.put_with("k", "v", options).map(drop);
    let get = |options: &GetOptions| keyspace.get_with("k", options).map(drop);
    for result in [put(&PutOptions::new().owners(0)), get(&GetOptions::new().owners(0))] {
        let error = refused(&store, result, "ask for 1 to 3");
        assert!(matches!(error, Error::Call(Failure::Invalid(_))), "{error:?}");
    }
    for wanted in [4, 300, usize::MAX] {
        let results =
            [put(&PutOptions::new().owners(wanted)), get(&GetOptions::new().owners(wanted))];
        for result in results {
            let error = refused(&store, result, "ask for fewer");
            let wanted = wanted as u64;
            assert_eq!(error, Error::Call(Failure::Unavailable { reached: 3, wanted }));
        }
    }
    for result in
        [put(&PutOptions::new().timeout_micros(0)), get(&GetOptions::new().timeout_micros(0))]
    {
        refused(&store, result, "give a longer timeout");
    }
    let later = keyspace.put_later("k", "v", &PutOptions::new().timeout_micros(0)).unwrap();
    refused(&store, later.wait().unwrap(), "give a longer timeout");
    let later = keyspace.get_later("k", &GetOptions::new().owners(9)).unwrap();
    refused(&store, later.wait().unwrap(), "ask for fewer");
    is_absent(&store, b"k");
    // A time that is too short is none of these: it is tried, and what became of it is told as not known.
    let short = PutOptions::new().beside().owners(3).timeout_micros(1);
    match keyspace.put_with("short", "v", &short) {
        Ok(_) => {}
        Err(error) => {
            let happened = stored(&store, b"short") == 1;
            assert!(!happened || error.may_have_happened(), "{error:?}");
        }
    }
    // The longest there is overflows nothing.
    put(&PutOptions::new().timeout_micros(u64::MAX)).unwrap();
    get(&GetOptions::new().timeout_micros(u64::MAX)).unwrap();
    // A value that has expired is written, and not shown.
    keyspace.put_with("expired", "v", &PutOptions::new().expires_micros(1)).unwrap();
    is_absent(&store, b"expired");
}

#[test]
fn keys_and_values_that_are_too_long() {
    let (_dir, store) = small(3);
    let (longest, longer) = (vec![7u8; KEY_BYTES_MAX], vec![7u8; KEY_BYTES_MAX + 1]);
    let says = "shorten it";
    refused(&store, store.put(&longer, "v"), says);
    refused(&store, store.get(&longer), says);
    refused(&store, store.delete(&longer), says);
    let beside = PutOptions::new().beside();
    refused(&store, store.default_keyspace().put_with(&longer, "v", &beside), says);
    refused(&store, store.multi_get([&longest, &longer]), says);
    // Of many writes each has its own outcome.
    let pairs = [(&b"one"[..], "1"), (&longer, "2"), (b"three", "3")];
    let mut outcomes = store.multi_put(pairs).unwrap();
    outcomes.remove(2).unwrap();
    refused(&store, outcomes.remove(1), says);
    outcomes.remove(0).unwrap();
    assert_eq!(store.get("three").unwrap().siblings(), ["3"]);
    store.put(&longest, "v").unwrap();
    assert_eq!(store.get(&longest).unwrap().siblings(), ["v"]);
    store.put("", "the empty key").unwrap();
    assert_eq!(store.get("").unwrap().siblings(), ["the empty key"]);
    // By way of a node that does not own the key as well.
    let large = vec![1u8; (8 << 20) + 1];
    for node in store.nodes() {
        refused(&store, store.via(node).put("large", &large), "split it over several keys");
    }
    is_absent(&store, b"large");
    store.put("large", &large[1..]).unwrap();
    assert_eq!(store.get("large").unwrap().value().unwrap().len(), 8 << 20);
    let beside = store.default_keyspace().put_with("large", "x", &beside);
    refused(&store, beside, "read, merge and write back");
}

#[test]
fn what_no_frame_would_hold_is_refused_and_many_pairs_are_sent_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits { frame_bytes_max: 64 << 10, in_flight_bytes_max: 128 << 10, ..Limits::default() };
    let store = builder(4).limits(limits).open(dir.path()).unwrap();
    refused(&store, store.put("large", vec![1; 20 << 10]), "16384 at most");
    is_absent(&store, b"large");
    // 2 MiB in all: 32 frames and more.
    let pairs: Vec<(String, Vec<u8>)> =
        (0..128u8).map(|n| (format!("key{n}"), vec![n; 16 << 10])).collect();
    for (key, value) in &pairs {
        store.put(key, value).unwrap();
    }
    let found = store.multi_get(pairs.iter().map(|(key, _)| key)).unwrap();
    assert!(found.iter().zip(&pairs).all(|(found, (_, value))| *found.siblings() == [&value[..]]));
    assert_eq!(store.scan(..).filter(|pair| pair.is_ok()).count(), 129, "with what was served");
    let pieces = store.multi_put(pairs.iter().map(|(key, value)| (key, &value[..200]))).unwrap();
    pieces.into_iter().for_each(|put| drop(put.unwrap()));
    idle(&store);
}

#[test]
fn tokens_of_elsewhere_and_damaged_ones() {
    let (_dir, store) = small(3);
    let keyspace = store.default_keyspace();
    let other = store.keyspace("other", KeyspaceOptions::new()).unwrap();
    store.put("k", "first").unwrap();
    let token = store.get("k").unwrap().token().to_vec();
    let put = |key: &str, token: &[u8]| {
        keyspace.put_with(key, "second", &PutOptions::new().token(token)).map(drop)
    };
    let says = "pass back";
    let wrong = [
        put("another", &token),
        other.put_with("k", "second", &PutOptions::new().token(&token)).map(drop),
        put("k", &[]),
        put("k", b"no token at all"),
        put("k", &[0; 1000]),
    ];
    for result in wrong {
        let error = refused(&store, result, says);
        assert!(matches!(error, Error::Token(_)), "{error:?}");
    }
    for at in 0..token.len() {
        let error = refused(&store, put("k", &token[..at]), says);
        assert!(matches!(error, Error::Token(_)), "{error:?}");
        let mut flipped = token.clone();
        flipped[at] ^= 0x10;
        refused(&store, put("k", &flipped), says);
    }
    // Of another cluster, whose keyspace has the same number: writes of the same numbers are others there.
    let (_other_dir, elsewhere) = small(3);
    elsewhere.put("k", "another one").unwrap();
    let foreign = elsewhere.get("k").unwrap().token().to_vec();
    let said = |result| match refused(&store, result, says) {
        Error::Token(error) => error,
        other => panic!("{other:?}"),
    };
    let (mine, theirs) = (cluster_of(&store), cluster_of(&elsewhere));
    assert_ne!(mine, theirs);
    let of_another_cluster = TokenError::OtherCluster { cluster: mine, token: theirs };
    assert_eq!(said(put("k", &foreign)), of_another_cluster);
    assert!(of_another_cluster.to_string().contains("another cluster"), "{of_another_cluster}");
    let deleted = keyspace.delete_with("k", &PutOptions::new().token(&foreign)).map(drop);
    assert_eq!(said(deleted), of_another_cluster);
    let of_another_keyspace = other.put_with("k", "x", &PutOptions::new().token(&token)).map(drop);
    assert!(matches!(said(of_another_keyspace), TokenError::OtherKeyspace { .. }));
    assert_eq!(said(put("another", &token)), TokenError::OtherKey);
    assert_eq!(said(put("k", &token[1..])), TokenError::NotAToken);
    let later = keyspace.put_later("k", "second", &PutOptions::new().token(&token[1..]));
    refused(&store, later.map(drop), says);
    refused(&store, keyspace.delete_with("k", &PutOptions::new().token(&token[1..])), says);
    assert_eq!(store.get("k").unwrap().siblings(), ["first"]);
    is_absent(&store, b"another");
    put("k", &token).unwrap();
    assert_eq!(store.get("k").unwrap().siblings(), ["second"]);
}

fn cluster_of(store: &Cluster) -> u64 {
    store.view().unwrap().cluster()
}

/// A record with one value that accounts for `runs` writes of `actor` besides, with gaps between them.
fn gappy(actor: u64, runs: u64) -> Record {
    let dots = (1..=runs).map(|n| Dot::new(Actor(actor), 2 * n));
    let value = Write {
        dot: Dot::new(Actor(7), 1),
        stamp: Stamp::at_micros(1),
        value: Some("merged".into()),
        expires_micros: 0,
        replaces: &dots.collect(),
        by_owner: true,
    };
    Record::default().write(&value, Mode::Siblings, &Bounds::default()).unwrap()
}

#[test]
fn a_token_that_names_more_writes_than_a_message_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(5).replication(5).open(dir.path()).unwrap();
    let view = store.view().unwrap();
    let (keyspace, _) = view.keyspaces().next().unwrap();
    let partition = view.ring().partition_of(b"k");
    // Each owner knows of others that were replaced: as many as it may store, and together more than a token names.
    for owner in store.nodes() {
        let record = gappy(100 + owner.0, 30_000);
        let items = vec![Item { key: "k".into(), record, made_by: None }];
        let apply = Apply { keyspace, partition, cause: Cause::ReadRepair, items };
        let reply = call(&store, owner, view.epoch(), apply).unwrap();
        assert!(format!("{reply:?}").contains("Stored"), "{reply:?}");
    }
    let found = store.get("k").unwrap();
    assert_eq!(found.siblings(), ["merged"], "it is read all the same");
    assert!(found.token().len() < 100, "{} bytes", found.token().len());
    let too_many = |error: Error| match error {
        Error::Token(TokenError::TooManyRuns { runs, max }) => assert!(runs > max, "{runs} {max}"),
        other => panic!("{other:?}"),
    };
    let says = "read again later";
    let keyspace = store.default_keyspace();
    let token = PutOptions::new().token(found.token());
    too_many(refused(&store, keyspace.put_with("k", "second", &token), says));
    // Also where the read is the write's own; of many writes each has its own outcome.
    too_many(refused(&store, store.put("k", "second"), says));
    too_many(refused(&store, store.delete("k"), says));
    let mut outcomes = store.multi_put([("k", "second"), ("another", "1")]).unwrap();
    outcomes.remove(1).unwrap();
    too_many(refused(&store, outcomes.remove(0), says));
    assert_eq!(store.get("k").unwrap().siblings(), ["merged"]);
    assert_eq!(store.get("another").unwrap().siblings(), ["1"]);
    // What one owner says alone is a token; whether the write has room is for its owner to say.
    let one = keyspace.get_with("k", &GetOptions::new().owners(1)).unwrap();
    let token = PutOptions::new().token(one.token()).owners(1);
    let error = keyspace.put_with("k", "second", &token).map(drop);
    assert!(!matches!(error, Err(Error::Token(_))), "{error:?}");
}

#[test]
fn more_siblings_than_a_keyspace_allows() {
    let (_dir, store) = small(3);
    let mut options = KeyspaceOptions::new();
    options.bounds = Bounds { siblings_max: 2, ..Bounds::default() };
    let carts = store.keyspace("carts", options).unwrap();
    // An owner that has not heard of them yet would take one more.
    let beside = PutOptions::new().beside().owners(3);
    carts.put_with("cart", "milk", &beside).unwrap();
    carts.put_with("cart", "eggs", &beside).unwrap();
    let error = refused(&store, carts.put_with("cart", "tea", &beside), "read, merge");
    assert_eq!(error, Error::Call(Failure::TooManySiblings { max: 2 }));
    assert_eq!(carts.get("cart").unwrap().siblings().len(), 2);
    let token = carts.get("cart").unwrap().token().to_vec();
    carts.put_with("cart", "all", &PutOptions::new().token(&token)).unwrap();
    assert_eq!(carts.get("cart").unwrap().siblings(), ["all"]);
}

/// A record with so many values that `actor` wrote side by side.
fn beside_each_other(actor: u64, count: u64) -> Record {
    let bounds = Bounds { siblings_max: count as usize, ..Bounds::default() };
    (1..=count).fold(Record::default(), |record, n| {
        let write = Write {
            dot: Dot::new(Actor(actor), n),
            stamp: Stamp::at_micros(n),
            value: Some(format!("{actor}-{n}").as_str().into()),
            expires_micros: 0,
            replaces: &Context::new(),
            by_owner: true,
        };
        record.write(&write, Mode::Siblings, &bounds).unwrap()
    })
}

#[test]
fn siblings_that_owners_took_apart_stay_readable_when_they_are_merged() {
    let (_dir, store) = small(3);
    let view = store.view().unwrap();
    let (keyspace, _) = view.keyspaces().next().unwrap();
    let (key, partition) = ("k", view.ring().partition_of(b"k"));
    let owner = store.owners_of(key).unwrap()[0];
    let said = |actor| {
        let items =
            vec![Item { key: key.into(), record: beside_each_other(actor, 400), made_by: None }];
        let apply = Apply { keyspace, partition, cause: Cause::ReadRepair, items };
        match call(&store, owner, view.epoch(), apply).unwrap().answer {
            Answer::Applied(mut applied) => applied.results.remove(0),
            other => panic!("{other:?}"),
        }
    };
    assert!(said(101).is_ok());
    assert!(said(102).is_ok());
    assert_eq!(said(103), Err(Failure::TooManySiblings { max: 1024 }), "1,200 nobody could read");
    let found = store.default_keyspace().get_with(key, &GetOptions::new().owners(3)).unwrap();
    assert_eq!(found.siblings().len(), 800);
    let beside = PutOptions::new().beside();
    let more = store.via(owner).put_with(key, "more", &beside);
    refused(&store, more, "read, merge");
    let merged = PutOptions::new().token(found.token());
    store.default_keyspace().put_with(key, "merged", &merged).unwrap();
    assert_eq!(store.get(key).unwrap().siblings(), ["merged"]);
}

#[test]
fn ranges_that_end_before_they_start() {
    let (_dir, store) = small(3);
    store.put("b", "2").unwrap();
    let keyspace = store.default_keyspace();
    for mut range in [keyspace.scan("c".."a"), keyspace.scan_back("c"..="a")] {
        let error = refused(&store, range.next().unwrap(), "swap its bounds");
        assert!(matches!(error, Error::Call(Failure::Invalid(_))), "{error:?}");
        assert!(range.next().is_none());
    }
    assert_eq!(store.scan("b".."b").count(), 0);
    assert_eq!(store.scan("b"..="b").count(), 1);
    // Bounds that are longer than any key compare as they should.
    let (low, high) = (vec![b'a'; 100_000], vec![b'b'; 100_000]);
    assert_eq!(store.scan(&low[..]..&high[..]).filter(Result::is_ok).count(), 1);
    assert_eq!(
        store.scan(&high[..]..).map(|pair| pair.unwrap().0).next().unwrap(),
        "served after it"
    );
}

/// One call of the network, made by hand.
fn call(
    store: &Cluster,
    to: NodeId,
    epoch: Epoch,
    request: impl Into<cluster::codec::message::Request>,
) -> Ended {
    let (sender, receiver) = mpsc::channel();
    let timeout_micros = 10_000_000;
    let call = Call { from: NodeId(1), to, epoch, timeout_micros, request: request.into() };
    store.network().send(call, Box::new(move |ended| sender.send(ended).unwrap()));
    receiver.recv().unwrap()
}

#[test]
fn epochs_that_are_not_those_of_the_node() {
    let (_dir, store) = small(4);
    store.put("k", "v").unwrap();
    let view = store.view().unwrap();
    let (id, _) = view.keyspaces().next().unwrap();
    let owner = store.owners_of("k").unwrap()[0];
    let read = || Read { keyspace: id, wanted: Wanted::Whole, keys: vec!["k".into()], of_start: 0 };
    let partition = view.ring().partition_of(b"k");
    let apply = || Apply {
        keyspace: id,
        partition,
        cause: Cause::Write,
        items: vec![Item { key: "k".into(), record: Default::default(), made_by: None }],
    };
    for epoch in [Epoch(0), Epoch(view.epoch().0 + 7), Epoch(u64::MAX)] {
        let failure = match call(&store, owner, epoch, apply()) {
            Err(failure) => failure,
            Ok(reply) => panic!("epoch {epoch}: {reply:?}"),
        };
        assert_eq!(failure, Failure::StaleEpoch { current: view.epoch() });
        assert_eq!(failure.advice(), Advice::Refresh);
        assert!(failure.to_string().contains("fetch the topology and ask again"), "{failure}");
        let said = call(&store, owner, epoch, read()).unwrap();
        assert!(format!("{said:?}").contains("StaleEpoch"), "{said:?}");
        idle(&store);
    }
    // What does not lie at a node is said, too.
    let stranger = store.nodes().into_iter().find(|n| !view.is_owner(*n, id, partition)).unwrap();
    let not_here = call(&store, stranger, view.epoch(), apply()).unwrap_err();
    assert!(not_here.to_string().contains("does not own"), "{not_here}");
    assert_eq!(store.get("k").unwrap().siblings(), ["v"]);
    assert_eq!(store.view().unwrap().epoch(), view.epoch());
}
